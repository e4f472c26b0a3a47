package pagecheck_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/vfs/pagecheck"
	"sallyport/vfs/pagecheck/pagetest"
)

// database makes a file of several hundred pages, some of them free.
func database(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, NoSync: true, PageSize: pagecheck.Size,
		OpenFile: func(path string, _ int, mode os.FileMode) (*os.File, error) {
			return pagecheck.Open(path, mode, true, time.Second)
		}})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []int{100, 9000} { // within a page, and longer than one
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucketIfNotExists([]byte("small")); err != nil {
				return err
			}
			for i := range 500 {
				if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(i*i)), make([]byte, value*(i%3))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(path string) error {
	f, err := pagecheck.Open(path, 0o600, false, time.Millisecond)
	if err != nil {
		return err
	}
	return f.Close()
}

func TestHostilePages(t *testing.T) {
	t.Parallel()
	path := database(t)
	if err := open(path); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range pagetest.Hostile(t, image) {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(path); !errors.Is(err, pagecheck.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	path := database(t)
	f, err := pagecheck.Open(path, 0o600, false, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(path); !errors.Is(err, pagecheck.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(path); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := open(path + "-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
	if _, err := pagecheck.Open(path, 0o600, true, time.Second); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a new one over an old one: %v", err)
	}
}

// What Check accepts, bbolt reads without a panic, and a scan finds what lookups find.
func FuzzCheck(f *testing.F) {
	image, err := os.ReadFile(database(f))
	if err != nil {
		f.Fatal(err)
	}
	reached, err := pagecheck.Check(image)
	if err != nil {
		f.Fatal(err)
	}
	image = image[:len(reached)*pagecheck.Size]
	for _, at := range []uint32{16 + 16, 8, 5000, 3*pagecheck.Size + 10} {
		f.Add(at, []byte{1, 2, 3}, true)
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, fixSums bool) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], change)
		if fixSums {
			pagetest.FixSums(b)
		}
		if _, err := pagecheck.Check(b); err != nil {
			if !errors.Is(err, pagecheck.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PageSize: pagecheck.Size})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					if got := b.Get(k); got == nil || !bytes.Equal(got, v) {
						return fmt.Errorf("record %x is hidden from a lookup", k)
					}
					return nil
				})
			})
		})
		if err != nil {
			t.Error(err)
		}
	})
}
