package vfs

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"sallyport/vfs/meta"
)

// drainBatch is how many events are taken from the outbox before they are acknowledged together.
const drainBatch = 256

// Drain hands the outbox in order to put; an event leaves the outbox after put returned nil for it. A crash in between
// hands it out again: put sees every event at least once, in order. One Drain of a volume runs at a time. The error of put
// is returned as it is.
func (v *Volume) Drain(ctx context.Context, put func(event []byte) error) error {
	return v.drain(ctx, func(events [][]byte) (taken int, err error) {
		for i, e := range events {
			if err := ctx.Err(); err != nil {
				return i, err
			}
			if err := put(e); err != nil {
				return i, err
			}
		}
		return len(events), nil
	})
}

// DrainBatch is Drain with up to 256 events at a time, which leave the outbox together if put returns nil, and not at all
// otherwise.
func (v *Volume) DrainBatch(ctx context.Context, put func(events [][]byte) error) error {
	return v.drain(ctx, func(events [][]byte) (taken int, err error) {
		if err := put(events); err != nil {
			return 0, err
		}
		return len(events), nil
	})
}

func (v *Volume) drain(ctx context.Context, put func([][]byte) (taken int, err error)) error {
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

// drain hands out one batch.
func (c *core) drain(ctx context.Context, put func([][]byte) (taken int, err error)) (more bool, err error) {
	var seqs []uint64
	var events [][]byte
	err = c.db.View(func(tx *meta.Tx) error {
		return tx.Outbox(func(seq uint64, event []byte) bool {
			seqs, events = append(seqs, seq), append(events, bytes.Clone(event))
			return len(events) < drainBatch
		})
	})
	if err != nil {
		return false, public(err)
	}
	if len(events) == 0 {
		return false, nil
	}
	taken, failed := put(events)
	if taken > 0 {
		// What put took must leave the outbox even if the caller has gone meanwhile.
		err = c.update(context.WithoutCancel(ctx), func(tx *meta.Tx) error { return tx.Ack(seqs[taken-1]) })
	}
	switch {
	case failed != nil:
		return false, failed
	case err != nil:
		return false, public(err)
	}
	return len(events) == drainBatch, nil
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
	if v.noting != nil {
		return
	}
	v.noting = make(chan struct{})
	// Owner: FS.Close waits. The goroutine ends when nothing new was noted.
	v.fs.notes.Go(func() {
		for v.news() {
			(*fn)(v)
		}
	})
}

// Notified waits until OnOutbox was called for every commit that has returned. Who drains for the last time knows then of all volumes.
func (f *FS) Notified() {
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.volumes))
	f.mu.Unlock()
	for _, v := range all {
		v.mu.Lock()
		under := v.noting
		v.mu.Unlock()
		if under != nil {
			<-under
		}
	}
}

// news takes the note that there are events, or ends the notifier.
func (v *Volume) news() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.noted {
		close(v.noting)
		v.noting = nil
		return false
	}
	v.noted = false
	return true
}

// announce has the outbox drained if a crash or a failed Drain left something in it.
func (c *core) announce() {
	if c.untold() {
		c.vol.notify()
	}
}

// untold says whether events wait. One that cannot be read does not: it can be told to nobody.
func (c *core) untold() (waits bool) {
	err := c.db.View(func(tx *meta.Tx) error {
		return tx.Outbox(func(uint64, []byte) bool { waits = true; return false })
	})
	return err == nil && waits
}
