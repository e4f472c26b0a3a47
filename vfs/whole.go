package vfs

import (
	"context"
	"fmt"
	"time"

	"sallyport/vfs/meta"
)

// Whole says since when the past of a volume is whole. What it says never goes back, and is on the disk with what it tells of. Zero times: nothing
// ever was destroyed.
type Whole struct {
	// Purged is when the last of what purges by the clock destroyed had ended: of an earlier instant, anything may be missing.
	Purged time.Time
	// Lacking is the same of what was chosen to be destroyed (PlanPurge), was lost to damage, or may have been destroyed before anybody wrote that down.
	Lacking time.Time
}

// Since is the earliest instant of which nothing is missing; zero = any.
func (w Whole) Since() time.Time {
	if w.Lacking.After(w.Purged) {
		return w.Lacking
	}
	return w.Purged
}

// NotWhole refuses an instant of which something was destroyed that ended after it. It is an ErrNotKept, and thereby an fs.ErrNotExist.
type NotWhole struct {
	Since  time.Time // the earliest instant that would not be refused for this
	Chosen bool      // nothing but what was chosen or lost may be missing, see Whole.Lacking
}

func (e *NotWhole) Error() string {
	return fmt.Sprintf("vfs: some of that time was purged; it is whole since %s", e.Since.UTC().Format(time.RFC3339Nano))
}

func (e *NotWhole) Unwrap() error { return ErrNotKept }

// Whole reads since when the past is whole.
func (v *Volume) Whole(ctx context.Context) (w Whole, err error) {
	err = v.do(ctx, func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { w = wholeOf(tx); return nil })
	})
	return w, public(err)
}

func wholeOf(tx *meta.Tx) Whole {
	at := func(instant int64) time.Time {
		if instant == 0 {
			return time.Time{}
		}
		return time.Unix(0, instant)
	}
	s := tx.Stats()
	return Whole{Purged: at(s.PurgedTo), Lacking: at(s.LackingTo)}
}

// First is the earliest instant that can be looked at now: the horizon, or since when nothing is missing that a purge by the clock took. ErrNotKept if
// there is none.
func (h *History) First() (first time.Time, err error) {
	err = h.w.run("history", "/", func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			first = h.horizon()
			if !first.Before(h.w.vol.fs.o.Now()) {
				return ErrNotKept
			}
			if w := wholeOf(tx); !h.all && w.Purged.After(first) {
				first = w.Purged
			}
			return nil
		})
	})
	return first, err
}

// whole refuses an instant of which a purge by the clock may have destroyed something, unless whoever looks takes what is left. It is asked in each
// transaction that reads: a purge goes on between two of them.
func (h *History) whole(tx *meta.Tx, at int64) error {
	if purged := tx.Stats().PurgedTo; !h.all && at < purged {
		return &NotWhole{Since: time.Unix(0, purged)}
	}
	return nil
}
