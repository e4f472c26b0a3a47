package meta

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// scattered is a layout of n extents, none of which joins the next.
func scattered(n uint64) extent.Layout {
	l := extent.Layout{Size: 2 * n * 4096, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 1<<40)}}
	for i := range n {
		l.Extents = append(l.Extents, extent.Extent{Off: 2 * i * 4096, Len: 4096, BlobOff: i * 4096})
	}
	return l
}

func (d *testDB) pages(t testing.TB) int {
	t.Helper()
	n := 0
	d.view(t, func(tx *Tx) error {
		for range tx.scan(record.DomainExtents, nil, nil) {
			n++
		}
		return nil
	})
	return n
}

// TestPagesAreShared checks that versions of many extents read back exactly and
// that one extent changed, put in or taken out costs a page or few.
func TestPagesAreShared(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	l := scattered(50_000)
	var n *Node
	d.update(t, func(tx *Tx) (err error) {
		if err := tx.PutBlob(&BlobKey{ID: [16]byte{1}, State: BlobSealed, Size: 1 << 40}); err != nil {
			return err
		}
		n, err = addFile(tx, Root, "big", 0)
		return err
	})
	var want []extent.Layout
	add := func(most int) {
		t.Helper()
		before := d.pages(t)
		l := l
		l.Extents = slices.Clone(l.Extents)
		want = append(want, l)
		d.update(t, func(tx *Tx) error {
			return tx.AddVersion(n, &Version{Attr: Attr{Size: l.Size, State: Complete}, Layout: l})
		})
		if got := d.pages(t) - before; got > most {
			t.Errorf("version %d wrote %d pages, want at most %d", n.Version, got, most)
		}
	}
	add(50_000 / pageMin)
	add(0) // nothing changed but times
	l.Extents[25_000].BlobOff += 1 << 30
	add(1)
	l.Extents = slices.Delete(l.Extents, 10_000, 10_001)
	add(6)
	l.Extents = slices.Insert(l.Extents, 30_000, extent.Extent{Off: l.Extents[29_999].End() + 5, Len: 1, BlobOff: 7})
	add(6)
	l.Extents = l.Extents[:directExtents] // back into the record
	add(0)
	l = scattered(directExtents + 1)
	add(1)
	d.reopen(t)
	d.view(t, func(tx *Tx) error {
		i := 0
		return tx.Versions(n.ID, func(v *Version) bool {
			if v.N > 1 {
				if !reflect.DeepEqual(v.Layout, want[i]) {
					t.Errorf("version %d: layout of %d extents reads back as %d others", v.N, len(want[i].Extents), len(v.Layout.Extents))
				}
				i++
			}
			return true
		})
	})
	d.clean(t)
}

func TestImpossibleLayouts(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	l := scattered(3)
	l.Extents[1].Off = 0
	err := d.Update(t.Context(), func(tx *Tx) error {
		n, err := addFile(tx, Root, "a", 0)
		if err != nil {
			return err
		}
		return tx.AddVersion(n, &Version{Attr: Attr{State: Complete}, Layout: l})
	})
	if !errors.Is(err, extent.ErrInvalid) {
		t.Errorf("AddVersion: %v", err)
	}
}
