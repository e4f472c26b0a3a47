package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/crypto/durable"
	"sallyport/server/audit"
	"sallyport/server/clock"
)

func (s *Server) backupClock(context.Context, Peer, Empty) (Clock, error) {
	return describeClock(s.o.Clock.State()), nil
}

// clockConfirm records first who lets time pass that the server cannot account for: what that makes old is destroyed within a minute.
func (s *Server) clockConfirm(ctx context.Context, who Peer, r ClockConfirm) (Clock, error) {
	was := s.o.Clock.State()
	if was.Status == clock.Trusted || was.Slowed {
		return Clock{}, explainClock(clock.ErrTrusted)
	}
	if (was.Offset - r.Offset).Abs() > time.Minute { // asked again below, but then it is recorded as confirmed
		return Clock{}, explainClock(clock.ErrMoved)
	}
	if strings.TrimSpace(r.Reason) == "" {
		return Clock{}, newError(CodeRefused, "to confirm the clock needs a reason", "say with --reason how you know that it is right: what it makes old is destroyed within a minute")
	}
	e := ClockEvent(was, r.Reason)
	e.Result = "confirmed"
	if err := s.recordFirst(ctx, who, e); err != nil {
		return Clock{}, err
	}
	st, err := s.o.Clock.Confirm(r.Offset)
	if err != nil {
		return Clock{}, s.notConfirmed(ctx, who, e, err)
	}
	return describeClock(st), nil
}

// notConfirmed says in the log that what it says already did not come true, and to whoever asked what became of it.
func (s *Server) notConfirmed(ctx context.Context, who Peer, e audit.Event, err error) error {
	e.Result, e.Detail = "failed", join("the record before says that it was confirmed; it was not", err.Error())
	if errors.Is(err, durable.ErrUncertain) {
		e.Result, e.Detail = "uncertain", err.Error()
	}
	out := newError(CodeInternal, "nothing is confirmed: it could not be written beside the state", "see the server's log; make room or look at the disk, then confirm again")
	if errors.Is(err, durable.ErrUncertain) {
		out.Message = "the clock is not followed, but the disk did not say whether it keeps the confirmation: another start of the server may follow it"
	} else if known := (*Error)(nil); errors.As(explainClock(err), &known) {
		out = known
	}
	out.cause = err
	if s.record(ctx, who, e) != nil { // which has logged it
		out.Message += "; the audit log says that it was confirmed, and cannot be written to say that it was not"
	}
	return out
}

func explainClock(err error) error {
	switch {
	case errors.Is(err, clock.ErrTrusted):
		return newError(CodeRefused, "the clock is followed already: there is nothing to confirm", "")
	case errors.Is(err, clock.ErrMoved):
		return newError(CodeRefused, "the system's clock was set after you looked at it: nothing is confirmed", "look again: `sallyport backup clock`")
	}
	return err
}

// ClockEvent is the audit record of a change.
func ClockEvent(s clock.State, detail string) audit.Event {
	return audit.Event{Action: audit.Clock, Result: string(s.Status), Detail: join(DescribeClock(s), detail)}
}

// DescribeClock says in a sentence what the server makes of the clock.
func DescribeClock(s clock.State) string {
	now, wall := s.Now.UTC().Format(time.RFC3339), s.Wall.UTC().Format(time.RFC3339)
	switch {
	case s.Unwritten:
		return fmt.Sprintf("the system's clock says %s and is believed again, but it cannot be followed: what must be known of that cannot be written beside the state; history is kept by the server's own count (%s)", wall, now)
	case s.Damaged:
		return fmt.Sprintf("the record of the last known time is damaged, so the system's clock (%s) is not followed; history is kept by the server's own count (%s)", wall, now)
	case s.Status == clock.Ahead:
		return fmt.Sprintf("the system's clock says %s, %s ahead of what the server can account for, so it is not followed: nothing is destroyed for the time between; history is kept by the server's own count (%s)", wall, span(s.Offset), now)
	case s.Slowed:
		return fmt.Sprintf("the system's clock says %s, %s behind the server's own time (%s), which runs at half speed until the clock has caught up", wall, span(-s.Offset), now)
	case s.Status == clock.Behind:
		return fmt.Sprintf("the system's clock says %s, %s behind the server's own time (%s), which never goes back", wall, span(-s.Offset), now)
	}
	return "the system's clock is followed"
}

// AdviseClock says what to do about it; "" if nothing.
func AdviseClock(s clock.State) string {
	switch {
	case s.Status == clock.Trusted || s.Slowed:
		return ""
	case s.Unwritten:
		return "make room on the disk of the state, or see the server's log for what is wrong with it: the clock is followed within a minute after that"
	case s.Status == clock.Behind:
		return "set the system's clock right, then nothing else is to be done; if it is right, `sallyport backup clock confirm --reason WHY` has the server's time wait for it"
	}
	return "set the system's clock right, then nothing else is to be done; if it is right (the server was off for long, or its machine was paused), `sallyport backup clock confirm --reason WHY` has the server follow it"
}

func describeClock(s clock.State) Clock {
	return Clock{Status: string(s.Status), Now: s.Now, System: s.Wall, Offset: s.Offset, Since: s.Since, Slowed: s.Slowed, Damaged: s.Damaged, Unwritten: s.Unwritten, Unproven: s.Unproven, MaxOff: s.MaxOff, Advice: AdviseClock(s)}
}

// span is a time as people say it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}
