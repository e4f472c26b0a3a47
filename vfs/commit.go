package vfs

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// Results of an upload in Change.
const (
	resultComplete    = "complete"
	resultPartial     = "partial"     // a new file, kept as far as it came
	resultInterrupted = "interrupted" // an overwrite: the old content stays current
	resultDiscarded   = "discarded"   // policy: nothing of it is kept
)

// Change is what a commit did; Note turns it into the audit event that rides in the same transaction.
type Change struct {
	Op      string // "upload", "mkdir", "remove", "rmdir", "rename", "symlink", "setattr", "restore"
	Path    string // canonical
	To      string // rename, symlink target
	Bytes   uint64 // size of the new version
	Version uint64
	Result  string // "complete", "partial", "interrupted", "discarded"
	Detail  string // restore: of which instant and from where
	At      time.Time

	Replaced bool // rename: something was at To
}

// emit puts the audit event of a change into its transaction.
func (w *View) emit(tx *meta.Tx, ch Change) error {
	if w.o.Note == nil {
		return nil
	}
	ch.At = time.Unix(0, tx.Instant())
	event := w.o.Note(ch)
	if event == nil {
		return nil
	}
	return tx.Emit(event)
}

// told has the outbox drained after a transaction that may have put something there.
func (w *View) told() {
	if w.o.Note != nil {
		w.vol.notify()
	}
}

// commit publishes what the session changed; the draft goes on. For Sync and RENAME.
func (in *inode) commit(ctx context.Context) error {
	in.io.Lock()
	defer in.io.Unlock()
	in.mu.Lock()
	broken := in.broken
	in.mu.Unlock()
	if broken != nil {
		return broken
	}
	return in.publish(ctx, false)
}

// finish ends the write session: its last writer closes. told: it knows that the file is not whole.
func (in *inode) finish(ctx context.Context, told bool) error {
	in.mu.Lock()
	broken := in.broken
	in.mu.Unlock()
	if broken == nil {
		return in.publish(ctx, true)
	}
	if err := in.interrupt(ctx); err != nil {
		return err
	}
	if told {
		return nil
	}
	return broken // a write failed, and a client that closes without asking must hear that it is not all there
}

// publish makes one version of what changed since the last commit. Called with io held. last ends the draft.
func (in *inode) publish(ctx context.Context, last bool) error {
	in.mu.Lock()
	d, dirty, attr, made := in.draft, in.dirty, in.attr, in.isNew()
	whole, from, asked := last && in.base.node.State == meta.Partial, in.base.node.Version, in.asked
	in.mu.Unlock()
	if !dirty && attr.empty() && !made && !whole {
		if last {
			in.drop(ctx)
		}
		return nil
	}
	if in.c.failed.Load() {
		if last {
			in.drop(ctx)
		}
		return ErrReadOnly
	}
	var layout *extent.Layout
	if dirty || made {
		var err error
		if layout, err = in.seal(ctx, d, last); err != nil {
			return err
		}
	}
	p := publication{in: in, d: d, layout: layout, attr: attr, state: meta.Complete, whole: whole, from: from, asked: asked, result: resultComplete, done: last}
	p.moves = in.c.moves.Load()
	if err := in.c.update(ctx, p.apply); err != nil {
		switch {
		case !last:
		case in.c.failed.Load():
			in.abandon()
		default:
			in.drop(ctx)
		}
		return in.orphaned(err)
	}
	in.published(&p, last)
	return nil
}

// orphaned tells a name that is gone or taken from other failures.
func (in *inode) orphaned(err error) error {
	for _, known := range []error{fs.ErrNotExist, fs.ErrExist} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

// seal makes the draft's bytes durable and returns where they lie.
func (in *inode) seal(ctx context.Context, d *draft, last bool) (*extent.Layout, error) {
	if d == nil { // created and never written
		return &extent.Layout{}, nil
	}
	var l *extent.Layout
	var err error
	if last {
		l, err = d.Finish(d.ctx)
	} else {
		l, err = d.Checkpoint(d.ctx)
	}
	if err == nil {
		return l, nil
	}
	err = in.c.damage(in.c.blobFailed(err))
	if last {
		in.drop(ctx)
		return nil, err
	}
	in.mu.Lock()
	in.broken = err
	in.mu.Unlock()
	return nil, err
}

// publication is one version on its way into metadata.
type publication struct {
	in     *inode
	d      *draft
	layout *extent.Layout // nil = attributes only
	attr   attrs
	state  meta.State
	result string
	whole  bool   // without content: an upload that was resumed and owed nothing is complete
	from   uint64 // version that the session started from
	asked  uint64 // inode.asked
	done   bool   // the draft ends

	moves   uint64    // core.moves before
	node    meta.Node // out: the file afterwards
	got     *extent.Layout
	follows bool // attributes only, on the very version that the session started from: the content is still that
}

// apply runs in a group commit, perhaps more than once.
func (p *publication) apply(tx *meta.Tx) error {
	n, link, err := p.in.target(tx)
	if err != nil {
		return err
	}
	if p.layout == nil {
		a, op, before := p.attr, "setattr", n.Version
		if p.whole && before == p.from { // else somebody has uploaded it since
			a.whole, op = true, "upload"
		}
		if err := setAttr(tx, n, p.in.view.o.Writer, a); err != nil {
			return err
		}
		p.node, p.got, p.follows = *n, nil, before == p.from && n.Version != before
		return p.in.view.emit(tx, Change{Op: op, Path: p.in.path, Bytes: n.Size, Version: n.Version, Result: p.result})
	}
	at := n.Attr
	at.Size, at.Mtime, at.State = p.layout.Size, tx.Instant(), p.state
	p.attr.over(&at)
	switch {
	case p.state == meta.Interrupted:
		n.Interrupted = true
	case p.in.fresh && p.state == meta.Complete: // the complete upload that was asked for
		n.Interrupted = false
	}
	v := &meta.Version{Inode: n.ID, Writer: p.in.view.o.Writer, Attr: at, Layout: *p.layout}
	ask, before := p.asks(n), tx.Stats().HistoryBytes
	if err := tx.AddVersion(n, v); err != nil {
		return err
	}
	if link {
		if err := tx.Link(p.in.slot.dir, p.in.slot.name, n.ID); err != nil {
			return err
		}
	}
	if p.d != nil {
		if err := p.d.settle(tx, p.layout, n.ID, p.done); err != nil {
			return err
		}
	}
	if ask {
		if err := p.in.view.mayGrow(tx, p.in.path, before); err != nil {
			return err
		}
	}
	p.node, p.got = *n, p.layout
	return p.in.view.emit(tx, Change{Op: "upload", Path: p.in.path, Bytes: p.layout.Size, Version: v.N, Result: p.result})
}

// target is the node that the session's version belongs to; link says that it is made here and needs its name.
//
// A file that was renamed keeps its node and gets the version under its new name. One that was removed or replaced has a
// node without a name: the version goes to history only.
func (in *inode) target(tx *meta.Tx) (n *meta.Node, link bool, err error) {
	if in.id != 0 {
		n, err := tx.Node(in.id)
		return n, false, err
	}
	if _, err := linked(tx, in.slot.dir); err != nil {
		return nil, false, err
	}
	e, err := tx.Lookup(in.slot.dir, in.slot.name)
	switch {
	case err == nil && e.Name == in.slot.name: // another session was first: this upload is the next version
		n, err := tx.Node(e.Inode)
		if err == nil && n.Kind != meta.File {
			return nil, false, fs.ErrExist
		}
		return n, false, err
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	}
	n = &meta.Node{Kind: meta.File, Attr: meta.Attr{Mode: in.base.node.Mode}}
	return n, true, tx.NewNode(n)
}

// published brings the session's state to what the transaction made.
func (in *inode) published(p *publication, last bool) {
	if p.d != nil && p.got != nil {
		p.d.rely(in.c, p.got)
	}
	w := in.view
	if !last && p.d != nil && p.d.own(p.node.ID) {
		// Never long, and without an end only if housekeeping has none. What it did since the commit, the handles will find out.
		_ = in.c.pins.pin(context.Background(), p.node.ID)
	}
	w.mu.Lock()
	in.mu.Lock()
	made := in.isNew()
	if made {
		in.created = true
		in.id = p.node.ID
		if w.fresh[in.slot] == in {
			delete(w.fresh, in.slot)
		}
		if w.open[in.id] == nil {
			w.open[in.id] = in
		}
	}
	if p.got != nil && p.state != meta.Interrupted {
		in.rebase(newSnapshot(in.c, &p.node, p.got, p.moves))
	} else {
		if p.follows && in.base.node.Version == p.from {
			in.base.node.Version = p.node.Version
			in.base.version.Store(p.node.Version)
		}
		in.base.node.Attr = p.node.Attr
	}
	in.dirty, in.attr, in.fresh = false, attrs{}, false
	for f := range in.files {
		f.moved = false
	}
	if last {
		in.draft, in.created, in.broken = nil, false, nil
		if p.d != nil {
			in.c.ended(p.d)
		}
	}
	in.settle(in.base.layout.Size)
	slot := in.slot
	in.mu.Unlock()
	w.mu.Unlock()
	if made {
		in.c.claims.drop(slot)
		in.c.yield(0, 1)
	}
	w.told()
}

// rebase moves the session's handles to its own new version. Called with mu held.
func (in *inode) rebase(s *snapshot) {
	s.retain()
	in.base.release()
	in.base = s
	for f := range in.files {
		f.snap.release()
		f.snap = s.retain()
	}
}

// drop ends the draft without a version. A crash before the key records follow leaves open ones without a file, and recovery
// makes nothing of those.
func (in *inode) drop(ctx context.Context) {
	d := in.abandon()
	if d == nil {
		return
	}
	_ = d.Abort() // what stays on disk is removed below, or when the volume is opened next
	if len(d.blobs) > 0 && in.c.update(ctx, d.doom) == nil {
		d.remove(ctx, in.c.blobs)
	}
}

// abandon forgets the draft and keeps its blobs. After a commit that failed in the end nobody knows whether it holds until
// the volume is opened again; the blobs stay with their keys, and recovery decides.
func (in *inode) abandon() *draft {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := in.draft
	in.draft, in.dirty, in.attr, in.fresh = nil, false, attrs{}, in.isNew()
	if in.writers == 0 {
		in.broken = nil
	}
	in.settle(in.base.layout.Size)
	if d != nil {
		in.c.ended(d)
	}
	return d
}
