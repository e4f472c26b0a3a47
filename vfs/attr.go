package vfs

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"time"

	"sallyport/vfs/meta"
)

// AttrChange is what SetAttr changes; nil = leave.
type AttrChange struct {
	Size         *int64
	Mode         *os.FileMode
	Atime, Mtime *time.Time
	Created      *time.Time
}

func (a AttrChange) attrs() attrs {
	var out attrs
	if a.Mode != nil {
		m := uint32(a.Mode.Perm())
		out.mode = &m
	}
	if a.Atime != nil {
		t := nanos(*a.Atime)
		out.atime = &t
	}
	if a.Mtime != nil {
		t := nanos(*a.Mtime)
		out.mtime = &t
	}
	if a.Created != nil {
		t := nanos(*a.Created)
		out.created = &t
	}
	return out
}

// nanos is t in ns since 1970, as near as that can be: protocols carry years that it cannot.
func nanos(t time.Time) int64 {
	switch sec := t.Unix(); {
	case sec > math.MaxInt64/int64(time.Second)-1:
		return math.MaxInt64
	case sec < math.MinInt64/int64(time.Second)+1:
		return math.MinInt64
	}
	return t.UnixNano()
}

// Chmod implements afero.Fs.
func (w *View) Chmod(name string, mode os.FileMode) error {
	return w.SetAttr(name, AttrChange{Mode: &mode})
}

// Chown is accepted without effect: a volume has one owner.
func (w *View) Chown(name string, uid, gid int) error {
	_, err := w.stat("chown", name, true)
	return err
}

// Chtimes implements afero.Fs. A zero time is left alone.
func (w *View) Chtimes(name string, atime, mtime time.Time) error {
	var a AttrChange
	if !atime.IsZero() {
		a.Atime = &atime
	}
	if !mtime.IsZero() {
		a.Mtime = &mtime
	}
	return w.SetAttr(name, a)
}

// SetAttr changes several attributes in one commit; nil = leave. Attributes of a file that this session is writing are
// committed with its content. It follows a final symlink.
func (w *View) SetAttr(name string, a AttrChange) error { return w.setAttr(name, a, true) }

// LsetAttr does not follow a final symlink. The mode of a symlink is accepted without effect.
func (w *View) LsetAttr(name string, a AttrChange) error { return w.setAttr(name, a, false) }

func (w *View) setAttr(name string, a AttrChange, follow bool) error {
	if a.Size != nil {
		return w.resize(name, a, follow)
	}
	return w.change("setattr", name, func(ctx context.Context, c *core) error {
		p, err := w.at(c, name, follow)
		switch {
		case err != nil:
			return err
		case !p.exists():
			return fs.ErrNotExist
		}
		at := a.attrs()
		if p.kind() == meta.Symlink {
			at.mode = nil
		}
		if p.own != nil && p.own.keep(at) {
			return nil
		}
		return w.setNode(ctx, c, p.node.ID, p.path, at)
	})
}

// resize truncates what this session is writing; else it is a write session of its own: open, truncate, close.
func (w *View) resize(name string, a AttrChange, follow bool) error {
	var own *inode
	var i *Info
	err := w.run("truncate", name, func(_ context.Context, c *core) error {
		p, err := w.at(c, name, follow)
		switch {
		case err != nil:
			return err
		case !p.exists():
			return fs.ErrNotExist
		case p.kind() == meta.Symlink:
			return fs.ErrInvalid
		}
		i = p.info()
		if p.own == nil || !p.own.keep(attrs{}) {
			return nil
		}
		own = p.own
		if err := permit(&i.node, mayWrite); err != nil {
			return err
		}
		if err := own.truncate(nil, *a.Size); err != nil {
			return err
		}
		own.keep(a.attrs())
		return nil
	})
	if err != nil || own != nil {
		return err
	}
	flag := os.O_WRONLY
	if *a.Size == 0 && (i.Size() > 0 || i.Interrupted()) { // a new beginning, which is allowed after an interrupted upload
		flag |= os.O_TRUNC
	}
	f, err := w.OpenHandle(context.Background(), name, flag, 0)
	if err != nil {
		return err
	}
	err = f.SetAttr(a)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// setNode commits attributes of something nobody in this session is writing.
func (w *View) setNode(ctx context.Context, c *core, id meta.Inode, path string, at attrs) error {
	return c.update(ctx, func(tx *meta.Tx) error {
		n, err := tx.Node(id)
		if errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist
		}
		if err != nil {
			return err
		}
		before := n.Version
		if err := setAttr(tx, n, w.o.Writer, at); err != nil || n.Version == before {
			return err
		}
		return w.emit(tx, Change{Op: "setattr", Path: path, Bytes: n.Size, Version: n.Version, Result: resultComplete})
	})
}

// keep holds attributes back for the commit of a write session; false if there is none.
func (in *inode) keep(at attrs) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.writers == 0 {
		return false
	}
	if at.mode != nil {
		in.attr.mode = at.mode
	}
	if at.atime != nil {
		in.attr.atime = at.atime
	}
	if at.mtime != nil {
		in.attr.mtime = at.mtime
	}
	if at.created != nil {
		in.attr.created = at.created
	}
	return true
}

// SetAttr changes attributes of the open file; what is set here survives the Close that follows. On a handle for reading,
// with no writer in the session, it is committed at once.
func (f *File) SetAttr(a AttrChange) error {
	return f.op("setattr", func() error {
		if f.past != nil {
			return fs.ErrPermission // or the file of now would get what was meant for an old version
		}
		at := a.attrs()
		if f.dir != nil {
			return f.view.setNode(context.Background(), f.c, f.dir.place.node.ID, f.dir.place.path, at)
		}
		if a.Size != nil {
			if err := f.writing(); err != nil {
				return err
			}
			if err := f.in.truncate(f, *a.Size); err != nil {
				return err
			}
		}
		if at.empty() || f.in.keep(at) {
			return nil
		}
		f.in.mu.Lock()
		id, path := f.in.id, f.in.path
		f.in.mu.Unlock()
		defer f.view.told()
		return f.view.setNode(context.Background(), f.c, id, path, at)
	})
}

// info is the file behind a handle: its node now, which may have been renamed or removed meanwhile.
func (f *File) info() (*Info, error) {
	if f.past != nil {
		return f.past, nil
	}
	path, id := "", meta.Inode(0)
	if f.dir != nil {
		path, id = f.dir.place.path, f.dir.place.node.ID
	} else {
		f.in.mu.Lock()
		path, id = f.in.path, f.in.id
		f.in.mu.Unlock()
	}
	name := path
	if path != "/" {
		name = path[len(parent(path)):]
		if name[0] == '/' {
			name = name[1:]
		}
	}
	if id == 0 {
		return f.in.info(name, nil), nil
	}
	var n *meta.Node
	err := f.c.db.View(func(tx *meta.Tx) (err error) { n, err = tx.Node(id); return err })
	if err != nil {
		return nil, err
	}
	if f.dir != nil {
		return &Info{name: name, node: *n}, nil
	}
	return f.in.info(name, n), nil
}
