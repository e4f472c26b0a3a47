package vfs

import (
	"context"
	"errors"

	"sallyport/vfs/blob"
	"sallyport/vfs/content"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// relocation moves bytes of one file's blobs into a new blob: first the copy, which nothing relies on and a crash leaves
// to recovery, then the versions that are to point at it.
type relocation struct {
	c  *core
	id meta.Inode
	// what to move: a layout of a file that never was, of the bytes one after the other
	from extent.Layout

	to     extent.BlobRef
	sealed bool // the key record says so
}

// add takes up a range of a sealed blob and returns where it will lie.
func (r *relocation) add(ref extent.BlobRef, off, n uint64) (at uint64) {
	number := len(r.from.Blobs)
	for i := range r.from.Blobs {
		if r.from.Blobs[i].ID == ref.ID {
			number = i
		}
	}
	if number == len(r.from.Blobs) {
		r.from.Blobs = append(r.from.Blobs, ref)
	}
	at = r.from.Size
	r.from.Extents = append(r.from.Extents, extent.Extent{Off: at, Len: n, BlobOff: off, Blob: uint32(number)})
	r.from.Size += n
	return at
}

// copy makes the new blob. Its key record says "open" until a version relies on it, and recovery makes nothing of it:
// it is marked as scattered, and no directory waits for it.
func (r *relocation) copy(ctx context.Context) error {
	d := &draft{plan: meta.BlobKey{Inode: r.id, Scattered: true}, blobs: map[blob.ID]bool{}}
	_, err := r.c.content.Pack(context.WithValue(ctx, draftKey{}, d), &r.from)
	for id := range d.blobs { // also if it has a key and no more
		r.to = extent.Sealed(id, r.from.Size)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, content.ErrSource) { // what cannot be read is no reason to write nothing any more
		err = r.c.blobFailed(err)
	}
	r.discard(ctx)
	return err
}

// discard gives the copy up. What is left of it goes when the volume is opened next.
func (r *relocation) discard(ctx context.Context) {
	if r.to.ID == (blob.ID{}) || r.sealed || r.c.failed.Load() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if r.c.update(ctx, func(tx *meta.Tx) error { return tx.Doom(r.to.ID) }) == nil {
		_ = r.c.removeDoomed(ctx)
	}
}

// seal says in the key record that the blob is whole, in the transaction with the first version that relies on it.
func (r *relocation) seal(tx *meta.Tx) error {
	b, err := tx.Blob(r.to.ID)
	if err != nil {
		return err
	}
	b.State, b.Size = meta.BlobSealed, r.to.Bytes
	return tx.PutBlob(b)
}

// sealedRefs are whole references to the blobs of the ids; ok is false if one of them is still being written or is gone.
func sealedRefs(tx *meta.Tx, refs []extent.BlobRef) (whole []extent.BlobRef, ok bool, err error) {
	for _, ref := range refs {
		b, err := tx.Blob(ref.ID)
		if err != nil {
			return nil, false, missing(err)
		}
		if b.State != meta.BlobSealed {
			return nil, false, nil
		}
		whole = append(whole, extent.Sealed(b.ID, b.Size))
	}
	return whole, true, nil
}

// relayout makes a layout with some of its extents elsewhere. place says where extent i lies in the blob to, if it moves.
func relayout(l *extent.Layout, to extent.BlobRef, place func(i int) (off uint64, moves bool)) *extent.Layout {
	out := &extent.Layout{Size: l.Size, Inline: l.Inline}
	number := make([]int, len(l.Blobs)+1) // old → new + 1; the last is to
	for i, e := range l.Extents {
		if e.Blob != extent.Inline {
			old, ref := int(e.Blob), extent.BlobRef{}
			if off, moves := place(i); moves {
				old, ref, e.BlobOff = len(l.Blobs), to, off
			} else {
				ref = l.Blobs[old]
			}
			if number[old] == 0 {
				out.Blobs = append(out.Blobs, ref)
				number[old] = len(out.Blobs)
			}
			e.Blob = uint32(number[old] - 1)
		}
		if n := len(out.Extents); n > 0 {
			if last := &out.Extents[n-1]; last.Blob == e.Blob && last.End() == e.Off && last.BlobOff+last.Len == e.BlobOff {
				last.Len += e.Len
				continue
			}
		}
		out.Extents = append(out.Extents, e)
	}
	return out
}

func ids(refs []extent.BlobRef) (out [][16]byte) {
	for i := range refs {
		out = append(out, refs[i].ID)
	}
	return out
}
