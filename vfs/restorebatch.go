package vfs

import (
	"context"
	"errors"
	"io/fs"

	"sallyport/vfs/meta"
)

// names restores some names of one directory of now (0 = it is not there yet: only look), without what is below them.
func (r *restorer) names(ctx context.Context, dir meta.Inode, page []*wanted) ([]outcome, error) {
	vs, err := r.look(ctx, dir, page)
	if err != nil {
		return nil, err
	}
	if !r.dry {
		if vs, err = r.change(ctx, dir, page, vs); err != nil {
			return nil, err
		}
	}
	out := make([]outcome, len(page))
	for i, w := range page {
		v := &vs[i]
		out[i].skip = v.step == stepConflict || v.step == stepBusy || v.step == stepPurged || v.step == stepDamaged
		if v.step == stepEnter || v.step == stepSame && v.cur != nil {
			out[i].id = v.cur.ID
		}
		switch {
		case !r.dry && v.made != 0:
			out[i].id = v.made
		case r.dry && v.step == stepMove && w.node.Kind == meta.Dir:
			out[i].id = v.home.ID
		}
		if err := r.report(r.count(w, v)); err != nil {
			return nil, err
		}
	}
	if r.dry {
		return out, nil
	}
	return out, r.progress(r.totals)
}

// look judges each name, and does what needs time before the transaction: comparing, copying, and clearing the way.
func (r *restorer) look(ctx context.Context, dir meta.Inode, page []*wanted) ([]verdict, error) {
	vs := make([]verdict, len(page))
	judge := func(i int) error {
		return r.c.db.View(func(tx *meta.Tx) (err error) { vs[i], err = r.judge(tx, dir, page[i]); return err })
	}
	for i, w := range page {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := judge(i); err != nil {
			return nil, err
		}
		if vs[i].step == stepConflict && r.exact && vs[i].cur != nil && w.node.ID != 0 {
			p := place{slot: slot{dir, w.name}, path: w.to, node: vs[i].cur}
			if err := r.clear(ctx, &p); err != nil {
				return nil, err
			}
			if r.dry {
				vs[i].step, vs[i].cur = stepMake, nil
			} else if err := judge(i); err != nil {
				return nil, err
			}
		}
		if vs[i].looks {
			same, err := r.compare(ctx, &vs[i])
			if err != nil {
				return nil, err
			}
			if same {
				w.same, w.with = vs[i].cur.ID, vs[i].cur.Version
				vs[i].step, vs[i].copies = stepSame, false
			}
		}
		if !vs[i].copies || r.dry {
			continue
		}
		c, err := r.copied(ctx, &vs[i])
		if action, own := notRestored(err); own {
			vs[i].step = stepOf(action)
		} else if err != nil {
			return nil, err
		}
		w.copy = c
	}
	return vs, nil
}

func stepOf(a RestoreAction) step {
	switch a {
	case RestorePurged:
		return stepPurged
	case RestoreDamaged:
		return stepDamaged
	}
	return stepBusy
}

// changes tells whether a step needs the transaction.
func (s step) changes() bool {
	return s == stepVersion || s == stepLink || s == stepMove || s == stepMake
}

// change carries the verdicts out in one transaction, as things are then, and returns what it came to.
func (r *restorer) change(ctx context.Context, dir meta.Inode, page []*wanted, seen []verdict) ([]verdict, error) {
	vs := append([]verdict(nil), seen...)
	bytes, files, any := int64(0), int64(0), false
	for i := range vs {
		b, f := grows(page[i], &vs[i])
		bytes, files, any = bytes+b, files+f, any || vs[i].step.changes()
	}
	if !any {
		return vs, nil
	}
	if r.c.failed.Load() {
		return nil, ErrReadOnly
	}
	defer r.discard(ctx, page)
	leave, err := r.mayChange(dir, func(path string) []RestoreItem { return changesOf(path, page, vs) })
	defer leave()
	if err != nil {
		return nil, err
	}
	if err := r.c.ask(bytes, files); err != nil {
		return nil, err
	}
	defer r.c.yield(bytes, files)
	unlock, err := r.claim(ctx, dir, page, vs)
	defer unlock()
	if err != nil {
		return nil, err
	}
	claimed := append([]verdict(nil), vs...)
	err = r.c.update(ctx, func(tx *meta.Tx) error {
		for i, w := range page {
			if vs[i] = claimed[i]; !claimed[i].step.changes() {
				continue
			}
			v, err := r.judge(tx, dir, w)
			if err != nil {
				return err
			}
			if v.copies && w.copy == nil || v.step == stepEnter && claimed[i].step != stepEnter && v.cur.ID != w.node.ID { // it has changed since we looked
				v.step = stepBusy
			}
			if vs[i] = v; !v.step.changes() {
				continue
			}
			if vs[i].made, err = r.do(tx, dir, w, &v); err != nil {
				return err
			}
			if err := r.event(tx, w, vs[i].made); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, w := range page {
		w.copy.kept(vs[i].step == stepMake)
	}
	r.h.w.told()
	return vs, nil
}

// changesOf is what would be done to names in a directory.
func changesOf(path string, page []*wanted, vs []verdict) (items []RestoreItem) {
	for i, w := range page {
		if !vs[i].step.changes() {
			continue
		}
		item := RestoreItem{Action: RestoreCreate, Path: path + "/" + w.name, From: w.from, Dir: w.node.Kind == meta.Dir, Link: w.node.Kind == meta.Symlink}
		if vs[i].cur != nil {
			item.Action = RestoreChange
		}
		if w.node.Kind == meta.File {
			item.Bytes = w.node.Size
		}
		if vs[i].step == stepMove {
			item.Action = RestoreMove
		}
		items = append(items, item)
	}
	return items
}

// claim claims the names that change, and what is replaced of directories. What it cannot get is busy.
func (r *restorer) claim(ctx context.Context, dir meta.Inode, page []*wanted, vs []verdict) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	hold := func(i int, get func() (func(), error)) error {
		u, err := get()
		switch {
		case errors.Is(err, fs.ErrExist), errors.Is(err, ErrNotEmpty):
			vs[i].step = stepBusy
			return nil
		case err != nil:
			return err
		}
		held = append(held, u)
		return nil
	}
	for i, w := range page {
		if !vs[i].step.changes() {
			continue
		}
		if err := hold(i, func() (func(), error) { return r.c.claims.lock(ctx, slot{dir, w.name}) }); err != nil {
			return unlock, err
		}
		if cur := vs[i].cur; vs[i].step.changes() && cur != nil && cur.Kind == meta.Dir {
			if err := hold(i, func() (func(), error) { return r.c.claims.lockDir(ctx, cur.ID) }); err != nil {
				return unlock, err
			}
		}
	}
	return unlock, nil
}

// grows is by how much the bytes and the number of current files grow.
func grows(w *wanted, v *verdict) (bytes, files int64) {
	if !v.step.changes() {
		return 0, 0
	}
	if v.cur != nil && v.cur.Kind == meta.File {
		bytes, files = -int64(v.cur.Size), -1
	}
	if w.node.Kind != meta.File {
		return bytes, files
	}
	if v.step == stepMove {
		bytes, files = bytes-int64(v.home.Size), files-1
	}
	return bytes + int64(w.node.Size), files + 1
}

// count says what a verdict comes to.
func (r *restorer) count(w *wanted, v *verdict) RestoreItem {
	i := RestoreItem{Path: w.to, From: w.from, Dir: w.node.Kind == meta.Dir}
	switch v.step {
	case stepSame:
		return i
	case stepEnter:
		if at := v.cur.Attr; w.gone || at.Mode == w.node.Mode && at.Mtime == w.node.Mtime && at.Created == w.node.Created {
			return i
		}
		i.Action = RestoreChange
		return i
	case stepConflict:
		i.Action = RestoreConflict
		return i
	case stepBusy:
		i.Action = RestoreBusy
		return i
	case stepPurged:
		i.Action = RestorePurged
		return i
	case stepDamaged:
		i.Action = RestoreDamaged
		return i
	case stepMove:
		i.Action = RestoreMove
	case stepVersion:
		i.Action = RestoreChange
	default:
		if i.Action = RestoreCreate; v.cur != nil {
			i.Action = RestoreChange
		}
	}
	bytes, files := grows(w, v)
	r.totals.Grows += bytes
	r.totals.Files += files
	if w.node.Kind == meta.File {
		i.Bytes = w.node.Size
		if v.copies {
			r.totals.Copied += w.node.Size
		}
	}
	return i
}

// discard gives up the copies that nothing relies on.
func (r *restorer) discard(ctx context.Context, page []*wanted) {
	for _, w := range page {
		if w.copy != nil {
			w.copy.discard(ctx)
			w.copy = nil
		}
	}
}
