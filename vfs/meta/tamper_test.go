package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/vfs/extent"
	"sallyport/vfs/pagecheck"
	"sallyport/vfs/pagecheck/pagetest"
)

// rich is a database with at least one record of every kind.
func rich(t testing.TB) *testDB {
	d := newDB(t)
	many := extent.Layout{Size: 1 << 20, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 1<<20)}}
	for i := range uint64(200) {
		many.Extents = append(many.Extents, extent.Extent{Off: 2 * i, Len: 1, BlobOff: i})
	}
	d.update(t, func(tx *Tx) error {
		if err := tx.PutBlob(&BlobKey{ID: [16]byte{1}, Wrapped: []byte("key"), State: BlobSealed, Size: 1 << 20}); err != nil {
			return err
		}
		if err := tx.Doom([16]byte{2}); err != nil {
			return err
		}
		n, err := addFile(tx, Root, "many", 0)
		if err != nil {
			return err
		}
		if err := tx.AddVersion(n, &Version{Attr: Attr{Size: 1 << 20, State: Complete}, Layout: many}); err != nil {
			return err
		}
		return tx.Emit([]byte("event"))
	})
	d.update(t, func(tx *Tx) error {
		_, err := addFile(tx, Root, "e\u0301", 5) // not in NFC
		return err
	})
	d.update(t, func(tx *Tx) error {
		_, err := addFile(tx, Root, "gone", 1)
		return err
	})
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "gone") })
	return d
}

// dump is everything a caller can read of the database.
func dump(d *DB) (string, error) {
	var b bytes.Buffer
	err := d.View(func(tx *Tx) error {
		fmt.Fprintf(&b, "%+v\n", tx.Stats())
		for id := Inode(1); id < tx.head.nextInode; id++ {
			n, err := tx.Node(id)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%+v\n", n)
			if err := tx.Versions(id, func(v *Version) bool { fmt.Fprintf(&b, "%+v\n", v); return true }); err != nil {
				return err
			}
		}
		if _, err := tx.List(Root, nil, func(en Entry, n *Node) bool { fmt.Fprintf(&b, "%+v\n", en); return true }); err != nil {
			return err
		}
		if err := tx.Superseded(0, 1<<62, func(s Superseded) bool { fmt.Fprintf(&b, "%+v %+v\n", s.At, s.Entry); return true }); err != nil {
			return err
		}
		if err := tx.Outbox(func(seq uint64, event []byte) bool { fmt.Fprintf(&b, "%d %q\n", seq, event); return true }); err != nil {
			return err
		}
		if err := tx.Doomed(func(id [16]byte) bool { fmt.Fprintf(&b, "%x\n", id); return true }); err != nil {
			return err
		}
		return tx.Blobs(func(k *BlobKey) bool { fmt.Fprintf(&b, "%+v\n", k); return true })
	})
	return b.String(), err
}

// rawRecord is a record as bbolt has it.
type rawRecord struct{ bucket, key, value []byte }

func readRaw(t testing.TB, path string) []rawRecord {
	t.Helper()
	var all []rawRecord
	editRaw(t, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				all = append(all, rawRecord{bytes.Clone(name), bytes.Clone(k), bytes.Clone(v)})
				return nil
			})
		})
	})
	return all
}

func editRaw(t testing.TB, path string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: pagecheck.Size, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// refuses checks that the file does not open.
func (d *testDB) refuses(t *testing.T, path, what string) {
	t.Helper()
	db, err := Open(context.Background(), path, d.keys, d.o)
	if err == nil {
		db.Close()
	}
	if !errors.Is(err, ErrIntegrity) {
		t.Errorf("%s: Open says %v", what, err)
	}
}

// TestTamperedRecords changes, deletes, swaps, replays and injects records
// behind the back of the database, through bbolt, so that its pages are in order.
func TestTamperedRecords(t *testing.T) {
	t.Parallel()
	d := rich(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	old := readRaw(t, d.path)
	d.DB, _ = Open(context.Background(), d.path, d.keys, d.o)
	d.update(t, func(tx *Tx) error { // every record that can change gets an older value
		n, err := tx.Node(2)
		if err == nil {
			err = tx.AddVersion(n, &Version{Attr: Attr{Size: 9, State: Complete}, Layout: extent.Layout{Size: 9}})
		}
		if err == nil {
			err = tx.PutBlob(&BlobKey{ID: [16]byte{1}, Wrapped: []byte("key 2"), State: BlobSealed, Size: 1 << 20})
		}
		return err
	})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	all := readRaw(t, d.path)
	dir, cases := t.TempDir(), 0
	try := func(what string, fn func(tx *bbolt.Tx) error) {
		t.Helper()
		path := filepath.Join(dir, fmt.Sprint(cases))
		cases++
		copyFile(t, d.path, path)
		editRaw(t, path, fn)
		d.refuses(t, path, what)
		os.Remove(path)
	}
	kindsSeen := map[byte]bool{}
	for i, r := range all {
		kindsSeen[r.bucket[0]] = true
		what := fmt.Sprintf("record %d of bucket %d", i, r.bucket[0])
		try(what+" deleted", func(tx *bbolt.Tx) error { return tx.Bucket(r.bucket).Delete(r.key) })
		try(what+" changed", func(tx *bbolt.Tx) error {
			v := bytes.Clone(r.value)
			v[len(v)/2] ^= 1
			return tx.Bucket(r.bucket).Put(r.key, v)
		})
		try(what+" copied", func(tx *bbolt.Tx) error {
			k := bytes.Clone(r.key)
			k[len(k)-1] ^= 1
			return tx.Bucket(r.bucket).Put(k, r.value)
		})
		try(what+" moved to another key", func(tx *bbolt.Tx) error {
			k := bytes.Clone(r.key)
			k[len(k)-1] ^= 0x55
			return errors.Join(tx.Bucket(r.bucket).Delete(r.key), tx.Bucket(r.bucket).Put(k, r.value))
		})
		if next := all[(i+1)%len(all)]; true {
			try(what+" swapped with the next", func(tx *bbolt.Tx) error {
				return errors.Join(tx.Bucket(r.bucket).Put(r.key, next.value), tx.Bucket(next.bucket).Put(next.key, r.value))
			})
		}
		for _, o := range old {
			if bytes.Equal(o.bucket, r.bucket) && bytes.Equal(o.key, r.key) && !bytes.Equal(o.value, r.value) {
				try(what+" replaced by an older value", func(tx *bbolt.Tx) error { return tx.Bucket(r.bucket).Put(r.key, o.value) })
			}
		}
	}
	if len(kindsSeen) != len(buckets()) {
		t.Errorf("records of %d kinds, want all %d", len(kindsSeen), len(buckets()))
	}
	try("a bucket deleted", func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte{byte(all[0].bucket[0])}) })
	try("a foreign bucket", func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err })
	t.Logf("%d cases", cases)
}

// pagesInUse returns the image up to the last page in use.
func pagesInUse(t testing.TB, path string) []byte {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reached, err := pagecheck.Check(image)
	if err != nil {
		t.Fatal(err)
	}
	return image[:len(reached)*pagecheck.Size]
}

// TestFlippedBytes flips each byte of a small database: it is refused, or reads exactly as before. Only
// damage of the page that bbolt wrote last takes it back by one transaction, as a crash in the middle of that write does.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, mkfile("e\u0301"))
	before, err := dump(d.DB)
	if err != nil {
		t.Fatal(err)
	}
	d.update(t, func(tx *Tx) error { return tx.Emit([]byte("last")) })
	want, err := dump(d.DB)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	image := pagesInUse(t, d.path)
	path := filepath.Join(t.TempDir(), "flipped")
	reached, err := pagecheck.Check(image)
	if err != nil {
		t.Fatal(err)
	}
	refused, same := 0, 0
	for i := range image {
		used := i%pagecheck.Size < 96 || reached[i/pagecheck.Size] && image[i] != 0
		if !used && i%37 != 0 || testing.Short() && i%13 != 0 {
			continue // the rest is unused, but for zeros in elements
		}
		image[i] ^= 0x41
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		image[i] ^= 0x41
		db, err := Open(context.Background(), path, d.keys, d.o)
		if err != nil {
			if !errors.Is(err, ErrIntegrity) {
				t.Fatalf("byte %d: %v", i, err)
			}
			refused++
			continue
		}
		got, err := dump(db)
		if err != nil || got != want && (i >= 2*pagecheck.Size || got != before) {
			t.Errorf("byte %d flipped: opens, but reads differently: %v", i, err)
		}
		same++
		if err := db.Close(); err != nil {
			t.Errorf("byte %d: Close: %v", i, err)
		}
	}
	if refused == 0 || same == 0 {
		t.Errorf("%d refused, %d read as before: the test does not see both", refused, same)
	}
	t.Logf("%d refused, %d in unused parts of pages", refused, same)
}

// TestHostilePages opens files whose pages would crash bbolt.
func TestHostilePages(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 2000)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hostile")
	for what, bad := range pagetest.Hostile(t, pagesInUse(t, d.path)) {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		d.refuses(t, path, what)
	}
}

// TestCutShortWhileOpen truncates the file under an open database: a fault in
// bbolt's memory map must become an error.
func TestCutShortWhileOpen(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 5000)
	d.reopen(t) // nothing is cached
	if err := os.Truncate(d.path, 4*pagecheck.Size); err != nil {
		t.Fatal(err)
	}
	err := d.View(func(tx *Tx) error {
		_, err := tx.List(Root, nil, func(Entry, *Node) bool { return true })
		return err
	})
	if !errors.Is(err, ErrIntegrity) {
		t.Errorf("View: %v", err)
	}
	err = d.Update(context.Background(), smallFile(1))
	if !errors.Is(err, ErrIntegrity) {
		t.Errorf("Update: %v", err)
	}
	if err := d.Verify(context.Background(), func(string) {}); !errors.Is(err, ErrIntegrity) {
		t.Errorf("Verify: %v", err)
	}
}

// FuzzSalvage has a repair read a database whose pages somebody changed: it ends, without a panic, and what it keeps authenticates. The
// walker of pages is our own, and meets what bbolt would crash on.
func FuzzSalvage(f *testing.F) {
	d := rich(f)
	if err := d.Close(); err != nil {
		f.Fatal(err)
	}
	image := pagesInUse(f, d.path)
	f.Add(uint32(5000), []byte{1, 2, 3}, true)
	f.Add(uint32(16+16), []byte{9}, true)
	f.Add(uint32(2*pagecheck.Size), bytes.Repeat([]byte{0xff}, 60), false)
	for at := uint32(3 * pagecheck.Size); at < uint32(len(image)); at += pagecheck.Size {
		f.Add(at+8, []byte{2, 0, 0xff, 0xff}, false) // a leaf of very many elements
	}
	path := filepath.Join(f.TempDir(), "db")
	f.Fuzz(func(t *testing.T, at uint32, change []byte, fixSums bool) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], change)
		if fixSums {
			pagetest.FixSums(b)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Dig(context.Background(), path, d.keys, d.o.Now)
		if err != nil {
			if !errors.Is(err, ErrIntegrity) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(b, image) && len(s.Damage)+len(s.Suspicious) == 0 {
			db, err := Open(context.Background(), path, d.keys, d.o) // a page that nothing uses
			if err != nil {
				t.Fatalf("no damage is found, and it does not open: %v", err)
			}
			db.Close()
		}
		s.Files(func(*SalvagedFile) {})
		s.Blobs(func(*BlobKey) {})
	})
}

func FuzzPages(f *testing.F) {
	d := rich(f)
	if err := d.Close(); err != nil {
		f.Fatal(err)
	}
	image := pagesInUse(f, d.path)
	f.Add(uint32(5000), []byte{1, 2, 3}, false)
	f.Add(uint32(16+16), []byte{9}, true)
	f.Fuzz(func(t *testing.T, at uint32, change []byte, fixSums bool) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], change)
		if fixSums {
			pagetest.FixSums(b)
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(context.Background(), path, d.keys, d.o)
		if err != nil {
			if !errors.Is(err, ErrIntegrity) {
				t.Fatal(err)
			}
			return
		}
		if _, err := dump(db); err != nil {
			t.Errorf("opens but does not read: %v", err)
		}
		db.Close()
	})
}
