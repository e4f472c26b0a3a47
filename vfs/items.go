package vfs

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"sallyport/vfs/meta"
)

// past is an item of the time index with what is known of it.
type past struct {
	Superseded
	item meta.Superseded
	at   slot
}

// history hands out what was superseded before an instant, oldest first, by pages of a size, each from a view of its own; only is what
// historyOf has.
func (c *core) history(ctx context.Context, until int64, size int, only *ever, fn func(page []past) error) error {
	h, _, err := c.held(ctx)
	if err != nil {
		return err
	}
	return c.historyOf(ctx, 0, until, size, h, only, fn)
}

// historyFrom ends a page only between two instants, and goes on from the next: within an instant names are in the order of
// their tokens, which is another one after a rotation, and a place in it would pass over some and hand out others twice. One
// instant is that of one transaction, a handful of items.
func (c *core) historyFrom(ctx context.Context, from, until int64, size int, h *held, fn func(page []past) error) error {
	return c.historyOf(ctx, from, until, size, h, nil, fn)
}

// historyOf is historyFrom for what was at or below some paths; nil = everything. A page may be empty then.
func (c *core) historyOf(ctx context.Context, from, until int64, size int, h *held, only *ever, fn func(page []past) error) error {
	return c.itemsFrom(ctx, from, until, size, describing(h, only), fn)
}

// look makes what finds out about the items of a view, and whether they are asked for.
type look func(tx *meta.Tx) func(meta.Superseded) (p past, is bool, err error)

func describing(h *held, only *ever) look {
	return func(tx *meta.Tx) func(meta.Superseded) (past, bool, error) {
		w, of := newWay(tx, h), newEverWay(tx, only)
		return func(s meta.Superseded) (p past, is bool, err error) {
			if p, err = describe(tx, w, s); err != nil || only == nil {
				return p, true, err
			}
			is, err = of.was(&p)
			return p, is, err
		}
	}
}

// undescribed is for who takes everything and needs to know nothing of it.
func undescribed(*meta.Tx) func(meta.Superseded) (past, bool, error) {
	return func(s meta.Superseded) (past, bool, error) { return past{item: s}, true, nil }
}

// itemsFrom is historyFrom with another look at the items.
func (c *core) itemsFrom(ctx context.Context, from, until int64, size int, look look, fn func(page []past) error) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []past
		err := c.db.View(func(tx *meta.Tx) error {
			describe := look(tx)
			var failed error
			more = false
			n, last := 0, int64(0)
			err := tx.Superseded(from, until, func(s meta.Superseded) bool {
				if n >= size && last != s.At {
					from, more = s.At, true
					return false
				}
				n, last = n+1, s.At
				var p past
				var is bool
				if p, is, failed = describe(s); failed != nil {
					return false
				}
				if is {
					page = append(page, p)
				}
				return true
			})
			return errors.Join(err, failed)
		})
		if err != nil {
			return err
		}
		if err := fn(page); err != nil {
			return err
		}
	}
	return nil
}

// describe finds out what there is to know of an item.
func describe(tx *meta.Tx, w *way, s meta.Superseded) (past, error) {
	p := past{item: s, Superseded: Superseded{Inode: uint64(s.Inode), Version: s.Version, At: time.Unix(0, s.At)}}
	n, err := tx.Node(s.Inode)
	if err != nil {
		return p, missing(err)
	}
	p.Dir = n.Kind == meta.Dir
	at := slot{n.Home, n.Name}
	switch {
	case s.Version == 0:
		at = slot{s.Entry.Dir, s.Entry.Name}
		if n.Kind == meta.File && n.Parent == 0 && n.Left == s.At {
			p.Bytes = n.Size // its current version goes with its last name
		}
	case n.Kind == meta.File:
		size, err := tx.VersionSize(s.Inode, s.Version)
		if err != nil {
			return p, missing(err)
		}
		p.Bytes = size
	}
	p.at = at
	if p.Path, err = w.paths.of(at); err != nil {
		return p, err
	}
	return p, w.judge(&p, at)
}

// missing takes a record that another one refers to and that is not there for damage.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrIntegrity
	}
	return err
}
