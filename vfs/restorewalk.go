package vfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"sallyport/vfs/meta"
)

// restoreBatch is how many names are restored in one transaction.
const restoreBatch = 128

// restorer walks the tree of then beside the tree of now. It goes by inodes, so that directories that are renamed meanwhile
// lead nowhere else.
type restorer struct {
	h        *History
	past     *Past
	ask      RestoreAsk
	exact    bool
	dry      bool // only look
	visit    func(RestoreItem) error
	progress func(RestoreTotals) error
	enter    func() (leave func())
	allow    func([]RestoreItem) error

	lacks  time.Time // see RestorePlan
	c      *core
	root   meta.Inode // the directory that is restored; 0 = a file, or it is not there yet
	totals RestoreTotals
}

// wanted is a name of then.
type wanted struct {
	name string     // that it is to have
	node *meta.Node // as of then
	gone bool       // its version of then is purged; node has the last attributes of a directory
	from string     // path of then
	to   string     // path that it is to have

	same meta.Inode // the file that is at the name has the same content: in this version
	with uint64
	copy *contentCopy // of the content, if it had to be copied
}

func (r *restorer) run(ctx context.Context) error {
	var theirs error // an error of the caller's functions is returned as it is
	visit, progress, allow := r.visit, r.progress, r.allow
	r.visit = func(i RestoreItem) error {
		if visit != nil {
			theirs = visit(i)
		}
		return theirs
	}
	r.progress = func(t RestoreTotals) error {
		if progress != nil && !r.dry {
			theirs = progress(t)
		}
		return theirs
	}
	r.allow = func(items []RestoreItem) error {
		if allow != nil {
			theirs = allow(items)
		}
		return theirs
	}
	err := r.h.w.run("restore", r.ask.From, func(_ context.Context, c *core) error {
		r.c = c
		return r.restore(ctx)
	})
	if theirs != nil {
		return theirs
	}
	return err
}

// restore does all of it.
func (r *restorer) restore(ctx context.Context) error {
	what, err := r.source()
	if err != nil {
		return err
	}
	if what.root() && r.ask.To == "/" {
		r.root = meta.Root
		return r.tree(ctx, &wanted{name: "/", node: what.node, gone: !r.was(meta.Root), from: "/", to: "/"}, meta.Root)
	}
	home, err := r.home(ctx, parent(r.ask.To))
	if err != nil {
		return err
	}
	w := &wanted{name: path.Base(r.ask.To), node: what.node, gone: !r.was(what.node.ID), from: what.path, to: r.ask.To}
	ids, err := r.names(ctx, home, []*wanted{w})
	if err != nil || what.kind() != meta.Dir || ids[0].skip {
		return err
	}
	r.root = ids[0].id
	return r.tree(ctx, w, ids[0].id)
}

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

// tree restores what was in a directory, and then its attributes. now is 0 if it is not there yet: then this only looks.
func (r *restorer) tree(ctx context.Context, w *wanted, now meta.Inode) error {
	err := r.each(ctx, w, func(page []*wanted) error {
		ids, err := r.names(ctx, now, page)
		if err != nil {
			return err
		}
		for i, kid := range page {
			if kid.node.Kind != meta.Dir || ids[i].skip {
				continue
			}
			if err := r.tree(ctx, kid, ids[i].id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !r.exact {
		return r.finish(ctx, w, now)
	}
	if w.node.ID == 0 || now == 0 || w.to != r.ask.To {
		return nil
	}
	return r.prune(ctx, w, now) // once all that is moved has been: nothing of it must go
}

// each hands out what was in a directory, a page at a time.
func (r *restorer) each(ctx context.Context, w *wanted, fn func(page []*wanted) error) error {
	var cursor []byte
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []*wanted
		err := r.c.db.View(func(tx *meta.Tx) error {
			page = nil
			var failed error
			next, err := tx.ListNodesAt(w.node.ID, r.past.at, cursor, func(e meta.Entry, n *meta.Node) bool {
				kid := &wanted{name: e.Name, node: n, from: join(w.from, e.Name), to: join(w.to, e.Name)}
				if n == nil {
					kid.gone = true
					if kid.node, failed = dirLeft(tx, e.Inode); errors.Is(failed, ErrPurged) {
						kid.node, failed = remains(tx, e.Inode)
					}
					if failed != nil {
						return false
					}
				}
				page = append(page, kid)
				return len(page) < restoreBatch
			})
			cursor = next
			return errors.Join(failed, err)
		})
		if err != nil {
			return err
		}
		for len(page) > 0 {
			some := page[:min(len(page), restoreBatch)]
			if err := fn(some); err != nil {
				return err
			}
			page = page[len(some):]
		}
		if cursor == nil {
			return nil
		}
	}
}

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

// was tells whether an inode was there.
func (r *restorer) was(id meta.Inode) bool {
	return r.c.db.View(func(tx *meta.Tx) error { _, err := tx.NodeAt(id, r.past.at); return err }) == nil
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

// mayChange asks whether what is to be done in a directory may be done where that is now. Nobody changes paths until leave, which is
// never nil. Called before anything is claimed.
func (r *restorer) mayChange(dir meta.Inode, what func(path string) []RestoreItem) (leave func(), err error) {
	leave = func() {}
	if r.enter != nil {
		leave = r.enter()
	}
	var path string
	err = r.c.db.View(func(tx *meta.Tx) (err error) {
		path, err = (&pathfinder{tx: tx}).dir(dir)
		return err
	})
	if err == nil {
		err = r.allow(what(strings.TrimSuffix(path, "/")))
	}
	return leave, err
}

// report counts an item and tells it.
func (r *restorer) report(i RestoreItem) error {
	t := &r.totals
	switch i.Action {
	case RestoreCreate:
		t.Created++
		t.Bytes += i.Bytes
	case RestoreChange:
		t.Changed++
		t.Bytes += i.Bytes
	case RestoreMove:
		t.Moved++
	case RestoreRemove:
		t.Removed++
	case RestoreConflict:
		t.Conflicts++
	case RestoreBusy:
		t.Busy++
	case RestorePurged:
		t.Purged++
	case RestoreDamaged:
		t.Damaged++
	default:
		t.Same++
		return nil
	}
	return r.visit(i)
}
