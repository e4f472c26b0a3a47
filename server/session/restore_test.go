package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// TestARestoreAsksForTheRightsWhereItWrites: where the path leads now, symlinks made since included.
func TestARestoreAsksForTheRightsWhereItWrites(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read]}, {path: /secret, allow: []}]"})
	g := s.Files()
	must(t, g.Mkdir("/in/sub", 0))
	put(t, g, "/in/sub/plan", "mine")
	then := instantNow()
	put(t, g, "/in/sub/plan", "later")
	restore := func(name, instant string) error { _, err := g.Restore(t.Context(), name, instant); return err }

	r, err := g.Restore(t.Context(), "/in/sub", then)
	if err != nil || r.Changed == 0 || r.Created != 0 {
		t.Fatalf("restored %+v, %v", r, err)
	}
	if got, err := get(g, "/in/sub/plan"); got != "mine" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	must(t, g.RemoveAll("/in/sub"))
	must(t, g.Symlink("/secret", "/in/sub"))
	wantCode(t, "through a symlink to what is closed", restore("/in/sub/plan", then), policy.CodeWrite)
	must(t, g.Remove("/in/sub"))
	must(t, g.Symlink("/out", "/in/sub"))
	wantCode(t, "through a symlink to what is only read", restore("/in/sub/plan", then), policy.CodeWrite)
	wantCode(t, "where only reading is", restore("/out/report", then), policy.CodeWrite)
	wantCode(t, "what is closed", restore("/secret/plan", then), policy.CodeStat)
	wantCode(t, "what never was where it is closed", restore("/secret/never", then), policy.CodeStat)
	wantCode(t, "everything", restore("/", then), policy.CodeMkdir)
	for _, name := range []string{"/in/never", "/.backups", "/.backups/versions", "/.backups/versions/in/sub/plan"} {
		if err := restore(name, then); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, g.Remove("/in/sub"))
	must(t, restore("/.backups/"+then+"/in/sub", ""))
	if got, err := get(g, "/in/sub/plan"); got != "mine" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	put(t, g, "/in/sub/plan", "what is more than history may hold")
	h.set(t, policy.AccountTarget("alice"), "quota.history", "10")
	wantCode(t, "beyond the quota of history", restore("/in/sub", then), policy.CodeQuotaHistory)
	h.set(t, policy.AccountTarget("alice"), "quota.history", "0")
	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "0")
	if err := restore("/in/sub", then); !errors.Is(err, vfs.ErrNotKept) {
		t.Errorf("without retention: %v", err)
	}
	must(t, h.m.Close()) // what the volume recorded is in the log then
	n := count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Restore && r.Detail != "" })
	if n < 3 {
		t.Errorf("%d records of restoring", n)
	}
}

// TestARestoreTellsNothingOfWhatIsClosed: whether it was there or not, the answer is the same, whatever way leads to it.
func TestARestoreTellsNothingOfWhatIsClosed(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read]}, {path: /secret, allow: []}]"})
	g := s.Files()
	must(t, g.Symlink("/secret", "/in/link"))
	then := instantNow()
	restore := func(name, instant string) error { _, err := g.Restore(t.Context(), name, instant); return err }
	stat := func(name string) error { _, err := g.Stat(name); return err }
	for _, name := range []string{"/secret/plan", "/secret/never", "/secret/no/where", "/in/link/plan", "/in/link/never", "/in/link/no/where"} {
		wantCode(t, name, restore(name, then), policy.CodeStat)
		wantCode(t, "stat "+name, stat("/.backups/"+then+name), policy.CodeStat)
	}
	wantCode(t, "a version", restore("/.backups/versions/secret/plan/2026-11-20T143012Z_1", ""), policy.CodeStat)
}

// TestARestoreMakesWhatTheAccountMayMake: no directories on the way and no symlinks without the rights to make such.
func TestARestoreMakesWhatTheAccountMayMake(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	must(t, g.MkdirAll("/a/b", 0))
	put(t, g, "/a/b/f", "mine")
	must(t, g.Symlink("a", "/l"))
	then := instantNow()
	must(t, g.RemoveAll("/a"))
	must(t, g.Remove("/l"))
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [list, read, write, delete]}]")
	restore := func(name string) error { _, err := g.Restore(t.Context(), name, then); return err }
	wantCode(t, "a file whose directory is gone", restore("/a/b/f"), policy.CodeMkdir)
	wantCode(t, "a symlink", restore("/l"), policy.CodeSymlink)
	if got := names(t, g, "/"); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [list, read, write, mkdir, symlink]}]")
	must(t, restore("/a/b/f"))
	must(t, restore("/l"))
}

// links gives a directory so many symlinks, which are made fast.
func links(t testing.TB, g *Guard, dir string, n int) {
	t.Helper()
	for i := range n {
		must(t, g.view.Symlink("x", fmt.Sprintf("%s/%d", dir, i)))
	}
}

// TestARestoreStopsWhereItsDirectoryIsTakenElsewhere: another session of the account renames the directory that is being restored to
// where the account may not write.
func TestARestoreStopsWhereItsDirectoryIsTakenElsewhere(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read, rename]}]"})
	_, other := h.login(t, "alice")
	g, swap := s.Files(), other.Files()
	must(t, g.Mkdir("/in/sub", 0))
	const n = 20 * 128
	links(t, g, "/in/sub", n)
	then := instantNow()
	must(t, g.RemoveAll("/in/sub"))
	moved := make(chan error, 1)
	within := func() int {
		count := 0
		must(t, g.view.ReadDir(t.Context(), "/out/sub", func(batch []*vfs.Info) error { count += len(batch); return nil }))
		return count
	}
	left := 0
	transactions := 0
	g.testOnlyUsing = func() {
		if transactions++; transactions == 4 {
			go func() {
				err := swap.rename("/in/sub", "/out/sub", func(_ *policy.Effective, from, to string) error {
					err := swap.view.Rename(from, to)
					left = within() // nobody else changes names now
					return err
				})
				moved <- err
			}()
		}
	}
	r, err := g.Restore(t.Context(), "/in/sub", then)
	must(t, <-moved)
	wantCode(t, "what goes on elsewhere", err, policy.CodeWrite)
	if r.Created == 0 || r.Created > n {
		t.Errorf("restored %+v", r)
	}
	if got := within(); got != left || got == 0 {
		t.Errorf("%d names where the account may not write, %d when it came there", got, left)
	}
}

// TestALargeRestoreHoldsNobodyUp: others of the account get in between two transactions.
func TestALargeRestoreHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read]}]"})
	_, other := h.login(t, "alice")
	g := s.Files()
	must(t, g.Mkdir("/in/sub", 0))
	links(t, g, "/in/sub", 20*128)
	then := instantNow()
	must(t, g.RemoveAll("/in/sub"))
	done := make(chan error, 2)
	between, transactions := 0, 0
	g.testOnlyUsing = func() {
		if transactions++; transactions == 1 { // the look at what is to be restored
			return
		}
		if s.account.names.TryRLock() {
			t.Error("others could use paths during a transaction")
			s.account.names.RUnlock()
		}
		switch {
		case transactions == 2:
			go func() { done <- other.Files().Rename("/in/old", "/in/new") }()
			go func() { _, err := other.Files().Stat("/out/report"); done <- err }()
		case len(done) == 2 && between == 0:
			between = transactions
		}
	}
	_, err := g.Restore(t.Context(), "/in/sub", then)
	must(t, err)
	must(t, errors.Join(<-done, <-done))
	if between == 0 {
		t.Errorf("others waited for all of %d transactions", transactions)
	}
}

// TestARestoreHeedsThePolicyThatIsInForce with each transaction.
func TestARestoreHeedsThePolicyThatIsInForce(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read]}]"})
	g := s.Files()
	must(t, g.Mkdir("/in/sub", 0))
	links(t, g, "/in/sub", 4*128)
	then := instantNow()
	must(t, g.RemoveAll("/in/sub"))
	transactions := 0
	g.testOnlyUsing = func() {
		if transactions++; transactions == 4 {
			h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /in, allow: [list, read, mkdir, create]}]")
		}
	}
	r, err := g.Restore(t.Context(), "/in/sub", then)
	wantCode(t, "with fewer rights", err, policy.CodeOverwrite)
	if r.Created == 0 || r.Created > 3*128 {
		t.Errorf("restored %+v", r)
	}
}

// TestALargeRemovalHoldsNobodyUpAndStopsWhereItsDirectoryIsTakenElsewhere: as a restore.
func TestALargeRemovalHoldsNobodyUpAndStopsWhereItsDirectoryIsTakenElsewhere(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /out, allow: [list, read, rename]}]"})
	_, other := h.login(t, "alice")
	g, swap := s.Files(), other.Files()
	must(t, g.MkdirAll("/in/sub/deep", 0))
	const n = 30 * 128
	links(t, g, "/in/sub/deep", n)
	moved := make(chan error, 1)
	transactions := 0
	g.testOnlyUsing = func() {
		if transactions++; transactions == 4 { // it waits for this transaction, and no longer
			go func() { moved <- swap.Rename("/in/sub/deep", "/out/deep") }()
		}
	}
	wantCode(t, "what goes on elsewhere", g.RemoveAll("/in/sub"), policy.CodeDelete)
	must(t, <-moved)
	left := 0
	must(t, g.view.ReadDir(t.Context(), "/out/deep", func(batch []*vfs.Info) error { left += len(batch); return nil }))
	if left == 0 || left > n-128 {
		t.Errorf("%d of %d names are left where the account may delete nothing", left, n)
	}
	g.testOnlyUsing = nil
	must(t, g.RemoveAll("/in/sub"))
	if _, err := g.Stat("/in/sub"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of what was removed: %v", err)
	}
}

// TestARestoreOfAnOperatorSwapsNothingUnderASession: what was a symlink at that time takes the place of the directory that a session has
// just asked for its rights on; also for who logs in while it runs.
func TestARestoreOfAnOperatorSwapsNothingUnderASession(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /, allow: [list]}]"})
	g := s.Files()
	must(t, g.Symlink("/secret", "/in/d"))
	then := time.Now()
	must(t, g.Remove("/in/d"))
	must(t, g.Mkdir("/in/d", 0))
	put(t, g, "/in/d/plan", "harmless")
	restored := make(chan error, 1)
	restore := func() {
		w := g.view.Volume().View(vfs.ViewOptions{Writer: "operator"})
		plan, err := w.History(nil).PlanRestore(context.Background(), vfs.RestoreAsk{At: then, From: "/in/d", Exact: true})
		if err == nil {
			plan.Enter = func() func() { return h.m.HoldNames(s.account.id) }
			err = plan.Execute(context.Background())
		}
		restored <- errors.Join(err, w.Close())
	}
	// As an attacker wants it: the restore begins when the path has been decided on, and has all the time it needs.
	g.testOnlyUsing = sync.OnceFunc(func() {
		go restore()
		select {
		case err := <-restored:
			t.Errorf("the directory was replaced while its path was in use: %v", err)
			restored <- err
		case <-time.After(50 * time.Millisecond): // it waits
		}
	})
	if got, err := get(g, "/in/d/plan"); err != nil || got != "harmless" {
		t.Fatalf("read %q, %v", got, err)
	}
	must(t, <-restored)
	_, err := get(g, "/in/d/plan")
	wantCode(t, "through the symlink", err, policy.CodeRead)
}

// TestNamesAreHeldForWhoComesMeanwhile: an account without a session, of which one logs in while they are held.
func TestNamesAreHeldForWhoComesMeanwhile(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	for _, name := range []string{"alice", "bob"} {
		h.addAccount(t, name, everything)
		h.set(t, policy.AccountTarget(name), "paths", narrow["paths"])
	}
	_, bob := h.login(t, "bob")
	a, err := h.db.Account("alice")
	must(t, err)
	release := h.m.HoldNames(a.ID)
	_, s := h.login(t, "alice")
	looked := make(chan struct{})
	go func() { defer close(looked); _, _ = s.Files().Stat("/in") }()
	if _, err := bob.Files().Stat("/in"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another account waits, or %v", err)
	}
	select {
	case <-looked:
		t.Error("a path was used while names were held")
	case <-time.After(50 * time.Millisecond): // it waits
	}
	release()
	<-looked
	h.m.HoldNames(a.ID)() // of a live session
	s.conn.Close()
	release = h.m.HoldNames(a.ID)
	release()
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if n := len(h.m.accounts); n != 1 {
		t.Errorf("%d accounts are remembered", n)
	}
}
