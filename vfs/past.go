package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"sallyport/vfs/meta"
)

// History is the past of a volume as far back as a horizon: what it was at an instant (At), which versions a path had
// (Versions), and when much was lost (Losses). It is read only, and shows nothing of what sessions have not committed.
// Handles count as the view's, and are closed with it. Safe for concurrent use.
//
// What was superseded before the horizon is not reachable, whether it is purged already or not. With a horizon, nor is an instant of which a purge by the
// clock may have taken something, though retention was raised since: what At shows lacks nothing but what was chosen to be destroyed.
type History struct {
	w       *View
	horizon func() time.Time
	all     bool // what is left, whole or not
}

// History looks back from this view. horizon is asked with each operation, and says since when everything is kept; a time
// that is not before now leaves no past at all. It must be quick and not call the volume. nil = everything that is not purged: for who knows that
// something may be missing (Volume.Whole).
func (w *View) History(horizon func() time.Time) *History {
	if horizon == nil {
		return &History{w: w, horizon: func() time.Time { return time.Unix(0, 0) }, all: true}
	}
	return &History{w: w, horizon: horizon}
}

// Past is a volume as it was at an instant: with all changes of that instant, and none of a later one. Paths are those of
// then, symlinks lead where they led. Attributes are those of the version of then; the owner's mode bits bind as they did.
// Errors are those of a View, and ErrNotKept (NotWhole tells since when more is kept), ErrFuture, ErrNothingYet, and ErrPurged for what retention has let go meanwhile.
type Past struct {
	h     *History
	at    int64
	judge func(path string) error // nil = nobody is asked
}

// Judged is the same volume for somebody who may not see all of it: judge gets the canonical path that an operation has found, in the
// transaction that uses it, and of what cannot be found the path that it would have, as far as that can be told. So nothing that becomes
// visible in between (a commit takes its instant before it is seen) leads elsewhere. An error of it is returned as it is. It must be
// quick and must not call the volume.
func (p *Past) Judged(judge func(path string) error) *Past {
	return &Past{h: p.h, at: p.at, judge: judge}
}

// judgement carries an error of judge out of what wraps others.
type judgement struct{ error }

// judged takes it out again.
func judged(err error) error {
	if j, ok := errors.AsType[judgement](err); ok {
		return j.error
	}
	return err
}

// At is the volume at an instant. Whether it is one that can be reached shows with each operation.
func (h *History) At(at time.Time) *Past { return &Past{h: h, at: nanos(at)} }

// reach says whether an instant may be looked at now.
func (h *History) reach(at time.Time) error {
	now := h.w.vol.fs.o.Now()
	horizon := h.horizon()
	switch {
	case !horizon.Before(now): // nothing is kept, and the present is no past
		return ErrNotKept
	case at.After(now):
		return ErrFuture
	case at.Before(horizon):
		return ErrNotKept
	}
	return nil
}

// Reach says whether the instant is within the horizon now: ErrNotKept, ErrFuture or nil. Whether it is whole shows with each operation.
func (p *Past) Reach() error { return p.h.reach(time.Unix(0, p.at)) }

// run does one operation in a transaction that reads.
func (p *Past) run(op, name string, fn func(tx *meta.Tx) error) error {
	return judged(p.h.w.run(op, name, func(_ context.Context, c *core) error {
		if err := p.Reach(); err != nil {
			return err
		}
		return c.db.View(func(tx *meta.Tx) error {
			if err := p.h.whole(tx, p.at); err != nil {
				return err
			}
			return fn(tx)
		})
	}))
}

// walk resolves a path of then, and has it judged.
func (p *Past) walk(tx *meta.Tx, name string, follow bool) (place, error) {
	at, err := p.lead(tx, name, follow)
	if p.judge == nil {
		return at, err
	}
	found := at.path
	if err != nil {
		found = p.reached(tx, name)
	}
	if err := p.judge(found); err != nil {
		return place{}, judgement{err}
	}
	return at, err
}

// reached is what a path that cannot be resolved would have led to: whether something was there is told to those only who may see it.
func (p *Past) reached(tx *meta.Tx, name string) string {
	if name = path.Clean("/" + name); strings.Count(name, "/") > MaxDepth {
		return name // nothing is there, and looking from every depth would take long
	}
	for dir, rest := path.Dir(name), path.Base(name); dir != "/"; dir, rest = path.Dir(dir), path.Join(path.Base(dir), rest) {
		if at, err := p.lead(tx, dir, true); err == nil {
			return path.Join(at.path, rest)
		}
	}
	return name
}

// lead resolves a path of then.
func (p *Past) lead(tx *meta.Tx, name string, follow bool) (place, error) {
	root, err := tx.NodeAt(meta.Root, p.at)
	if errors.Is(err, fs.ErrNotExist) {
		if err = p.unknown(tx, meta.Root); p.h.all && errors.Is(err, ErrPurged) {
			root, err = dirLeft(tx, meta.Root)
		}
	}
	if err != nil {
		return place{}, err
	}
	wk := walker{view: p.h.w, tx: tx, follow: follow, past: true, left: p.h.all, then: p.at}
	return wk.run(root, name)
}

// unknown is why nothing is known of the version of an inode at the instant: the volume is younger, or it is purged.
func (p *Past) unknown(tx *meta.Tx, id meta.Inode) error {
	n, err := tx.Node(id)
	if err == nil && n.Created > p.at {
		if id == meta.Root {
			return ErrNothingYet
		}
		return fs.ErrNotExist
	}
	return ErrPurged
}

// lookBack is look as of the walker's instant.
func (wk *walker) lookBack(cur *place, c string) (place, error) {
	next := place{slot: slot{cur.node.ID, c}, home: cur.node, asked: c}
	e, err := wk.tx.LookupAt(cur.node.ID, c, wk.then)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return place{}, err
	default:
		next.name = e.Name
		next.node, err = wk.tx.NodeAt(e.Inode, wk.then)
		if errors.Is(err, fs.ErrNotExist) {
			if err = ErrPurged; wk.left {
				next.node, err = dirLeft(wk.tx, e.Inode)
			}
		}
		if err != nil {
			return place{}, err
		}
	}
	next.path = join(cur.path, next.name)
	return next, nil
}

// find is a place that was there.
func (p *Past) find(op, name string, follow bool) (at place, err error) {
	err = p.run(op, name, func(tx *meta.Tx) error {
		if at, err = p.walk(tx, name, follow); err == nil && !at.exists() {
			err = fs.ErrNotExist
		}
		return err
	})
	return at, err
}

// old is what was at a place.
func (p *place) old() *Info {
	i := p.info()
	i.past = true
	return i
}

// Stat follows symlinks, as they were.
func (p *Past) Stat(name string) (*Info, error) {
	at, err := p.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return at.old(), nil
}

// Lstat does not follow a final symlink.
func (p *Past) Lstat(name string) (*Info, error) {
	at, err := p.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return at.old(), nil
}

// Resolve returns the canonical path of then, as View.Resolve does.
func (p *Past) Resolve(name string, follow bool) (string, error) {
	var canonical string
	err := p.run("resolve", name, func(tx *meta.Tx) error {
		at, err := p.walk(tx, name, follow)
		canonical = at.path
		return err
	})
	return canonical, err
}

// Readlink returns the target of a symlink as it was.
func (p *Past) Readlink(name string) (string, error) {
	at, err := p.find("readlink", name, false)
	if err == nil && at.kind() != meta.Symlink {
		err = fail("readlink", name, fs.ErrInvalid)
	}
	if err != nil {
		return "", err
	}
	return at.node.Target, nil
}

// ReadDir streams a directory of then in batches, each name once, in no particular order. An entry whose version of then is
// purged has its name and kind, and mode, size and times of zero. An error of fn ends it and is returned as it is.
func (p *Past) ReadDir(ctx context.Context, name string, fn func([]*Info) error) error {
	at, err := p.find("readdir", name, true)
	if err != nil {
		return err
	}
	if err := mayList(&at); err != nil {
		return fail("readdir", name, err)
	}
	var cursor []byte
	for {
		var batch []*Info
		err := p.run("readdir", name, func(tx *meta.Tx) (err error) {
			batch, cursor, err = p.batch(tx, at.node.ID, cursor)
			return err
		})
		if err == nil {
			err = fail("readdir", name, ctx.Err())
		}
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		if cursor == nil {
			return nil
		}
	}
}

// batch reads the next entries of a directory.
func (p *Past) batch(tx *meta.Tx, dir meta.Inode, cursor []byte) (out []*Info, next []byte, err error) {
	var failed error
	var size room
	next, err = tx.ListNodesAt(dir, p.at, cursor, func(e meta.Entry, n *meta.Node) bool {
		if n == nil {
			if n, failed = remains(tx, e.Inode); failed != nil {
				return false
			}
		}
		out = append(out, &Info{name: e.Name, node: *n, past: true})
		return size.left(len(out), &e, n)
	})
	return out, next, errors.Join(failed, err)
}

// remains is what is left of an inode whose version of an instant is purged.
func remains(tx *meta.Tx, id meta.Inode) (*meta.Node, error) {
	n, err := tx.Node(id)
	if err != nil {
		return nil, missing(err)
	}
	return &meta.Node{ID: n.ID, Kind: n.Kind, Target: n.Target}, nil
}

// dirLeft is a directory of which no attributes of an instant are left, with the last that it had: what was in it may be left. ErrPurged if it is none.
func dirLeft(tx *meta.Tx, id meta.Inode) (*meta.Node, error) {
	n, err := tx.Node(id)
	if err != nil {
		return nil, missing(err)
	}
	if n.Kind != meta.Dir {
		return nil, ErrPurged
	}
	return n, nil
}

// OpenHandle opens a file of then for reading; ErrIsDir on a directory. ctx is for the opening.
func (p *Past) OpenHandle(ctx context.Context, name string) (*File, error) {
	f, err := p.h.open(ctx, name, func(c *core, tx *meta.Tx) (place, *meta.Version, error) {
		if err := p.Reach(); err != nil {
			return place{}, nil, err
		}
		if err := p.h.whole(tx, p.at); err != nil {
			return place{}, nil, err
		}
		at, err := p.walk(tx, name, true)
		if err != nil {
			return at, nil, err
		}
		if err := readable(&at); err != nil {
			return at, nil, err
		}
		v, err := tx.Version(at.node.ID, at.node.Version)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrPurged
		}
		return at, v, err
	})
	return f, judged(err)
}

// readable says whether there is a file that its owner could read.
func readable(p *place) error {
	switch {
	case !p.exists():
		return fs.ErrNotExist
	case p.kind() == meta.Dir:
		return ErrIsDir
	case p.kind() != meta.File:
		return fs.ErrInvalid
	}
	return permit(p.node, mayRead)
}

// open makes a handle on the version that find returns.
func (h *History) open(ctx context.Context, name string, find func(c *core, tx *meta.Tx) (place, *meta.Version, error)) (*File, error) {
	w := h.w
	if err := w.admit(); err != nil {
		return nil, fail("open", name, err)
	}
	c, err := w.vol.acquire(ctx)
	if err != nil {
		w.unadmit()
		return nil, fail("open", name, err)
	}
	f, err := w.openVersion(c, name, find)
	if err != nil {
		w.unadmit()
		w.vol.release(c)
		return nil, fail("open", name, err)
	}
	c.handles.Add(1)
	return f, nil
}

func (w *View) openVersion(c *core, name string, find func(c *core, tx *meta.Tx) (place, *meta.Version, error)) (*File, error) {
	moves := c.moves.Load()
	var at place
	var s *snapshot
	err := c.db.View(func(tx *meta.Tx) error {
		p, v, err := find(c, tx)
		if err != nil {
			return err
		}
		at, s = p, newSnapshot(c, p.node, &v.Layout, moves)
		return nil
	})
	if err == nil {
		err = w.vol.past.take(len(s.layout.Extents))
	}
	if err != nil {
		return nil, err
	}
	h, _ := parseFlag(os.O_RDONLY, 0)
	f := &File{view: w, c: c, name: name, how: h, past: at.old()}
	// A state of its own: what the session writes to the file of now is no business of an old version.
	f.in = &inode{view: w, c: c, id: at.node.ID, slot: at.slot, path: at.path, base: s.retain(), end: int64(s.layout.Size), files: map[*File]struct{}{f: {}}}
	f.snap = s.retain()
	if err := w.register(f); err != nil {
		f.snap.release()
		f.in.base.release()
		w.vol.past.give(len(s.layout.Extents))
		return nil, err
	}
	if err := f.begin(); err != nil {
		w.forget(f)
		return nil, err
	}
	return f, nil
}
