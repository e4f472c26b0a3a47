package meta

import (
	"errors"
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
