package vfs

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/content"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// draft is a file's content under change and the keys of the blobs it fills.
type draft struct {
	*content.Draft
	ctx  context.Context // carries the draft to blobKeys; the contexts of Checkpoint and Finish must do the same
	plan meta.BlobKey    // what a new blob's key record says of its purpose

	mu    sync.Mutex
	blobs map[blob.ID]bool // made by this draft -> a committed version relies on it
	next  *newBlob         // becomes spare when the draft is committed; nil = none
	pin   meta.Inode       // pinned until the draft ends; 0 = none
}

// newDraft starts a draft on base; nil = empty. The file it belongs to, if there is one yet, is pinned.
func (c *core) newDraft(base *extent.Layout, plan meta.BlobKey) (*draft, error) {
	if c.drafts.Load() >= maxDrafts {
		return nil, ErrTooMany
	}
	d := &draft{plan: plan, pin: plan.Inode, blobs: map[blob.ID]bool{}}
	d.ctx = context.WithValue(context.Background(), draftKey{}, d)
	var err error
	if d.Draft, err = c.content.Edit(d.ctx, base); err != nil {
		return nil, c.damage(err)
	}
	c.drafts.Add(1)
	c.vol.fs.drafts.add(d)
	return d, nil
}

// ended is called once when a draft has ended.
func (c *core) ended(d *draft) {
	c.drafts.Add(-1)
	d.mu.Lock()
	pin := d.pin
	d.next.forget() // it was not committed, or has been handed over
	d.next = nil
	d.mu.Unlock()
	if pin != 0 {
		c.pins.unpin(pin)
	}
	c.vol.fs.drafts.remove(d, c.vol.fs.o.Now())
}

// own says whether the draft has a file only now, which is to be pinned.
func (d *draft) own(id meta.Inode) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pin != 0 {
		return false
	}
	d.pin = id
	return true
}

// draftKey finds the draft in a context.
type draftKey struct{}

// blobKeys finds and makes data keys. One content store serves all drafts of a volume and lets them share its buffers; the
// context tells which draft wants a new blob.
type blobKeys struct{ c *core }

// New implements content.Keys. The key record is durable before the first segment leaves memory, so that a crash leaves
// a blob that can be read, ended and offered for resuming. Of a whole one there is nothing to resume, so that the record may be
// a spare one: then it costs no transaction.
func (k blobKeys) New(ctx context.Context, linearFrom uint64, whole bool) (blob.ID, *record.Key, error) {
	d, ok := ctx.Value(draftKey{}).(*draft)
	if !ok {
		panic("vfs: internal error: a blob without a draft")
	}
	var next *newBlob
	var err error
	if whole {
		id, ok, more := k.c.spares.take()
		if ok {
			return k.spare(ctx, d, id)
		}
		if more {
			if next, err = k.c.nextBlob(); err != nil {
				return id, nil, err
			}
		}
	}
	own, err := k.c.nextBlob()
	if err != nil {
		return blob.ID{}, nil, err
	}
	plan := d.plan
	plan.LinearFrom, plan.Scattered = linearFrom, whole
	err = k.c.update(ctx, func(tx *meta.Tx) error {
		return errors.Join(own.put(tx, plan), next.put(tx, meta.BlobKey{Scattered: true}))
	})
	if err != nil {
		own.forget()
		next.forget()
		return own.id, nil, err
	}
	if next != nil {
		k.c.spares.add(next)
	}
	d.mu.Lock()
	d.blobs[own.id] = false
	d.mu.Unlock()
	return own.id, own.key, nil
}

// spare gives the draft a blob that was spare, and has its commit make another one.
func (k blobKeys) spare(ctx context.Context, d *draft, id blob.ID) (blob.ID, *record.Key, error) {
	var next *newBlob
	key, err := k.Key(ctx, id)
	if err == nil && !k.c.spares.full() {
		next, err = k.c.nextBlob()
	}
	if err != nil {
		return id, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blobs[id], d.next = false, next
	return id, key, nil
}

// Scatter implements content.Keys.
func (k blobKeys) Scatter(ctx context.Context, id blob.ID) error {
	return k.c.update(ctx, func(tx *meta.Tx) error {
		b, err := tx.Blob(id)
		if err != nil {
			return err
		}
		b.Scattered = true
		return tx.PutBlob(b)
	})
}

// Key implements content.Keys. A blob without a key record is damage: a version pointed at it.
func (k blobKeys) Key(_ context.Context, id blob.ID) (*record.Key, error) {
	var key *record.Key
	err := k.c.db.View(func(tx *meta.Tx) error {
		bk, err := tx.Blob(id)
		if err == nil {
			key, err = tx.Keys().DataKey(id, bk.Wrapped)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrIntegrity
	}
	return key, err
}

// settle brings the key records of the draft's blobs to what layout says of them, in the transaction that commits it.
// done means that no further byte comes.
func (d *draft) settle(tx *meta.Tx, l *extent.Layout, owner meta.Inode, done bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next.put(tx, meta.BlobKey{Scattered: true}); err != nil {
		return err
	}
	for id, relied := range d.blobs {
		ref := findRef(l, id)
		if ref == nil {
			if done {
				if err := d.giveUp(tx, id, relied); err != nil {
					return err
				}
			}
			continue
		}
		b, err := tx.Blob(id)
		if err != nil {
			return err
		}
		if isSpare(b) {
			b.Dir, b.Name, b.Base, b.Writer = d.plan.Dir, d.plan.Name, d.plan.Base, d.plan.Writer
		}
		b.Inode = owner
		if !ref.Open {
			b.State, b.Size = meta.BlobSealed, ref.Bytes
		}
		if err := tx.PutBlob(b); err != nil {
			return err
		}
	}
	return nil
}

// rely remembers which blobs a committed version uses.
func (d *draft) rely(c *core, l *extent.Layout) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next != nil {
		c.spares.add(d.next)
		d.next = nil
	}
	for id := range d.blobs {
		if findRef(l, id) != nil {
			d.blobs[id] = true
		}
	}
}

// doom gives up what the draft wrote since it was committed last. Called after Abort or Finish.
func (d *draft) doom(tx *meta.Tx) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, relied := range d.blobs {
		if err := d.giveUp(tx, id, relied); err != nil {
			return err
		}
	}
	return nil
}

// giveUp dooms a blob that the draft has ended and whose last bytes no version names. If a committed version relies on its
// beginning, it stays, and recovery makes nothing of the rest.
func (d *draft) giveUp(tx *meta.Tx, id blob.ID, relied bool) error {
	if !relied {
		return tx.Doom(id)
	}
	b, err := tx.Blob(id)
	if err != nil {
		return err
	}
	b.Scattered = true
	if own, bytes, sealed := d.Blob(); sealed && own == id {
		b.State, b.Size = meta.BlobSealed, bytes
	}
	return tx.PutBlob(b)
}

// remove unlinks the blobs that doom gave up. What it leaves is removed when the volume is opened next.
func (d *draft) remove(ctx context.Context, store blob.Store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, relied := range d.blobs {
		if !relied {
			_ = store.Remove(ctx, id)
		}
	}
}

func findRef(l *extent.Layout, id blob.ID) *extent.BlobRef {
	if l == nil {
		return nil
	}
	for i := range l.Blobs {
		if l.Blobs[i].ID == id {
			return &l.Blobs[i]
		}
	}
	return nil
}

// prefix cuts a layout at its first hole: what an interrupted upload has from byte 0 without a gap. Out-of-order writes
// leave gaps, and a client that resumes at the size would never fill them.
func prefix(l *extent.Layout) *extent.Layout {
	var end uint64
	for _, e := range l.Extents {
		if e.Off != end {
			break
		}
		end = e.End()
	}
	return cut(l, end)
}

// cut is the layout of the first size bytes of l.
func cut(l *extent.Layout, size uint64) *extent.Layout {
	if size >= l.Size {
		return l
	}
	m := extent.NewMap(l.Extents)
	m.Truncate(size)
	out := &extent.Layout{Size: size, Extents: m.Extents(), Blobs: l.Blobs, Inline: l.Inline}
	return out
}
