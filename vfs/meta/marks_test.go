package meta

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/vfs/extent"
)

// marks reads how far the past is whole.
func (d *testDB) marks(t testing.TB) (m marks) {
	t.Helper()
	d.view(t, func(tx *Tx) error { m = tx.head.marks; return nil })
	return m
}

func (d *testDB) purgeBy(t testing.TB, by PurgeBy, items ...Superseded) {
	t.Helper()
	d.update(t, func(tx *Tx) error { _, err := tx.Purge(items, by, nil); return err })
}

// ended makes a history of four items: two versions and two names of two files, and a broken overwrite last.
func ended(t testing.TB, d *testDB) []Superseded {
	t.Helper()
	var f *Node
	d.update(t, func(tx *Tx) (err error) { f, err = addFile(tx, Root, "f", 3); return err })
	d.update(t, func(tx *Tx) error { _, err := addFile(tx, Root, "g", 3); return err })
	overwrite := func(id Inode, state State) func(tx *Tx) error {
		return func(tx *Tx) error {
			n, err := tx.Node(id)
			if err != nil {
				return err
			}
			return tx.AddVersion(n, &Version{Attr: Attr{State: state}})
		}
	}
	d.update(t, overwrite(f.ID, Complete))
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "g") })
	d.update(t, overwrite(f.ID, Complete))
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "f") })
	d.update(t, overwrite(f.ID, Interrupted))
	return slices.DeleteFunc(d.all(t), func(s Superseded) bool { return s.Inode == Root }) // the root's times
}

// TestAPurgeNotesUpToWhenThePastLacks: in its own transaction, each kind of purge its own mark, the latest end counts, and a mark never goes back.
func TestAPurgeNotesUpToWhenThePastLacks(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	all := ended(t, d)
	if len(all) != 5 || all[4].Entry != nil {
		t.Fatalf("%d items: %+v", len(all), all)
	}
	for _, step := range []struct {
		what string
		by   PurgeBy
		item Superseded
		want marks
	}{
		{"a version, chosen", ByChoice, all[2], marks{0, all[2].At}},
		{"an earlier version, by the clock", ByClock, all[0], marks{all[0].At, all[2].At}},
		{"the same again", ByChoice, all[0], marks{all[0].At, all[2].At}},
		{"a name", ByClock, all[1], marks{all[1].At, all[2].At}},
		{"a broken overwrite, which was never current", ByClock, all[4], marks{all[1].At, all[2].At}},
		{"the last name", ByClock, all[3], marks{all[3].At, all[2].At}},
	} {
		d.purgeBy(t, step.by, step.item)
		if got := d.marks(t); got != step.want {
			t.Errorf("%s: marks %+v, want %+v", step.what, got, step.want)
		}
		d.sound(t)
	}
	want := d.marks(t)
	d.reopen(t)
	if got := d.marks(t); got != want {
		t.Errorf("reopened: marks %+v, want %+v", got, want)
	}
	if err := d.Update(t.Context(), func(tx *Tx) error { _, err := tx.Purge(nil, 0, nil); return err }); err == nil {
		t.Error("a purge need not say how it chose")
	}
}

// TestMarksAreInEachCopy under the same key and under a new one, with what is purged while the copy is made.
func TestMarksAreInEachCopy(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	all := ended(t, d)
	d.purgeBy(t, ByClock, all[0])
	d.purgeBy(t, ByChoice, all[1])
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := d.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), path, d.keys, Options{testOnlyNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.View(func(tx *Tx) error {
		if tx.head.marks != d.marks(t) || tx.head.whole() == 0 {
			t.Errorf("the copy has marks %+v, want %+v", tx.head.marks, d.marks(t))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	d.rekey(t, func() { d.purgeBy(t, ByClock, all[2]) })
	if got, want := d.marks(t), (marks{all[2].At, all[1].At}); got != want {
		t.Errorf("under the new key: marks %+v, want %+v", got, want)
	}
	d.sound(t)
}

// TestOfDatabasesWithoutMarksNothingIsWhole: a program of format 2 may have purged anything.
func TestOfDatabasesWithoutMarksNothingIsWhole(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	ended(t, d)
	d.update(t, func(tx *Tx) error {
		root, err := tx.edit(Root)
		if err != nil {
			return err
		}
		tx.putNode(root)
		tx.head.format = 2
		return nil
	})
	var last int64
	d.view(t, func(tx *Tx) error { last = tx.head.last; return nil })
	for range 2 {
		d.reopen(t)
		if got := d.marks(t); got != (marks{0, last}) {
			t.Errorf("marks %+v, want lacking up to %d", got, last)
		}
	}
	d.view(t, func(tx *Tx) error {
		if tx.head.format != formatVersion {
			t.Errorf("format %d", tx.head.format)
		}
		return nil
	})
	d.sound(t)
}

// TestOlderFormatsAreCountedOnce: what history keeps, nobody counted before format 4.
func TestOlderFormatsAreCountedOnce(t *testing.T) {
	t.Parallel()
	for _, format := range []uint16{2, 3} {
		d, n := newDB(t), &Node{Kind: File}
		d.update(t, func(tx *Tx) error {
			open := &BlobKey{ID: [16]byte{3}, Wrapped: []byte("w"), State: BlobOpen, Inode: 2}
			return errors.Join(tx.NewNode(n), addBlob(tx, 1, n.ID), addBlob(tx, 2, n.ID), tx.PutBlob(open), tx.Link(Root, "f", n.ID))
		})
		whole := func(id byte) *Version {
			v := over(id)
			v.Size, v.Layout = 100, extent.Layout{Size: 100, Blobs: []extent.BlobRef{extent.Sealed([16]byte{id}, 100)}, Extents: []extent.Extent{{Len: 100}}}
			return v
		}
		grown := over()
		grown.Size, grown.Layout = 1<<16, extent.Layout{Size: 1 << 16, Blobs: []extent.BlobRef{extent.Unsealed([16]byte{3}, 1)}, Extents: []extent.Extent{{Len: 1 << 16}}}
		inline := over()
		inline.Size, inline.Layout = 5, *extent.Inlined([]byte("hello"))
		for _, v := range []*Version{whole(1), whole(1), grown, inline, whole(2), whole(2)} {
			d.update(t, func(tx *Tx) error { return tx.AddVersion(n, v) })
		}
		const want = 100 + 1<<16 + 5
		count := func(when string) {
			t.Helper()
			d.view(t, func(tx *Tx) error {
				if got := tx.Stats().HistoryBytes; got != want || tx.head.format != formatVersion {
					t.Errorf("format %d, %s: %d bytes in history, want %d; format is %d", format, when, got, want, tx.head.format)
				}
				return nil
			})
			d.sound(t)
		}
		count("as it is made today")
		d.update(t, func(tx *Tx) error {
			b, err := tx.Blob([16]byte{3})
			if err != nil {
				return err
			}
			b.Relied = 0
			err = tx.PutBlob(b)
			tx.head.format, tx.head.kept = format, 0
			return err
		})
		d.reopen(t)
		count("brought up")
		d.reopen(t)
		count("and opened again")
		d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "f") })
		d.purge(t, d.all(t), nil)
		d.view(t, func(tx *Tx) error {
			if got := tx.Stats().HistoryBytes; got != 0 || tx.head.kept != 1<<16 {
				t.Errorf("format %d: %d bytes in history, %d kept, want none but those of the blob that is open", format, got, tx.head.kept)
			}
			return nil
		})
	}
}

// TestVerifyFindsWhatWasDestroyedWithoutAMark, so that no way to purge can forget it.
func TestVerifyFindsWhatWasDestroyedWithoutAMark(t *testing.T) {
	t.Parallel()
	for what, forget := range map[string]func(all []Superseded) ([]Superseded, string){
		"a version": func(all []Superseded) ([]Superseded, string) { return all[2:3], "no purge is known that reached it" },
		"the names": func(all []Superseded) ([]Superseded, string) {
			return all[3:4], "no purge is known that reached the last"
		},
	} {
		d := newDB(t)
		items, want := forget(ended(t, d))
		d.update(t, func(tx *Tx) error {
			_, err := tx.Purge(items, ByClock, nil)
			tx.head.marks = marks{}
			return err
		})
		if got := d.findings(t, 10); !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%s: %q", what, got)
		}
	}
	d := newDB(t)
	d.update(t, func(tx *Tx) error {
		root, err := tx.edit(Root)
		tx.putNode(root)
		tx.head.purged = tx.instant + 1
		return err
	})
	if got := d.findings(t, 10); len(got) != 1 || !strings.Contains(got[0], "has not come yet") {
		t.Errorf("a mark of the future: %q", got)
	}
}
