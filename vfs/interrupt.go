package vfs

import (
	"context"
	"errors"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// interrupt ends a write session whose content is not whole. A new name becomes a partial version that can be resumed;
// what was there before stays current, and the bytes go to history. Called with io held.
func (in *inode) interrupt(ctx context.Context) error {
	in.mu.Lock()
	d, dirty, made, attr, asked := in.draft, in.dirty, in.isNew(), in.attr, in.asked
	in.mu.Unlock()
	if !dirty && !made {
		in.drop(ctx)
		return nil
	}
	if in.c.failed.Load() {
		in.drop(ctx)
		return ErrReadOnly
	}
	var layout *extent.Layout
	if b := in.view.o.Broken; d != nil && dirty && (b == nil || b(in.path)) {
		l, err := d.Finish(d.ctx)
		if err == nil {
			layout = l
		} else if in.c.blobFailed(err); in.c.failed.Load() {
			in.drop(ctx)
			return in.c.damage(err)
		} // else the blob is lost to a full disk or the like: nothing of it can be kept
	}
	if layout == nil && d != nil {
		_ = d.Abort() // what stays on disk is removed below, or when the volume is opened next
	}
	p := interruption{publication: publication{in: in, d: d, attr: attr, asked: asked, done: true}, kept: layout}
	p.moves = in.c.moves.Load()
	err := in.c.update(ctx, p.apply)
	if p.kept != nil && errors.Is(err, ErrQuota) { // history has no room for them: what is whole stays as it is all the same
		p.kept = nil
		err = in.c.update(ctx, p.apply)
	}
	if err != nil {
		in.abandon()
		return in.orphaned(err)
	}
	if p.layout == nil {
		if in.abandon() != nil {
			d.remove(ctx, in.c.blobs)
		}
		in.view.told()
		return nil
	}
	in.published(&p.publication, true)
	return nil
}

// interruption is a publication that decides in its transaction what becomes of the bytes.
type interruption struct {
	publication
	kept *extent.Layout // nil = nothing to keep
}

func (p *interruption) apply(tx *meta.Tx) error {
	in := p.in
	n, link, err := in.existing(tx)
	if err != nil {
		return err
	}
	p.layout, p.state, p.result = p.kept, meta.Interrupted, resultInterrupted
	if link || resumable(n, in) {
		p.state, p.result = meta.Partial, resultPartial
		if p.kept != nil {
			p.layout = prefix(p.kept)
		}
	}
	if p.layout != nil && (p.layout.Size > 0 || !link) {
		return p.publication.apply(tx)
	}
	p.layout = nil
	if !link && p.state == meta.Interrupted {
		// The content is whole but old, and a client that appends by its size would mix two uploads.
		n.Interrupted = true
		if err := tx.PutNode(n); err != nil {
			return err
		}
	}
	if p.d != nil {
		if err := p.d.doom(tx); err != nil {
			return err
		}
	}
	return in.view.emit(tx, Change{Op: "upload", Path: in.path, Result: resultDiscarded})
}

// existing is target without making anything.
func (in *inode) existing(tx *meta.Tx) (n *meta.Node, link bool, err error) {
	if in.id != 0 {
		n, err := tx.Node(in.id)
		return n, false, err
	}
	e, err := lookupExact(tx, in.slot)
	if err != nil || e == 0 {
		return nil, e == 0, err
	}
	n, err = tx.Node(e)
	return n, false, err
}

// resumable says whether a broken upload may replace what is current: a partial upload itself, or what this very write
// session published at an fsync. Anything else is whole and stays.
func resumable(n *meta.Node, in *inode) bool {
	return n.State == meta.Partial || in.created && n.Version == in.base.node.Version
}
