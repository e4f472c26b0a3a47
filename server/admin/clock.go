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
	return s.tellClock(ctx, who, ClockEvent(was, r.Reason), "confirmed", func() (clock.State, error) { return s.o.Clock.Confirm(r.Offset) })
}

// clockForget records first who gives up what may have been known of the clock: what is too old by its date is destroyed within a minute.
func (s *Server) clockForget(ctx context.Context, who Peer, r ClockForget) (Clock, error) {
	was := s.o.Clock.State()
	if was.Known.IsZero() {
		return Clock{}, explainClock(clock.ErrKnown)
	}
	if !was.Known.Equal(r.Known) {
		return Clock{}, explainClock(clock.ErrMoved)
	}
	if strings.TrimSpace(r.Reason) == "" {
		return Clock{}, newError(CodeRefused, "to forget what the clock's record may have known needs a reason", "say with --reason why dates are right: what is too old by them is destroyed within a minute")
	}
	e := audit.Event{Action: audit.Clock, Detail: join("what was replaced and deleted before "+r.Known.UTC().Format(time.RFC3339)+" is as old as its date says", r.Reason)}
	return s.tellClock(ctx, who, e, "forgotten", func() (clock.State, error) { return s.o.Clock.Forget(r.Known) })
}

// tellClock records what an operator says of the clock, and then does it.
func (s *Server) tellClock(ctx context.Context, who Peer, e audit.Event, result string, do func() (clock.State, error)) (Clock, error) {
	e.Result = result
	if err := s.recordFirst(ctx, who, e); err != nil {
		return Clock{}, err
	}
	st, err := do()
	if err != nil {
		return Clock{}, s.notConfirmed(ctx, who, e, err)
	}
	return describeClock(st), nil
}

// notConfirmed says in the log that what it says already did not come true, and to whoever asked what became of it.
func (s *Server) notConfirmed(ctx context.Context, who Peer, e audit.Event, err error) error {
	confirmed := e.Result
	e.Result, e.Detail = "failed", join("the record before says that it was "+e.Result+"; it was not", err.Error())
	if errors.Is(err, durable.ErrUncertain) {
		e.Result, e.Detail = "uncertain", err.Error()
	}
	out := newError(CodeInternal, "nothing is "+confirmed+": it could not be written beside the state", "see the server's log; make room or look at the disk, then say it again")
	if errors.Is(err, durable.ErrUncertain) {
		out.Message = "the clock is not followed, but the disk did not say whether it keeps the confirmation: another start of the server may follow it"
	} else if known := (*Error)(nil); errors.As(explainClock(err), &known) {
		out = known
	}
	out.cause = err
	if s.record(ctx, who, e) != nil { // which has logged it
		out.Message += "; the audit log says that it was " + confirmed + ", and cannot be written to say that it was not"
	}
	return out
}

func explainClock(err error) error {
	switch {
	case errors.Is(err, clock.ErrTrusted):
		return newError(CodeRefused, "the clock is followed already: there is nothing to confirm", "")
	case errors.Is(err, clock.ErrKnown):
		return newError(CodeRefused, "every leap of the clock is known: there is nothing to forget", "")
	case errors.Is(err, clock.ErrMoved):
		return newError(CodeRefused, "the system's clock was set, or its record read, after you looked at it: nothing is done", "look again: `sallyport backup clock`")
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
		return fmt.Sprintf("the record of the last known time %s, so the system's clock (%s) is not followed; history is kept by the server's own count (%s), and what was replaced and deleted before %s as if it had been then", unread(s), wall, now, s.Known.UTC().Format(time.RFC3339))
	case s.Status == clock.Ahead:
		return fmt.Sprintf("the system's clock says %s, %s ahead of what the server can account for, so it is not followed: nothing is destroyed for the time between; history is kept by the server's own count (%s)", wall, span(s.Offset), now)
	case s.Slowed:
		return fmt.Sprintf("the system's clock says %s, %s behind the server's own time (%s), which runs at half speed until the clock has caught up", wall, span(-s.Offset), now)
	case s.Status == clock.Behind:
		return fmt.Sprintf("the system's clock says %s, %s behind the server's own time (%s), which never goes back", wall, span(-s.Offset), now)
	}
	if !s.Known.IsZero() {
		return fmt.Sprintf("the system's clock is followed; leaps of it before %[1]s may be missing, so what was replaced and deleted before is kept as if it had been then", s.Known.UTC().Format(time.RFC3339))
	}
	return "the system's clock is followed"
}

// unread says what is the matter with the record.
func unread(s clock.State) string {
	switch s.Unread {
	case clock.Unreadable:
		return "cannot be read (" + s.Cause + ")"
	case clock.Newer:
		return "was written by a later version of this program"
	case clock.Damaged:
		return "is damaged"
	}
	return "was lost"
}

// AdviseClock says what to do about it; "" if nothing.
func AdviseClock(s clock.State) string {
	switch {
	case s.Status == clock.Trusted || s.Slowed:
		return ""
	case s.Unread == clock.Unreadable:
		return "give the server its file `clock` back: it belongs to the server's user, mode 0600, and the disk has to give it; the server goes on from it within a minute. " + giveUp
	case s.Unread == clock.Newer:
		return "run the later version again, which goes on from it. " + giveUp
	case s.Unread == clock.Damaged:
		return "put the file `clock` back as it was, from a copy of the state: the server goes on from it within a minute. " + giveUp
	case s.Unwritten:
		return "make room on the disk of the state, or see the server's log for what is wrong with it: the clock is followed within a minute after that"
	case s.Status == clock.Behind:
		return "set the system's clock right, then nothing else is to be done; if it is right, `sallyport backup clock confirm --reason WHY` has the server's time wait for it"
	}
	return "set the system's clock right, then nothing else is to be done; if it is right (the server was off for long, or its machine was paused), `sallyport backup clock confirm --reason WHY` has the server follow it"
}

// giveUp is what is left if that cannot be.
const giveUp = "If it is lost and the system's clock is right, `sallyport backup clock confirm --reason WHY` puts it aside, and what was replaced and deleted is kept for its whole time from the last record of the audit log on"

func describeClock(s clock.State) Clock {
	return Clock{Status: string(s.Status), Now: s.Now, System: s.Wall, Offset: s.Offset, Since: s.Since, Slowed: s.Slowed, Damaged: s.Damaged, Unread: string(s.Unread), Cause: s.Cause, Known: s.Known, Unwritten: s.Unwritten, Unproven: s.Unproven, MaxOff: s.MaxOff, Advice: AdviseClock(s)}
}

// span is a time as people say it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}
