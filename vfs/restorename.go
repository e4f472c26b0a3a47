package vfs

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"sallyport/vfs/meta"
)

// step is how a name gets to what it was.
type step uint8

const (
	stepSame     step = iota
	stepVersion       // the same file is there: another version of it
	stepLink          // it is gone: it gets its name back, and a version if it has changed since
	stepMove          // it has another name within the place: that one goes
	stepMake          // a new inode: it is elsewhere now
	stepEnter         // a directory is there
	stepConflict      // something is in the way that must not go
	stepBusy
	stepPurged
	stepDamaged
)

// verdict is what is to be done about one name, as things are in a transaction.
type verdict struct {
	step   step
	cur    *meta.Node // what is at the name now; nil = nothing
	home   *meta.Node // the inode of then as it is now
	then   *meta.Version
	looks  bool       // the content of what is there may be the same: worth comparing
	copies bool       // the content must be copied
	other  bool       // Exact: what is at the name had, or may have had, another name then, and may get that back: it cannot be this one, too
	made   meta.Inode // that has the name now
}

// outcome of a name.
type outcome struct {
	id   meta.Inode // directory that is there now, 0 = none yet
	skip bool       // nothing below it can be restored
}

// judge decides about one name in a directory of now; 0 = which is not there yet.
func (r *restorer) judge(tx *meta.Tx, dir meta.Inode, w *wanted) (v verdict, err error) {
	if dir == meta.Root && w.name == reservedName || len(w.to) > MaxPath {
		return verdict{step: stepConflict}, nil
	}
	if dir != 0 {
		if _, err := linked(tx, dir); err != nil { // removed meanwhile
			if errors.Is(err, fs.ErrNotExist) {
				return verdict{step: stepConflict}, nil
			}
			return v, err
		}
		id, err := lookupExact(tx, slot{dir, w.name})
		if err != nil {
			return v, err
		}
		if id != 0 {
			if v.cur, err = tx.Node(id); err != nil {
				return v, missing(err)
			}
		}
	}
	kind := w.node.Kind
	if w.node.ID == 0 { // a directory above, which was not there then
		if v.step = stepMake; v.cur != nil {
			v.step = stepConflict
		}
		return v, nil
	}
	if w.gone && kind != meta.Dir {
		return verdict{step: stepPurged}, nil
	}
	if v.home, err = tx.Node(w.node.ID); err != nil {
		return v, missing(err)
	}
	if !w.gone {
		v.then, err = tx.Version(w.node.ID, w.node.Version)
		if errors.Is(err, fs.ErrNotExist) {
			return verdict{step: stepPurged}, nil
		}
		if err != nil {
			return v, err
		}
	}
	if v.cur != nil && v.cur.Kind == meta.Dir {
		switch {
		case kind == meta.Dir:
			v.step = stepEnter
			if r.exact && v.cur.ID != w.node.ID {
				r.entered[v.cur.ID] = true
			}
			return v, nil
		case v.cur.Children > 0:
			v.step = stepConflict
			return v, nil
		}
	}
	return v, r.whence(tx, dir, w, &v)
}

// whence decides where what is wanted comes from.
func (r *restorer) whence(tx *meta.Tx, dir meta.Inode, w *wanted, v *verdict) error {
	switch {
	case v.cur != nil && v.cur.ID == w.node.ID:
		same, err := sameVersion(tx, v.cur, v.then)
		if v.step = stepVersion; same {
			v.step = stepSame
		}
		return err
	case v.cur != nil && r.exact:
		_, err := tx.NodeAt(v.cur.ID, r.past.at)
		if v.other = err == nil; absentIsFine(err) != nil {
			return err
		}
	}
	if v.cur != nil && !v.other && w.same == v.cur.ID && w.with == v.cur.Version {
		v.step = stepSame
		return nil
	}
	v.looks = v.cur != nil && !v.other && v.cur.Kind == meta.File && w.node.Kind == meta.File && sameAttr(&v.cur.Attr, &v.then.Attr)
	switch {
	case w.node.ID == meta.Root:
		v.step = stepMake
	case v.home.Parent == 0:
		v.step = stepLink
	default:
		v.step = stepMake
		inside, err := r.inside(tx, v.home, dir)
		if err != nil {
			return err
		}
		if inside {
			v.step = stepMove
		}
	}
	v.copies = v.step == stepMake && w.node.Kind == meta.File
	return nil
}

// inside tells whether a live inode lies within the place that is made exactly as it was, so that its present name goes
// anyway, and can get the other one: not if that lies below itself.
func (r *restorer) inside(tx *meta.Tx, n *meta.Node, dir meta.Inode) (bool, error) {
	if !r.exact || r.root == 0 || dir == 0 || n.ID == r.root || r.entered[n.ID] {
		return false, nil
	}
	for up, i := n.Parent, 0; up != r.root; i++ {
		if up == meta.Root || up == 0 || i > MaxDepth+1 {
			return false, nil
		}
		above, err := tx.Node(up)
		if err != nil {
			return false, missing(err)
		}
		up = above.Parent
	}
	if n.Kind != meta.Dir {
		return true, nil
	}
	err := outside(tx, n.ID, dir)
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNameTooLong) {
		return false, nil
	}
	return err == nil, err
}

// sameAttr compares what clients see, and not the state: that of what broke and was completed.
func sameAttr(a, b *meta.Attr) bool {
	return a.Size == b.Size && a.Mode == b.Mode && a.Mtime == b.Mtime
}

// sameVersion tells whether what n is now is what it was in a version of its own.
func sameVersion(tx *meta.Tx, n *meta.Node, v *meta.Version) (bool, error) {
	if n.Version == v.N {
		return true, nil
	}
	if n.Attr != v.Attr {
		return false, nil
	}
	now, err := tx.Version(n.ID, n.Version)
	if err != nil {
		return false, missing(err)
	}
	return slices.Equal(now.Layout.Blobs, v.Layout.Blobs) && slices.Equal(now.Layout.Extents, v.Layout.Extents) &&
		slices.Equal(now.Layout.Inline, v.Layout.Inline), nil
}

// do carries a verdict out. It runs in a group commit, perhaps more than once. It returns the inode that has the name then.
func (r *restorer) do(tx *meta.Tx, dir meta.Inode, w *wanted, v *verdict) (meta.Inode, error) {
	if v.cur != nil {
		if err := r.h.w.maySupersede(tx, w.to, v.cur, v.step == stepVersion); err != nil {
			return 0, err
		}
	}
	switch v.step {
	case stepEnter:
		return v.cur.ID, nil
	case stepVersion:
		return v.cur.ID, r.revise(tx, v.cur, v.then)
	case stepMove:
		if err := tx.Unlink(v.home.Parent, v.home.Name); err != nil {
			return 0, err
		}
		fallthrough
	case stepLink:
		if err := tx.Link(dir, w.name, v.home.ID); err != nil {
			return 0, err
		}
		if v.then == nil || w.node.Kind == meta.Dir { // a directory gets its attributes when everything is in it
			return v.home.ID, nil
		}
		n, err := tx.Node(v.home.ID)
		if err != nil {
			return 0, err
		}
		return n.ID, r.revise(tx, n, v.then)
	case stepMake:
		return r.make(tx, dir, w, v)
	}
	return 0, nil
}

// revise makes a version of n that is like an earlier one of its own: it shares the bytes with that.
func (r *restorer) revise(tx *meta.Tx, n *meta.Node, then *meta.Version) error {
	if same, err := sameVersion(tx, n, then); same || err != nil {
		return err
	}
	n.Interrupted = false
	return tx.AddVersion(n, &meta.Version{Writer: r.h.w.o.Writer, Attr: then.Attr, Layout: then.Layout})
}

// make makes a new inode. A file that is there gets a version instead, so that its versions stay together, unless it is another one.
func (r *restorer) make(tx *meta.Tx, dir meta.Inode, w *wanted, v *verdict) (meta.Inode, error) {
	n := &meta.Node{Kind: w.node.Kind, Target: w.node.Target, Attr: w.node.Attr}
	if n.Kind == meta.Dir {
		n.Mtime = 0 // see finish
	}
	if v.cur != nil && v.cur.Kind == meta.File && n.Kind == meta.File && !v.other {
		n = v.cur
	} else if err := tx.NewNode(n); err != nil {
		return 0, err
	}
	if n.Kind == meta.File {
		layout, err := w.copy.settle(tx, n.ID)
		if err != nil {
			return 0, err
		}
		n.Interrupted = false
		if err := tx.AddVersion(n, &meta.Version{Writer: r.h.w.o.Writer, Attr: v.then.Attr, Layout: *layout}); err != nil {
			return 0, err
		}
	}
	if n != v.cur {
		return n.ID, tx.Link(dir, w.name, n.ID)
	}
	return n.ID, nil
}

// event tells of a restored name.
func (r *restorer) event(tx *meta.Tx, w *wanted, id meta.Inode) error {
	n, err := tx.Node(id)
	if err != nil {
		return err
	}
	detail := "as of " + r.ask.At.UTC().Format(time.RFC3339Nano)
	if w.from != w.to {
		detail += ", from " + w.from
	}
	return r.h.w.emit(tx, Change{Op: "restore", Path: w.to, Bytes: n.Size, Version: n.Version, Result: resultComplete, Detail: detail})
}

// finish gives a directory the attributes of then, when everything in it is as it was.
func (r *restorer) finish(ctx context.Context, w *wanted, dir meta.Inode) error {
	if r.dry || w.gone {
		return nil
	}
	at := attrs{mode: &w.node.Mode, mtime: &w.node.Mtime, atime: &w.node.Atime, created: &w.node.Created}
	same := false
	err := r.c.db.View(func(tx *meta.Tx) error {
		n, err := tx.Node(dir)
		if err == nil {
			after := n.Attr
			at.over(&after)
			same = after == n.Attr
		}
		return absentIsFine(err)
	})
	if err != nil || same {
		return err
	}
	leave, err := r.mayChange(dir, func(path string) []RestoreItem {
		return []RestoreItem{{Action: RestoreChange, Path: cmp.Or(path, "/"), From: w.from, Dir: true}}
	})
	defer leave()
	if err != nil {
		return err
	}
	err = r.c.update(ctx, func(tx *meta.Tx) error {
		n, err := tx.Node(dir)
		if err != nil {
			return absentIsFine(err)
		}
		before := n.Version
		if err := setAttr(tx, n, r.h.w.o.Writer, at); err != nil || n.Version == before {
			return err
		}
		return r.event(tx, w, dir)
	})
	r.h.w.told()
	return err
}
