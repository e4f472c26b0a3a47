package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/keyring"
	"sallyport/vfs/meta"
)

var (
	// ErrHeld refuses to destroy what is on hold.
	ErrHeld = errors.New("vfs: on hold")
	// errHoldsChanged ends a purge that began under other holds. Another one knows the new ones.
	errHoldsChanged = fmt.Errorf("%w: the holds were changed meanwhile", ErrBusy)
)

// holds is what a purge of one volume must leave alone: all that is at or below certain paths, and all that ever was
// there, as far as history knows. The paths come from Options.Holds; what was moved away from them is found in the time
// index, where each past name stands: otherwise an account could take a file out of a hold by renaming it.
//
// A directory on the way to a held path that was renamed is held with everything in it. That is more than was asked for,
// and what was held before the rename cannot be told from the rest any more.
type holds struct {
	mu     sync.Mutex // one search at a time; never held by who is in a transaction
	paths  []string   // in the order of the alphabet, NFC
	moved  map[meta.Inode]bool
	seen   int64 // past names of instants below this one have been looked at
	passed int64 // everything superseded before this instant is held
}

// held are the holds as one page of the time index is judged by. nil = none.
type held struct {
	paths []string
	all   bool
	moved map[meta.Inode]bool // not changed any more
	seen  int64               // past names of instants below this one were looked at to find those
}

// heldPaths asks for the holds in force.
func (f *FS) heldPaths(id keyring.AccountID) ([]string, error) {
	if f.o.Holds == nil {
		return nil, nil
	}
	list, err := f.o.Holds(id)
	if err != nil {
		return nil, fmt.Errorf("vfs: asking for the holds of %s: %w", id, err)
	}
	paths := make([]string, 0, len(list))
	for _, p := range list {
		paths = append(paths, norm.NFC.String(p))
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// held are the holds of now, and the instant before which there is nothing that they would let go.
func (c *core) held(ctx context.Context) (h *held, passed int64, err error) {
	paths, err := c.vol.fs.heldPaths(c.vol.id)
	if err != nil || len(paths) == 0 {
		return nil, 0, err
	}
	if slices.Contains(paths, "/") {
		return &held{paths: paths, all: true}, 0, nil
	}
	s := &c.holds
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.paths, paths) {
		s.paths, s.moved, s.seen, s.passed = paths, map[meta.Inode]bool{}, 0, 0
	}
	for {
		h := &held{paths: paths, moved: s.moved}
		next, seen, err := c.findMoved(ctx, h, s.seen)
		if err != nil {
			return nil, 0, err
		}
		if len(next) == 0 {
			s.seen, h.seen = seen, seen
			return h, s.passed, nil
		}
		// What was moved out of a directory that was itself moved is found when that one is known.
		all := make(map[meta.Inode]bool, len(s.moved)+len(next))
		for id := range s.moved {
			all[id] = true
		}
		for _, id := range next {
			all[id] = true
		}
		s.moved, s.seen, s.passed = all, 0, 0
	}
}

// pass notes that everything before an instant is held.
func (c *core) pass(h *held, before int64) {
	c.holds.mu.Lock()
	defer c.holds.mu.Unlock()
	if slices.Equal(c.holds.paths, h.paths) && len(c.holds.moved) == len(h.moved) {
		c.holds.passed = max(c.holds.passed, before)
	}
}

// findMoved looks for inodes that had a held name once and are elsewhere now, among the past names from an instant on.
func (c *core) findMoved(ctx context.Context, h *held, from int64) (found []meta.Inode, seen int64, err error) {
	seen = from
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		n := 0
		err := c.db.View(func(tx *meta.Tx) error {
			way := newWay(tx, h)
			var failed error
			more = false
			seen = tx.Stats().LastInstant + 1
			err := tx.Superseded(from, seen, func(s meta.Superseded) bool {
				if n++; n > purgePage && s.At > from {
					from, more = s.At, true
					return false
				}
				if s.Entry == nil || h.moved[s.Inode] {
					return true
				}
				var is bool
				if is, failed = way.wasHeld(s.Entry); is && failed == nil {
					found = append(found, s.Inode)
				}
				return failed == nil
			})
			return errors.Join(err, failed)
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return found, seen, nil
}

// way judges places in the tree by the directories above them. It is good for one transaction.
type way struct {
	paths *pathfinder
	tx    *meta.Tx
	h     *held
	dirs  map[meta.Inode]bool // whether a directory, or one above it, was moved out of a hold
}

func newWay(tx *meta.Tx, h *held) *way {
	return &way{paths: &pathfinder{tx: tx}, tx: tx, h: h, dirs: map[meta.Inode]bool{}}
}

// wasHeld tells whether an entry that is past was held, and its inode has another place now.
func (w *way) wasHeld(en *meta.Entry) (bool, error) {
	at, err := w.paths.of(slot{en.Dir, en.Name})
	if err != nil {
		return false, err
	}
	is := w.h.covers(at)
	above := w.h.leadsTo(at)
	if !is {
		if is, err = w.moved(en.Dir); err != nil {
			return false, err
		}
	}
	if !is && !above {
		return false, nil
	}
	n, err := w.tx.Node(en.Inode)
	if err != nil {
		return false, missing(err)
	}
	return (is || n.Kind == meta.Dir) && (n.Home != en.Dir || n.Name != en.Name), nil
}

// moved tells whether a directory or one above it was moved out of a hold.
func (w *way) moved(dir meta.Inode) (bool, error) {
	if len(w.h.moved) == 0 {
		return false, nil
	}
	var below []meta.Inode
	is := false
	for up := dir; up != meta.Root && len(below) <= MaxPath; {
		if known, ok := w.dirs[up]; ok {
			is = known
			break
		}
		if below = append(below, up); w.h.moved[up] {
			is = true
			break
		}
		n, err := w.tx.Node(up)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				break // purged: nothing below it is left
			}
			return false, err
		}
		if up = n.Home; up == 0 {
			break
		}
	}
	for _, id := range below {
		w.dirs[id] = is
	}
	return is, nil
}

// judge fills in whether an item is held. at is its place in the tree.
func (w *way) judge(p *past, at slot) error {
	h := w.h
	switch {
	case h == nil:
		return nil
	case h.all, h.moved[p.item.Inode], h.covers(p.Path), p.Dir && h.leadsTo(p.Path):
		p.Held = true
		return nil
	}
	is, err := w.moved(at.dir)
	p.Held = is
	return err
}

// covers tells whether a path is at or below a held one. One whose way is not known any more counts as such.
func (h *held) covers(at string) bool {
	at = norm.NFC.String(at)
	if !strings.HasPrefix(at, "/") {
		return true
	}
	return slices.ContainsFunc(h.paths, func(p string) bool { return p == "/" || at == p || strings.HasPrefix(at, p+"/") })
}

// leadsTo tells whether a path is above a held one. The root is above all: without what it was at an instant, nothing below it can be
// looked at as of then.
func (h *held) leadsTo(at string) bool {
	at = strings.TrimSuffix(norm.NFC.String(at), "/")
	return slices.ContainsFunc(h.paths, func(p string) bool { return strings.HasPrefix(p, at+"/") })
}

// Settle waits for the transactions of purges that are under way, of all volumes. Once a hold is in force and Settle has returned
// nothing is destroyed any more that it covers: a transaction that had asked before is over.
func (f *FS) Settle() {
	f.purging.Lock()
	defer f.purging.Unlock()
}

// unchanged tells whether the holds are still those that a page was judged by, and cover the same. It is asked inside of the
// transaction that destroys: a hold that was answered before that begins holds, and what was moved out of one meanwhile is not let go
// by the place where it is now. Once the transaction is committed, seen is where the next one may begin to look.
func (c *core) unchanged(tx *meta.Tx, h *held) (seen int64, err error) {
	paths, err := c.vol.fs.heldPaths(c.vol.id)
	if err != nil {
		return 0, err
	}
	var were []string
	if h != nil {
		were = h.paths
	}
	if !slices.Equal(paths, were) {
		return 0, errHoldsChanged
	}
	if h == nil || h.all {
		return 0, nil
	}
	way := newWay(tx, h)
	var failed error
	err = tx.Superseded(h.seen, math.MaxInt64, func(s meta.Superseded) bool {
		if s.Entry == nil || h.moved[s.Inode] {
			return true
		}
		var is bool
		if is, failed = way.wasHeld(s.Entry); is && failed == nil {
			failed = errHoldsChanged
		}
		return failed == nil
	})
	return tx.Stats().LastInstant, errors.Join(err, failed)
}
