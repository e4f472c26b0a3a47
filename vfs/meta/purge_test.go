package meta

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"testing"

	"pgregory.net/rapid"

	"sallyport/vfs/extent"
)

// all collects what was superseded.
func (d *testDB) all(t testing.TB) (out []Superseded) {
	t.Helper()
	d.view(t, func(tx *Tx) error {
		return tx.Superseded(0, math.MaxInt64, func(s Superseded) bool { out = append(out, s); return true })
	})
	return out
}

// sound fails the test if Verify finds anything.
func (d *testDB) sound(t testing.TB) {
	t.Helper()
	if err := d.Verify(context.Background(), func(f string) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

func (d *testDB) purge(t testing.TB, items []Superseded, known *Usages) (p Purged) {
	t.Helper()
	d.update(t, func(tx *Tx) (err error) { p, err = tx.Purge(items, ByClock, known); return err })
	return p
}

// addBlob makes a sealed blob of a file.
func addBlob(tx *Tx, id byte, owner Inode) error {
	return tx.PutBlob(&BlobKey{ID: [16]byte{id}, Wrapped: []byte("w"), State: BlobSealed, Size: 100, Inode: owner})
}

// over is a version whose bytes lie in the given blobs.
func over(ids ...byte) *Version {
	v := &Version{Attr: Attr{Size: uint64(len(ids)), State: Complete}}
	v.Layout.Size = v.Size
	for i, id := range ids {
		v.Layout.Blobs = append(v.Layout.Blobs, extent.Sealed([16]byte{id}, 100))
		v.Layout.Extents = append(v.Layout.Extents, extent.Extent{Off: uint64(i), Len: 1, BlobOff: uint64(2 * i), Blob: uint32(i)})
	}
	return v
}

func TestPurgeTakesABlobWithItsLastVersion(t *testing.T) {
	t.Parallel()
	for _, counted := range []bool{false, true} {
		d := newDB(t)
		n := &Node{Kind: File}
		d.update(t, func(tx *Tx) error {
			return errors.Join(tx.NewNode(n), addBlob(tx, 1, n.ID), addBlob(tx, 2, n.ID), addBlob(tx, 3, n.ID), tx.AddVersion(n, over(1)), tx.Link(Root, "f", n.ID))
		})
		for _, v := range []*Version{over(1, 2), over(1, 3), over(3)} {
			d.update(t, func(tx *Tx) error { return tx.AddVersion(n, v) })
		}
		var known *Usages
		if counted {
			known = NewUsages()
		}
		items := d.all(t)
		if len(items) != 3 {
			t.Fatalf("%d items, want 3", len(items))
		}
		for i, want := range [][]byte{{}, {2}, {1}} {
			p := d.purge(t, items[i:i+1], known)
			p.Remember(known)
			d.sound(t)
			if len(p.Blobs) != len(want) || len(want) > 0 && p.Blobs[0][0] != want[0] || p.Versions != 1 || p.Inodes != 0 {
				t.Errorf("item %d: %+v, want the blobs %v gone", i, p, want)
			}
			if again := d.purge(t, items[i:i+1], known); again.Versions != 0 {
				t.Errorf("item %d was purged twice: %+v", i, again)
			}
		}
		d.view(t, func(tx *Tx) error {
			s := tx.Stats()
			if s.Blobs != 1 || s.HistoryBytes != 0 || s.AwaitingShred != 1+100+100 || s.LiveBytes != 1 {
				t.Errorf("stats %+v", s)
			}
			_, err := tx.Version(n.ID, 4)
			return err
		})
	}
}

func TestAVersionThatWasPurgedIsNotReplacedByAnOlderOne(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	n := &Node{Kind: File}
	var at []int64
	d.update(t, func(tx *Tx) error {
		at = append(at, tx.Instant())
		return errors.Join(tx.NewNode(n), tx.AddVersion(n, over()), tx.Link(Root, "f", n.ID))
	})
	for range 3 {
		d.update(t, func(tx *Tx) error { at = append(at, tx.Instant()); return tx.AddVersion(n, over()) })
	}
	items := d.all(t)
	d.purge(t, items[1:2], nil) // version 2
	d.sound(t)
	d.view(t, func(tx *Tx) error {
		for i, want := range []uint64{1, 0, 3, 4} {
			v, err := tx.VersionAt(n.ID, at[i])
			switch {
			case want == 0 && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("at %d: %+v, %v, want nothing", i, v, err)
			case want != 0 && (err != nil || v.N != want):
				t.Errorf("at %d: %+v, %v, want version %d", i, v, err, want)
			}
		}
		return nil
	})
}

func TestAnInodeGoesWithWhatWasSupersededLast(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var n *Node
	d.update(t, func(tx *Tx) (err error) { n, err = addFile(tx, Root, "e\u0301", 3); return err })
	d.update(t, func(tx *Tx) error { return tx.AddVersion(n, over()) })
	d.update(t, func(tx *Tx) error { return errors.Join(tx.Unlink(Root, "e\u0301"), tx.Link(Root, "b", n.ID)) })
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "b") })
	items := d.all(t) // version 1, name é, name b
	d.purge(t, items[2:], nil)
	d.sound(t)
	d.purge(t, items[1:2], nil) // no names left, but a version
	d.sound(t)
	d.view(t, func(tx *Tx) error { _, err := tx.Node(n.ID); return err })
	if p := d.purge(t, items[:1], nil); p.Inodes != 1 || p.Versions != 2 {
		t.Errorf("purged %+v, want the inode and both versions", p)
	}
	d.sound(t)
	d.view(t, func(tx *Tx) error {
		s := tx.Stats()
		if s.Records != 2 || s.HistoryBytes != 0 || s.AwaitingShred != 1+1+1 { // the root and its attributes; nothing of the file was stored
			t.Errorf("left: %+v", s)
		}
		return nil
	})
}

func TestARemovedDirectoryStaysAsLongAsSomethingOfIt(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	dir := &Node{Kind: Dir}
	var n *Node
	d.update(t, func(tx *Tx) error { return errors.Join(tx.NewNode(dir), tx.Link(Root, "d", dir.ID)) })
	d.update(t, func(tx *Tx) (err error) { n, err = addFile(tx, dir.ID, "f", 3); return err })
	d.update(t, func(tx *Tx) error { return tx.Unlink(dir.ID, "f") })
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "d") })
	items := d.all(t)
	if p := d.purge(t, items[1:], nil); p.Names != 0 {
		t.Errorf("purged %+v: the directory of a file that is kept", p)
	}
	d.sound(t)
	if p := d.purge(t, items, nil); p.Names != 2 || p.Inodes != 2 {
		t.Errorf("purged %+v, want both", p)
	}
	d.sound(t)
	_ = n
}

func TestPurgeKeepsPagesThatRemainingVersionsShare(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	n := &Node{Kind: File}
	many := func(seed uint64) *Version {
		v := &Version{Attr: Attr{Size: 1 << 30, State: Complete}}
		v.Layout = extent.Layout{Size: v.Size, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 1<<30)}}
		for i := range uint64(9000) {
			v.Layout.Extents = append(v.Layout.Extents, extent.Extent{Off: i * 4096, Len: 10, BlobOff: i * 20})
		}
		v.Layout.Extents[seed*2500].BlobOff++
		return v
	}
	d.update(t, func(tx *Tx) error {
		return errors.Join(tx.NewNode(n), addBlob(tx, 1, n.ID), tx.PutBlob(&BlobKey{ID: [16]byte{1}, State: BlobSealed, Size: 1 << 30, Inode: n.ID}),
			tx.AddVersion(n, many(0)), tx.Link(Root, "f", n.ID))
	})
	for i := range uint64(3) {
		d.update(t, func(tx *Tx) error { return tx.AddVersion(n, many(i+1)) })
	}
	items := d.all(t)
	for _, i := range []int{1, 0, 2} { // the one in the middle first: its neighbours still share pages
		d.purge(t, items[i:i+1], nil)
		d.sound(t)
	}
	d.view(t, func(tx *Tx) error { _, err := tx.Version(n.ID, 4); return err })
}

// TestPurgeLeavesASoundDatabase purges random parts of random histories.
func TestPurgeLeavesASoundDatabase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := newDB(t)
		defer d.DB.Close()
		m := &model{d: d, dirs: []Inode{Root}, versions: map[Inode][]Version{}}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			m.apply(rt)
		}
		items := d.all(t)
		for round := 0; len(items) > 0; round++ {
			var some, rest []Superseded
			for _, s := range items {
				if round == 4 || rapid.Bool().Draw(rt, "go") {
					some = append(some, s)
				} else {
					rest = append(rest, s)
				}
			}
			d.purge(t, some, nil)
			d.sound(t)
			if left := d.all(t); len(some) == len(items) && len(left) != 0 {
				rt.Fatalf("everything was purged, %d of %d items are left: %+v", len(left), len(items), left)
			} else if len(left) < len(rest) {
				rt.Fatalf("%d items are left of %d that were to stay", len(left), len(rest))
			} else {
				items = left
			}
		}
		for dir := range m.byDir() { // what is live is as it was
			want := m.live(dir)
			got := map[string]Inode{}
			d.view(t, func(tx *Tx) error {
				_, err := tx.List(dir, nil, func(en Entry, n *Node) bool {
					got[en.Name] = en.Inode
					if _, err := tx.Version(n.ID, n.Version); err != nil {
						rt.Errorf("inode %d: %v", n.ID, err)
					}
					return true
				})
				return err
			})
			if len(got) != len(want) {
				rt.Errorf("directory %d holds %v, want %v", dir, got, want)
			}
		}
		d.reopen(t)
		d.sound(t)
	})
}

func (m *model) byDir() map[Inode]bool {
	dirs := map[Inode]bool{}
	for _, dir := range m.dirs {
		if m.reachable(dir) {
			dirs[dir] = true
		}
	}
	return dirs
}

// TestADatabaseOfFormat1IsBroughtUp makes one by taking away what format 2 added.
func TestADatabaseOfFormat1IsBroughtUp(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var kept, lost *Node
	d.update(t, func(tx *Tx) (err error) { kept, err = addFile(tx, Root, "kept", 3); return err })
	d.update(t, func(tx *Tx) (err error) { lost, err = addFile(tx, Root, "lost", 3); return err })
	d.update(t, func(tx *Tx) error { return errors.Join(tx.Unlink(Root, "kept"), tx.Link(Root, "moved", kept.ID)) })
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "lost") })
	want := map[Inode]Node{}
	d.update(t, func(tx *Tx) error {
		for _, id := range []Inode{Root, kept.ID, lost.ID} {
			n, err := tx.Node(id)
			if err != nil {
				return err
			}
			want[id] = *n
			n.Home, n.Name, n.Left, n.Past, n.unplaced = 0, "", 0, 0, true
			tx.putNode(n)
		}
		tx.head.format = 1
		return nil
	})
	d.reopen(t)
	d.sound(t)
	d.view(t, func(tx *Tx) error {
		if tx.head.format != formatVersion {
			t.Errorf("format %d", tx.head.format)
		}
		for id, w := range want {
			if n, err := tx.Node(id); err != nil || *n != w {
				t.Errorf("inode %d: %+v, %v, want %+v", id, n, err, w)
			}
		}
		return nil
	})
}

// TestWhatHadNoBytesAwaitsShreddingToo: names, targets of symlinks and empty
// files are in free pages like all else, and only the count brings the account a new key.
func TestWhatHadNoBytesAwaitsShreddingToo(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(*Tx) error{
		"an empty file": func(tx *Tx) error { _, err := addFile(tx, Root, "secret", 0); return err },
		"a directory": func(tx *Tx) error {
			n := &Node{Kind: Dir}
			return errors.Join(tx.NewNode(n), tx.Link(Root, "secret", n.ID))
		},
		"a symlink": func(tx *Tx) error {
			n := &Node{Kind: Symlink, Target: "elsewhere"}
			return errors.Join(tx.NewNode(n), tx.Link(Root, "secret", n.ID))
		},
	} {
		d := newDB(t)
		d.update(t, make)
		d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "secret") })
		if p := d.purge(t, d.all(t), nil); p.Names != 1 || p.Bytes != 0 {
			t.Errorf("%s: purged %+v", what, p)
		}
		d.sound(t)
		d.view(t, func(tx *Tx) error {
			if tx.Stats().AwaitingShred == 0 {
				t.Errorf("%s was purged, and nothing awaits shredding", what)
			}
			return nil
		})
		if p := d.purge(t, d.all(t), nil); p.Names != 0 {
			t.Errorf("%s: purged twice", what)
		}
	}
}
