package blobtest

import (
	"errors"
	"syscall"
	"testing"

	"sallyport/vfs/blob"
)

func TestMem(t *testing.T) {
	t.Parallel()
	Run(t, func(*testing.T) blob.Store { return &Mem{} })
}

func TestFaultyWithoutFaults(t *testing.T) {
	t.Parallel()
	Run(t, func(*testing.T) blob.Store { return Inject(&Mem{}) })
}

func TestNoSpaceAtByte(t *testing.T) {
	t.Parallel()
	m := &Mem{}
	s := Inject(m, Fault{Op: OpWrite, After: 7, Err: syscall.ENOSPC})
	w := create(t, s, id(1))
	write(t, w, []byte("0123"))
	if n, err := w.Write([]byte("4567")); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("short write: %d, %v; want 3, ENOSPC", n, err)
	}
	if got := string(m.Bytes(id(1))); got != "0123456" {
		t.Fatalf("stored %q", got)
	}
	if err := w.Commit(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Commit of a dead writer: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, s, id(1))
}

func TestSyncFailsInPairs(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		m := &Mem{}
		s := Inject(m, Fault{Op: OpSync, Nth: 2, Err: syscall.EIO, Applied: applied})
		w := create(t, s, id(1))
		write(t, w, []byte("a"))
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		write(t, w, []byte("b"))
		for range 2 { // the second time because the writer is dead
			if err := w.Commit(); !errors.Is(err, syscall.EIO) {
				t.Fatalf("Commit: %v, want EIO", err)
			}
		}
		want := "a"
		if applied {
			want = "ab"
		}
		if got := string(m.Crash(nil).Bytes(id(1))); got != want {
			t.Fatalf("applied %v: %q survives, want %q", applied, got, want)
		}
		if s.Calls(OpSync) != 2 {
			t.Fatalf("%d syncs: a dead writer tried again", s.Calls(OpSync))
		}
	}
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	m := &Mem{}
	put(t, m, id(1), []byte("committed"))
	w := create(t, m, id(2))
	write(t, w, []byte("synced"))
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	write(t, w, []byte(", not"))
	write(t, create(t, m, id(3)), []byte("no name"))

	after := m.Crash(nil)
	wantBytes(t, after, id(1), []byte("committed"))
	wantBytes(t, after, id(2), []byte("synced"))
	wantAbsent(t, after, id(3))

	after = m.Crash(func(_ blob.ID, synced, written int64) int64 { return (synced + written + 1) / 2 })
	wantBytes(t, after, id(2), []byte("synced, n"))
	wantBytes(t, after, id(3), []byte("no "))
	wantBytes(t, m, id(3), []byte("no name"))
}
