package vfs

import (
	"context"
	"errors"
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

	lacks time.Time // see RestorePlan
	// Exact: directories that had another name then, or none, and have been entered under the one that they have now. They are moved no more, or
	// what was restored in them would go along.
	entered map[meta.Inode]bool

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
	r.entered = map[meta.Inode]bool{}
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
