package clock

import "time"

// leap is a stretch of the server's time that turned out to be too early: what got instants from since to from really happened as
// much later as the server's time then leapt, to to.
type leap struct{ since, from, to time.Time }

// maxLeaps bounds the record. One comes with a confirmation, or with a start on a clock that was behind until something
// set it; the oldest are forgotten first.
const maxLeaps = 1000

func (l leap) by() time.Duration { return l.to.Sub(l.from) }

// known are the leaps so far.
func (c *Clock) known() []leap {
	if j := c.now.Load(); j != nil {
		return j.leaps
	}
	return c.found.leaps
}

// Settled is when something of an instant happened, as far as is known now. An instant between from and to of a leap was given before
// it, too: by a run that a crash ended, whose time the next one did not reach again.
func (c *Clock) Settled(at time.Time) time.Time {
	if c == nil {
		return at
	}
	return settled(c.known(), at)
}

func settled(leaps []leap, at time.Time) time.Time {
	for _, l := range leaps {
		if !at.Before(l.since) && at.Before(l.to) {
			if at.After(l.from) {
				return l.to
			}
			return at.Add(l.by())
		}
	}
	return at
}

// Before is the newest instant of which everything up to it is as old as keep, or older.
func (c *Clock) Before(keep time.Duration) time.Time {
	at := c.Now().Add(-keep)
	if c == nil {
		return at
	}
	return cut(c.known(), at) // read after Now: time that leapt is nowhere without its leap
}

// cut is the newest instant up to which everything settled at or before at. Leaps are in order and do not overlap.
func cut(leaps []leap, at time.Time) time.Time {
	for _, l := range leaps {
		if at.Before(l.since) || !at.Before(l.to) {
			continue
		}
		if begin := l.since.Add(l.by()); at.Before(begin) {
			return l.since.Add(-1)
		}
		return at.Add(-l.by())
	}
	return at
}
