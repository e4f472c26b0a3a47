package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"sallyport/vfs/meta"
)

// Mkdir makes a directory.
func (w *View) Mkdir(name string, perm os.FileMode) error {
	return w.change("mkdir", name, func(ctx context.Context, c *core) error {
		return w.make(ctx, c, name, &meta.Node{Kind: meta.Dir, Attr: meta.Attr{Mode: dirMode(perm)}}, "mkdir")
	})
}

// Symlink makes a link. The target is stored as it is; it may lead nowhere, and never out of the volume.
func (w *View) Symlink(target, link string) error {
	return w.change("symlink", link, func(ctx context.Context, c *core) error {
		switch {
		case len(target) > MaxPath:
			return ErrNameTooLong
		case target == "" || strings.IndexByte(target, 0) >= 0:
			return ErrBadName
		}
		return w.make(ctx, c, link, &meta.Node{Kind: meta.Symlink, Target: target, Attr: meta.Attr{Mode: 0o777}}, "symlink")
	})
}

// make gives a new node a name that must be free.
func (w *View) make(ctx context.Context, c *core, name string, n *meta.Node, op string) error {
	p, err := w.at(c, name, false)
	if err != nil {
		return err
	}
	p = p.exact()
	if p.exists() {
		return fs.ErrExist
	}
	if err := p.allowed(); err != nil {
		return err
	}
	if err := permit(p.home, mayWrite|mayTravel); err != nil {
		return err
	}
	unlock, err := c.claims.lock(ctx, p.slot)
	if err != nil {
		return err
	}
	defer unlock()
	return c.update(ctx, func(tx *meta.Tx) error {
		if _, err := linked(tx, p.dir); err != nil {
			return err
		}
		if id, err := lookupExact(tx, p.slot); err != nil {
			return err
		} else if id != 0 {
			return fs.ErrExist
		}
		node := *n // the function may run again
		if err := tx.NewNode(&node); err != nil {
			return err
		}
		if err := tx.Link(p.dir, p.name, node.ID); err != nil {
			return err
		}
		return w.emit(tx, Change{Op: op, Path: p.path, To: n.Target, Result: resultComplete})
	})
}

// MkdirAll makes a directory and those above it that are missing. No error if it exists.
func (w *View) MkdirAll(name string, perm os.FileMode) error {
	err := w.Mkdir(name, perm)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		i, serr := w.stat("mkdir", name, true)
		if serr != nil {
			return serr
		}
		if !i.IsDir() {
			return fail("mkdir", name, ErrNotDir)
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	above := parent(strings.TrimRight(name, "/"))
	if above == "/" || above == name {
		return err
	}
	if err := w.MkdirAll(above, perm); err != nil {
		return err
	}
	if err := w.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Remove removes a file, a symlink or an empty directory.
func (w *View) Remove(name string) error { return w.remove("remove", name, nil) }

// RemoveFile removes a file or symlink; ErrIsDir on a directory.
func (w *View) RemoveFile(name string) error {
	return w.remove("remove", name, func(k meta.Kind) error {
		if k == meta.Dir {
			return ErrIsDir
		}
		return nil
	})
}

// Rmdir removes an empty directory; ErrNotDir on anything else.
func (w *View) Rmdir(name string) error {
	return w.remove("rmdir", name, func(k meta.Kind) error {
		if k != meta.Dir {
			return ErrNotDir
		}
		return nil
	})
}

func (w *View) remove(op, name string, check func(meta.Kind) error) error {
	return w.change(op, name, func(ctx context.Context, c *core) error {
		p, err := w.at(c, name, false)
		switch {
		case err != nil:
			return err
		case !p.exists():
			return fs.ErrNotExist
		case p.root():
			return fs.ErrPermission
		}
		if check != nil {
			if err := check(p.kind()); err != nil {
				return err
			}
		}
		if p.node == nil {
			if err := p.own.yield(ctx, &p); err != nil || p.node == nil {
				return err
			}
		}
		return w.unlink(ctx, c, &p)
	})
}

// yield commits the session's new file, whose name at p is about to be removed: what came of it goes to history, whole or
// not. If nothing came p.node stays nil, and the name goes with the handle.
func (in *inode) yield(ctx context.Context, p *place) error {
	in.io.Lock()
	defer in.io.Unlock()
	in.mu.Lock()
	broken := in.broken
	in.mu.Unlock()
	var err error
	if broken != nil {
		err = in.interrupt(ctx)
	} else {
		err = in.publish(ctx, false)
	}
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.isNew() {
		n := in.base.node
		p.node = &n
	}
	return nil
}

// settled resolves a name whose meaning must be in metadata: what this session has not committed there is committed first.
// The error of a broken upload of the session ends the operation.
func (w *View) settled(ctx context.Context, c *core, name string) (place, error) {
	p, err := w.at(c, name, false)
	if err != nil || p.own == nil || !p.own.uncommitted() {
		return p, err
	}
	if err := p.own.commit(ctx); err != nil {
		return p, err
	}
	return w.at(c, name, false)
}

// unlink removes the name at p.
func (w *View) unlink(ctx context.Context, c *core, p *place) error {
	if err := permit(p.home, mayWrite|mayTravel); err != nil {
		return err
	}
	if p.kind() == meta.Dir {
		unlock, err := c.claims.lockDir(ctx, p.node.ID)
		if err != nil {
			return err
		}
		defer unlock()
	}
	return c.update(ctx, func(tx *meta.Tx) error { return w.unlinkTx(tx, p) })
}

func (w *View) unlinkTx(tx *meta.Tx, p *place) error {
	id, err := lookupExact(tx, p.slot)
	if err != nil {
		return err
	}
	if id != p.node.ID { // gone, or another one by now
		return fs.ErrNotExist
	}
	n, err := tx.Node(id)
	if err != nil {
		return err
	}
	if n.Children > 0 {
		return ErrNotEmpty
	}
	if err := w.maySupersede(tx, p.path, n, false); err != nil {
		return err
	}
	if err := tx.Unlink(p.dir, p.name); err != nil {
		return err
	}
	op := "remove"
	if n.Kind == meta.Dir {
		op = "rmdir"
	}
	return w.emit(tx, Change{Op: op, Path: p.path, Bytes: n.Size, Version: n.Version, Result: resultComplete})
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
