package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of that many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("no small file system: mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space that is left.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "hog")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, io.LimitReader(zeroReader{}, 1<<30))
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	f.Close()
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// On a full disk the log lives on what is reserved for it, then refuses, loses nothing that it acknowledged, and goes on
// by itself when there is space.
func TestTheReserveOutlivesAFullDisk(t *testing.T) {
	t.Parallel()
	o := options(t)
	disk := smallDisk(t, 4<<20)
	o.Dir, o.Reserve, o.MaxFile = filepath.Join(disk, "audit"), 256<<10, 64<<10
	l := open(t, o)
	appendN(t, l, 1, 50)
	free := fill(t, disk)
	acked := 50
	for ; ; acked++ {
		if err := l.Append(t.Context(), event(acked+1)); err != nil {
			if !errors.Is(err, ErrFull) || !errors.Is(l.Err(), ErrFull) {
				t.Fatalf("record %d: %v", acked+1, err)
			}
			break
		}
	}
	// A record takes some 350 bytes: half of the reserve at least must have been there.
	if acked < 50+(128<<10)/500 {
		t.Errorf("only %d records after the disk was full", acked-50)
	}
	if s := l.Stats(); !s.Low || s.Records != uint64(acked) {
		t.Errorf("%+v, acknowledged %d", s, acked)
	}
	free()
	appendN(t, l, acked+1, acked+1)
	if s := l.Stats(); s.Low || s.Reserved == 0 {
		t.Errorf("with space again: %+v", s)
	}
	if r, err := l.Verify(); err != nil || r.Records != uint64(acked+1) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(o.Dir, o.Box, testKey); err != nil {
		t.Error(err)
	}
}

// Without a reserve the same disk stops the log at once: what the test above sees is the reserve.
func TestWithoutAReserveAFullDiskStopsAtOnce(t *testing.T) {
	t.Parallel()
	o := options(t)
	disk := smallDisk(t, 1<<20)
	o.Dir = filepath.Join(disk, "audit")
	l := open(t, o)
	appendN(t, l, 1, 50)
	fill(t, disk)
	n := 0
	for ; n < 1000 && l.Append(t.Context(), event(n)) == nil; n++ {
	}
	if n > 20 { // what is left of the page
		t.Errorf("%d records on a full disk", n)
	}
}

// failing is a file whose writes or syncs fail on demand.
type failing struct {
	logFile
	write, sync *fault
}

// fault is an error that comes and goes while the log's own goroutine writes.
type fault struct{ err atomic.Pointer[error] }

func (f *fault) set(err error) { f.err.Store(&err) }

func (f *fault) now() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f failing) Write(p []byte) (int, error) {
	if err := f.write.now(); err != nil {
		return 0, err
	}
	return f.logFile.Write(p)
}

func (f failing) Sync() error {
	if err := f.sync.now(); err != nil {
		return err
	}
	return f.logFile.Sync()
}

// With Continue a full disk stops nobody; what the queue cannot hold is lost, counted, and the number recorded.
func TestContinueCountsWhatIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var write, sync fault
		o := options(t)
		o.Continue, o.testOnlyFile = true, func(f logFile) logFile { return failing{f, &write, &sync} }
		l := open(t, o)
		defer l.Close()
		appendN(t, l, 1, 2)
		write.set(unix.ENOSPC)
		const tried = maxQueued + 100
		for i := range tried {
			if err := l.Append(t.Context(), event(100+i)); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		if err := l.AppendAll(t.Context(), []Event{{Action: Upload, Origin: "v:1"}}); !errors.Is(err, ErrFull) {
			t.Errorf("what a volume keeps: %v", err)
		}
		if l.Err() != nil || !errors.Is(l.Failure(), ErrFull) || l.Stats().Lost != 100 {
			t.Errorf("err %v, failure %v, %+v", l.Err(), l.Failure(), l.Stats())
		}
		write.set(nil)
		time.Sleep(2 * retryFull)
		synctest.Wait()
		if l.Failure() != nil {
			t.Fatal(l.Failure())
		}
		var lost, kept uint64
		for _, r := range all(t, l) {
			switch {
			case r.Action == Lost:
				lost += r.Count
			case r.Bytes >= 100:
				kept++
			}
		}
		if lost != 100 || kept+lost != tried {
			t.Errorf("%d recorded as lost, %d kept, of %d", lost, kept, tried)
		}
	})
}

// After an error that only a restart mends, the next start records how many are missing.
func TestContinueRemembersAcrossARestart(t *testing.T) {
	t.Parallel()
	var write, sync fault
	o := options(t)
	o.Continue, o.testOnlyFile = true, func(f logFile) logFile { return failing{f, &write, &sync} }
	l := open(t, o)
	appendN(t, l, 1, 2)
	sync.set(unix.EIO)
	appendN(t, l, 3, 7)
	if l.Err() != nil || !errors.Is(l.Failure(), ErrReadOnly) || l.Stats().Lost != 5 {
		t.Errorf("err %v, failure %v, %+v", l.Err(), l.Failure(), l.Stats())
	}
	if err := l.Close(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("closing: %v", err)
	}
	sync.set(nil)
	lost := load(t, o.Dir)[lostName]
	if len(lost) == 0 || bytes.Contains(lost, []byte("audit-lost")) {
		t.Errorf("the number is kept as %q", lost)
	}
	for range 2 { // once only
		l = open(t, o)
		var lost uint64
		for _, r := range all(t, l) {
			if r.Action == Lost {
				lost += r.Count
			}
		}
		if lost != 5 {
			t.Errorf("recorded %d lost", lost)
		}
		l.Close()
	}
	if _, err := Verify(o.Dir, o.Box, testKey); err != nil {
		t.Error(err)
	}
}
