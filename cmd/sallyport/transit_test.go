package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/server/admin"
)

// TestTransitDownAtStartBackLater: the key service is away when the real binary
// starts; the server answers, sealed, and unseals by itself when the service is
// back. So it does when the service is there and sealed itself.
func TestTransitDownAtStartBackLater(t *testing.T) {
	t.Parallel()
	service, ca, token := keyService(t)
	h := initHost(t, "--seal", "transit", "--transit-address", service.URL(), "--transit-key", "root", "--transit-token-file", token, "--transit-ca-file", ca)
	service.Stop()

	h.serve(t)
	h.await(t, "sealed")
	st, err := h.cl.Status(t.Context())
	if err != nil || st.Sealed == nil || !strings.Contains(st.Sealed.Reason, "transit/root at https://") || !strings.Contains(st.Sealed.Hint, "is it up") {
		t.Errorf("status: %+v, %v", st.Sealed, err)
	}
	if _, err := h.cl.AccountList(t.Context()); err == nil || explain(err).Code != admin.CodeSealed {
		t.Errorf("operations: %v", err)
	}
	_, port, _ := net.SplitHostPort(st.Listeners[0].Address)
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatalf("a sealed server does not listen: %v", err)
	}
	conn.Close()

	service.Start()
	h.await(t, "ready")
	if _, err := h.cl.AccountList(t.Context()); err != nil {
		t.Error(err)
	}
	if st, err := h.cl.SealStatus(t.Context()); err != nil || st.Service != "reachable" {
		t.Errorf("seal status: %+v, %v", st, err)
	}
	service.SetSealed(true)
	if st, err := h.cl.SealStatus(t.Context()); err != nil || !strings.HasPrefix(st.Service, "not reachable: ") || !strings.Contains(st.Service, "HTTP 503") {
		t.Errorf("seal status while the service is sealed: %+v, %v", st, err)
	}
	if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "sealed")
	var refused *admin.Error
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); !errors.As(err, &refused) || !strings.Contains(refused.Message, "sealed") || !strings.Contains(refused.Hint, "vault status") {
		t.Errorf("unsealing while the service is sealed: %v", err)
	}
	service.SetSealed(false)
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Error(err)
	}
	service.Stop()
	if st, err := h.cl.SealStatus(t.Context()); err != nil || !strings.HasPrefix(st.Service, "not reachable: ") {
		t.Errorf("seal status while the service is away: %+v, %v", st, err)
	}
}

// TestSealRotateToTransit: a key service takes the place of a key file while somebody uploads. The key file is worth nothing
// afterwards, and whatever the service answers, nothing but the root opens anything.
func TestSealRotateToTransit(t *testing.T) {
	t.Parallel()
	vault, _, token := keyService(t)
	vault.AddKey("other", "aes256-gcm96", false)
	behind, err := url.Parse(vault.URL())
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(vault.CA())
	honest := httputil.NewSingleHostReverseProxy(behind)
	honest.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true}
	var lies atomic.Pointer[string] // what is answered instead of a plaintext
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lie := lies.Load()
		switch {
		case lie == nil || !strings.Contains(r.URL.Path, "/decrypt/"):
			honest.ServeHTTP(w, r)
		case *lie == "another key":
			r.URL.Path = strings.Replace(r.URL.Path, "/decrypt/root", "/decrypt/other", 1)
			honest.ServeHTTP(w, r)
		default:
			io.WriteString(w, *lie)
		}
	}))
	defer service.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	h := initHost(t)
	h.serve(t, "SALLYPORT_SEAL__TRANSIT__ADDRESS="+service.URL, "SALLYPORT_SEAL__TRANSIT__KEY=root", "SALLYPORT_SEAL__TRANSIT__TOKEN_FILE="+token, "SALLYPORT_SEAL__TRANSIT__CA_FILE="+ca)
	h.await(t, "ready")
	h.addAccount(t, "alice", "Correct-horse-42")
	client := h.upload(t, "alice", "content of a file, ")
	defer client.close()
	good, err := os.ReadFile(token)
	if err == nil {
		err = os.WriteFile(token, []byte("hvs.another"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var refused *admin.Error
	if _, err := h.cl.SealChange(t.Context(), admin.SealChange{To: "transit"}); !errors.As(err, &refused) || refused.Code != admin.CodeRefused ||
		!strings.Contains(refused.Message, "the keyfile seal is in force as before: ") || !strings.Contains(refused.Message, "the token has ended, was revoked, or may not be used from here") || !strings.Contains(refused.Hint, "seal.transit.token_file") {
		t.Errorf("with another token: %+v", err)
	}
	if err := os.WriteFile(token, good, 0o600); err != nil { // as an agent does while the server runs
		t.Fatal(err)
	}
	if _, err := h.cl.SealChange(t.Context(), admin.SealChange{To: "transit"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.c.Stat("/open"); err != nil {
		t.Errorf("a session that was there: %v", err)
	}
	if err := os.Rename(h.key, h.key+".away"); err != nil {
		t.Fatal(err)
	}
	if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "sealed")
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for what, lie := range map[string]struct{ answer, says string }{
		"of another key":            {"another key", "it is another key of that name"},
		"another root":              {`{"data":{"plaintext":"` + root + `"}}`, "gave another root key"},
		"a short root":              {`{"data":{"plaintext":"AAAA"}}`, "gave 3 bytes"},
		"more than an answer takes": {strings.Repeat("{", 1<<20), "longer than"},
	} { // five failures in a row would have to be waited for
		lies.Store(&lie.answer)
		if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err == nil || !strings.Contains(err.Error(), lie.says) {
			t.Errorf("%s: %v, want %q", what, err, lie.says)
		}
		if st, err := h.cl.Status(t.Context()); err != nil || st.State != "sealed" {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	lies.Store(nil)
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatal(err)
	}
	again := h.dial(t, "alice")
	defer again.close()
	if info, err := again.c.Stat("/whole"); err != nil || info.Size() == 0 {
		t.Errorf("what was uploaded before: %v, %v", info, err)
	}

	// And back: what the service had wrapped is destroyed, and the operator is told so.
	if err := os.Rename(h.key+".away", h.key); err != nil {
		t.Fatal(err)
	}
	if out, err := h.cl.SealChange(t.Context(), admin.SealChange{To: "keyfile"}); err != nil || out.Old != "the old transit seal has destroyed what opened older copies of seal.json" {
		t.Errorf("%+v, %v", out, err)
	}
	if got := vault.Versions("root"); len(got) != 1 || got[0] != 3 { // 2 wrapped the root
		t.Errorf("the service has versions %v of its key", got)
	}
}

// TestAServerRenewsItsToken: most of the token's time is over when the server starts. It renews it by itself, sealed or not, and says
// so; when the token is revoked it says that, and what to do.
func TestAServerRenewsItsToken(t *testing.T) {
	t.Parallel()
	service, ca, file := keyService(t)
	token := service.ShortToken("root", time.Hour, true)
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	h := initHost(t, "--seal", "transit", "--transit-address", service.URL(), "--transit-key", "root", "--transit-token-file", file, "--transit-ca-file", ca)
	if fake, ok := service.(interface {
		Age(token string, by time.Duration)
	}); ok {
		fake.Age(token, 50*time.Minute)
	}
	h.serve(t)
	h.await(t, "ready")
	wait := patient(5 * time.Millisecond)
	defer wait.Stop()
	for {
		st, err := h.cl.SealStatus(t.Context())
		if err == nil && (strings.HasPrefix(st.Token, "ends in 59m") || strings.HasPrefix(st.Token, "ends in 1h0m")) && strings.HasSuffix(st.Token, ", and is renewed before that") {
			break
		}
		if err != nil || wait.over() {
			t.Fatalf("the token is not renewed: %+v, %v", st, err)
		}
	}
	service.Revoke(token)
	if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "sealed")
	var refused *admin.Error
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); !errors.As(err, &refused) || !strings.Contains(refused.Message, "the token has ended, was revoked, or may not be used from here") || !strings.Contains(refused.Hint, "seal.transit.token_file") {
		t.Errorf("with a revoked token: %v", err)
	}
	if err := os.WriteFile(file, []byte(service.Token("root")), 0o600); err != nil { // as an agent does
		t.Fatal(err)
	}
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Errorf("with another token in the file: %v", err)
	}
}

// TestDoctorLooksAtTheToken: a token that every user of the host can read opens the state to all of them.
func TestDoctorLooksAtTheToken(t *testing.T) {
	t.Parallel()
	service, ca, token := keyService(t)
	h := initHost(t, "--seal", "transit", "--transit-address", service.URL(), "--transit-key", "root", "--transit-token-file", token, "--transit-ca-file", ca)
	for mode, want := range map[os.FileMode]string{0o600: "opens the keyring", 0o644: "has mode 0644: others may use it"} {
		if err := os.Chmod(token, mode); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.CommandContext(t.Context(), "sallyport", "doctor", "--config", h.config).CombinedOutput() // it finds other things, too
		if !strings.Contains(string(out), want) {
			t.Errorf("mode %o: no %q in\n%s", mode, want, out)
		}
	}
}
