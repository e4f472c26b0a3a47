package vfs

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"sallyport/vfs/content"
	"sallyport/vfs/extent"
)

// drafts are all drafts of a server. Their buffers share one budget: who hoards must give way to who has nothing.
type drafts struct {
	mu   sync.Mutex // guards the rest
	all  map[*draft]struct{}
	last time.Time // when the last draft ended
}

// quiet says whether nobody writes, and nobody has for that long.
func (s *drafts) quiet(now time.Time, long time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) == 0 && now.Sub(s.last) >= long
}

func (s *drafts) add(d *draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*draft]struct{}{}
	}
	s.all[d] = struct{}{}
}

func (s *drafts) remove(d *draft, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, d)
	s.last = now
}

// reliefStep is how many drafts write out their buffers for one that found no room.
const reliefStep = 4

// relieve has the drafts that hold most write out what they buffer; false if none holds more than it needs to go on.
func (s *drafts) relieve(but *draft) bool {
	type holder struct {
		d    *draft
		held int64
	}
	var some []holder
	s.mu.Lock()
	for d := range s.all {
		if d != but {
			some = append(some, holder{d, 0})
		}
	}
	s.mu.Unlock()
	for i := range some {
		some[i].held = some[i].d.Held()
	}
	some = slices.DeleteFunc(some, func(h holder) bool { return h.held <= extent.SegmentPlain })
	slices.SortFunc(some, func(a, b holder) int { return cmp.Compare(b.held, a.held) })
	for _, h := range some[:min(len(some), reliefStep)] {
		h.d.Relieve()
	}
	return len(some) > 0
}

// writeAt writes to the draft and, if others hold the whole budget, has them let go of some.
func (d *draft) writeAt(all *drafts, p []byte, off int64) (int, error) {
	n, err := d.WriteAt(p, off)
	for range reliefStep {
		if !errors.Is(err, content.ErrBudget) || !all.relieve(d) {
			break
		}
		var more int
		more, err = d.WriteAt(p[n:], off+int64(n))
		n += more
	}
	return n, err
}
