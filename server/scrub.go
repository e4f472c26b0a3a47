package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sallyport/policy/policydb"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// scrub verifies all volumes in the background, one after the other, open ones as well. Its goroutine ends at stop.
type scrub struct {
	o     Scrub
	p     *parts
	log   *slog.Logger
	end   context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex // guards status
	status admin.ScrubStatus
}

// mostLogged bounds the findings of one volume in the log; the rest is counted.
const mostLogged = 20

// startScrub starts the goroutine, unless the interval is 0.
func startScrub(o Scrub, p *parts, log *slog.Logger) *scrub {
	s := &scrub{o: o, p: p, log: log.With("part", "scrub"), ended: make(chan struct{})}
	s.status = admin.ScrubStatus{Interval: o.Interval.String(), Rate: o.Rate}
	ctx, end := context.WithCancel(context.Background())
	s.end = end
	if o.Interval <= 0 {
		close(s.ended)
		return s
	}
	go func() { // owner: stop waits for it
		defer close(s.ended)
		s.loop(ctx)
	}()
	return s
}

func (s *scrub) stop() {
	s.end()
	<-s.ended
}

// loop waits one interval before the first round: volumes are verified when they are opened anyway.
func (s *scrub) loop(ctx context.Context) {
	t := time.NewTimer(s.o.Interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s.round(ctx)
		t.Reset(s.o.Interval)
	}
}

func (s *scrub) round(ctx context.Context) {
	accounts, err := s.p.policy.Accounts()
	if err != nil {
		s.log.Error("scrub: reading the accounts", "error", err)
		return
	}
	s.note(func(st *admin.ScrubStatus) { st.Running, st.Began, st.Damaged = true, time.Now(), 0 })
	for _, a := range accounts {
		if ctx.Err() != nil {
			break
		}
		s.account(ctx, a)
	}
	s.note(func(st *admin.ScrubStatus) {
		st.Running = false
		if ctx.Err() == nil {
			st.Ended = time.Now()
			st.Rounds++
		}
	})
}

// account verifies one volume. What is wrong with it hurts nobody else.
func (s *scrub) account(ctx context.Context, a *policydb.Account) {
	n := 0
	tell := func(finding string) {
		if n++; n <= mostLogged {
			s.log.Error("scrub finding", "account", a.ID.String(), "finding", finding)
		}
	}
	var res *vfs.VerifyResult
	condemned := false
	v, err := s.p.volumes.Volume(ctx, a.ID)
	if err == nil {
		res, condemned, err = v.Scrub(ctx, s.o.Rate, tell)
	}
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, vfs.ErrIntegrity): // it was refused before
		tell(err.Error())
	case err != nil:
		s.log.Warn("scrub: volume left out", "account", a.ID.String(), "error", err)
		return
	}
	s.note(func(st *admin.ScrubStatus) {
		if st.Volumes++; res != nil {
			st.Bytes += res.Bytes
		}
		st.Findings += uint64(n)
		if n > 0 {
			st.Damaged++
		}
	})
	if n == 0 {
		return
	}
	detail := fmt.Sprintf("scrub: %d findings", n)
	if condemned {
		detail += "; the metadata is damaged and the account is refused"
		s.p.kill(func(x admin.Session) bool { return x.Account == a.Name }, "scrub", "the volume is damaged")
	}
	s.p.volumesDamaged(ctx, audit.Event{Action: audit.Damage, Account: audit.ID(a.ID), Count: uint64(n), Detail: detail})
}

// volumesDamaged records damage; a log that cannot be written refuses everything else, too.
func (p *parts) volumesDamaged(ctx context.Context, e audit.Event) {
	if err := p.audit.Append(context.WithoutCancel(ctx), e); err != nil {
		p.log.Error("damage is not in the audit log", "account", e.Account.String(), "error", err)
	}
}

func (s *scrub) note(fn func(*admin.ScrubStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.status)
}

// now is what was done so far.
func (s *scrub) now() admin.ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}
