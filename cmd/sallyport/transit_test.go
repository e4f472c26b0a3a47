package main

import (
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/crypto/transit/transittest"
	"sallyport/server/admin"
)

// TestTransitDownAtStartBackLater: the key service is away when the real binary
// starts; the server answers, sealed, and unseals by itself when the service is
// back. The service is a fake (see transittest).
func TestTransitDownAtStartBackLater(t *testing.T) {
	t.Parallel()
	vault := transittest.New("transit", "s.token")
	vault.AddKey("root")
	service := httptest.NewTLSServer(vault)
	address := service.Listener.Addr().String()
	ca, token := keyService(t, service)
	h := initHost(t, "--seal", "transit", "--transit-address", service.URL, "--transit-key", "root", "--transit-token-file", token, "--transit-ca-file", ca)
	service.Close()

	h.serve(t)
	h.await(t, "sealed")
	st, err := h.cl.Status(t.Context())
	if err != nil || st.Sealed == nil || !strings.Contains(st.Sealed.Reason, "transit/root at https://") || !strings.Contains(st.Sealed.Hint, "seal.transit") {
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

	again := httptest.NewUnstartedServer(vault)
	again.Listener.Close()
	if again.Listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	again.StartTLS()
	defer again.Close()
	h.await(t, "ready")
	if _, err := h.cl.AccountList(t.Context()); err != nil {
		t.Error(err)
	}
	if st, err := h.cl.SealStatus(t.Context()); err != nil || st.Service != "reachable" {
		t.Errorf("seal status: %+v, %v", st, err)
	}
	again.Close()
	if st, err := h.cl.SealStatus(t.Context()); err != nil || !strings.HasPrefix(st.Service, "not reachable: ") {
		t.Errorf("seal status while the service is away: %+v, %v", st, err)
	}
}

// keyService writes what a server must have of a key service: its certificate and a token.
func keyService(t *testing.T, service *httptest.Server) (ca, token string) {
	t.Helper()
	dir := t.TempDir()
	ca, token = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	for file, text := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), token: []byte("s.token\n"),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca, token
}

// TestSealRotateToTransit: a key service takes the place of a key file while somebody uploads. The key file is worth nothing
// afterwards, and whatever the service answers, nothing but the root opens anything.
func TestSealRotateToTransit(t *testing.T) {
	t.Parallel()
	vault := transittest.New("transit", "s.token")
	vault.AddKey("root")
	vault.AddKey("other")
	var lies atomic.Pointer[string] // what is answered instead of a plaintext
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lie := lies.Load()
		switch {
		case lie == nil || !strings.Contains(r.URL.Path, "/decrypt/"):
			vault.ServeHTTP(w, r)
		case *lie == "another key":
			r.URL.Path = strings.Replace(r.URL.Path, "/decrypt/root", "/decrypt/other", 1)
			vault.ServeHTTP(w, r)
		default:
			io.WriteString(w, *lie)
		}
	}))
	defer service.Close()
	ca, token := keyService(t, service)
	h := initHost(t)
	h.serve(t, "SALLYPORT_SEAL__TRANSIT__ADDRESS="+service.URL, "SALLYPORT_SEAL__TRANSIT__KEY=root", "SALLYPORT_SEAL__TRANSIT__TOKEN_FILE="+token, "SALLYPORT_SEAL__TRANSIT__CA_FILE="+ca)
	h.await(t, "ready")
	h.addAccount(t, "alice", "Correct-horse-42")
	client := h.upload(t, "alice", "content of a file, ")
	defer client.close()
	if _, err := h.cl.SealChange(t.Context(), admin.SealChange{To: "transit"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.c.Stat("/open"); err != nil {
		t.Errorf("a session that was there: %v", err)
	}
	if err := os.Remove(h.key); err != nil {
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
}
