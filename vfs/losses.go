package vfs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sallyport/vfs/meta"
)

const (
	// lossWindow is the time in which losses must come to be a row.
	lossWindow = time.Minute
	// lossLeast is how many of them make a row worth telling.
	lossLeast = 10
	// lossLong ends a row that goes on and on: before an hour ago there is another instant to go back to.
	lossLong = time.Hour
	// lossKept is how many rows are remembered, the largest.
	lossKept = 64
	// lossOpened is how many versions of a minute are looked at one by one, and lossOneIn how many the others come to.
	lossOpened, lossOneIn = 128, 16
	// lossPage is about how many records of the time index one view reads.
	lossPage = 4096
)

// lossScales are how many losses within lossWindow begin a row. What somebody does all day must not hide that much more is lost in a
// minute of it.
func lossScales() [3]int { return [3]int{lossLeast, 100, 1000} }

// Loss is a row of names that were removed, replaced or renamed away, and of files whose bytes were overwritten, one soon after the other.
type Loss struct {
	Before time.Time // the last instant before it
	Count  int
}

// losses are the rows of an open volume. The time index is read once, and then only what is new in it.
type losses struct {
	mu    sync.Mutex // guards all below; held while a page of the index is read, which concerns those who ask for rows only
	upTo  int64
	times [lossLeast - 1]int64 // instants of the last records, in a ring
	seen  int                  // how many there were
	queue []ended              // the last, while no ten came within lossWindow

	minute int64 // of the history
	opened int   // versions that were looked at in it
	// of those that the next one looked at stands for: how many, and the instant of the first
	skipped int
	from    int64

	last *[1000]int64 // instants of the last losses, in a ring; made with the first
	lost int          // how many there were
	rows [3][]lossRow
}

// ended is a name (id 0) or a version that was superseded.
type ended struct {
	at int64
	id meta.Inode
	n  uint64
}

type lossRow struct {
	first, last int64
	count       int
}

// Losses are the times since the horizon at which much was lost, oldest first, at most 64, the largest: what somebody who deleted too much, or whose
// files malware has overwritten, wants to go back before.
func (h *History) Losses(ctx context.Context) (out []Loss, err error) {
	err = h.w.run("losses", "/", func(_ context.Context, c *core) error {
		rows, err := c.losses.read(ctx, c.db)
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
	for more := true; more; {
		var err error
		if more, err = s.page(ctx, db); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []lossRow
	for _, rows := range s.rows {
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

// page reads some more of the index, and says whether there may be more.
func (s *losses) page(ctx context.Context, db *meta.DB) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = db.View(func(tx *meta.Tx) error {
		upTo, looked := tx.Stats().LastInstant, 0
		var failed error
		err := tx.Ended(s.upTo+1, func(at int64, id meta.Inode, n uint64) bool {
			if looked++; looked > lossPage && at > s.upTo { // all of one instant are of one page
				more, upTo = true, s.upTo
				return false
			}
			s.upTo = at
			failed = s.saw(tx, ended{at, id, n})
			return failed == nil
		})
		if err = errors.Join(failed, err); err == nil {
			s.upTo = upTo
		}
		return err
	})
	if err != nil { // begun anew next time, or some would be counted twice
		s.forget()
	}
	return more, err
}

func (s *losses) forget() {
	s.upTo, s.seen, s.queue, s.lost, s.skipped = 0, 0, nil, 0, 0
	s.rows = [3][]lossRow{}
}

// saw takes the next record. What a version was replaced by is looked into only where many records come within lossWindow.
func (s *losses) saw(tx *meta.Tx, e ended) error {
	oldest := &s.times[s.seen%len(s.times)]
	dense := s.seen >= len(s.times) && e.at-*oldest <= int64(lossWindow)
	*oldest = e.at
	s.seen++
	s.queue = append(s.queue, e)
	if !dense {
		s.queue = slices.DeleteFunc(s.queue, func(q ended) bool { return e.at-q.at > int64(lossWindow) })
		return nil
	}
	for _, q := range s.queue {
		if q.id == 0 {
			s.add(q.at)
		} else if err := s.superseded(tx, q); err != nil {
			return err
		}
	}
	s.queue = s.queue[:0]
	return nil
}

// superseded counts a version if it was overwritten. Of very many in a minute one in sixteen is looked at, and stands for those before it.
func (s *losses) superseded(tx *meta.Tx, e ended) error {
	if minute := e.at / int64(lossWindow); minute != s.minute {
		s.minute, s.opened = minute, 0
	}
	if s.skipped == 0 {
		s.from = e.at
	}
	if s.skipped++; s.opened >= lossOpened && s.skipped < lossOneIn {
		return nil
	}
	s.opened++
	lost, err := tx.Overwritten(e.id, e.n)
	if err != nil {
		return err
	}
	for range s.skipped {
		if lost {
			s.add(s.from) // any of them may have been the first
		}
	}
	s.skipped = 0
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
