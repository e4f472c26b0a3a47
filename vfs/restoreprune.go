package vfs

import (
	"context"
	"errors"
	"io/fs"

	"sallyport/vfs/meta"
)

// prune removes what is in a directory now and was not then, there and in the directories that were in it, and then gives
// them their attributes.
func (r *restorer) prune(ctx context.Context, w *wanted, now meta.Inode) error {
	if err := r.pruneNames(ctx, w, now); err != nil {
		return err
	}
	err := r.each(ctx, w, func(page []*wanted) error {
		for _, kid := range page {
			if kid.node.Kind != meta.Dir {
				continue
			}
			var id meta.Inode
			err := r.c.db.View(func(tx *meta.Tx) (err error) {
				if id, err = lookupExact(tx, slot{now, kid.name}); err != nil || id == 0 {
					return err
				}
				n, err := tx.Node(id)
				if err == nil && n.Kind != meta.Dir {
					id = 0
				}
				return err
			})
			if err != nil {
				return err
			}
			if id != 0 {
				if err := r.prune(ctx, kid, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.finish(ctx, w, now)
}

// pruneNames removes the names of one directory that it did not have.
func (r *restorer) pruneNames(ctx context.Context, w *wanted, now meta.Inode) error {
	l := r.h.w.list(r.c, now)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, err := l.next()
		if err != nil || len(batch) == 0 {
			return err
		}
		var extra []place
		err = r.c.db.View(func(tx *meta.Tx) error {
			for _, i := range batch {
				e, err := tx.LookupAt(w.node.ID, i.name, r.past.at)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				if err == nil && e.Name == i.name {
					continue
				}
				extra = append(extra, place{slot: slot{now, i.name}, path: join(w.to, i.name), node: &i.node})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := r.remove(ctx, extra); err != nil {
			return err
		}
	}
}

// remove takes names and what is below them away.
func (r *restorer) remove(ctx context.Context, places []place) error {
	var files []*place
	for i := range places {
		p := &places[i]
		if r.dry && r.was(p.node.ID) { // it gets the name of then before this one would go
			continue
		}
		if p.node.Kind != meta.Dir {
			files = append(files, p)
			continue
		}
		if err := r.clear(ctx, p); err != nil {
			return err
		}
	}
	for len(files) > 0 {
		some := files[:min(len(files), restoreBatch)]
		files = files[len(some):]
		if err := r.unlink(ctx, some, nil); err != nil {
			return err
		}
	}
	return nil
}

// clear removes a directory with everything in it.
func (r *restorer) clear(ctx context.Context, p *place) error {
	l := r.h.w.list(r.c, p.node.ID)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, err := l.next()
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			break
		}
		var kids []place
		for _, i := range batch {
			kids = append(kids, place{slot: slot{p.node.ID, i.name}, path: join(p.path, i.name), node: &i.node})
		}
		if err := r.remove(ctx, kids); err != nil {
			return err
		}
	}
	return r.unlink(ctx, []*place{p}, func() (unlock func(), err error) { return r.c.claims.lockDir(ctx, p.node.ID) })
}

// unlink removes names in one transaction and tells of it. What others have removed or filled meanwhile is left.
func (r *restorer) unlink(ctx context.Context, places []*place, claim func() (unlock func(), err error)) error {
	gone := places
	if !r.dry {
		var err error
		if gone, err = r.unlinkNow(ctx, places, claim); errors.Is(err, ErrNotEmpty) {
			return r.report(RestoreItem{Action: RestoreBusy, Path: places[0].path, Dir: true})
		} else if err != nil {
			return err
		}
		r.h.w.told()
	}
	for _, p := range gone {
		bytes := uint64(0)
		if p.node.Kind == meta.File {
			bytes = p.node.Size
			r.totals.Grows -= int64(bytes)
			r.totals.Files--
		}
		if err := r.report(RestoreItem{Action: RestoreRemove, Path: p.path, Dir: p.node.Kind == meta.Dir, Bytes: bytes}); err != nil {
			return err
		}
	}
	return r.progress(r.totals)
}

// unlinkNow is the transaction of unlink. claim, if not nil, is called when nobody changes paths any more: who waits for that may hold no claim,
// because others wait for claims where they use paths.
func (r *restorer) unlinkNow(ctx context.Context, places []*place, claim func() (unlock func(), err error)) (gone []*place, err error) {
	leave, err := r.mayChange(places[0].dir, func(path string) (items []RestoreItem) {
		for _, p := range places {
			items = append(items, RestoreItem{Action: RestoreRemove, Path: join(path, p.name), Dir: p.node.Kind == meta.Dir, Link: p.node.Kind == meta.Symlink})
		}
		return items
	})
	defer leave()
	if err != nil {
		return nil, err
	}
	if claim != nil {
		unlock, err := claim()
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	err = r.c.update(ctx, func(tx *meta.Tx) error {
		gone = gone[:0]
		for _, p := range places {
			switch err := r.h.w.unlinkTx(tx, p); {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNotEmpty):
			case err != nil:
				return err
			default:
				gone = append(gone, p)
			}
		}
		return nil
	})
	return gone, err
}
