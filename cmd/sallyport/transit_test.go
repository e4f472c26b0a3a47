package main

import (
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	for file, text := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), token: []byte("s.token\n"),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
