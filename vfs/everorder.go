package vfs

import (
	"cmp"
	"context"
	"math"
	"slices"

	"sallyport/vfs/meta"
)

// lead is one of the last names that a purge of a path takes, and what is known by it.
type lead struct {
	item  meta.Superseded
	until int64 // until when it was at or below the path; 0 = nothing is known by it
	depth int   // how many directories that are gone themselves tell it
}

// order puts names of what is gone (ever.gone) so that each goes before those by which it is known to belong to the path: whoever goes on
// after a crash finds them by what is left. A name that is known by a directory was at the path no longer than that, so those of the
// earliest end go first; and of the same end those that are known by the most directories, one by the other.
func (e *ever) order(ctx context.Context, c *core, items []meta.Superseded) error {
	leads := make([]lead, 0, len(items))
	for rest := items; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := rest[:min(len(rest), purgePage)]
		rest = rest[len(some):]
		err := c.db.View(func(tx *meta.Tx) error {
			way := newEverWay(tx, e)
			for _, s := range some {
				l, err := way.lead(s)
				if err != nil {
					return err
				}
				leads = append(leads, l)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(leads, func(a, b lead) int { return cmp.Or(cmp.Compare(a.until, b.until), cmp.Compare(b.depth, a.depth)) })
	for i := range leads {
		items[i] = leads[i].item
	}
	return nil
}

// lead judges a name of what is gone.
func (w *everWay) lead(s meta.Superseded) (lead, error) {
	until, by, err := w.left(s.Entry)
	l := lead{item: s, until: until}
	if err != nil {
		return l, err
	}
	if _, told := w.by[s.Inode]; until == 0 && !told { // it was found by resolving the path as of then
		l.until = math.MaxInt64
	}
	for by != 0 && l.depth <= len(w.by) { // no longer than there are directories, whatever the records say
		l.depth++
		by = w.by[by]
	}
	return l, nil
}
