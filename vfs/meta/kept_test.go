package meta

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"sallyport/vfs/extent"
)

// TestRelayoutCountsWhatIsSharedNoMore: a live file that has the same stored bytes in two places uses them once; laid out anew, each place has its own.
func TestRelayoutCountsWhatIsSharedNoMore(t *testing.T) {
	t.Parallel()
	d, n := newDB(t), &Node{Kind: File}
	put := func(tx *Tx, id byte, size uint64) error {
		return tx.PutBlob(&BlobKey{ID: [16]byte{id}, Wrapped: []byte("w"), State: BlobSealed, Inode: n.ID, Size: size})
	}
	was := extent.Layout{Size: 200, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 100)}, Extents: []extent.Extent{{Len: 100}, {Off: 100, Len: 100}}}
	now := extent.Layout{Size: 200, Blobs: []extent.BlobRef{extent.Sealed([16]byte{2}, 200)}, Extents: []extent.Extent{{Len: 200}}}
	d.update(t, func(tx *Tx) error {
		if err := errors.Join(tx.NewNode(n), put(tx, 1, 100), tx.Link(Root, "f", n.ID)); err != nil {
			return err
		}
		return tx.AddVersion(n, &Version{Attr: Attr{Size: 200, Mode: 0o600, State: Complete}, Layout: was})
	})
	d.sound(t)
	d.update(t, func(tx *Tx) error {
		if err := put(tx, 2, 200); err != nil {
			return err
		}
		done, err := tx.Relayout(n.ID, n.Version, &was, &now)
		if err == nil && !done {
			t.Error("it was not laid out anew")
		}
		if _, rerr := tx.Release(n.ID, [][16]byte{{1}}); rerr != nil {
			return rerr
		}
		return err
	})
	d.view(t, func(tx *Tx) error {
		if tx.head.kept != 0 {
			t.Errorf("%d bytes are kept for history, of which there is none", tx.head.kept)
		}
		return nil
	})
	d.sound(t)
}

// TestPagesSharedWithTheVersionBeforeCountAlike: the bytes that a file in very many pieces used before are counted from the pages that differ, and
// come out as from all of them: after changes here and there, of everything, of the order of its blobs, to few pieces and back.
func TestPagesSharedWithTheVersionBeforeCountAlike(t *testing.T) {
	t.Parallel()
	d, n := newDB(t), &Node{Kind: File}
	r := rand.New(rand.NewPCG(1, 2))
	const size = 1 << 30
	ids := [][16]byte{{1}, {2}, {3}}
	d.update(t, func(tx *Tx) error {
		for _, id := range ids {
			if err := tx.PutBlob(&BlobKey{ID: id, Wrapped: []byte("w"), State: BlobSealed, Size: size}); err != nil {
				return err
			}
		}
		return errors.Join(tx.NewNode(n), tx.Link(Root, "f", n.ID))
	})
	pieces := func(n int) (l []extent.Extent) {
		for i := range n {
			l = append(l, extent.Extent{Off: uint64(i) << 12, Len: 1 + uint64(r.IntN(4096)), BlobOff: uint64(r.IntN(1 << 20)), Blob: uint32(r.IntN(len(ids)))})
		}
		return l
	}
	now := pieces(6000)
	for step := range 60 {
		switch {
		case step%13 == 12:
			now = pieces(6000)
		case step%13 == 6:
			now = pieces(100) // in the version's own record
		case step%13 == 7:
			now = pieces(5000)
		case step%5 == 4: // the same pages, which mean other blobs
			ids[0], ids[1], ids[2] = ids[1], ids[2], ids[0]
		default:
			for range 1 + r.IntN(3) {
				now[r.IntN(len(now))].Len = 1 + uint64(r.IntN(4096))
			}
		}
		l := extent.Layout{Size: size, Extents: slices.Clone(now)}
		for i, id := range ids {
			bytes := uint64(size)
			if (step+i)%3 == 0 { // less than its pieces add up to
				bytes = 1<<20 + 4096
			}
			l.Blobs = append(l.Blobs, extent.Sealed(id, bytes))
		}
		d.update(t, func(tx *Tx) error {
			return tx.AddVersion(n, &Version{Attr: Attr{Size: size, Mode: 0o600, State: Complete}, Layout: l})
		})
		d.sound(t)
		if t.Failed() {
			t.Fatalf("after step %d", step)
		}
	}
}
