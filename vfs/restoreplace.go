package vfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"sallyport/vfs/meta"
)

// source finds what is asked for as it was, and makes the paths canonical.
func (r *restorer) source() (what place, err error) {
	if err := r.past.Reach(); err != nil {
		return what, err
	}
	err = r.c.db.View(func(tx *meta.Tx) error {
		if err := r.mayRestore(tx); err != nil {
			return err
		}
		if what, err = r.past.walk(tx, r.ask.From, false); err == nil && !what.exists() {
			err = fs.ErrNotExist
		}
		return err
	})
	if err != nil {
		return what, err
	}
	r.ask.From = what.path
	if r.ask.To == "" {
		r.ask.To = what.path
	}
	parts, err := components(r.ask.To)
	if err != nil {
		return what, err
	}
	r.ask.To = "/"
	for _, c := range parts {
		r.ask.To = join(r.ask.To, c)
	}
	return what, nil
}

// mayRestore refuses an exact restore of what is not whole: names that are gone without a trace would be taken for later ones, and removed. Nothing is purged
// from here to the end of Execute.
func (r *restorer) mayRestore(tx *meta.Tx) error {
	if err := r.h.whole(tx, r.past.at); err != nil {
		return err
	}
	w := wholeOf(tx)
	if since := w.Since(); time.Unix(0, r.past.at).Before(since) {
		if r.exact {
			return &NotWhole{Since: since, Chosen: !time.Unix(0, r.past.at).Before(w.Purged)}
		}
		r.lacks = since
	}
	return nil
}

// home is the directory of now in which something is restored; made, as it was then where that is known, if it is not there. 0 if it would be.
func (r *restorer) home(ctx context.Context, dir string) (meta.Inode, error) {
	p, err := r.h.w.at(r.c, dir, true)
	switch {
	case err == nil && p.exists() && p.kind() != meta.Dir:
		return 0, ErrNotDir
	case err == nil && p.exists():
		return p.node.ID, permit(p.node, mayWrite|mayTravel)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	above, err := r.home(ctx, parent(dir))
	if err != nil {
		return 0, err
	}
	w := &wanted{name: path.Base(dir), to: dir, node: &meta.Node{Kind: meta.Dir, Attr: meta.Attr{Mode: 0o755}}}
	err = r.c.db.View(func(tx *meta.Tx) error {
		was, err := r.past.walk(tx, dir, false)
		if err == nil && was.exists() && was.kind() == meta.Dir {
			w.node, w.from, w.gone = was.node, was.path, !r.was(was.node.ID)
		}
		return absentIsFine(err)
	})
	if err != nil {
		return 0, err
	}
	ids, err := r.names(ctx, above, []*wanted{w})
	if err != nil {
		return 0, err
	}
	if ids[0].skip {
		return 0, ErrBusy
	}
	return ids[0].id, nil
}

// was tells whether an inode was there.
func (r *restorer) was(id meta.Inode) bool {
	return r.c.db.View(func(tx *meta.Tx) error { _, err := tx.NodeAt(id, r.past.at); return err }) == nil
}
