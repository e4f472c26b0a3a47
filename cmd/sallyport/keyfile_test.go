package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/server/admin"
)

// TestTheKeyFileIsTheOneThatTheConfigurationNamesNow: who names another key file in sallyport.yaml and changes the seal has the
// other one in force at once, so that the old one may be destroyed. What replaces nothing is refused and not praised.
func TestTheKeyFileIsTheOneThatTheConfigurationNamesNow(t *testing.T) {
	t.Parallel()
	h := initHost(t)
	h.serve(t)
	h.await(t, "ready")
	toKeyFile := func() (admin.SealChanged, error) {
		return h.cl.SealChange(t.Context(), admin.SealChange{To: "keyfile"})
	}
	refused := func(err error, code admin.Code, says string) {
		t.Helper()
		var e *admin.Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, says) || e.Hint == "" {
			t.Errorf("%+v, want %s: … %s …", err, code, says)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := func(before, after string) {
		t.Helper()
		text, err := os.ReadFile(h.config)
		check(err)
		check(os.WriteFile(h.config, []byte(strings.ReplaceAll(string(text), before, after)), 0o600))
	}

	_, err := toKeyFile()
	refused(err, admin.CodeRefused, h.key+" is the one that is in force, so nothing was changed")

	key := make([]byte, 32)
	rand.Read(key)
	next := filepath.Join(t.TempDir(), "next.key")
	check(os.WriteFile(next, []byte(hex.EncodeToString(key)+"\n"), 0o600))
	name(h.key, next)
	name("listeners:", "listeners: [")
	_, err = toKeyFile()
	refused(err, admin.CodeInvalid, "the seal is as before: "+h.config)
	name("listeners: [", "listeners:")

	if out, err := toKeyFile(); err != nil || out.Where != next {
		t.Fatalf("%+v, %v", out, err)
	}
	if st, err := h.cl.Status(t.Context()); err != nil || st.Seal != "keyfile next.key" {
		t.Errorf("status says %q, %v", st.Seal, err)
	}
	check(os.Remove(h.key))
	check(h.cl.Seal(t.Context(), admin.Change{}))
	h.await(t, "sealed")
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatalf("with the key file that was named: %v", err)
	}

	// A sealed server needs no restart to look for its key elsewhere.
	check(h.cl.Seal(t.Context(), admin.Change{}))
	h.await(t, "sealed")
	moved := filepath.Join(t.TempDir(), "moved.key")
	check(os.Rename(next, moved))
	_, err = h.cl.Unseal(t.Context(), admin.Unseal{})
	refused(err, admin.CodeSealed, next)
	name(next, moved)
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Errorf("with the key file where the configuration names it: %v", err)
	}
}
