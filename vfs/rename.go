package vfs

import (
	"context"
	"errors"
	"io/fs"

	"sallyport/vfs/meta"
)

// Rename replaces an existing file or empty directory (posix-rename). A directory takes one entry with it, whatever is below.
func (w *View) Rename(from, to string) error { return w.rename(from, to, true) }

// RenameNew fails with fs.ErrExist if something is at to (SFTP version 3 RENAME, draft-ietf-secsh-filexfer-02, section 6.5).
func (w *View) RenameNew(from, to string) error { return w.rename(from, to, false) }

func (w *View) rename(from, to string, replace bool) error {
	return w.change("rename", from, func(ctx context.Context, c *core) error {
		src, err := w.settled(ctx, c, from)
		if err != nil {
			return err
		}
		switch {
		case !src.exists():
			return fs.ErrNotExist
		case src.root():
			return fs.ErrPermission
		}
		dst, err := w.settled(ctx, c, to)
		if err != nil {
			return err
		}
		dst = dst.exact()
		if done, err := w.mayRename(&src, &dst, replace); done || err != nil {
			return err
		}
		return w.move(ctx, c, &src, &dst, replace)
	})
}

// mayRename checks what is known before the transaction. done: source and target are one.
func (w *View) mayRename(src, dst *place, replace bool) (done bool, err error) {
	if src.slot == dst.slot {
		if !replace {
			return true, fs.ErrExist
		}
		return true, nil
	}
	if err := dst.allowed(); err != nil {
		if dst.root() && replace {
			err = fs.ErrPermission
		}
		return false, err
	}
	if dst.exists() && !replace {
		return false, fs.ErrExist
	}
	if err := permit(src.home, mayWrite|mayTravel); err != nil {
		return false, err
	}
	return false, permit(dst.home, mayWrite|mayTravel)
}

// move does the rename under claims of the target name and, if a directory is replaced, of that directory.
func (w *View) move(ctx context.Context, c *core, src, dst *place, replace bool) error {
	unlock, err := c.claims.lock(ctx, dst.slot)
	if err != nil {
		return err
	}
	defer unlock()
	if dst.node != nil && dst.node.Kind == meta.Dir {
		unlock, err := c.claims.lockDir(ctx, dst.node.ID)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err = c.update(ctx, func(tx *meta.Tx) error { return w.moveTx(tx, src, dst, replace) })
	if err != nil {
		return err
	}
	if src.own != nil { // the events of its next commits name the new path
		src.own.mu.Lock()
		src.own.slot, src.own.path = dst.slot, dst.path
		src.own.mu.Unlock()
	}
	return nil
}

func (w *View) moveTx(tx *meta.Tx, src, dst *place, replace bool) error {
	id, err := lookupExact(tx, src.slot)
	if err != nil {
		return err
	}
	if id != src.node.ID { // gone, or another one by now
		return fs.ErrNotExist
	}
	if _, err := linked(tx, dst.dir); err != nil {
		return err
	}
	if src.node.Kind == meta.Dir {
		if err := outside(tx, id, dst.dir); err != nil {
			return err
		}
	}
	old, err := lookupExact(tx, dst.slot)
	if err != nil {
		return err
	}
	if old != 0 {
		if err := w.mayReplace(tx, src.node.Kind, old, dst, replace); err != nil {
			return err
		}
	}
	if err := tx.Unlink(src.dir, src.name); err != nil {
		return err
	}
	if err := tx.Link(dst.dir, dst.name, id); err != nil {
		return err
	}
	return w.emit(tx, Change{Op: "rename", Path: src.path, To: dst.path, Bytes: src.node.Size, Version: src.node.Version, Result: resultComplete, Replaced: old != 0})
}

// outside refuses to move a directory below itself.
func outside(tx *meta.Tx, id, dir meta.Inode) error {
	for range MaxDepth + 2 {
		if dir == id {
			return fs.ErrInvalid
		}
		if dir == meta.Root {
			return nil
		}
		n, err := tx.Node(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && n.Parent == 0 {
			return fs.ErrNotExist
		}
		if err != nil {
			return err
		}
		dir = n.Parent
	}
	return ErrNameTooLong
}

func (w *View) mayReplace(tx *meta.Tx, kind meta.Kind, old meta.Inode, dst *place, replace bool) error {
	if !replace {
		return fs.ErrExist
	}
	n, err := tx.Node(old)
	if err != nil {
		return err
	}
	switch {
	case kind != meta.Dir && n.Kind == meta.Dir:
		return ErrIsDir
	case kind == meta.Dir && n.Kind != meta.Dir:
		return ErrNotDir
	case n.Children > 0:
		return ErrNotEmpty
	case n.Kind == meta.Dir && (dst.node == nil || dst.node.ID != old):
		return ErrBusy // a directory that came there after the look: its names are not claimed
	}
	return w.maySupersede(tx, dst.path, n, false)
}
