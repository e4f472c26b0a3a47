package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/crypto/transit/transittest"
)

// keyservice KEY starts a key service (see transittest) with a key, $transit_address, transit.pem and transit.token.
func keyservice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keyservice KEY")
	}
	service := transittest.Start(scriptTB{ts})
	service.AddKey(args[0], "aes256-gcm96", false)
	ts.Setenv("transit_address", service.URL())
	ts.Check(os.WriteFile(ts.MkAbs("transit.pem"), service.CA(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("transit.token"), []byte(service.Token(args[0])+"\n"), 0o600))
}

// scriptTB is a story as transittest wants a test.
type scriptTB struct{ *testscript.TestScript }

func (scriptTB) Helper() {}

func (s scriptTB) Cleanup(f func()) { s.Defer(f) }

func (s scriptTB) TempDir() string {
	dir, err := os.MkdirTemp(s.MkAbs("."), "keyservice-")
	s.Check(err)
	return dir
}

// keyService starts a key service with the key root, and writes what a server must have of it: its certificate and a token.
func keyService(t *testing.T) (service transittest.Service, ca, token string) {
	t.Helper()
	service = transittest.Start(t)
	service.AddKey("root", "aes256-gcm96", false)
	dir := t.TempDir()
	ca, token = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	for file, text := range map[string][]byte{ca: service.CA(), token: []byte(service.Token("+") + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return service, ca, token
}
