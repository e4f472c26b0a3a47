package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"sallyport/vfs/meta"
)

// dirHandle is an open directory and how far it has been read.
type dirHandle struct {
	place place

	mu sync.Mutex // guards what is below
	l  *lister
	// read but not yet asked for
	rest []*Info
}

func (d *dirHandle) rewind() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.l, d.rest = nil, nil
}

// lister reads a directory in batches: the session's own new files first, then what is committed, with the session's
// own state of its open files on top. Order is not by name.
type lister struct {
	view   *View
	c      *core
	dir    meta.Inode
	own    map[string]bool // listed before its commit, which may come while we list
	cursor []byte
	begun  bool
	ended  bool
}

func (w *View) list(c *core, dir meta.Inode) *lister {
	return &lister{view: w, c: c, dir: dir, own: map[string]bool{}}
}

// next returns the next entries; none at the end.
func (l *lister) next() ([]*Info, error) {
	if !l.begun {
		l.begun = true
		if own := l.mine(); len(own) > 0 {
			return own, nil
		}
	}
	for !l.ended {
		batch, err := l.committed()
		if err != nil || len(batch) > 0 {
			return batch, err
		}
	}
	return nil, nil
}

// mine are the session's new files in the directory.
func (l *lister) mine() []*Info {
	type named struct {
		name string
		in   *inode
	}
	var own []named
	l.view.mu.Lock()
	for s, in := range l.view.fresh {
		if s.dir == l.dir {
			own = append(own, named{s.name, in})
			l.own[s.name] = true
		}
	}
	l.view.mu.Unlock()
	var out []*Info
	for _, o := range own {
		out = append(out, o.in.info(o.name, nil))
	}
	return out
}

func (l *lister) committed() ([]*Info, error) {
	var batch []*Info
	var size room
	err := l.c.db.View(func(tx *meta.Tx) error {
		batch, size = batch[:0], 0
		next, err := tx.List(l.dir, l.cursor, func(e meta.Entry, n *meta.Node) bool {
			if !l.own[e.Name] {
				batch = append(batch, &Info{name: e.Name, node: *n})
			}
			return size.left(len(batch), &e, n)
		})
		if errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist
		}
		l.cursor, l.ended = next, next == nil
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, info := range batch {
		if own := l.view.ownInode(info.node.ID); own != nil {
			batch[i] = own.info(info.name, &info.node)
		}
	}
	return batch, nil
}

// room counts the bytes of the texts in a batch.
type room int

// left adds an entry and says whether there is room for more.
func (r *room) left(entries int, e *meta.Entry, n *meta.Node) bool {
	*r += room(len(e.Name) + len(n.Name) + len(n.Target))
	return entries < listBatch && *r < listBytes
}

// ReadDir streams a directory in batches without holding it all; order is not by name. Entries that come or go meanwhile
// may be listed or not, all others exactly once. An error of fn ends it and is returned as it is.
func (w *View) ReadDir(ctx context.Context, name string, fn func([]*Info) error) error {
	var theirs error
	err := w.run("readdir", name, func(_ context.Context, c *core) error {
		p, err := w.at(c, name, true)
		if err != nil {
			return err
		}
		if err := mayList(&p); err != nil {
			return err
		}
		l := w.list(c, p.node.ID)
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			batch, err := l.next()
			if err != nil || len(batch) == 0 {
				return err
			}
			if theirs = fn(batch); theirs != nil {
				return nil
			}
		}
	})
	if theirs != nil {
		return theirs
	}
	return err
}

func mayList(p *place) error {
	switch {
	case !p.exists():
		return fs.ErrNotExist
	case p.kind() != meta.Dir:
		return ErrNotDir
	}
	return permit(p.node, mayRead)
}

// Readdir implements afero.File: at most n entries and io.EOF at the end if n > 0, else all that are left.
func (f *File) Readdir(n int) (out []os.FileInfo, err error) {
	err = f.op("readdir", func() error {
		if f.dir == nil {
			return ErrNotDir
		}
		d := f.dir
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.l == nil {
			d.l = f.view.list(f.c, d.place.node.ID)
		}
		for n <= 0 || len(out) < n {
			if len(d.rest) == 0 {
				if d.rest, err = d.l.next(); err != nil {
					return err
				}
				if len(d.rest) == 0 {
					break
				}
			}
			out = append(out, d.rest[0])
			d.rest = d.rest[1:]
		}
		if n > 0 && len(out) == 0 {
			return io.EOF
		}
		return nil
	})
	return out, err
}

// Readdirnames implements afero.File.
func (f *File) Readdirnames(n int) ([]string, error) {
	infos, err := f.Readdir(n)
	names := make([]string, len(infos))
	for i, info := range infos {
		names[i] = info.Name()
	}
	return names, err
}
