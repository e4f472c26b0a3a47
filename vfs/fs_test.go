package vfs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
)

func TestCreateAndDestroy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.fs.Create(t.Context(), b.id); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("created it twice: %v", err)
	}
	w := b.view()
	put(t, w, "a", noise(1, 100_000))
	if err := b.fs.Destroy(t.Context(), b.id); !errors.Is(err, ErrBusy) {
		t.Fatalf("destroyed it in use: %v", err)
	}
	wantContent(t, w, "a", noise(1, 100_000))
	ok(t, w.Close())
	ok(t, b.fs.Destroy(t.Context(), b.id))
	if left, err := os.ReadDir(b.fs.o.Dir); err != nil || len(left) != 0 {
		t.Fatalf("%v left, %v", left, err)
	}
	_, err := b.fs.Volume(t.Context(), b.id)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("opened what is destroyed: %v", err)
	}
	ok(t, b.fs.Destroy(t.Context(), b.id)) // again is not an error
	b.discard()
}

// What a volume has not told is nowhere else: who destroys it waits for whoever listens.
func TestADestroyedVolumeHasToldEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fs.OnOutbox(func(*Volume) {})
	w := b.viewWith(ViewOptions{Note: func(Change) []byte { return []byte("made") }})
	ok(t, w.Mkdir("a", 0))
	v := w.Volume()
	ok(t, w.Close())
	if err := b.fs.Destroy(t.Context(), b.id); !errors.Is(err, ErrBusy) {
		t.Fatalf("destroyed with an event in it: %v", err)
	}
	told := 0
	ok(t, v.Drain(t.Context(), func([]byte) error { told++; return nil }))
	ok(t, b.fs.Destroy(t.Context(), b.id))
	if told != 1 {
		t.Errorf("%d events", told)
	}
	b.discard()
}

// Who drains for the last time must have been told of what was committed before.
func TestNotifiedWaitsForTheListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		gate := make(chan struct{})
		b.fs.OnOutbox(func(*Volume) { <-gate })
		w := b.viewWith(ViewOptions{Note: func(Change) []byte { return []byte("made") }})
		ok(t, w.Mkdir("a", 0))
		told := make(chan struct{})
		go func() { b.fs.Notified(); close(told) }()
		synctest.Wait()
		select {
		case <-told:
			t.Error("it did not wait")
		default:
		}
		close(gate)
		<-told
	})
}

// TestUnfinishedVolumesAreSwept has a crash in the middle of a creation and of a destruction.
func TestUnfinishedVolumesAreSwept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := must(b.ring.NewAccount(t.Context()))(t)
	for _, dir := range []string{b.fs.dir(other) + unfinished, b.fs.dir([16]byte{1}) + destroyed} {
		ok(t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o700))
		ok(t, os.WriteFile(filepath.Join(dir, "tree-1.db"), []byte("half"), 0o600))
	}
	b.reopen()
	if left := must(os.ReadDir(b.fs.o.Dir))(t); len(left) != 1 {
		t.Fatalf("%v left", left)
	}
	ok(t, b.fs.Create(t.Context(), other))
	must(b.fs.Volume(t.Context(), other))(t)
}

func TestIdleVolumeCloses(t *testing.T) {
	t.Parallel()
	b := newBenchWith(t, Options{IdleClose: time.Millisecond})
	core := func() *core {
		b.vol.mu.Lock()
		defer b.vol.mu.Unlock()
		return b.vol.core
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !is(); {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			<-time.After(time.Millisecond)
		}
	}
	until("an unused volume stays open", func() bool { return core() == nil })
	w := b.view()
	put(t, w, "a", []byte("a"))
	first := core()
	<-time.After(20 * time.Millisecond)
	if core() != first || first == nil {
		t.Fatal("closed while a session is there")
	}
	ok(t, w.Close())
	until("it stays open after its last session", func() bool { return core() == nil })
	wantContent(t, b.view(), "a", []byte("a"))
}

// TestSecondServer has two servers on one state directory: the second is refused and told why.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	second, err := Open(t.Context(), b.fs.o)
	ok(t, err)
	_, err = second.Volume(t.Context(), b.id)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "another server") || strings.Contains(err.Error(), b.state) {
		t.Fatalf("got %v", err)
	}
	ok(t, second.Close())
	put(t, b.view(), "a", []byte("a"))
}

// TestRefusalIsRemembered keeps a stranger's logins from verifying a damaged volume again and again.
func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ok(t, b.fs.Close())
	db := filepath.Join(b.dir(), "tree-1.db")
	whole := must(os.ReadFile(db))(t)
	ok(t, os.WriteFile(db, whole[:3*4096], 0o600))
	now := time.Now()
	var mu sync.Mutex
	b.start(Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	_, err := b.fs.Volume(t.Context(), b.id)
	if !errors.Is(err, ErrIntegrity) || strings.Contains(err.Error(), b.state) {
		t.Fatalf("got %v", err)
	}
	ok(t, os.WriteFile(db, whole, 0o600))
	if _, again := b.fs.Volume(t.Context(), b.id); again != err {
		t.Fatalf("asked again: %v", again)
	}
	mu.Lock()
	now = now.Add(refusalHold)
	mu.Unlock()
	b.open() // the operator has put back the file
}

// TestOrphansGoWhenOld puts blobs that no key record names beside the others.
func TestOrphansGoWhenOld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	put(t, b.view(), "a", noise(1, 100_000))
	known := b.blobFiles()[0]
	old := filepath.Join(filepath.Dir(known), strings.Repeat("a", 30))
	young := filepath.Join(filepath.Dir(known), strings.Repeat("b", 30))
	for _, p := range []string{old, young} {
		ok(t, os.WriteFile(p, []byte("noise"), 0o600))
	}
	long := time.Now().Add(-orphanGrace - time.Hour)
	ok(t, os.Chtimes(old, long, long))
	ok(t, os.Chtimes(known, long, long))
	if f := b.findings(); len(f) != 2 {
		t.Fatalf("findings %q", f)
	}
	b.reopen()
	if files := b.blobFiles(); len(files) != 2 {
		t.Fatalf("%q", files)
	}
	wantContent(t, b.view(), "a", noise(1, 100_000))

	// The housekeeper does the same for a volume that is never closed.
	ok(t, os.WriteFile(old, []byte("noise"), 0o600))
	ok(t, os.Chtimes(old, long, long))
	b.tidy(TidyOptions{})
	if files := b.blobFiles(); len(files) != 2 || slices.Contains(files, old) {
		t.Errorf("after housekeeping: %q", files)
	}
	ok(t, os.Remove(young))
}

// TestOrphansStayWhileClocksDisagree: a volume whose time is far ahead of what dates files takes no new one for old.
func TestOrphansStayWhileClocksDisagree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	put(t, b.view(), "a", noise(1, 100_000))
	young := filepath.Join(filepath.Dir(b.blobFiles()[0]), strings.Repeat("b", 30))
	ok(t, os.WriteFile(young, []byte("noise"), 0o600))
	ok(t, b.fs.Close())
	b.start(Options{Now: func() time.Time { return time.Now().AddDate(50, 0, 0) }})
	b.open()
	if files := b.blobFiles(); len(files) != 2 {
		t.Errorf("the new blob is gone: %q", files)
	}
	ok(t, os.Remove(young))
}

// TestFullDiskAtOpening cannot finish what a crash left, and opens all the same.
func TestFullDiskAtOpening(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "a", noise(1, 100_000))
	f := openFile(t, w, "cut", wr)
	write(t, f, noise(2, 6<<20))
	c := b.crash()
	f.TransferError(errCut)
	ok(t, f.Close())
	_ = c // recovered normally

	d := &bench{t: t, state: t.TempDir(), ring: b.ring, id: b.id}
	f = openFile(t, w, "cut again", wr)
	write(t, f, noise(2, 6<<20))
	ok(t, os.CopyFS(filepath.Join(d.state, "accounts"), os.DirFS(filepath.Join(b.state, "accounts"))))
	ok(t, f.Close())
	var faults *blobtest.Faulty
	d.start(Options{testOnlyBlobs: func(s blob.Store) blob.Store {
		faults = blobtest.Inject(s, blobtest.Fault{Op: blobtest.OpWrite, Err: syscall.ENOSPC}, blobtest.Fault{Op: blobtest.OpResume, Err: syscall.ENOSPC})
		return faults
	}})
	d.open()
	v := d.view()
	wantContent(t, v, "a", noise(1, 100_000))
	_, err := v.Stat("cut again")
	wantErr(t, err, fs.ErrNotExist)
	ok(t, v.Remove("a"))
	ok(t, v.Close())
	d.reopen() // without the fault
	if got := get(t, d.view(), "cut again"); len(got) < 1<<20 || !bytes.HasPrefix(noise(2, 6<<20), got) {
		t.Fatalf("%d bytes recovered later", len(got))
	}
	d.end()
}

// TestClaims checks the waiting of names for each other, in a bubble of virtual time.
func TestClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClaims()
		a := slot{1, "a"}
		unlock := must(c.lock(t.Context(), a))(t)
		held := false
		go func() {
			if err := c.hold(t.Context(), a, false); err != nil {
				t.Error(err)
			}
			held = true
		}()
		synctest.Wait()
		if held {
			t.Fatal("an upload did not wait for an operation on its name")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.lock(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("two operations at once: %v", err)
		}
		unlock()
		synctest.Wait()
		if !held {
			t.Fatal("the upload still waits")
		}
		if _, err := c.lock(t.Context(), a); err != fs.ErrExist {
			t.Fatalf("got %v", err)
		}
		if _, err := c.lockDir(t.Context(), 1); err != ErrNotEmpty {
			t.Fatalf("got %v", err)
		}
		c.drop(a)
		unlock = must(c.lockDir(t.Context(), 1))(t)
		if err := c.hold(ctx, a, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("an upload into a directory that goes: %v", err)
		}
		unlock()
		ok(t, c.hold(t.Context(), a, true))
		if err := c.hold(t.Context(), a, true); err != fs.ErrExist {
			t.Fatalf("got %v", err)
		}
		c.drop(a)
		if len(c.slots)+len(c.dirs)+len(c.removed) != 0 {
			t.Fatalf("left: %v", c.slots)
		}
	})
}
