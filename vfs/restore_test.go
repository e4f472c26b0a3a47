package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func (b *bench) restore(w *View, ask RestoreAsk) RestoreTotals {
	b.t.Helper()
	p := must(w.History(nil).PlanRestore(b.t.Context(), ask))(b.t)
	ok(b.t, p.Execute(b.t.Context()))
	b.verify()
	return p.Result()
}

func aRemovedTreeComesBack(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.MkdirAll("/a/b/empty", 0))
	put(t, w, "/a/f", noise(1, 300_000))
	put(t, w, "/a/b/g", []byte("g"))
	ok(t, w.Symlink("b/g", "/a/l"))
	ok(t, w.SetAttr("/a/f", AttrChange{Mode: ptr(os.FileMode(0o400)), Mtime: ptr(time.Unix(77, 7))}))
	ok(t, w.SetAttr("/a/b/empty", AttrChange{Mode: ptr(os.FileMode(0o500))}))
	then, before := b.instant(), b.look(w, "/")
	clock.advance(time.Hour)
	ok(t, w.SetAttr("/a/b/empty", AttrChange{Mode: ptr(os.FileMode(0o700))}))
	ok(t, w.RemoveAll("/a"))
	gone, nothing := b.instant(), b.look(w, "/")
	clock.advance(time.Hour)
	blobs := b.blobFiles()

	plan := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/a"}))(t)
	want := RestoreTotals{Created: 6, Bytes: 300_001, Grows: 300_001, Files: 2}
	if plan.RestoreTotals != want {
		t.Errorf("planned %+v, want %+v", plan.RestoreTotals, want)
	}
	if got := b.look(w, "/"); !sameTree(t, got, nothing, true) {
		t.Error("planning changed something")
	}
	var items []string
	for i, err := range plan.Items(t.Context()) {
		ok(t, err)
		items = append(items, string(i.Action)+" "+i.Path)
	}
	slices.Sort(items)
	if want := []string{"create /a", "create /a/b", "create /a/b/empty", "create /a/b/g", "create /a/f", "create /a/l"}; !slices.Equal(items, want) {
		t.Errorf("items %q", items)
	}
	ok(t, plan.Execute(t.Context()))
	b.verify()
	if r := plan.Result(); r != want {
		t.Errorf("restored %+v, want %+v", r, want)
	}
	delete(before, "/") // it was touched
	after := b.look(w, "/")
	delete(after, "/")
	sameTree(t, after, before, false)
	if got := b.blobFiles(); !slices.Equal(got, blobs) {
		t.Errorf("%d blobs, before there were %d: bytes were copied", len(got), len(blobs))
	}
	if r := b.restore(w, RestoreAsk{At: then, From: "/a"}); r.Created+r.Changed > 0 || r.Same == 0 {
		t.Errorf("the second time it did %+v", r)
	}
	clock.advance(time.Hour)
	b.restore(w, RestoreAsk{At: gone, From: "/", Exact: true})
	sameTree(t, b.look(w, "/"), nothing, false)

	// What it shares with history stays when that goes.
	b.restore(w, RestoreAsk{At: then, From: "/a"})
	b.purge(all)
	wantContent(t, w, "/a/f", noise(1, 300_000))
}

func aRestoreKeepsWhatCameLater(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	put(t, w, "/d/changed", []byte("old"))
	put(t, w, "/d/moved", noise(3, 100_000))
	put(t, w, "/d/became-dir", []byte("file"))
	ok(t, w.Mkdir("/d/sub", 0))
	put(t, w, "/d/sub/x", []byte("x"))
	then, before := b.instant(), b.look(w, "/d")
	clock.advance(time.Hour)
	put(t, w, "/d/changed", []byte("new"))
	put(t, w, "/d/later", []byte("later"))
	ok(t, w.Rename("/d/moved", "/d/elsewhere"))
	ok(t, w.Remove("/d/became-dir"))
	ok(t, w.Mkdir("/d/became-dir", 0))
	put(t, w, "/d/became-dir/y", []byte("y"))
	ok(t, w.Rename("/d/sub", "/d/sub2"))
	clock.advance(time.Hour)
	blobs := len(b.blobFiles())

	r := b.restore(w, RestoreAsk{At: then, From: "/d"})
	if r.Conflicts != 1 || r.Copied != 100_001 || r.Removed != 0 {
		t.Errorf("restored %+v", r)
	}
	if n := len(b.blobFiles()); n != blobs+1 {
		t.Errorf("%d blobs, want one more than %d", n, blobs)
	}
	wantContent(t, w, "/d/changed", []byte("old"))
	wantContent(t, w, "/d/moved", noise(3, 100_000))
	wantContent(t, w, "/d/elsewhere", noise(3, 100_000))
	wantContent(t, w, "/d/later", []byte("later"))
	wantContent(t, w, "/d/became-dir/y", []byte("y"))
	wantContent(t, w, "/d/sub/x", []byte("x"))
	if r := b.restore(w, RestoreAsk{At: then, From: "/d"}); r.Created+r.Changed > 0 || r.Copied > 0 {
		t.Errorf("the second time it did %+v", r)
	}
	r = b.restore(w, RestoreAsk{At: then, From: "/d", Exact: true})
	if r.Conflicts != 0 || r.Removed == 0 {
		t.Errorf("exactly restored %+v", r)
	}
	sameTree(t, b.look(w, "/d"), before, false)
	b.restore(w, RestoreAsk{At: then, From: "/d/sub", To: "/new/place"})
	wantContent(t, w, "/new/place/x", []byte("x"))
	wantContent(t, w, "/d/sub/x", []byte("x"))
	b.restore(w, RestoreAsk{At: then, From: "/d/moved", To: "/one"})
	wantContent(t, w, "/one", noise(3, 100_000))
}

func TestAnExactRestoreMovesBack(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.MkdirAll("/a/b", 0))
	for _, name := range []string{"/a/1", "/a/b/2"} {
		put(t, w, name, noise(9, 100_000))
	}
	then, before := b.instant(), b.look(w, "/")
	clock.advance(time.Hour)
	ok(t, w.Rename("/a/b", "/b")) // inside out
	ok(t, w.Rename("/a", "/b/a"))
	ok(t, w.Rename("/b/2", "/b/a/2"))
	clock.advance(time.Hour)
	blobs := b.blobFiles()
	r := b.restore(w, RestoreAsk{At: then, From: "/", Exact: true})
	if r.Moved != 3 || r.Copied != 0 || r.Removed != 0 {
		t.Errorf("restored %+v", r)
	}
	sameTree(t, b.look(w, "/"), before, false)
	if got := b.blobFiles(); !slices.Equal(got, blobs) {
		t.Errorf("bytes were copied")
	}
}

func TestARestoreLeavesAloneWhatItCannotHave(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/purged", []byte("1"))
	put(t, w, "/busy", []byte("1"))
	put(t, w, "/fine", []byte("1"))
	then := b.instant()
	put(t, w, "/purged", []byte("2"))
	b.purge(all)
	ok(t, w.Remove("/busy"))
	ok(t, w.Remove("/fine"))
	up := openFile(t, b.view(), "/busy", os.O_WRONLY|os.O_CREATE)
	r := b.restore(w, RestoreAsk{At: then, From: "/"})
	if r.Purged != 1 || r.Busy != 1 || r.Created != 1 {
		t.Errorf("restored %+v", r)
	}
	wantContent(t, w, "/purged", []byte("2"))
	wantContent(t, w, "/fine", []byte("1"))
	ok(t, up.Close())

	h := w.History(nil)
	_, err := h.PlanRestore(t.Context(), RestoreAsk{At: then, From: "/never"})
	wantErr(t, err, fs.ErrNotExist)
	_, err = h.PlanRestore(t.Context(), RestoreAsk{At: then, From: "/fine", To: "/fine/below"})
	wantErr(t, err, ErrNotDir)
	_, err = w.History(oneSecond).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/fine"})
	wantErr(t, err, ErrNotKept)
	p := must(h.PlanRestore(t.Context(), RestoreAsk{At: then, From: "/fine", To: "/.backups"}))(t)
	if p.Conflicts != 1 || p.Created != 0 {
		t.Errorf("onto a reserved name: %+v", p.RestoreTotals)
	}
}

func TestARestoreStaysWithinTheQuota(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/a", noise(1, 60_000))
	then := b.instant()
	ok(t, w.Remove("/a"))
	put(t, w, "/b", noise(2, 60_000))
	full := errors.New("full")
	b.vol.SetReserve(func(bytes, files, _ int64) error {
		if bytes > 100_000 || files > 1 {
			return full
		}
		return nil
	})
	p := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/"}))(t)
	err := p.Execute(t.Context())
	if !errors.Is(err, ErrQuota) || !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	wantNames(t, w, "/", "b")
	p = must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/a", To: "/b"}))(t)
	ok(t, p.Execute(t.Context())) // in place of what is there
	wantContent(t, w, "/b", noise(1, 60_000))
	b.vol.SetReserve(nil)
}

func TestARestoreIsRecorded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", []byte("1"))
	then := b.instant()
	put(t, w, "/f", []byte("22"))
	var got []Change
	v := b.viewWith(ViewOptions{Writer: "operator", Note: func(ch Change) []byte { got = append(got, ch); return nil }})
	b.restore(v, RestoreAsk{At: then, From: "/f"})
	if len(got) != 1 || got[0].Op != "restore" || got[0].Path != "/f" || got[0].Bytes != 1 || got[0].Version != 3 || got[0].Detail != "as of "+then.UTC().Format(time.RFC3339Nano) {
		t.Errorf("recorded %+v", got)
	}
	var last PathVersion
	ok(t, w.History(nil).Versions(t.Context(), "/f", time.Time{}, func(p PathVersion) error { last = p; return nil }))
	if last.State != VersionLive || last.Writer != "operator" {
		t.Errorf("the version is %s of %q", last.State, last.Writer)
	}
}

func TestARestoreGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	for i := range 2*restoreBatch + 5 {
		put(t, w, "/d/"+string(rune('a'+i%26))+string(rune('a'+i/26)), []byte{byte(i)})
	}
	then, before := b.instant(), b.look(w, "/")
	clock.advance(time.Hour)
	ok(t, w.RemoveAll("/d"))
	p := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/", Exact: true}))(t)
	stop, calls := errors.New("stop"), 0
	p.Progress = func(r RestoreTotals) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	}
	if err := p.Execute(t.Context()); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	first := p.Result().Created
	p.Progress = nil
	ok(t, p.Execute(t.Context()))
	if n := p.Result().Created; first == 0 || n+first != 2*restoreBatch+6 {
		t.Errorf("%d names, then %d", first, n)
	}
	sameTree(t, b.look(w, "/"), before, false)
}

// TestARestoreIsJudgedWhereItIs: by the paths that directories have when it comes to them, not by those of the plan.
func TestARestoreIsJudgedWhereItIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/in/sub/deep", 0))
	ok(t, w.Mkdir("/out", 0))
	put(t, w, "/in/sub/f", []byte("f"))
	put(t, w, "/in/sub/deep/g", []byte("g"))
	ok(t, w.Symlink("f", "/in/sub/l"))
	then := b.instant()
	change := func() {
		put(t, w, "/in/sub/f", []byte("new"))
		ok(t, w.Remove("/in/sub/deep/g"))
		ok(t, w.Remove("/in/sub/l"))
	}
	change()
	plan := func(ask RestoreAsk) (*RestorePlan, *[]string) {
		ask.At = then
		p := must(w.History(nil).PlanRestore(t.Context(), ask))(t)
		seen, entered := new([]string), 0
		p.Enter = func() func() { entered++; return func() { entered-- } }
		p.Judge = func(items []RestoreItem) error {
			if entered != 1 {
				t.Errorf("asked when %d had entered", entered)
			}
			for _, i := range items {
				*seen = append(*seen, fmt.Sprintf("%s %s from %s %d dir %v link %v", i.Action, i.Path, i.From, i.Bytes, i.Dir, i.Link))
			}
			return nil
		}
		return p, seen
	}
	p, seen := plan(RestoreAsk{From: "/in/sub"})
	ok(t, w.Rename("/in/sub", "/out/moved"))
	ok(t, w.Symlink("/out/moved", "/in/sub")) // as what is restored, a symlink is itself: it is replaced, and nothing is restored into what it leads to
	ok(t, p.Execute(t.Context()))
	for _, s := range *seen {
		if !strings.Contains(s, " /in/sub") {
			t.Errorf("judged %q", s)
		}
	}
	ok(t, w.RemoveAll("/in/sub"))
	ok(t, w.Rename("/out/moved", "/in/sub"))

	p, seen = plan(RestoreAsk{From: "/in/sub/f"})
	ok(t, w.Rename("/in/sub", "/out/moved"))
	ok(t, w.Symlink("/out/moved", "/in/sub")) // above it, a symlink is followed: there it is judged
	ok(t, p.Execute(t.Context()))
	if want := []string{"change /out/moved/f from /in/sub/f 1 dir false link false"}; !slices.Equal(*seen, want) {
		t.Errorf("judged %q, want %q", *seen, want)
	}
	ok(t, w.Remove("/in/sub"))
	ok(t, w.Rename("/out/moved", "/in/sub"))
	change2 := func() { ok(t, w.RemoveAll("/in/sub/l")); ok(t, w.RemoveAll("/in/sub/deep/g")) }
	change2()

	p, seen = plan(RestoreAsk{From: "/in/sub"})
	once := false
	judge := p.Judge
	p.Progress = func(RestoreTotals) error {
		if !once && len(*seen) > 0 {
			once = true
			return w.Rename("/in/sub", "/out/moved") // between two transactions
		}
		return nil
	}
	p.Judge = judge
	ok(t, p.Execute(t.Context()))
	elsewhere := 0
	for _, s := range *seen {
		if strings.Contains(s, " /out/moved/deep/g from /in/sub/deep/g") || strings.Contains(s, " /out/moved/deep from ") {
			elsewhere++
		}
	}
	if !once || elsewhere == 0 {
		t.Errorf("judged %q", *seen)
	}
	refuse := errors.New("no")
	ok(t, w.Remove("/out/moved/l"))
	ok(t, w.Rename("/out/moved", "/in/sub"))
	p, _ = plan(RestoreAsk{From: "/in/sub/l"})
	p.Judge = func([]RestoreItem) error { return refuse }
	if err := p.Execute(t.Context()); err != refuse { //nolint:errorlint // exactly that one
		t.Errorf("refused with %v", err)
	}
	_, err := w.Lstat("/in/sub/l")
	wantErr(t, err, fs.ErrNotExist)
}

// TestAnExactRestoreWaitsForPathsBeforeItClaims: somebody who uses paths waits for a claim of the restore, which must not wait for him then; and
// nobody waits while it tells what it did.
func TestAnExactRestoreWaitsForPathsBeforeItClaims(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w, other := b.view(), b.view()
	ok(t, w.Mkdir("/d", 0))
	then := b.instant()
	ok(t, w.Mkdir("/d/late", 0))
	p := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/d", Exact: true}))(t)
	var names sync.RWMutex
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second) // for a deadlock
	defer stop()
	used := make(chan error, 100)
	p.Enter = func() func() {
		names.RLock()
		using := make(chan struct{})
		go func() { // uses paths before the restore has them
			close(using)
			f, err := other.OpenHandle(ctx, "/d/late/f", os.O_WRONLY|os.O_CREATE, 0)
			names.RUnlock()
			if err == nil {
				err = f.Close()
			}
			used <- err
		}()
		<-using
		names.Lock()
		return names.Unlock
	}
	p.Progress = func(RestoreTotals) error {
		if !names.TryLock() {
			t.Error("others wait for whoever is told")
			return nil
		}
		names.Unlock()
		return nil
	}
	ok(t, p.Execute(t.Context()))
	if err := <-used; err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("somebody who uses paths beside the restore: %v", err)
	}
}
