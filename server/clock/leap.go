package clock

import (
	"slices"
	"time"
)

// leap is a stretch of the server's time that turned out to be too early: what got instants from since to from really happened as
// much later as the server's time then leapt, to to.
type leap struct{ since, from, to time.Time }

// maxLeaps bounds the record. One comes with a confirmation, or with a start on a clock that was behind until something
// set it; the oldest are forgotten first, and everything up to their end counts as of then.
const maxLeaps = 1000

func (l leap) by() time.Duration { return l.to.Sub(l.from) }

// past is what is known of the server's time up to now.
type past struct {
	leaps []leap    // in order, and without overlap
	known time.Time // everything before it counts as of then: leaps may be missing there, and no age is certain but that one
}

// add adds the newest leap. What the oldest one says is lost by that, if there are too many, and so everything up to its end counts as of then.
func (p *past) add(l leap) {
	was := p.leaps
	if over := len(was) - maxLeaps + 1; over > 0 {
		p.from(was[over-1].to)
		was = was[over:]
	}
	p.leaps = append(was[:len(was):len(was)], l)
}

// from says that leaps before an instant may be missing.
func (p *past) from(at time.Time) {
	if at.After(p.known) {
		p.known = at
	}
}

// end is that of the last leap.
func (p past) end() time.Time {
	if len(p.leaps) == 0 {
		return time.Time{}
	}
	return p.leaps[len(p.leaps)-1].to
}

// past is what is known so far.
func (c *Clock) past() past {
	if j := c.now.Load(); j != nil {
		return j.past
	}
	return past{c.found.leaps, c.found.known}
}

// Settled is when something of an instant happened, as far as is known now, or later if that is not known (State.Known). An instant between
// from and to of a leap was given before it, too: by a run that a crash ended, whose time the next one did not reach again.
func (c *Clock) Settled(at time.Time) time.Time {
	if c == nil {
		return at
	}
	return c.past().settled(at)
}

func (p past) settled(at time.Time) time.Time {
	if at.Before(p.known) {
		at = p.known
	}
	for _, l := range p.leaps { // the end of one may be where the next begins
		switch {
		case at.Before(l.since):
			return at
		case !at.Before(l.to):
		case at.After(l.from):
			at = l.to
		default:
			at = at.Add(l.by())
		}
	}
	return at
}

// Before is the newest instant of which everything up to it is as old as keep, or older; one before all others if nothing is known to be.
func (c *Clock) Before(keep time.Duration) time.Time {
	at := c.Now().Add(-keep)
	if c == nil {
		return at
	}
	return c.past().cut(at) // read after Now: time that leapt is nowhere without its leap
}

// Reach is as Before, by what is known alone: what nobody knows to be younger is not shown again to those for whom it was too old.
func (c *Clock) Reach(keep time.Duration) time.Time {
	at := c.Now().Add(-keep)
	if c == nil {
		return at
	}
	return past{leaps: c.past().leaps}.cut(at)
}

// cut is the newest instant up to which everything settled at or before at.
func (p past) cut(at time.Time) time.Time {
	for _, l := range slices.Backward(p.leaps) {
		if at.Before(l.since) || !at.Before(l.to) {
			continue
		}
		if begin := l.since.Add(l.by()); at.Before(begin) {
			at = l.since.Add(-1)
		} else {
			at = at.Add(-l.by())
		}
	}
	if at.Before(p.known) {
		return time.Unix(0, -1)
	}
	return at
}
