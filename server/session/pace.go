package session

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// flow holds bytes back to a rate. It is asked once for each chunk that was moved, tens of kilobytes, never for each byte. Safe
// for concurrent use; what several transfers move counts together.
type flow struct {
	mu    sync.Mutex
	limit *rate.Limiter
	now   func() time.Time // nil = time.Now

	testOnlyCounted int // bytes
}

// leastBurst keeps very low rates from counting byte by byte.
const leastBurst = 4 << 10

// reserve counts n bytes at a rate (bytes per second; 0 = no limit) and returns how long the mover must wait before the next.
// A change of the rate counts from the next chunk on.
func (f *flow) reserve(n int, perSecond int64) time.Duration {
	if perSecond == 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.testOnlyCounted += n
	now := time.Now()
	if f.now != nil {
		now = f.now()
	}
	// What may come at once is a quarter of a second's worth: enough that timers do not matter, little enough to be no burst.
	burst := int(max(perSecond/4, leastBurst))
	if f.limit == nil {
		f.limit = rate.NewLimiter(rate.Limit(perSecond), burst)
	} else if f.limit.Limit() != rate.Limit(perSecond) {
		f.limit.SetLimitAt(now, rate.Limit(perSecond))
		f.limit.SetBurstAt(now, burst)
	}
	var wait time.Duration
	for n > 0 {
		part := min(n, burst)
		wait = f.limit.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return wait
}

// paceStep bounds a wait, so that a change of the policy or the end of the session is seen while waiting.
const paceStep = 500 * time.Millisecond

// pace waits until the bandwidth of session and account allows more bytes in a direction. It returns early when the session ends.
func (s *Session) pace(n int, up bool) {
	if n <= 0 {
		return
	}
	before := s.Policy()
	b := before.Bandwidth
	mine, all := b.SessionDownload, b.AccountDownload
	flows := [2]*flow{&s.flowOut, &s.account.flowOut}
	if up {
		mine, all = b.SessionUpload, b.AccountUpload
		flows = [2]*flow{&s.flowIn, &s.account.flowIn}
	}
	if mine == 0 && all == 0 {
		return
	}
	wait := max(flows[0].reserve(n, mine), flows[1].reserve(n, all))
	if wait <= 0 {
		return
	}
	t := time.NewTimer(min(wait, paceStep))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.conn.gone:
			return
		}
		s.Touch() // it is the server that is slow
		if wait -= paceStep; wait <= 0 || s.Policy() != before {
			return
		}
		t.Reset(min(wait, paceStep))
	}
}
