package clock

import "time"

// look reads the clock and decides whether to follow it. Called with mu held.
func (c *Clock) look(wall time.Time, now time.Duration) {
	wall = wall.Round(0)                          // by its date, and not by what has passed
	if s := c.slept(); s-c.sleep >= time.Second { // less may be the time between two readings
		c.suspended(s-c.sleep, now)
		c.sleep = s
	}
	own := c.line.Load().read(now)
	behind := own.Sub(wall)
	switch {
	case c.doubt, c.stillFalse(wall, now), wall.After(c.limit.read(now)):
		c.keepOn(own, now, 1)
		c.note(State{Status: Ahead, Damaged: c.doubt}, own)
	case behind <= jitter:
		_ = c.follow(wall, now, false) // it has told
	case behind <= c.o.MaxOff || c.slow:
		// Half speed, or just as much as the clock lacks, until the next look.
		c.keepOn(own, now, max(0.5, 1-float64(behind)/float64(c.o.Every)))
		if behind <= c.o.MaxJump {
			c.note(State{Status: Trusted}, own)
		} else {
			c.note(State{Status: Behind, Slowed: true, Confirmed: c.slow}, own)
		}
	default:
		c.keepOn(own, now, 1)
		c.note(State{Status: Behind}, own)
	}
}

// stillFalse tells whether the clock is where the last run did not believe it. Without this, a restart would make a few hours that it
// was ahead look like a few hours that the server was off.
func (c *Clock) stillFalse(wall time.Time, now time.Duration) bool {
	if c.lie.from.IsZero() {
		return false
	}
	if !wall.Before(c.lie.read(now)) {
		return true
	}
	c.lie = limit{}
	return false
}

// suspended moves everything that counts by Elapsed by what it did not count.
func (c *Clock) suspended(d, now time.Duration) {
	l := c.line.Load()
	c.line.Store(&line{at: now, now: l.read(now).Add(d), rate: l.rate})
	c.limit.from = c.limit.from.Add(d)
	if !c.lie.from.IsZero() {
		c.lie.from = c.lie.from.Add(d)
	}
}

// keepOn goes on by the own count.
func (c *Clock) keepOn(own time.Time, now time.Duration, rate float64) {
	c.line.Store(&line{at: now, now: own, rate: rate})
}

// note sets the state, and remembers since when the clock is not simply followed.
func (c *Clock) note(s State, own time.Time) {
	if s.Since = c.since; c.since.IsZero() {
		c.since, s.Since = own, own
	}
	if s.Status == Trusted {
		s.Since = time.Time{}
	}
	c.state = s
}

// follow makes the clock the server's time. What got its instants since the clock was not believed got them too early, by what is leapt
// over now: that is durable before anything can be called old by the new time. An error leaves everything as it was.
func (c *Clock) follow(wall time.Time, now time.Duration, confirmed bool) error {
	wall = wall.Round(0)
	own := c.line.Load().read(now)
	to := wall
	if to.Before(own) {
		to = own
	}
	was, before := *c.leaps.Load(), c.undo()
	if !c.since.IsZero() && to.Sub(own) > smallLeap {
		leaps := append(was[max(0, len(was)-maxLeaps+1):len(was):len(was)], leap{since: c.since, from: own, to: to})
		c.leaps.Store(&leaps)
	}
	if confirmed || !c.based { // the first clock that is believed in this run is what later ones are measured by
		c.limit, c.based = limit{from: to, at: now, slack: c.o.MaxJump}, true
	}
	c.since, c.doubt, c.lie, c.slow = time.Time{}, false, limit{}, false
	c.state = State{Status: Trusted}
	if len(*c.leaps.Load()) > len(was) || confirmed {
		if err := c.write(c.remember(to, wall)); err != nil {
			c.leaps.Store(&was)
			before()
			c.o.Log.Error("the clock cannot be followed: what must be known of that is not written", "error", err)
			return err
		}
	}
	c.line.Store(&line{at: now, now: to, rate: 1})
	return nil
}

// undo puts back what follow changes.
func (c *Clock) undo() func() {
	limit, based, since, doubt, lie, slow, state := c.limit, c.based, c.since, c.doubt, c.lie, c.slow, c.state
	return func() {
		c.limit, c.based, c.since, c.doubt, c.lie, c.slow, c.state = limit, based, since, doubt, lie, slow, state
	}
}
