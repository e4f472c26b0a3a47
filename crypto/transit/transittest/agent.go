package transittest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Agent is an agent of the product that logs in for tokens of a few seconds and keeps a file with them. Stop ends it.
type Agent struct {
	v      *vault
	config string
	cmd    *exec.Cmd
}

// times of its tokens: each is renewed, and after a while replaced.
const (
	agentTTL  = 4 * time.Second
	agentMost = 8 * time.Second
)

// NewAgent makes an agent that has the rights to a key and writes its tokens to sink, with such a mode ("" = the agent's own). nil where the service
// is a fake: there is none of that. Start starts it.
func NewAgent(t TB, s Service, key, sink, mode string) *Agent {
	t.Helper()
	v, ok := s.(*vault)
	if !ok {
		return nil
	}
	dir := t.TempDir()
	if status, _, err := v.ask("POST", "sys/auth/approle", map[string]any{"type": "approle"}); err != nil || status != 204 && status != 400 { // 400: it is there
		t.Fatalf("enabling approle: %d, %v", status, err)
	}
	v.call("PUT", "sys/policies/acl/agent-"+key, map[string]any{"policy": keyPolicy(key, nil) + selfPolicy}, nil)
	role := "auth/approle/role/" + key
	v.call("POST", role, map[string]any{"token_policies": []string{"agent-" + key}, "token_no_default_policy": true, "token_ttl": agentTTL.String(), "token_max_ttl": agentMost.String()}, nil)
	var id struct {
		Data struct {
			Role   string `json:"role_id"`
			Secret string `json:"secret_id"`
		} `json:"data"`
	}
	v.call("GET", role+"/role-id", nil, &id)
	v.call("POST", role+"/secret-id", map[string]any{}, &id)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		v.must(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	target := map[string]any{"path": sink}
	if mode != "" {
		target["mode"] = json.RawMessage(mode)
	}
	config, err := json.Marshal(map[string]any{
		"vault": map[string]any{"address": v.URL(), "ca_cert": v.file("ca.pem")},
		"auto_auth": map[string]any{
			"method": map[string]any{"type": "approle", "config": map[string]any{"role_id_file_path": file("role", id.Data.Role), "secret_id_file_path": file("secret", id.Data.Secret), "remove_secret_id_file_after_reading": false}},
			"sinks":  []any{map[string]any{"sink": map[string]any{"type": "file", "config": target}}},
		},
	})
	v.must(err)
	a := &Agent{v: v, config: file("agent.json", string(config))}
	t.Cleanup(a.Stop)
	return a
}

// Start starts it, and waits for a token.
func (a *Agent) Start(sink string) {
	a.v.t.Helper()
	before, _ := os.ReadFile(sink)
	log, err := os.OpenFile(a.v.file("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	a.v.must(err)
	defer log.Close()
	a.cmd = exec.Command(a.v.path, "agent", "-config="+a.config)
	a.cmd.Env = []string{"HOME=" + a.v.dir, "PATH=" + os.Getenv("PATH")}
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.v.must(a.cmd.Start())
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if after, err := os.ReadFile(sink); err == nil && strings.TrimSpace(string(after)) != strings.TrimSpace(string(before)) {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(a.v.file("agent.log"))
			a.v.t.Fatalf("the agent writes no token:\n%s", text)
		}
	}
}

// Stop ends it.
func (a *Agent) Stop() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}
