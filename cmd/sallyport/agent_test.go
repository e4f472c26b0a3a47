package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/transit/transittest"
	"sallyport/server/admin"
)

// TestTransitAgent: an agent of the real product looks after the token of the real server. The tokens end after seconds and are replaced
// again and again, the agent goes away and comes back, and it writes a file that everybody can read.
func TestTransitAgent(t *testing.T) {
	t.Parallel()
	if os.Getenv(transittest.Env) == "" {
		t.Skip("an agent needs a real service: make transit")
	}
	service, ca, _ := keyService(t)
	sink := filepath.Join(t.TempDir(), "token")
	agent := transittest.NewAgent(t, service, "root", sink, "")
	agent.Start(sink)
	h := initHost(t, "--seal", "transit", "--transit-address", service.URL(), "--transit-key", "root", "--transit-token-file", sink, "--transit-ca-file", ca)
	h.serve(t)
	h.await(t, "ready")

	seen := map[string]bool{}
	eventually(t, "three tokens one after the other, of which each works", func() bool {
		text, err := os.ReadFile(sink)
		if err != nil { // the agent renames: there is always one
			t.Fatal(err)
		}
		seen[string(text)] = true
		if st, err := h.cl.SealStatus(t.Context()); err != nil || st.Service != "reachable" {
			t.Fatalf("after %d tokens: %+v, %v", len(seen), st, err)
		}
		return len(seen) == 3
	})
	if _, err := h.cl.SealRotate(t.Context(), admin.SealRotate{}); err != nil {
		t.Errorf("a new root with an agent's token: %v", err)
	}

	agent.Stop()
	eventually(t, "the last token has ended", func() bool {
		st, err := h.cl.SealStatus(t.Context())
		return err == nil && strings.Contains(st.Service, "the token has ended, was revoked, or may not be used from here")
	})
	if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "sealed")
	var refused *admin.Error
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); !errors.As(err, &refused) || !strings.Contains(refused.Message, "the token has ended") {
		t.Errorf("unsealing with a token that has ended: %v", err)
	}
	agent.Start(sink)
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Errorf("unsealing with the agent back: %v", err)
	}
	h.await(t, "ready")
	agent.Stop()

	open := transittest.NewAgent(t, service, "root", sink, "420") // 0644
	open.Start(sink)
	st, err := h.cl.SealStatus(t.Context())
	if err != nil || !strings.Contains(st.Service, "has mode 0644, which lets others at it") {
		t.Errorf("with a token that everybody can read: %+v, %v", st, err)
	}
}

// eventually waits for something that other processes bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	wait := patient(50 * time.Millisecond)
	defer wait.Stop()
	for !is() {
		if wait.over() {
			t.Fatalf("never: %s", what)
		}
	}
}
