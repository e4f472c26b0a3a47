package meta

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/record"
)

// fixedKeys are the keys of a fixed account.
func fixedKeys() *record.AccountKeys {
	var key record.Key
	for i := range key {
		key[i] = byte(i)
	}
	keys, err := record.Derive(&key, record.AccountID{1, 2, 3}, 1)
	if err != nil {
		panic(err)
	}
	return keys
}

// testClock rises by one microsecond with every look at it.
func testClock() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return time.Unix(1_800_000_000, n.Add(1)*1000) }
}

// testDB is a database that can be closed and opened again.
type testDB struct {
	*DB
	path string
	keys *record.AccountKeys
	o    Options
}

func newDB(t testing.TB) *testDB {
	t.Helper()
	_, measured := t.(*testing.B)
	d := &testDB{path: filepath.Join(t.TempDir(), "tree-1.db"), keys: fixedKeys(), o: Options{Now: testClock(), testOnlyNoSync: !measured}}
	create := d.o
	create.Create = true
	var err error
	if d.DB, err = Open(context.Background(), d.path, d.keys, create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.DB.Close() })
	return d
}

func (d *testDB) reopen(t testing.TB) {
	t.Helper()
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.DB, err = Open(context.Background(), d.path, d.keys, d.o); err != nil {
		t.Fatal(err)
	}
}

// update fails the test if the Update fails.
func (d *testDB) update(t testing.TB, fn func(tx *Tx) error) {
	t.Helper()
	if err := d.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (d *testDB) view(t testing.TB, fn func(tx *Tx) error) {
	t.Helper()
	if err := d.View(fn); err != nil {
		t.Fatal(err)
	}
}

// addFile makes a file of the given size with a version and a name.
func addFile(tx *Tx, dir Inode, name string, size uint64) (*Node, error) {
	n := &Node{Kind: File, Attr: Attr{Mode: 0o644}}
	if err := tx.NewNode(n); err != nil {
		return nil, err
	}
	if err := tx.AddVersion(n, &Version{Writer: "test", Attr: Attr{Size: size, Mode: 0o644, Created: n.Created, State: Complete}}); err != nil {
		return nil, err
	}
	return n, tx.Link(dir, name, n.ID)
}

func TestCreateOpenLookup(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var id Inode
	d.update(t, func(tx *Tx) error {
		n, err := addFile(tx, Root, "a.txt", 5)
		id = n.ID
		return err
	})
	for range 2 {
		d.view(t, func(tx *Tx) error {
			en, err := tx.Lookup(Root, "a.txt")
			if err != nil || en.Inode != id || en.Name != "a.txt" || en.Until != 0 {
				t.Errorf("Lookup = %+v, %v", en, err)
			}
			n, err := tx.Node(id)
			if err != nil || n.Size != 5 || n.Parent != Root || n.Version != 1 || n.State != Complete {
				t.Errorf("Node = %+v, %v", n, err)
			}
			if _, err := tx.Lookup(Root, "b.txt"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Lookup of an absent name: %v", err)
			}
			if s := tx.Stats(); s.Files != 1 || s.Dirs != 1 || s.LiveBytes != 5 || s.HistoryBytes != 0 || s.Versions != 2 {
				t.Errorf("Stats = %+v", s)
			}
			return nil
		})
		d.reopen(t)
	}
}
