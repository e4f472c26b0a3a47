package meta

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// spoilEverywhere changes a value wherever it lies in the file, free pages included.
func spoilEverywhere(t testing.TB, path string, value []byte) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(value)
	bad[len(bad)/2] ^= 1
	if bytes.Count(image, value) == 0 {
		t.Fatal("the value is nowhere")
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(image, value, bad), 0o600); err != nil {
		t.Fatal(err)
	}
}

// packedPages are the decrypted pages of extents that the database has.
func packedPages(t testing.TB, db *DB) (all [][]byte) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		for f := range tx.scan(record.DomainExtents, nil, nil) {
			plain, err := tx.openFound(record.DomainExtents, f)
			if err != nil {
				return err
			}
			all = append(all, bytes.Clone(plain))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func layoutOf(t testing.TB, db *DB, name string) (id Inode, l extent.Layout) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		en, err := tx.Lookup(Root, name)
		if err != nil {
			return err
		}
		n, err := tx.Node(en.Inode)
		if err != nil {
			return err
		}
		v, err := tx.Version(n.ID, n.Version)
		if err == nil {
			id, l = n.ID, v.Layout
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id, l
}

// TestRepairKeepsPackedPages: a database whose files have packed pages of extents comes back with them as they were.
func TestRepairKeepsPackedPages(t *testing.T) {
	t.Parallel()
	d := rich(t)
	pages := packedPages(t, d.DB)
	if len(pages) == 0 || slices.ContainsFunc(pages, func(p []byte) bool { return p[0] != 0x81 }) {
		t.Fatalf("%d pages, or some of the older form", len(pages))
	}
	_, before := layoutOf(t, d.DB, "many")
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range readRaw(t, d.path) {
		if d := record.Domain(r.bucket[0]); d == record.DomainHead || d == record.DomainEntry {
			continue // the head below; without its entry the file has another name
		} else if d == record.DomainExtents || d == record.DomainVersion {
			continue
		}
		path := filepath.Join(t.TempDir(), "tree-1.db")
		copyFile(t, d.path, path)
		spoilEverywhere(t, path, r.value)
		_, db := d.repair(t, path)
		if _, after := layoutOf(t, db, "many"); !slices.Equal(after.Extents, before.Extents) {
			t.Errorf("%s spoilt: %d extents, want %d", kindName(record.Domain(r.bucket[0])), len(after.Extents), len(before.Extents))
		}
		if after := packedPages(t, db); !slices.EqualFunc(after, pages, bytes.Equal) {
			t.Errorf("%s spoilt: the pages are not as they were", kindName(record.Domain(r.bucket[0])))
		}
		db.Close()
	}
}

// TestRepairOfALostPackedPage: the bytes that such a page told the place of are lost, are reported, and stay an error: they do not become a hole.
func TestRepairOfALostPackedPage(t *testing.T) {
	t.Parallel()
	d := rich(t)
	id, before := layoutOf(t, d.DB, "many")
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, r := range readRaw(t, d.path) {
		if record.Domain(r.bucket[0]) != record.DomainExtents || Inode(be64(r.key)) != id {
			continue
		}
		lost++
		path := filepath.Join(t.TempDir(), "tree-1.db")
		copyFile(t, d.path, path)
		spoilEverywhere(t, path, r.value)
		s, db := d.repair(t, path)
		if !slices.ContainsFunc(s.Losses, func(l Loss) bool { return l.Inode == id }) {
			t.Errorf("nothing is said of it: %+v", s.Losses)
		}
		_, after := layoutOf(t, db, "many")
		known := false
		err := db.View(func(tx *Tx) error {
			for _, ref := range after.Blobs {
				known = known || tx.KnowsBlob(ref.ID)
			}
			return nil
		})
		if err != nil || known || after.Size != before.Size || len(after.Extents) != 1 || after.Extents[0].Len != before.Size {
			t.Errorf("%v; it can be read: %+v", err, after)
		}
		db.Close()
	}
	if lost == 0 {
		t.Fatal("it has no page")
	}
}

// TestRepairWithoutAHeadStillAwaitsShredding: how much of what was purged awaits shredding stands in the head alone; without it the account
// must not be passed over. Nor is any of the past whole then.
func TestRepairWithoutAHeadStillAwaitsShredding(t *testing.T) {
	t.Parallel()
	d := rich(t)
	d.update(t, func(tx *Tx) error {
		tx.AwaitShred(1000)
		tx.head.purged, tx.head.lacking = 2, 1
		return tx.Doom([16]byte{3})
	})
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	awaits := func(db *DB) (n uint64) {
		err := db.View(func(tx *Tx) error { n = tx.Stats().AwaitingShred; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, r := range readRaw(t, d.path) {
		path := filepath.Join(t.TempDir(), "tree-1.db")
		copyFile(t, d.path, path)
		spoilEverywhere(t, path, r.value)
		_, db := d.repair(t, path)
		switch n := awaits(db); {
		case record.Domain(r.bucket[0]) == record.DomainHead && n == 0:
			t.Error("without the head nothing awaits shredding any more")
		case record.Domain(r.bucket[0]) != record.DomainHead && n != 1000:
			t.Errorf("%s spoilt: %d bytes await shredding, want 1000", kindName(record.Domain(r.bucket[0])), n)
		}
		err := db.View(func(tx *Tx) error {
			s, want := tx.Stats(), int64(2) // a repair is the last that happened
			if record.Domain(r.bucket[0]) == record.DomainHead {
				want = s.LastInstant
			}
			if s.LackingTo != s.LastInstant || s.PurgedTo != want {
				t.Errorf("%s spoilt: purged up to %d, lacking up to %d, want %d and %d", kindName(record.Domain(r.bucket[0])), s.PurgedTo, s.LackingTo, want, s.LastInstant)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		db.Close()
	}
	// A repair of what has nothing to shred, head included, adds nothing.
	clean := rich(t)
	if err := clean.DB.Close(); err != nil {
		t.Fatal(err)
	}
	_, db := clean.repair(t, clean.path)
	if n := awaits(db); n != 0 {
		t.Errorf("%d bytes await shredding after a repair of what is whole", n)
	}
	if err := db.View(func(tx *Tx) error {
		if s := tx.Stats(); s.PurgedTo != 0 || s.LackingTo != 0 {
			t.Errorf("after a repair of what is whole it is purged up to %d, lacking up to %d", s.PurgedTo, s.LackingTo)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
