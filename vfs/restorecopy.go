package vfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// contentCopy is the content of an old version for another file: blobs are one file's own, because a purge looks for who
// relies on a blob among the versions of one file only.
type contentCopy struct {
	relocation
	layout extent.Layout // with the blob of relocation.to, if there is one
}

// copied copies the content of then.
func (r *restorer) copied(ctx context.Context, v *verdict) (*contentCopy, error) {
	c := &contentCopy{relocation: relocation{c: r.c}}
	l := &v.then.Layout
	at := make([]uint64, len(l.Extents))
	err := r.c.db.View(func(tx *meta.Tx) error {
		refs, ok, err := sealedRefs(tx, l.Blobs)
		if err != nil {
			return err
		}
		if !ok {
			return ErrBusy
		}
		for i, e := range l.Extents {
			if e.Blob != extent.Inline {
				at[i] = c.add(refs[e.Blob], e.BlobOff, e.Len)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.from.Size > 0 {
		if err := c.copy(ctx); err != nil {
			return nil, r.c.damage(err)
		}
	}
	c.layout = *relayout(l, c.to, func(i int) (uint64, bool) { return at[i], true })
	return c, nil
}

// settle makes the copy belong to a file, in the transaction with the version that relies on it.
func (c *contentCopy) settle(tx *meta.Tx, owner meta.Inode) (*extent.Layout, error) {
	if c.from.Size > 0 {
		b, err := tx.Blob(c.to.ID)
		if err != nil {
			return nil, missing(err)
		}
		b.State, b.Size, b.Inode = meta.BlobSealed, c.to.Bytes, owner
		if err := tx.PutBlob(b); err != nil {
			return nil, err
		}
	}
	return &c.layout, nil
}

// kept remembers that a version relies on the copy.
func (c *contentCopy) kept(relied bool) {
	if c != nil && relied {
		c.sealed = true
	}
}

// compare tells whether what is there has the same bytes as what is wanted. Attributes agree; they can be set at will, so they
// prove nothing.
func (r *restorer) compare(ctx context.Context, v *verdict) (bool, error) {
	var now *meta.Version
	moves := r.c.moves.Load()
	err := r.c.db.View(func(tx *meta.Tx) (err error) { now, err = tx.Version(v.cur.ID, v.cur.Version); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a := newSnapshot(r.c, v.cur, &now.Layout, moves).retain()
	defer a.release()
	was := *v.home
	was.Version = v.then.N
	b := newSnapshot(r.c, &was, &v.then.Layout, moves).retain()
	defer b.release()
	bufA, bufB := make([]byte, extent.SegmentPlain), make([]byte, extent.SegmentPlain)
	for off := int64(0); off < int64(now.Layout.Size); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, errA := a.readAt(bufA, off)
		m, errB := b.readAt(bufB, off)
		if errA != nil && errA != io.EOF || errB != nil && errB != io.EOF { // what cannot be read is not the same
			return false, nil
		}
		if n == 0 || !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		off += int64(n)
	}
	return true, nil
}
