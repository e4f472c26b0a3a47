package main

import (
	"encoding/pem"
	"net/http/httptest"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/crypto/transit/transittest"
)

// keyservice KEY starts a fake of a key service (see transittest) with a key, $transit_address, transit.pem and transit.token.
func keyservice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keyservice KEY")
	}
	vault := transittest.New("transit", "s.token")
	vault.AddKey(args[0])
	service := httptest.NewTLSServer(vault)
	ts.Defer(service.Close)
	ts.Setenv("transit_address", service.URL)
	ts.Check(os.WriteFile(ts.MkAbs("transit.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("transit.token"), []byte("s.token\n"), 0o600))
}
