package server

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/server/admin"
)

// phase is where a server stands:
//
//	starting -> unsealing <-> sealed
//	            unsealing  -> ready -> sealing (and then a new process image, which starts sealed)
//	any phase             -> stopping
type phase string

const (
	phaseStarting  phase = "starting"
	phaseSealed    phase = "sealed"
	phaseUnsealing phase = "unsealing"
	phaseReady     phase = "ready"
	phaseSealing   phase = "sealing"
	phaseStopping  phase = "stopping"
)

var (
	errUnsealed = errors.New("the server is unsealed already")
	errLeaving  = errors.New("the server is stopping")
	// errSealing is the cause of the end of a process image whose keys must go.
	errSealing = errors.New("sealing")
)

// life is the phase of a server and what exists in it. The parts that need keys
// are there as a whole or not at all.
type life struct {
	turn chan struct{} // capacity 1: holds a token while somebody unseals, seals or stops

	mu     sync.Mutex // guards what follows
	phase  phase
	parts  *parts // not nil in ready, sealing and, after ready, in stopping
	since  time.Time
	reason error
	next   time.Time     // of the next attempt to unseal by itself
	opened chan struct{} // closed when ready
}

func newLife(now time.Time) *life {
	return &life{turn: make(chan struct{}, 1), phase: phaseStarting, since: now, opened: make(chan struct{})}
}

// take waits for the turn; give gives it back.
func (l *life) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *life) give() { <-l.turn }

func (l *life) now() phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase
}

// whole are the parts, nil while there are none.
func (l *life) whole() *parts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts
}

// move changes the phase if it is one of from.
func (l *life) move(to phase, from ...phase) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range from {
		if l.phase == f {
			l.phase = to
			return true
		}
	}
	return false
}

// sealedBy notes why the server is sealed. It tells whether that is news: the
// same reason over and over is one line in the log.
func (l *life) sealedBy(reason error, now time.Time) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	news = l.reason == nil || reason == nil || l.reason.Error() != reason.Error()
	if l.phase == phaseUnsealing || l.phase == phaseStarting {
		l.phase = phaseSealed
	}
	if l.since.IsZero() {
		l.since = now
	}
	l.reason = reason
	return news
}

// ready makes the parts those of the server, all at once.
func (l *life) ready(p *parts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase, l.parts, l.reason, l.next = phaseReady, p, nil, time.Time{}
	close(l.opened)
}

func (l *life) tryAgainAt(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = t
}

// sealedState is what `status` shows; nil when not sealed.
func (l *life) sealedState() *admin.Sealed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == phaseReady || l.parts != nil {
		return nil
	}
	s := &admin.Sealed{Since: l.since, Next: l.next}
	if l.reason != nil {
		s.Reason, s.Hint = l.reason.Error(), cmp.Or(SealHint(l.reason), "unseal it with `sallyport unseal`") // whoever sealed it need not have said more
	}
	return s
}
