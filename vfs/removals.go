package vfs

import (
	"context"
	"slices"
	"sync"
	"time"

	"sallyport/vfs/meta"
)

const (
	// removalGap ends a row of names that went one after the other.
	removalGap = 30 * time.Second
	// removalLeast is how many names make a row worth telling.
	removalLeast = 10
	// removalKept is how many rows are remembered, the newest.
	removalKept = 64
)

// Removal is a row of names that were removed, replaced or renamed away one soon after the other.
type Removal struct {
	Before time.Time // the last instant before it
	Names  int
}

// removals are the rows of an open volume. The time index is read once, by its keys alone, and then only what is new in it.
type removals struct {
	mu   sync.Mutex // guards all below; held while the index is read, which concerns those who ask for rows only
	upTo int64
	rows []row // the last may go on
}

type row struct {
	first, last int64
	names       int
}

// Removals are the times since the horizon at which ten names or more went within a short time, oldest first, at most 64: what
// somebody who deleted too much wants to go back before.
func (h *History) Removals(ctx context.Context) (out []Removal, err error) {
	err = h.w.run("removals", "/", func(_ context.Context, c *core) error {
		rows, err := c.rows.read(ctx, c.db)
		after := h.reachable()
		for _, r := range rows {
			if r.names >= removalLeast && r.first-1 >= after {
				out = append(out, Removal{Before: time.Unix(0, r.first-1), Names: r.names})
			}
		}
		return err
	})
	return out, err
}

// read brings the rows up to date and returns a copy.
func (s *removals) read(ctx context.Context, db *meta.DB) ([]row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := db.View(func(tx *meta.Tx) error {
		last := tx.Stats().LastInstant
		n := 0
		err := tx.EndedNames(s.upTo+1, func(at int64) bool {
			if at > last {
				return false
			}
			s.add(at)
			n++
			return n%4096 != 0 || ctx.Err() == nil
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil { // begun anew next time, or names would be counted twice
			s.upTo, s.rows = 0, nil
			return err
		}
		s.upTo = last
		return nil
	})
	return slices.Clone(s.rows), err
}

func (s *removals) add(at int64) {
	n := len(s.rows)
	if n > 0 && at-s.rows[n-1].last <= int64(removalGap) {
		s.rows[n-1].last = at
		s.rows[n-1].names++
		return
	}
	if n > 0 && s.rows[n-1].names < removalLeast {
		s.rows = s.rows[:n-1] // it ended, and was nothing
	}
	if len(s.rows) >= removalKept {
		s.rows = slices.Delete(s.rows, 0, 1)
	}
	s.rows = append(s.rows, row{at, at, 1})
}
