package vfs

import (
	"math"
	"slices"

	"sallyport/vfs/meta"
)

const (
	// lossOpened is how many versions of a minute are looked at one by one, and lossOneIn how many the others come to.
	lossOpened, lossOneIn = 128, 16
	// lossBudget is how many versions are looked at in one reading. Where a history has more that are worth it, the newest are looked at as
	// lossOpened says, for half of this, and of the rest a few, evenly, for the other half.
	lossBudget = 16_384
	// lossMarks is how many places in the history are remembered at least, to find where the newest half begins.
	lossMarks = 1024
)

// ended is a name (id 0) or a version that was superseded.
type ended struct {
	at int64
	id meta.Inode
	n  uint64
}

// density passes on what comes in a row: lossLeast within lossWindow.
type density struct {
	times [lossLeast - 1]int64 // instants of the last records, in a ring
	seen  int                  // how many there were
	queue []ended              // the last, while no ten came within lossWindow
}

// saw takes the next record and returns those that are known to be of a row by now, until it is called again.
func (d *density) saw(e ended) (row []ended) {
	oldest := &d.times[d.seen%len(d.times)]
	dense := d.seen >= len(d.times) && e.at-*oldest <= int64(lossWindow)
	*oldest = e.at
	d.seen++
	d.queue = append(d.queue, e)
	if !dense {
		d.queue = slices.DeleteFunc(d.queue, func(q ended) bool { return e.at-q.at > int64(lossWindow) })
		return nil
	}
	row, d.queue = d.queue, d.queue[:0]
	return row
}

// sampler chooses the versions that are looked at.
type sampler struct {
	fine  int64 // from this instant on lossOpened in a minute, and then one in lossOneIn;
	every int   // before it one in so many

	minute  int64 // of the history
	opened  int   // versions that were looked at in it
	waiting []int64
}

// takes tells whether the next version is to be looked at. It stands then for those that waiting has the instants of, which are the caller's to
// clear.
func (s *sampler) takes(at int64) bool {
	if minute := at / int64(lossWindow); minute != s.minute {
		s.minute, s.opened = minute, 0
	}
	s.waiting = append(s.waiting, at)
	if at < s.fine {
		return len(s.waiting) >= s.every
	}
	if s.opened >= lossOpened && len(s.waiting) < lossOneIn {
		return false
	}
	s.opened++
	return true
}

// lossPlan finds out, by keys alone, how many versions would be looked at, and where the newest of them are.
type lossPlan struct {
	density
	sampler
	looks, records int
	marks          []lossMark
	stride         int // looks from mark to mark
}

// lossMark is a place in the history: what comes before it.
type lossMark struct {
	at             int64
	looks, records int
}

// newLossPlan begins where a reading stands.
func newLossPlan(d *density) *lossPlan {
	p := &lossPlan{density: *d, stride: 1, sampler: sampler{fine: math.MinInt64}}
	p.queue = slices.Clone(d.queue)
	return p
}

func (p *lossPlan) saw(e ended) {
	for _, q := range p.density.saw(e) {
		if q.id == 0 {
			continue
		}
		if p.records++; !p.takes(q.at) {
			continue
		}
		p.waiting = p.waiting[:0]
		if p.looks%p.stride == 0 {
			if len(p.marks) == 2*lossMarks {
				for i := range lossMarks {
					p.marks[i] = p.marks[2*i]
				}
				p.marks, p.stride = p.marks[:lossMarks], 2*p.stride
			}
			p.marks = append(p.marks, lossMark{q.at, p.looks, p.records - 1})
		}
		p.looks++
	}
}

// settle says from when on a sampler may be fine, and what it must be before.
func (p *lossPlan) settle() (fine int64, every int) {
	if p.looks <= lossBudget {
		return math.MinInt64, 1
	}
	const half = lossBudget / 2
	at := lossMark{math.MaxInt64, p.looks, p.records}
	for _, m := range slices.Backward(p.marks) {
		if p.looks-m.looks > half {
			break
		}
		at = m
	}
	return at.at, (at.records + half - 1) / half
}
