package vfs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"sallyport/vfs/meta"
)

const (
	// lossWindow is the time in which losses must come to be a row.
	lossWindow = time.Minute
	// lossPause is the longest pause within a deletion that has an instant of its own.
	lossPause = 2 * time.Second
	// lossLeast is how many of them make a row worth telling.
	lossLeast = 10
	// lossLong ends a row that goes on and on: before an hour ago there is another instant to go back to.
	lossLong = time.Hour
	// lossKept is how many rows are remembered, the largest.
	lossKept = 64
	// lossPage is about how many records of the time index one view reads.
	lossPage = 4096
	// lossWorth is how many records must have been read for what was found in them to be kept when the volume is closed as idle.
	lossWorth = 50_000
)

// lossScales are how many losses within lossWindow begin a row. What somebody does all day must not hide that much more is lost in a
// minute of it.
func lossScales() [3]int { return [3]int{lossLeast, 100, 1000} }

// Loss is a row of names that were removed, replaced or renamed away, and of files whose bytes were overwritten, one soon after the other.
type Loss struct {
	Before time.Time // the last instant before it
	Count  int
}

// losses are the rows of a volume. The time index is read once, and then only what is new in it.
type losses struct {
	reading chan struct{} // a lock with a context, for all below: one reads at a time

	upTo int64
	density
	sampler

	last *[1000]int64 // instants of the last losses, in a ring; made with the first
	lost int          // how many there were
	rows [3][]lossRow

	deletions
}

func newLosses() *losses { return &losses{reading: make(chan struct{}, 1)} }

type lossRow struct {
	first, last int64
	count       int
}

// Losses are the times since the horizon at which much was lost, oldest first, at most 64, the largest: what somebody who deleted too much, or whose
// files malware has overwritten, wants to go back before.
func (h *History) Losses(ctx context.Context) (out []Loss, err error) {
	err = h.w.run("losses", "/", func(_ context.Context, c *core) error {
		rows, err := c.vol.losses.read(ctx, c.db)
		after := h.reachable()
		for _, r := range rows {
			if r.first-1 >= after {
				out = append(out, Loss{Before: time.Unix(0, r.first-1), Count: r.count})
			}
		}
		return err
	})
	return out, err
}

// read brings the rows up to date and returns them, those of one beginning once.
func (s *losses) read(ctx context.Context, db *meta.DB) ([]lossRow, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := newLossPlan(&s.density)
	_, err := eachEnded(ctx, db, s.upTo, func(_ *meta.Tx, e ended) error { p.saw(e); return nil })
	if err != nil {
		return nil, err
	}
	s.fine, s.every = p.settle()
	upTo, err := eachEnded(ctx, db, s.upTo, s.saw)
	if err != nil { // begun anew next time, or some would be counted twice
		s.forget()
		return nil, err
	}
	s.upTo = upTo
	var out []lossRow
	for _, rows := range append(s.rows[:], s.deletions.rows) {
		for _, r := range rows {
			i := slices.IndexFunc(out, func(o lossRow) bool { return o.first == r.first })
			if i < 0 {
				out = append(out, r)
			} else {
				out[i].count = max(out[i].count, r.count)
			}
		}
	}
	for len(out) > lossKept {
		out = withoutSmallest(out)
	}
	slices.SortFunc(out, func(a, b lossRow) int { return cmp.Compare(a.first, b.first) })
	return out, nil
}

// eachEnded calls fn with what was superseded after an instant, in pages, each of a view of its own, and returns up to which instant that was.
func eachEnded(ctx context.Context, db *meta.DB, after int64, fn func(*meta.Tx, ended) error) (upTo int64, err error) {
	upTo = after
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		err := db.View(func(tx *meta.Tx) error {
			last, looked := tx.Stats().LastInstant, 0
			var failed error
			more = false
			err := tx.Ended(upTo+1, func(at int64, id meta.Inode, n uint64) bool {
				if looked++; looked > lossPage && at > upTo { // all of one instant are of one page
					more, last = true, upTo
					return false
				}
				upTo = at
				failed = fn(tx, ended{at, id, n})
				return failed == nil
			})
			upTo = last
			return errors.Join(failed, err)
		})
		if err != nil {
			return 0, err
		}
	}
	return upTo, nil
}

// forget begins anew.
func (s *losses) forget() { *s = losses{reading: s.reading} }

// rest is called when the volume is closed and nobody reads. What was soon found is soon found again.
func (s *losses) rest(keep bool) {
	if !keep || s.seen < lossWorth {
		s.forget()
	}
}

// saw takes the next record. What a version was replaced by is looked into only where many records come within lossWindow.
func (s *losses) saw(tx *meta.Tx, e ended) error {
	for _, q := range s.density.saw(e) {
		if q.id == 0 {
			s.add(q.at)
			s.gone(q.at)
			continue
		}
		if !s.takes(q.at) {
			s.overwritten(q.at) // perhaps; a deletion soon after it is not to be told from the end of an attack
			continue
		}
		lost, err := tx.Overwritten(q.id, q.n)
		if err != nil {
			return err
		}
		if lost {
			for _, at := range s.waiting { // any of them may have been the first
				s.add(at)
			}
			s.overwritten(q.at)
		}
		s.waiting = s.waiting[:0]
	}
	return nil
}

// add counts a loss in the rows of each scale.
func (s *losses) add(at int64) {
	if s.last == nil {
		s.last = new([1000]int64)
	}
	s.last[s.lost%len(s.last)] = at
	s.lost++
	for i, n := range lossScales() {
		if s.lost < n {
			return
		}
		first := s.last[(s.lost-n)%len(s.last)]
		if at-first > int64(lossWindow) {
			continue
		}
		rows := s.rows[i]
		if k := len(rows) - 1; k >= 0 && first <= rows[k].last && at-rows[k].first <= int64(lossLong) {
			rows[k].last = max(rows[k].last, at)
			rows[k].count++
			continue
		}
		if len(rows) >= lossKept {
			rows = withoutSmallest(rows)
		}
		s.rows[i] = append(rows, lossRow{first, at, n})
	}
}

// withoutSmallest takes the smallest row out; of equal ones the oldest.
func withoutSmallest(rows []lossRow) []lossRow {
	least := 0
	for i := range rows {
		if rows[i].count < rows[least].count {
			least = i
		}
	}
	return slices.Delete(rows, least, least+1)
}
