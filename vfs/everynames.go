package vfs

import (
	"context"
	"errors"
	"math"
	"slices"

	"sallyport/vfs/meta"
)

// namesLooked is about how many records one view of a listing of all names reads.
const namesLooked = 4096

// Names streams the names that a directory had since the horizon and until the listing began, each once, also of directories that are
// gone; in no particular order, a batch at a time. The Info of each is that of what had the name last. What comes or goes meanwhile
// disturbs nothing. An error of fn ends it and is returned as it is.
func (h *History) Names(ctx context.Context, name string, fn func([]*Info) error) error {
	l := &everyName{h: h, name: name}
	for more := true; more; {
		var batch []*Info
		err := h.w.run("readdir", name, func(_ context.Context, c *core) error {
			return c.db.View(func(tx *meta.Tx) (err error) {
				batch, more, err = l.next(ctx, tx)
				return err
			})
		})
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
	return nil
}

// everyName is a listing of all names that the directories of a path had.
type everyName struct {
	h     *History
	name  string
	after int64  // the horizon, which may rise and does not fall: what is told once is not told again
	at    []stay // of directories, the newest first: it tells a name before older ones. Fixed when the listing begins
	done  int    // how many of them are told
	c     meta.NamesCursor
}

// next reads the next names, perhaps none, and says whether there may be more.
func (l *everyName) next(ctx context.Context, tx *meta.Tx) (batch []*Info, more bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if l.after = max(l.after, l.h.reachable()); l.after == math.MaxInt64 {
		return nil, false, ErrNotKept
	}
	if l.at == nil {
		if l.at, err = l.h.stays(ctx, tx, l.name); err != nil {
			return nil, false, err
		}
		slices.Reverse(l.at)
		now := tx.Stats().LastInstant + 1
		for i := range l.at {
			l.at[i].until = min(l.at[i].until, now)
		}
	}
	var size room
	full := false
	for looked := 0; l.done < len(l.at) && looked < namesLooked && !full; {
		s := l.at[l.done]
		if max(l.after, s.since) >= s.until { // the horizon has passed it meanwhile
			l.done++
			l.c = meta.NamesCursor{}
			continue
		}
		var failed error
		more, n, err := tx.NamesIn(s.id, max(l.after, s.since), s.until, &l.c, namesLooked-looked, func(e meta.Entry, n *meta.Node) bool {
			newer := false
			for _, o := range l.at[:l.done] {
				if looked++; newer || failed != nil {
					break
				}
				newer, failed = tx.HadName(o.id, e.Name, max(l.after, o.since), o.until)
			}
			if n != nil && !newer && failed == nil {
				batch = append(batch, &Info{name: e.Name, node: *n, past: true})
				full = !size.left(len(batch), &e, n)
			}
			return failed == nil && !full && looked < namesLooked
		})
		if err := errors.Join(failed, err); err != nil {
			return nil, false, err
		}
		if looked += n; !more {
			l.done++
			l.c = meta.NamesCursor{}
		}
	}
	return batch, l.done < len(l.at), nil
}
