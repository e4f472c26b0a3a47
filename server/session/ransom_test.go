package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

func TestHistoryQuotaRefusesInsteadOfLosing(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "quota.history", "100kB")
	_, s := h.login(t, "alice")
	g := s.Files()
	for _, name := range []string{"/a", "/b", "/c"} {
		put(t, g, name, strings.Repeat("a", 60_000))
	}
	put(t, g, "/empty", "")
	if err := g.Remove("/a"); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"remove":        func() error { return g.Remove("/b") },
		"overwrite":     func() error { return tryPut(g, "/b", "new") },
		"rename over":   func() error { return g.Rename("/empty", "/b") },
		"remove a tree": func() error { return g.RemoveAll("/") },
	} {
		wantCode(t, what, do(), policy.CodeQuotaHistory)
		if got, err := get(g, "/b"); err != nil || len(got) != 60_000 {
			t.Errorf("after the refused %s: %d bytes, %v", what, len(got), err)
		}
	}
	put(t, g, "/new", "new files are no history")
	if err := tryAppend(g, "/b", "more"); err != nil {
		t.Errorf("an append, which keeps the content: %v", err)
	}
	if got, err := get(g, "/b"); err != nil || got != strings.Repeat("a", 60_000)+"more" {
		t.Errorf("after the append: %d bytes, %v", len(got), err)
	}
	if err := g.Rename("/b", "/moved"); err != nil {
		t.Error(err)
	}
	h.set(t, policy.AccountTarget("alice"), "quota.history", "0")
	if err := g.Remove("/c"); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}

func tryAppend(g *Guard, name, content string) error {
	f, err := g.OpenFile(context.Background(), name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, werr := f.Write([]byte(content))
	return errors.Join(werr, f.Close())
}

// TestAttributesCostNoHistory: a file that is dated and given modes a hundred times is stored once.
func TestAttributesCostNoHistory(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "quota.history", "100kB")
	_, s := h.login(t, "alice")
	g := s.Files()
	put(t, g, "/a", strings.Repeat("a", 60_000))
	for i := range 100 {
		if err := g.SetAttr("/a", vfs.AttrChange{Mode: new(os.FileMode(0o600 + i%8)), Mtime: new(time.Unix(int64(i), 0))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tryPut(g, "/a", "another content"); err != nil {
		t.Errorf("the first overwrite: %v", err)
	}
	put(t, g, "/b", strings.Repeat("b", 60_000))
	wantCode(t, "what would be too much", g.Remove("/b"), policy.CodeQuotaHistory)
}

func TestHistoryCountsForTheQuotaIfPolicySaysSo(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "quota.bytes", "100kB")
	_, s := h.login(t, "alice")
	g := s.Files()
	big := strings.Repeat("a", 60_000)
	put(t, g, "/a", big)
	if err := g.Remove("/a"); err != nil {
		t.Fatal(err)
	}
	put(t, g, "/b", big) // deleting has freed it
	h.set(t, policy.AccountTarget("alice"), "quota.count_history", "true")
	if err := g.Remove("/b"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "with history counted", tryPut(g, "/c", big), policy.CodeQuotaBytes)
	if sp, err := g.Space(); err != nil || sp.BytesFree != 0 {
		t.Errorf("space %+v, %v", sp, err)
	}
}

func (h *house) alarms(t *testing.T) []audit.Event {
	t.Helper()
	var list []audit.Event
	for _, r := range h.records(t) {
		if r.Action == audit.Ransom {
			list = append(list, r.Event)
		}
	}
	return list
}

// A session that encrypts everything is stopped; what it did not get to is whole, and others go on.
func TestMassOverwriteSuspendsTheSession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "ransom.limit", "5/hour")
	h.set(t, policy.AccountTarget("alice"), "ransom.action", "suspend")
	_, owner := h.login(t, "alice")
	for i := range 20 {
		put(t, owner.Files(), fmt.Sprintf("/f%02d", i), "mine")
	}
	put(t, owner.Files(), "/f00", "mine, again") // its own: they do not count
	for i := range 19 {
		put(t, owner.Files(), fmt.Sprintf("/f%02d", i), "mine")
	}
	if got := h.alarms(t); len(got) != 0 {
		t.Fatalf("own files raise an alarm: %+v", got)
	}
	_, evil := h.login(t, "alice")
	g := evil.Files()
	var err error
	done := 0
	for i := range 20 {
		name := fmt.Sprintf("/f%02d", i)
		switch i % 3 {
		case 0:
			err = tryPut(g, name, "encrypted")
		case 1:
			if err = tryPut(g, name+".enc", "encrypted"); err == nil {
				err = g.Remove(name)
			}
		case 2:
			if err = tryPut(g, "/tmp", "encrypted"); err == nil {
				err = g.Rename("/tmp", name)
			}
		}
		if err != nil {
			break
		}
		done++
	}
	wantCode(t, "the one after the limit", err, policy.CodeSuspended)
	if done != 6 {
		t.Errorf("%d files were lost before it was stopped, want 6", done)
	}
	for what, err := range map[string]error{
		"mkdir": g.Mkdir("/d", 0o755), "rename": g.Rename("/f19", "/x"), "remove": g.Remove("/f19"), "new file": tryPut(g, "/new", "x"), "tree": g.RemoveAll("/"),
	} {
		wantCode(t, what, err, policy.CodeSuspended)
	}
	if got, err := get(g, "/f19"); err != nil || got != "mine" {
		t.Errorf("reading goes on: %q, %v", got, err)
	}
	put(t, owner.Files(), "/f19", "the other session goes on")
	alarms := h.alarms(t)
	if len(alarms) != 1 || alarms[0].Count != 6 || alarms[0].Result != "suspended" || alarms[0].Session != evil.ID() || alarms[0].Code != policy.CodeSuspended {
		t.Errorf("alarms %+v", alarms)
	}
	h.set(t, policy.AccountTarget("alice"), "ransom.action", "report")
	if err := g.Remove("/f18"); err != nil {
		t.Errorf("a policy that does not suspend: %v", err)
	}
}

// A tree that is removed in one call stops in the middle, and by default it is only reported.
func TestMassDeletion(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "ransom.limit", "10/hour")
	_, owner := h.login(t, "alice")
	for _, dir := range []string{"/one", "/two"} {
		if err := owner.Files().Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			put(t, owner.Files(), fmt.Sprintf("%s/f%02d", dir, i), "mine")
		}
	}
	_, evil := h.login(t, "alice")
	if err := evil.Files().RemoveAll("/one"); err != nil {
		t.Errorf("reported only: %v", err)
	}
	if a := h.alarms(t); len(a) != 1 || a[0].Result != "reported" || a[0].Count != 11 {
		t.Errorf("alarms %+v", a)
	}
	h.set(t, policy.AccountTarget("alice"), "ransom.action", "suspend")
	_, again := h.login(t, "alice")
	wantCode(t, "the second tree", again.Files().RemoveAll("/two"), policy.CodeSuspended)
	if left := len(names(t, owner.Files(), "/two")); left == 0 {
		t.Error("nothing is left of it")
	}
}

// Files of others do not become own by putting their directory in the place of one with own files of the same names.
func TestDirectoriesInEachOthersPlaceHideNothing(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "ransom.limit", "3/hour")
	_, owner := h.login(t, "alice")
	must(t, owner.Files().Mkdir("/dir", 0o755))
	_, evil := h.login(t, "alice")
	g := evil.Files()
	must(t, g.Mkdir("/own", 0o755))
	for i := range 6 {
		put(t, owner.Files(), fmt.Sprintf("/dir/%d", i), "mine")
		put(t, g, fmt.Sprintf("/own/%d", i), "x")
	}
	must(t, g.Rename("/own", "/away"))
	for i := range 6 {
		must(t, g.Remove(fmt.Sprintf("/away/%d", i))) // they are its own still
	}
	if a := h.alarms(t); len(a) != 0 {
		t.Fatalf("own files raise an alarm: %+v", a)
	}
	must(t, g.Rename("/dir", "/own"))
	for i := range 6 {
		must(t, g.Remove(fmt.Sprintf("/own/%d", i)))
	}
	if a := h.alarms(t); len(a) != 1 || a[0].Count != 4 {
		t.Errorf("alarms %+v", a)
	}
}
