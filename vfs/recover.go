package vfs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// recover finishes what a crash left half done, before anyone uses the volume: uploads that were cut off become partial
// or interrupted versions, and blobs that nothing needs are removed.
func (c *core) recover(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.rescueUploads, c.removeDoomed, c.removeOrphans} {
		if err := step(ctx); err != nil && !c.later(ctx, err) {
			return err
		}
	}
	return nil
}

// later says whether recovery may leave something to the next opening: a full disk, or a blob that cannot be read now, must
// not keep the account from its other files, nor from removing some.
func (c *core) later(ctx context.Context, err error) bool {
	pub := public(err)
	return ctx.Err() == nil && !c.failed.Load() && (errors.Is(pub, syscall.ENOSPC) || errors.Is(pub, ErrIO))
}

func (c *core) rescueUploads(ctx context.Context) error {
	var cut []rescue
	err := c.db.View(func(tx *meta.Tx) error {
		return tx.Blobs(func(b *meta.BlobKey) bool {
			if b.State == meta.BlobOpen {
				cut = append(cut, rescue{c: c, id: b.ID, spare: isSpare(b)})
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	for _, r := range cut {
		if r.spare {
			if stays, err := c.young(ctx, r.id); err != nil && !c.later(ctx, err) {
				return err
			} else if stays || err != nil {
				c.spares.leave(r.id)
				continue
			}
		}
		if r.bytes, err = r.whole(ctx); err != nil {
			if err = c.damage(c.blobFailed(err)); !errors.Is(err, ErrIntegrity) {
				if c.later(ctx, err) {
					continue
				}
				return err
			}
			r.lost = true
		}
		if err := c.update(ctx, r.apply); err != nil {
			return err
		}
	}
	return nil
}

// rescue decides what becomes of one blob that was being written.
type rescue struct {
	c     *core
	id    blob.ID
	spare bool   // or of a file that was being committed as a whole: nothing of it is kept
	bytes uint64 // plaintext that is whole
	lost  bool   // no file, or not even its header
}

// whole ends the blob and tells how much of it is whole.
func (r *rescue) whole(ctx context.Context) (uint64, error) {
	if r.spare {
		return 0, nil
	}
	return r.c.content.Recover(ctx, r.id)
}

func (r *rescue) apply(tx *meta.Tx) error {
	key, err := tx.Blob(r.id)
	if err != nil {
		return err
	}
	b := *key
	if r.spare {
		return r.giveUp(tx, &b)
	}
	n, err := owner(tx, &b)
	if err != nil {
		return err
	}
	current, relied, err := relies(tx, n, b.ID)
	if err != nil {
		return err
	}
	if !current && n != nil && b.Inode == 0 && n.Version != 0 {
		// The name was new, and an fsync has made the file since with all bytes in metadata: this is the same upload (I9).
		v, err := tx.Version(n.ID, n.Version)
		if err != nil {
			return err
		}
		current = b.Writer != "" && v.Writer == b.Writer
	}
	if r.lost {
		if relied { // committed content is damaged: the reader is told, and the key stays in case the file comes back
			return nil
		}
		return r.giveUp(tx, &b)
	}
	v, err := r.version(tx, &b, n, current)
	if err != nil {
		return err
	}
	if v == nil && !relied {
		return r.giveUp(tx, &b)
	}
	b.State, b.Size = meta.BlobSealed, r.bytes
	if v == nil {
		return tx.PutBlob(&b)
	}
	return r.publish(tx, &b, n, v)
}

func (r *rescue) giveUp(tx *meta.Tx, b *meta.BlobKey) error {
	if err := tx.Doom(b.ID); err != nil {
		return err
	}
	return r.emit(tx, b, Change{Op: "upload", Result: resultDiscarded})
}

func (r *rescue) emit(tx *meta.Tx, b *meta.BlobKey, ch Change) (err error) {
	note := r.c.vol.fs.o.Recovered
	if note == nil || b.Dir == 0 { // a copy of housekeeping is nobody's upload
		return nil
	}
	ch.At = time.Unix(0, tx.Instant())
	if ch.Path, err = pathOf(tx, slot{b.Dir, b.Name}); err != nil {
		return err
	}
	if event := note(r.c.vol.id, ch); event != nil {
		return tx.Emit(event)
	}
	return nil
}

// owner is the file that a blob was written for; nil if its name was new and nobody has made it since.
func owner(tx *meta.Tx, b *meta.BlobKey) (*meta.Node, error) {
	id := b.Inode
	if id == 0 {
		var err error
		if id, err = lookupExact(tx, slot{b.Dir, b.Name}); err != nil || id == 0 {
			return nil, err
		}
	}
	n, err := tx.Node(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && n.Kind != meta.File {
		return nil, nil
	}
	return n, err
}

// relies says whether the current or any version of n uses the blob.
func relies(tx *meta.Tx, n *meta.Node, id blob.ID) (current, any bool, err error) {
	if n == nil {
		return false, false, nil
	}
	err = tx.Versions(n.ID, func(v *meta.Version) bool {
		if findRef(&v.Layout, id) != nil {
			any = true
			current = current || v.N == n.Version
		}
		return true
	})
	return current, any, err
}

// version is what the upload left that is worth a version; nil = nothing.
func (r *rescue) version(tx *meta.Tx, b *meta.BlobKey, n *meta.Node, current bool) (*meta.Version, error) {
	if b.Scattered || r.bytes == 0 {
		return nil, nil
	}
	l, err := r.layout(tx, b)
	if errors.Is(err, fs.ErrNotExist) { // a recovery that was put off: the version that was edited is purged since
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := &meta.Version{Writer: b.Writer, Attr: meta.Attr{Mode: 0o644, Mtime: tx.Instant(), State: meta.Partial}}
	switch {
	case n == nil:
		if _, err := linked(tx, b.Dir); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		l = prefix(l)
	case n.State == meta.Partial || current:
		l = prefix(l)
		if current && l.Size <= n.Size {
			return nil, nil // all of it is in the version that an fsync published
		}
		v.Mode, v.Atime, v.Created = n.Mode, n.Atime, n.Created
	default:
		v.State, v.Mode, v.Atime, v.Created = meta.Interrupted, n.Mode, n.Atime, n.Created
	}
	if l.Size == 0 {
		return nil, nil
	}
	v.Size, v.Layout = l.Size, *l
	return v, nil
}

// layout is the content that the draft started from, up to where its blob begins, and then the blob.
func (r *rescue) layout(tx *meta.Tx, b *meta.BlobKey) (*extent.Layout, error) {
	base := &extent.Layout{}
	if b.Inode != 0 && b.Base != 0 {
		v, err := tx.Version(b.Inode, b.Base)
		if err != nil {
			return nil, err
		}
		base = cut(&v.Layout, b.LinearFrom)
	}
	l := &extent.Layout{Size: b.LinearFrom + r.bytes, Inline: base.Inline}
	l.Blobs = append(append(l.Blobs, base.Blobs...), extent.Sealed(b.ID, r.bytes))
	l.Extents = append(append(l.Extents, base.Extents...),
		extent.Extent{Off: b.LinearFrom, Len: r.bytes, Blob: uint32(len(base.Blobs))})
	return l, nil
}

func (r *rescue) publish(tx *meta.Tx, b *meta.BlobKey, n *meta.Node, v *meta.Version) error {
	link := n == nil
	if link {
		n = &meta.Node{Kind: meta.File, Attr: meta.Attr{Mode: v.Mode}}
		if err := tx.NewNode(n); err != nil {
			return err
		}
		v.Created = n.Created
	}
	result := resultPartial
	if v.State == meta.Interrupted {
		result = resultInterrupted
		n.Interrupted = true
	}
	b.Inode = n.ID
	if err := tx.PutBlob(b); err != nil {
		return err
	}
	v.Inode = n.ID
	if err := tx.AddVersion(n, v); err != nil {
		return err
	}
	if link {
		if err := tx.Link(b.Dir, b.Name, n.ID); err != nil {
			return err
		}
	}
	return r.emit(tx, b, Change{Op: "upload", Bytes: v.Size, Version: v.N, Result: result})
}

// doomedBatch is how many blobs are unlinked before their records go, together.
const doomedBatch = 500

// removeDoomed unlinks the blobs that metadata has given up, unless a copy needs them still.
func (c *core) removeDoomed(ctx context.Context) error {
	for {
		var ids []blob.ID
		done, err := c.vol.removes(func() (err error) { ids, err = c.unlinkDoomed(ctx); return err })
		if err == nil && !done {
			return c.leaveDoomed()
		}
		if err != nil || len(ids) == 0 {
			return err
		}
		err = c.update(ctx, func(tx *meta.Tx) error {
			for _, id := range ids {
				if err := tx.Undoom(id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(ids) < doomedBatch {
			return err
		}
	}
}

// leaveDoomed has the doomed blobs, if there are any, unlinked later.
func (c *core) leaveDoomed() error {
	some := false
	err := c.db.View(func(tx *meta.Tx) error { return tx.Doomed(func([16]byte) bool { some = true; return false }) })
	if some {
		c.vol.waits()
	}
	return err
}

// unlinkDoomed unlinks the next batch.
func (c *core) unlinkDoomed(ctx context.Context) (ids []blob.ID, err error) {
	err = c.db.View(func(tx *meta.Tx) error {
		return tx.Doomed(func(id [16]byte) bool { ids = append(ids, id); return len(ids) < doomedBatch })
	})
	if err != nil {
		return nil, err
	}
	return ids, blob.RemoveAll(ctx, c.blobs, ids)
}

// orphanGrace is how old a blob must be before it is removed that metadata does not know, or knows as spare: long enough for an operator
// who put back an old database by mistake to put back the right one, in which it may be a file.
const orphanGrace = 7 * 24 * time.Hour

// dated is a blob store that knows when a blob was last written.
type dated interface {
	ModTime(ctx context.Context, id blob.ID) (time.Time, error)
}

// removeOrphans removes blobs without a key record. Without their key they are noise, and no normal path leaves any.
func (c *core) removeOrphans(ctx context.Context) error {
	if _, ok := c.blobs.(dated); !ok {
		return nil
	}
	_, err := c.vol.removes(func() error { return c.unlinkOrphans(ctx) })
	return err
}

func (c *core) unlinkOrphans(ctx context.Context) error {
	ids, err := c.orphans(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if stays, err := c.young(ctx, id); err != nil {
			return err
		} else if stays {
			continue
		}
		if err := c.blobs.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// young says whether a blob lies there and was written within orphanGrace.
func (c *core) young(ctx context.Context, id blob.ID) (bool, error) {
	store, ok := c.blobs.(dated)
	if !ok {
		return false, nil
	}
	at, err := store.ModTime(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// Files are dated by the system's clock, which the volume may not believe: both must say that it is old.
	return err == nil && min(c.vol.fs.o.Now().Sub(at), time.Since(at)) < orphanGrace, err
}

// orphans lists the blobs that have no key record.
func (c *core) orphans(ctx context.Context) ([]blob.ID, error) {
	var found, out []blob.ID
	// Files first: a blob that comes after the list has its key record already when the records are read.
	err := c.blobs.List(ctx, blob.ID{}, func(id blob.ID, _ int64) error {
		found = append(found, id)
		return nil
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	err = c.db.View(func(tx *meta.Tx) error {
		for _, id := range found { // by its key alone: there may be a million, and the set hash has authenticated the keys
			if !tx.KnowsBlob(id) {
				out = append(out, id)
			}
		}
		return nil
	})
	return out, err
}
