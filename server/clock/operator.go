package clock

import "time"

// Confirm says that the system's clock is right, for who saw it at an Offset (State): one that is ahead is followed at once and for good,
// for one that is behind the server's time slows down until it has caught up. It is durable on return. ErrTrusted if there is nothing to
// confirm, ErrMoved if the clock is another by more than a minute, whatever happened while they thought about it.
func (c *Clock) Confirm(offset time.Duration) (State, error) {
	err := c.confirm(offset)
	return c.State(), err
}

func (c *Clock) confirm(offset time.Duration) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.closed || c.now.Load() == nil {
		return ErrClosed
	}
	now := c.o.Elapsed()
	c.reread(now)
	_ = c.look(c.o.Wall(), now)                     // a record that cannot be written is tried again below
	wall, now := c.o.Wall().Round(0), c.o.Elapsed() // after it: a disk may be slow to say that it cannot
	j := *c.now.Load()
	switch {
	case j.state.Status == Trusted, j.state.Slowed:
		return ErrTrusted
	case (wall.Sub(j.line.read(now)) - offset).Abs() > smallLeap:
		return ErrMoved
	case wall.Before(j.line.read(now)):
		j.slow, j.doubt, j.lie = true, false, reach{} // when time has waited for it, it is not to be taken for what was not believed
		j.unproven = unproven{at: now}                // who answers for the clock answers for what it was ahead by, too
		j.judge(&c.o, wall, now)
	default:
		j.follow(wall, now)
		j.base, j.unproven = reach{from: j.line.now, at: now}, unproven{at: now}
	}
	return c.decide(j)
}

// decide makes durable what an operator has said, and has it in force. A record that was not read has to make way for that, but not before
// there is another that knows of it: whoever comes after a crash must not take it for one that was never written.
func (c *Clock) decide(j judgement) error {
	if j.unread != "" {
		if !c.left {
			if err := c.write(c.now.Load()); err != nil {
				return err
			}
		}
		if err := c.putAside(); err != nil {
			return err
		}
		j.unread, j.cause = "", ""
	}
	if err := c.write(&j); err != nil {
		return err
	}
	c.now.Store(&j)
	return nil
}

// Forget says that no leap of those that may be missing has to be known, for who saw them missing before an instant (State.Known): what was
// replaced and deleted before is as old as its date says. It is durable on return. ErrKnown if none is missing, ErrMoved if it is another instant.
func (c *Clock) Forget(known time.Time) (State, error) {
	err := c.forget(known)
	return c.State(), err
}

func (c *Clock) forget(known time.Time) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.closed || c.now.Load() == nil {
		return ErrClosed
	}
	c.reread(c.o.Elapsed()) // what can be read again is not to be given up
	j := *c.now.Load()
	switch {
	case j.past.known.IsZero():
		return ErrKnown
	case !j.past.known.Equal(known):
		return ErrMoved
	}
	j.past.known = time.Time{}
	return c.decide(j)
}
