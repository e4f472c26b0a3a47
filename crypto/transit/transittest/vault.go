package transittest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long a Vault may take to answer after it was started. Nothing waits that long unless it is broken.
const patience = time.Minute

// vault is a real server, of one binary, over TLS, with its storage in files, so that it can be stopped and sealed.
type vault struct {
	t      TB
	path   string
	is     Product
	dir    string
	addr   string
	ca     []byte
	client *http.Client
	root   string // token
	unseal string // key
	cmd    *exec.Cmd
}

func startVault(t TB, path string) *vault {
	t.Helper()
	v := &vault{t: t, path: path, dir: t.TempDir(), addr: hold(t)}
	v.certify()
	var err error
	v.is, err = productOf(path)
	v.must(err)
	settings := map[string]any{
		"storage":  map[string]any{"file": map[string]any{"path": filepath.Join(v.dir, "data")}},
		"listener": []any{map[string]any{"tcp": map[string]any{"address": v.addr, "tls_cert_file": v.file("ca.pem"), "tls_key_file": v.file("key.pem")}}},
		"api_addr": v.URL(), "disable_mlock": true,
	}
	device := map[string]any{"file_path": v.file("audit.log")}
	if v.is == OpenBao { // it lets nobody name files through its API
		settings["audit"] = []any{map[string]any{"file": map[string]any{"file": map[string]any{"description": "of tests", "options": device}}}}
		delete(settings, "disable_mlock")
	}
	config, err := json.Marshal(settings)
	v.must(err)
	v.must(os.WriteFile(v.file("config.json"), config, 0o600))
	t.Cleanup(v.Stop)
	v.run()
	var made struct {
		Keys []string `json:"keys_base64"`
		Root string   `json:"root_token"`
	}
	v.call("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &made)
	v.unseal, v.root = made.Keys[0], made.Root
	v.SetSealed(false)
	v.call("POST", "sys/mounts/transit", map[string]any{"type": "transit"}, nil)
	if v.is == Vault {
		v.call("PUT", "sys/audit/file", map[string]any{"type": "file", "options": device}, nil)
	}
	return v
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("%s: %v", v.path, err)
	}
}

func (v *vault) file(name string) string { return filepath.Join(v.dir, name) }

// certify writes its certificate and makes a client that trusts it.
func (v *vault) certify() {
	v.t.Helper()
	cert, key := Certificate(v.t)
	v.ca = cert
	v.must(os.WriteFile(v.file("ca.pem"), cert, 0o600))
	v.must(os.WriteFile(v.file("key.pem"), key, 0o600))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.ca)
	v.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: patience}
}

// run starts the process and waits until it answers.
func (v *vault) run() {
	v.t.Helper()
	log, err := os.OpenFile(v.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	v.must(err)
	defer log.Close()
	v.cmd = exec.Command(v.path, "server", "-config="+v.file("config.json"))
	v.cmd.Env = []string{"HOME=" + v.dir, "PATH=" + os.Getenv("PATH")}
	v.cmd.Stdout, v.cmd.Stderr = log, log
	v.must(v.cmd.Start())
	v.await("sys/health?uninitcode=200&sealedcode=200")
}

func (v *vault) await(path string) {
	v.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		status, _, err := v.ask("GET", path, nil)
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(v.file("log"))
			v.t.Fatalf("%s does not answer: %d, %v\n%s", v.path, status, err, text)
		}
	}
}

// ask makes one request as the administrator.
func (v *vault) ask(method, path string, in any) (status int, answer []byte, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return 0, nil, err
		}
	}
	r, err := http.NewRequest(method, v.URL()+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("X-Vault-Token", v.root)
	resp, err := v.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// call is ask that must succeed.
func (v *vault) call(method, path string, in, out any) {
	v.t.Helper()
	status, answer, err := v.ask(method, path, in)
	v.must(err)
	if status < 200 || status > 299 {
		v.t.Fatalf("%s: %s %s: %d %s", v.path, method, path, status, answer)
	}
	if out != nil {
		v.must(json.Unmarshal(answer, out))
	}
}

func (v *vault) URL() string      { return "https://" + v.addr }
func (v *vault) CA() []byte       { return v.ca }
func (v *vault) Product() Product { return v.is }

// rights of the policy in docs/OPERATIONS.md, by operation.
var rights = map[string][2]string{
	"read": {"keys/%s", "read"}, "encrypt": {"encrypt/%s", "update"}, "decrypt": {"decrypt/%s", "update"},
	"rotate": {"keys/%s/rotate", "update"}, "config": {"keys/%s/config", "update"}, "trim": {"keys/%s/trim", "update"},
}

const selfPolicy = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }\npath \"auth/token/renew-self\" { capabilities = [\"update\"] }\n"

func (v *vault) Token(key string, denied ...string) string {
	v.t.Helper()
	return v.token(key, denied, "", map[string]any{"ttl": "1h"})
}

func (v *vault) ShortToken(key string, ttl time.Duration, renewable bool) string {
	v.t.Helper()
	return v.token(key, nil, selfPolicy, map[string]any{"ttl": ttl.String(), "renewable": renewable})
}

// keyPolicy gives what docs/OPERATIONS.md says of a key, but for what is denied.
func keyPolicy(key string, denied []string) string {
	var policy strings.Builder
	for op, right := range rights {
		if !slices.Contains(denied, op) {
			fmt.Fprintf(&policy, "path \"transit/%s\" { capabilities = [%q] }\n", fmt.Sprintf(right[0], key), right[1])
		}
	}
	return policy.String()
}

// token makes one with more rights than those to the key.
func (v *vault) token(key string, denied []string, more string, settings map[string]any) string {
	v.t.Helper()
	name := "p" + strings.ToLower(rand.Text())
	v.call("PUT", "sys/policies/acl/"+name, map[string]any{"policy": keyPolicy(key, denied) + more}, nil)
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	settings["policies"], settings["no_default_policy"] = []string{name}, true
	v.call("POST", "auth/token/create", settings, &made)
	return made.Auth.Token
}

func (v *vault) LimitedToken(key string, uses int) string {
	v.t.Helper()
	return v.token(key, nil, selfPolicy, map[string]any{"ttl": "1h", "num_uses": uses})
}

func (v *vault) Revoke(token string) {
	v.t.Helper()
	v.call("POST", "auth/token/revoke", map[string]any{"token": token}, nil)
}

func (v *vault) AddKey(name, kind string, derived bool) {
	v.t.Helper()
	v.call("POST", "transit/keys/"+name, map[string]any{"type": kind, "derived": derived}, nil)
}

// ImportKey has the binary do it, which wraps the bytes as the API wants them.
func (v *vault) ImportKey(name string) {
	v.t.Helper()
	raw := make([]byte, 32)
	rand.Read(raw)
	c := exec.Command(v.path, "transit", "import", "transit/keys/"+name, base64.StdEncoding.EncodeToString(raw), "type=aes256-gcm96")
	c.Env = []string{"HOME=" + v.dir}
	for _, prefix := range []string{"VAULT_", "BAO_"} {
		c.Env = append(c.Env, prefix+"ADDR="+v.URL(), prefix+"CACERT="+v.file("ca.pem"), prefix+"TOKEN="+v.root)
	}
	if out, err := c.CombinedOutput(); err != nil {
		v.t.Fatalf("%s transit import: %v\n%s", v.path, err, out)
	}
}

func (v *vault) SoftDeleteKey(name string) {
	v.t.Helper()
	v.ConfigKey(name, map[string]any{"deletion_allowed": true})
	v.call("DELETE", "transit/keys/"+name+"/soft-delete", nil, nil)
}

func (v *vault) ConfigKey(name string, settings map[string]any) {
	v.t.Helper()
	v.call("POST", "transit/keys/"+name+"/config", settings, nil)
}

func (v *vault) RotateKey(name string) {
	v.t.Helper()
	v.call("POST", "transit/keys/"+name+"/rotate", map[string]any{}, nil)
}

func (v *vault) RemoveKey(name string) {
	v.t.Helper()
	v.ConfigKey(name, map[string]any{"deletion_allowed": true})
	v.call("DELETE", "transit/keys/"+name, nil, nil)
}

// Versions are those that the storage has, not only those that may be used.
func (v *vault) Versions(name string) (out []int) {
	v.t.Helper()
	var key struct {
		Data struct {
			Latest       int                        `json:"latest_version"`
			MinAvailable int                        `json:"min_available_version"`
			Keys         map[string]json.RawMessage `json:"keys"`
		} `json:"data"`
	}
	v.call("GET", "transit/keys/"+name, nil, &key)
	for n := max(1, key.Data.MinAvailable); n <= key.Data.Latest; n++ {
		out = append(out, n)
	}
	for n := range key.Data.Keys {
		if n, err := strconv.Atoi(n); err != nil || !slices.Contains(out, n) {
			v.t.Fatalf("%s: version %d of %s is there, min_available_version is %d", v.path, n, name, key.Data.MinAvailable)
		}
	}
	return out
}

func (v *vault) SetSealed(sealed bool) {
	v.t.Helper()
	if sealed {
		v.call("PUT", "sys/seal", nil, nil)
		return
	}
	v.call("PUT", "sys/unseal", map[string]any{"key": v.unseal}, nil)
	v.await("sys/health")
}

func (v *vault) Stop() {
	if v.cmd != nil {
		_ = v.cmd.Process.Kill() // it has ended then, or has before
		_ = v.cmd.Wait()
		v.cmd = nil
	}
}

func (v *vault) Start() {
	v.t.Helper()
	v.run()
	v.SetSealed(false)
}
