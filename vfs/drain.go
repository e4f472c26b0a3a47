package vfs

import (
	"context"

	"sallyport/vfs/meta"
)

// drainBatch is how many events are taken from the outbox before they are acknowledged together.
const drainBatch = 256

// Drain hands the outbox in order to put; an event leaves the outbox after put returned nil for it. A crash in between
// hands it out again: put sees every event at least once, in order. One Drain of a volume runs at a time.
func (v *Volume) Drain(ctx context.Context, put func(event []byte) error) error {
	select {
	case v.draining <- struct{}{}:
		defer func() { <-v.draining }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return v.do(ctx, func(c *core) error {
		for {
			more, err := c.drain(ctx, put)
			if err != nil || !more {
				return err
			}
		}
	})
}

// drain hands out one batch. The error of put is returned as it is.
func (c *core) drain(ctx context.Context, put func([]byte) error) (more bool, err error) {
	type item struct {
		seq   uint64
		event []byte
	}
	var batch []item
	err = c.db.View(func(tx *meta.Tx) error {
		return tx.Outbox(func(seq uint64, event []byte) bool {
			batch = append(batch, item{seq, append([]byte(nil), event...)})
			return len(batch) < drainBatch
		})
	})
	if err != nil {
		return false, public(err)
	}
	var done uint64
	var failed error
	for _, it := range batch {
		if failed = ctx.Err(); failed != nil {
			break
		}
		if failed = put(it.event); failed != nil {
			break
		}
		done = it.seq
	}
	if done != 0 {
		// What put took must leave the outbox even if the caller has gone meanwhile.
		err := c.update(context.WithoutCancel(ctx), func(tx *meta.Tx) error { return tx.Ack(done) })
		if err != nil && failed == nil {
			failed = err
		}
	}
	return failed == nil && len(batch) == drainBatch, failed
}

// notify has OnOutbox called, once for any number of commits that happen while it runs.
func (v *Volume) notify() {
	fn := v.fs.onOutbox.Load()
	if fn == nil || *fn == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.noted = true
	if v.noting {
		return
	}
	v.noting = true
	// Owner: FS.Close waits. The goroutine ends when nothing new was noted.
	v.fs.notes.Go(func() {
		for v.news() {
			(*fn)(v)
		}
	})
}

// news takes the note that there are events, or ends the notifier.
func (v *Volume) news() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.noted {
		v.noting = false
		return false
	}
	v.noted = false
	return true
}

// announce has the outbox drained if a crash or a failed Drain left something in it.
func (c *core) announce() {
	var some bool
	err := c.db.View(func(tx *meta.Tx) error {
		return tx.Outbox(func(uint64, []byte) bool { some = true; return false })
	})
	if err == nil && some {
		c.vol.notify()
	}
}
