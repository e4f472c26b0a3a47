package clock

import (
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	saveEvery = time.Minute
	// retryFirst and retryLast are how long a record that cannot be written waits for the next try: each synced write that fails may
	// keep a disk busy that others need to recover.
	retryFirst, retryLast = time.Second, time.Minute
)

var errNotYet = errors.New("clock: it could not be written, and is not tried again yet")

// saving is when the record was written, and is to be.
type saving struct {
	at   time.Duration // Elapsed at the last success
	wait time.Duration // from the last failure to the next try; 0 = it did not fail
	next time.Duration // Elapsed then
}

func (s *saving) due(now time.Duration) bool { return now-s.at >= saveEvery }

// failed puts off the next try.
func (s *saving) failed(now time.Duration) {
	s.wait = min(max(2*s.wait, retryFirst), retryLast)
	s.next = now + s.wait
}

// save writes the record as of now. If that fails, another try comes by itself.
func (c *Clock) save(now time.Duration) {
	_ = c.try(now, c.now.Load()) // it has told
}

// try writes the record of a judgement, but not again at once after a failure.
func (c *Clock) try(now time.Duration, j *judgement) error {
	if c.saving.wait > 0 && now < c.saving.next {
		return errNotYet
	}
	return c.write(j)
}

// write makes the record of a judgement durable; called by who has the turn. The first of several failures is told, and their end. It never
// takes the place of one that was not read, because what that knows is nowhere else: until then it has a name of its own.
func (c *Clock) write(j *judgement) error {
	path := c.o.Path
	if j.unread != "" {
		path += meanwhile
	}
	err := c.put(path, c.seal(c.remember(j)))
	now := c.o.Elapsed()
	if err != nil {
		err = fmt.Errorf("noting the time: %w", err)
		if c.saving.wait == 0 {
			c.o.Log.Error("the last known time cannot be written; it is tried again", "error", err)
		}
		c.saving.failed(now)
		return err
	}
	if c.saving.wait > 0 {
		c.o.Log.Info("the last known time is written again")
	}
	c.saving = saving{at: now}
	if c.left && j.unread == "" { // a crash before this, or an error, leaves something that is taken for older than it is, and that is safe
		_ = os.Remove(c.o.Path + meanwhile)
	}
	c.left = j.unread != ""
	return nil
}
