package clock

import (
	"errors"
	"fmt"
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

// save writes the record as of now. If that fails, another try comes by itself.
func (c *Clock) save(now time.Duration) {
	j := c.now.Load()
	_ = c.try(now, func() *remembered { return c.remember(j, c.Now()) }) // it has told
}

// try writes a record, but not again at once after a failure.
func (c *Clock) try(now time.Duration, r func() *remembered) error {
	if c.saving.wait > 0 && now < c.saving.next {
		return errNotYet
	}
	return c.write(r())
}

// write makes the record durable; called by who has the turn. The first of several failures is told, and their end.
func (c *Clock) write(r *remembered) error {
	err := c.put(c.seal(r))
	now := c.o.Elapsed()
	if err != nil {
		err = fmt.Errorf("noting the time: %w", err)
		if c.saving.wait == 0 {
			c.o.Log.Error("the last known time cannot be written; it is tried again", "error", err)
		}
		c.saving.wait = min(max(2*c.saving.wait, retryFirst), retryLast)
		c.saving.next = now + c.saving.wait
		return err
	}
	if c.saving.wait > 0 {
		c.o.Log.Info("the last known time is written again")
	}
	c.saving = saving{at: now}
	return nil
}
