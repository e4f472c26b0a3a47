package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
	"sallyport/server/admin"
)

// request is where the keeper of a key kills the server: before the nth request from now takes effect, or after it and before the answer.
type request struct {
	n    int
	when string
}

// resealed is a server of the real binary that can have every seal.
type resealed struct {
	*realHost
	t       *testing.T
	service transittest.Service
	env     []string
	dir     string // of the helper: what it keeps, how often it was called, when it kills
	cmd     *exec.Cmd
	output  bytes.Buffer
	stored  []byte
	shares  []admin.Share

	mu     sync.Mutex // guards what follows, which the key service uses
	seen   int
	cuts   *request
	closed bool
}

const passphrase = "five plain words of English, once"

func newResealed(t *testing.T) *resealed {
	t.Helper()
	service, _, token := keyService(t)
	r := &resealed{realHost: initHost(t), t: t, service: service, dir: t.TempDir()}
	front := httptest.NewTLSServer(r.front(service.URL(), service.CA()))
	t.Cleanup(front.Close)
	ca := filepath.Join(r.dir, "ca.pem")
	script := filepath.Join(r.dir, "helper")
	if err := errors.Join(
		os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600),
		os.WriteFile(script, []byte(cuttingHelper), 0o700), os.Mkdir(filepath.Join(r.dir, "keys"), 0o700)); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "SALLYPORT_SEAL__TRANSIT__ADDRESS="+front.URL, "SALLYPORT_SEAL__TRANSIT__KEY=root",
		"SALLYPORT_SEAL__TRANSIT__TOKEN_FILE="+token, "SALLYPORT_SEAL__TRANSIT__CA_FILE="+ca, "SALLYPORT_SEAL__HELPER__COMMAND=["+script+", "+r.dir+"]")
	t.Cleanup(func() {
		if r.cmd != nil {
			r.kill()
		}
		if t.Failed() {
			t.Logf("%s", r.output.String())
		}
	})
	return r
}

// front stands before the key service and kills the server at a request.
func (r *resealed) front(address string, ca []byte) http.Handler {
	behind, err := url.Parse(address)
	if err != nil {
		r.t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	service := httputil.NewSingleHostReverseProxy(behind)
	service.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/v1/auth/token/") || q.URL.Path == "/v1/sys/seal-status" { // when a token is looked at is no part of a change, nor is which service it is
			service.ServeHTTP(w, q)
			return
		}
		r.mu.Lock()
		r.seen++
		if r.closed {
			r.mu.Unlock()
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		cut := r.cuts
		if cut != nil && r.seen != cut.n {
			cut = nil
		}
		r.mu.Unlock()
		if cut == nil {
			service.ServeHTTP(w, q)
			return
		}
		if cut.when == "after" {
			service.ServeHTTP(httptest.NewRecorder(), q)
		}
		_ = r.cmd.Process.Kill() // cut waits for its end
	})
}

// cuttingHelper keeps roots in files, can destroy, and kills whoever called it when $1/cut says so.
const cuttingHelper = `#!/bin/sh
read -r request
n=$(($(cat "$1/count" 2>/dev/null || echo 0) + 1)); echo $n >"$1/count"
cut=$(cat "$1/cut" 2>/dev/null)
[ "$cut" = "before $n" ] && kill -9 $PPID && exit 1
op=$(printf %s "$request" | sed -n 's/.*"op":"\([a-z]*\)".*/\1/p')
data=$(printf %s "$request" | sed -n 's/.*"data":"\([^"]*\)".*/\1/p')
file=$1/keys/$(printf %s "$data" | base64 -d 2>/dev/null | tr -dc A-Za-z0-9)
case $op in
info) answer='{"protocol":1,"label":"files","destroys":true}' ;;
wrap) file=$(mktemp "$1/keys/XXXXXXXXXX"); echo "$data" >"$file"; answer="{\"protocol\":1,\"data\":\"$(basename "$file" | tr -d '\n' | base64)\"}" ;;
unwrap) [ -f "$file" ] && answer="{\"protocol\":1,\"data\":\"$(cat "$file")\"}" || answer='{"protocol":1,"error":{"code":"wrong-key","message":"gone"}}' ;;
destroy) rm -f "$file"; answer='{"protocol":1}' ;;
esac
[ "$cut" = "after $n" ] && kill -9 $PPID && exit 1
echo "$answer"
`

// start starts the server while no seal but the one that seal.json names can be used.
func (r *resealed) start() {
	r.t.Helper()
	defer r.others(r.kind())()
	r.cmd = exec.Command("sallyport", "serve", "--config", r.config)
	r.cmd.Env = r.env
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	switch r.kind() {
	case keyring.KindPassphrase:
		r.await(r.t, "sealed")
		r.give(admin.Unseal{Passphrase: passphrase})
	case keyring.KindShares:
		r.await(r.t, "sealed")
		r.give(admin.Unseal{Share: r.shares[0].Text})
		r.give(admin.Unseal{Share: r.shares[2].Text})
	}
	r.await(r.t, "ready")
}

// others takes away what the other kinds of seals need, and returns what brings it back.
func (r *resealed) others(kind string) (back func()) {
	r.t.Helper()
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			r.t.Fatal(err)
		}
	}
	closed := func(is bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = is
	}
	keys := filepath.Join(r.dir, "keys")
	if kind != keyring.KindKeyFile {
		move(r.key, r.key+".away")
	}
	if kind != keyring.KindHelper {
		move(keys, keys+".away")
	}
	closed(kind != keyring.KindTransit)
	return func() {
		closed(false)
		if kind != keyring.KindKeyFile {
			move(r.key+".away", r.key)
		}
		if kind != keyring.KindHelper {
			move(keys+".away", keys)
		}
	}
}

func (r *resealed) give(what admin.Unseal) {
	r.t.Helper()
	if _, err := r.cl.Unseal(r.t.Context(), what); err != nil {
		r.t.Fatalf("unsealing as %s: %v", r.kind(), err)
	}
}

func (r *resealed) kill() {
	_ = r.cmd.Process.Kill() // it may have been killed already
	_ = r.cmd.Wait()
	r.cmd = nil
}

// kind is the seal that seal.json names.
func (r *resealed) kind() string {
	r.t.Helper()
	info, err := keyring.ReadSeal(r.state)
	if err != nil {
		r.t.Fatal(err)
	}
	return info.Kind
}

// change is `seal rotate --to`.
func (r *resealed) change(to string) error {
	ask := admin.SealChange{To: to, Threshold: 2, Shares: 3}
	switch to {
	case keyring.KindPassphrase:
		ask.Passphrase, ask.Memory = passphrase, 64 // other tests have the machine, too
	case keyring.KindShares:
		prepared, err := r.cl.SealPrepare(r.t.Context(), ask)
		if err != nil {
			return err
		}
		r.shares = prepared.Shares
		_, err = r.cl.SealConfirm(r.t.Context(), admin.SealConfirm{Set: prepared.Set})
		return err
	}
	_, err := r.cl.SealChange(r.t.Context(), ask)
	return err
}

// reach has a kind of seal in force.
func (r *resealed) reach(kind string) {
	r.t.Helper()
	if r.kind() == kind {
		return
	}
	if err := r.change(kind); err != nil {
		r.t.Fatalf("to %s: %v", kind, err)
	}
}

func (r *resealed) sealJSON() []byte {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.state, "seal.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// wrapped is what the seal in force made of the root.
func (r *resealed) wrapped() string {
	r.t.Helper()
	var seal struct {
		Roots []struct {
			Wrapped []byte `json:"wrapped"`
		} `json:"roots"`
	}
	if err := json.Unmarshal(r.sealJSON(), &seal); err != nil || len(seal.Roots) != 1 {
		r.t.Fatalf("%d roots in seal.json, %v", len(seal.Roots), err)
	}
	return string(seal.Roots[0].Wrapped)
}

// opens tells whether whoever keeps the key of a seal that can destroy still opens what it wrapped.
func (r *resealed) opens(kind, wrapped string) bool {
	r.t.Helper()
	switch kind {
	case keyring.KindTransit:
		digits, _, _ := strings.Cut(strings.TrimPrefix(wrapped, "vault:v"), ":")
		v, err := strconv.Atoi(digits)
		if err != nil {
			r.t.Fatalf("%q: %v", wrapped, err)
		}
		return slices.Contains(r.service.Versions("root"), v)
	case keyring.KindHelper:
		_, err := os.Stat(filepath.Join(r.dir, "keys", wrapped))
		return err == nil
	}
	return r.kind() == kind // it destroys nothing: nothing to be seen
}

// arm sets when whoever keeps the key kills the server.
func (r *resealed) arm(at *request) {
	r.t.Helper()
	r.mu.Lock()
	r.seen, r.cuts = 0, at
	r.mu.Unlock()
	text := ""
	if at != nil {
		text = fmt.Sprintf("%s %d", at.when, at.n)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(r.dir, "cut"), []byte(text), 0o600), os.WriteFile(filepath.Join(r.dir, "count"), []byte("0"), 0o600)); err != nil {
		r.t.Fatal(err)
	}
}

// store uploads what every look wants back.
func (r *resealed) store() {
	r.t.Helper()
	r.stored = bytes.Repeat([]byte("content "), 20_000)
	client := r.dial(r.t, "alice")
	defer client.close()
	if err := client.put("/file", r.stored, func(int, bool) {}); err != nil {
		r.t.Fatal(err)
	}
}
