package vfs

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path"
	"strings"

	"golang.org/x/text/unicode/norm"

	"sallyport/vfs/meta"
)

// ever is what is, or ever was, at and below a path, as far as history knows. A hold of the path covers more: also what came into a directory
// after that was moved away. What is destroyed for good is not to be guessed like that.
type ever struct {
	held held                      // of the path itself
	gone map[meta.Inode]int64      // what was there and has had other places: until when it was there, the last time
	by   map[meta.Inode]meta.Inode // by which directory, which is gone itself, that is known; 0 = by the path
}

// everAt finds what is, or ever was, at and below a path.
func (c *core) everAt(ctx context.Context, name string) (*ever, error) {
	w := c.vol.View(ViewOptions{})
	defer w.Close()
	history := w.History(nil)
	e := &ever{held: held{paths: []string{norm.NFC.String(path.Clean("/" + name))}}, gone: map[meta.Inode]int64{}, by: map[meta.Inode]meta.Inode{}}
	err := c.db.View(func(tx *meta.Tx) error {
		at, err := history.stays(ctx, tx, name)
		for _, s := range at {
			e.gone[s.id] = max(e.gone[s.id], s.until)
		}
		return absentIsFine(err)
	})
	if err != nil {
		return nil, err
	}
	for more := true; more; { // what was moved out of what is found is found in the next round
		if more, err = c.findLeft(ctx, e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// findLeft looks through the past names for what left the path, and says whether it learned anything.
func (c *core) findLeft(ctx context.Context, e *ever) (learned bool, err error) {
	for from, more := int64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := 0
		err := c.db.View(func(tx *meta.Tx) error {
			way := newEverWay(tx, e)
			var failed error
			more = false
			err := tx.Superseded(from, tx.Stats().LastInstant+1, func(s meta.Superseded) bool {
				if n++; n > purgePage && s.At > from {
					from, more = s.At, true
					return false
				}
				if s.Entry == nil {
					return true
				}
				var until int64
				var by meta.Inode
				if until, by, failed = way.left(s.Entry); failed == nil && until > e.gone[s.Inode] {
					e.gone[s.Inode], e.by[s.Inode], learned = until, by, true
				}
				return failed == nil
			})
			return errors.Join(err, failed)
		})
		if err != nil {
			return false, err
		}
	}
	return learned, nil
}

// everWay judges places in the tree by an ever. It is good for one view.
type everWay struct {
	*ever
	tx    *meta.Tx
	paths *pathfinder
	put   map[meta.Inode]int64 // since when a directory is at its place
}

func newEverWay(tx *meta.Tx, e *ever) *everWay {
	return &everWay{ever: e, tx: tx, paths: &pathfinder{tx: tx}, put: map[meta.Inode]int64{}}
}

// covers is that of the path; of what lies nobody knows where it says no.
func (w *everWay) covers(at string) bool { return strings.HasPrefix(at, "/") && w.held.covers(at) }

// left says until when a past name was at or below the path, if its inode has had another place since (0 = it was not), and by which directory
// that is gone itself that is known (0 = by the path).
func (w *everWay) left(en *meta.Entry) (until int64, by meta.Inode, err error) {
	at, err := w.paths.of(slot{en.Dir, en.Name})
	if err != nil {
		return 0, 0, err
	}
	until, covered := en.Until, w.covers(at)
	if !covered {
		var end int64
		if end, by, err = w.below(en.Dir, en.Since); err != nil || end == 0 {
			return 0, 0, err
		}
		until = min(until, end)
	}
	n, err := w.tx.Node(en.Inode)
	if err != nil {
		return 0, 0, missing(err)
	}
	if here := n.Home == en.Dir && n.Name == en.Name; here && (covered || n.Parent == 0 && n.Left == en.Until) {
		return 0, 0, nil // its place tells
	}
	return until, by, nil
}

// was tells whether an item is, or was, at or below the path.
func (w *everWay) was(p *past) (bool, error) {
	if w.gone[p.item.Inode] != 0 || w.covers(p.Path) {
		return true, nil
	}
	since := func() (int64, error) {
		if p.item.Entry != nil {
			return p.item.Entry.Since, nil
		}
		n, err := w.tx.Node(p.item.Inode)
		if err != nil {
			return 0, missing(err)
		}
		return w.since(n)
	}
	at, err := since()
	if err != nil {
		return false, err
	}
	end, _, err := w.below(p.at.dir, at)
	return end != 0, err
}

// below says until when what is in a directory since an instant was below the path, by that directory or one above it (by); 0 = it never was.
func (w *everWay) below(dir meta.Inode, since int64) (until int64, by meta.Inode, err error) {
	for range MaxPath {
		if dir == meta.Root {
			break
		}
		if left := w.gone[dir]; since < left {
			return left, dir, nil
		}
		n, err := w.tx.Node(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && n.Home == 0 {
			return 0, 0, nil // purged: nothing below it is left
		}
		if err != nil {
			return 0, 0, err
		}
		put, known := w.put[dir]
		if !known {
			if put, err = w.since(n); err != nil {
				return 0, 0, err
			}
			w.put[dir] = put
		}
		dir, since = n.Home, max(since, put)
	}
	return 0, 0, nil
}

// since is since when something is at its place, or was at its last one. If that is purged, it may have been there always.
func (w *everWay) since(n *meta.Node) (at int64, err error) {
	after := int64(math.MaxInt64)
	if n.Parent == 0 {
		after = n.Left - 1
	}
	err = w.tx.NameHistory(n.Home, n.Name, after, func(e meta.Entry) bool {
		if e.Inode == n.ID {
			at = e.Since
		}
		return false
	})
	return at, err
}
