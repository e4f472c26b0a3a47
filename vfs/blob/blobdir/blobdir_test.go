package blobdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
)

func newDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t *testing.T) blob.Store { return newDir(t) })
}

func TestFaultyConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t *testing.T) blob.Store { return blobtest.Inject(newDir(t)) })
}

func commit(s blob.Store, t *testing.T, id blob.ID, data string) error {
	w, err := s.Create(t.Context(), id)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(data)); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Commit(); err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

func TestLayoutOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	id, err := blob.ParseID("abcdef0123456789abcdef0123456789")
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(d, t, id, "x"); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{"ab": fs.ModeDir | 0o700, "ab/cdef0123456789abcdef0123456789": 0o600} {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", path, info, err, mode)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%d entries, %v: fan-out directories are made when needed", len(names), err)
	}
}

func TestForeignFilesAreNoBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	digits := strings.Repeat("0", 29)
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "ab"), 0o700),
		os.WriteFile(filepath.Join(dir, "README"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "ab", "notes"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "ab", "A"+digits), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "ab", "1"+digits), 0o700),
		os.Symlink(outside, filepath.Join(dir, "ab", "2"+digits)),
		syscall.Mkfifo(filepath.Join(dir, "ab", "3"+digits), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	err = d.List(t.Context(), blob.ID{}, func(id blob.ID, _ int64) error { return fmt.Errorf("listed %s", id) })
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"ab1" + digits, "ab2" + digits, "ab3" + digits} {
		id, err := blob.ParseID(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Open(t.Context(), id); !errors.Is(err, fs.ErrNotExist) { // neither followed outside nor waiting for a FIFO's other end
			t.Errorf("opening %s: %v, want fs.ErrNotExist", name, err)
		}
	}
}

// faultyOps fails the nth call of either sync.
func faultyOps(data, all int32) ops {
	var datas, alls atomic.Int32
	return ops{
		syncData: func(f *os.File) error {
			if datas.Add(1) == data {
				return syscall.EIO
			}
			return syncData(f)
		},
		syncAll: func(f *os.File) error {
			if alls.Add(1) == all {
				return syscall.EIO
			}
			return f.Sync()
		},
		writeBack: writeBack,
	}
}

func TestFailedSyncOfDataKillsTheWriterOnly(t *testing.T) {
	t.Parallel()
	d, err := open(t.TempDir(), faultyOps(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w, err := d.Create(t.Context(), blob.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // never retried
		if err := w.Commit(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Commit: %v, want EIO", err)
		}
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Write: %v, want EIO", err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(t.Context(), blob.ID{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after Abort: %v", err)
	}
	if err := commit(d, t, blob.ID{2}, "fine"); err != nil {
		t.Fatal(err)
	}
}

func TestFailedSyncOfDirectoryStopsTheStore(t *testing.T) {
	t.Parallel()
	for name, nth := range map[string]int32{"new fan-out directory": 2, "name of the blob": 3} { // the first is Open's
		dir := t.TempDir()
		d, err := open(dir, faultyOps(0, nth))
		if err != nil {
			t.Fatal(err)
		}
		if err := commit(d, t, blob.ID{1}, "x"); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", name, err)
		}
		if err := commit(d, t, blob.ID{1, 1}, "x"); !errors.Is(err, blob.ErrReadOnly) {
			t.Errorf("%s, next: %v, want blob.ErrReadOnly", name, err)
		}
		if err := d.Remove(t.Context(), blob.ID{1}); !errors.Is(err, blob.ErrReadOnly) {
			t.Errorf("%s, Remove: %v, want blob.ErrReadOnly", name, err)
		}
		d.Close()
		if d, err = Open(dir); err != nil {
			t.Fatal(err)
		}
		if err := commit(d, t, blob.ID{1, 1}, "x"); err != nil {
			t.Errorf("%s, reopened: %v", name, err)
		}
		d.Close()
	}
}

// A name is not durable through the sync of the file alone.
func TestOrderOfSyncs(t *testing.T) {
	t.Parallel()
	var log []string
	o := ops{
		syncData:  func(*os.File) error { log = append(log, "data"); return nil },
		syncAll:   func(f *os.File) error { log = append(log, filepath.Base(f.Name())); return nil },
		writeBack: writeBack,
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "01"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, "."},
		{func() error { return commit(d, t, blob.ID{1}, "") }, "data 01"},
		{func() error { return commit(d, t, blob.ID{2}, "") }, ". data 02"},
		{func() error { return commit(d, t, blob.ID{2, 2}, "") }, "data 02"},
		{func() error { return d.Remove(t.Context(), blob.ID{2}) }, "02"},
		{func() error { return d.Remove(t.Context(), blob.ID{2}) }, "02"}, // the sync of the attempt before may have failed
		{func() error { return d.Remove(t.Context(), blob.ID{9}) }, ""},
		{func() error {
			w, err := d.Create(t.Context(), blob.ID{3})
			if err != nil {
				return err
			}
			return errors.Join(w.Sync(), w.Sync(), w.Commit())
		}, ". data 03 data data"},
		// Many share the sync of their directory, which follows the last of them; those that are gone already share it, too.
		{func() error {
			return d.RemoveMany(t.Context(), []blob.ID{{1}, {2, 1}, {2, 2}, {2, 3}, {9}, {9, 1}, {3}})
		}, "01 02 03"},
		{func() error {
			for _, id := range []blob.ID{{1}, {2, 2}, {3}} {
				if _, err := d.Open(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("blob %s is there: %v", id, err)
				}
			}
			return nil
		}, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got := strings.Join(log, " ")
		if log = nil; got != step.want {
			t.Errorf("step %d: synced %q, want %q", i, got, step.want)
		}
	}
}

func TestMissingDirectory(t *testing.T) {
	t.Parallel()
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing directory: %v", err)
	}
}
