package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/server/admin"
	"sallyport/server/audit"
)

// TestAttemptsToUnsealOutliveTheProcess: one is made while a server is sealed that became another process image, which is
// then killed. The next one records it when it is open, and so does that one after it was sealed. The one after that finds
// the file as it was before it was recorded, as if that process had died in between, and does not record it again.
func TestAttemptsToUnsealOutliveTheProcess(t *testing.T) {
	t.Parallel()
	h := initHost(t)
	cmd := exec.Command("sallyport", "serve", "--config", h.config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	h.await(t, "ready")
	attempt := func() {
		t.Helper()
		if _, err := h.cl.Unseal(t.Context(), admin.Unseal{Share: "not a share"}); err == nil {
			t.Fatal("unsealed")
		}
	}
	recorded := func() (events []string) {
		t.Helper()
		r, err := h.cl.AuditTail(t.Context(), admin.AuditTail{Last: 50})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range r.Records {
			if r.Action == string(audit.UnsealRefused) || r.Action == string(audit.Unseal) {
				events = append(events, r.Action+" "+r.Who)
			}
		}
		return events
	}
	seal := func() {
		t.Helper()
		if err := h.cl.Seal(t.Context(), admin.Change{}); err != nil {
			t.Fatal(err)
		}
		h.await(t, "sealed")
	}
	seal()
	attempt()
	attempt()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	ended = true

	h.serve(t)
	h.await(t, "ready")
	me := fmt.Sprint("uid:", os.Geteuid())
	want := []string{"unseal ", "unseal-refused " + me, "unseal-refused " + me, "unseal "}
	if got := recorded(); !slices.Equal(got, want) {
		t.Errorf("after kill -9: %q, want %q", got, want)
	}
	seal()
	attempt()
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "unseal-refused "+me, "unseal "+me)
	if got := recorded(); !slices.Equal(got, want) {
		t.Errorf("after sealing: %q, want %q", got, want)
	}

	seal()
	attempt()
	path := filepath.Join(h.state, "audit-pending")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatal(err)
	}
	seal()
	if after, err := os.ReadFile(path); err != nil || bytes.Equal(after, before) {
		t.Fatalf("no new file was begun: %v", err)
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.cl.Unseal(t.Context(), admin.Unseal{}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "unseal-refused "+me, "unseal "+me, "unseal "+me)
	if got := recorded(); !slices.Equal(got, want) {
		t.Errorf("after a crash before the new file: %q, want %q", got, want)
	}
}
