package content

import (
	"context"
	"errors"
	"slices"

	"sallyport/vfs/extent"
)

// assign gives n file bytes from off on the next place in the log.
func (d *Draft) assign(off uint64, n int) {
	at := d.logged()<<segmentShift + uint64(d.fill)
	if at == 0 {
		d.linearFrom = off
	}
	if off != d.linearFrom+at {
		d.broken = true
	}
	d.m.Insert(extent.Extent{Off: off, Len: uint64(n), BlobOff: at, Blob: d.own})
	d.next = off + uint64(n)
	d.changes.Broadcast()
}

// enqueue makes c, filled to the end, the next full segment of the log.
func (d *Draft) enqueue(c *chunk) { d.queue = append(d.queue, segment{c.data[:], c}) }

// toLog appends p to the log by way of the tail and returns how much found
// room; all of it if forced.
func (d *Draft) toLog(p []byte, off uint64, force bool) int {
	limit := int64(windowMax)
	if force {
		limit = 0
	}
	n := 0
	for n < len(p) {
		if d.tail == nil {
			if d.tail = d.newChunk(limit); d.tail == nil {
				break
			}
		}
		k := min(len(p)-n, segmentPlain-d.fill)
		d.assign(off+uint64(n), k)
		copy(d.tail.data[d.fill:], p[n:n+k])
		n, d.fill = n+k, d.fill+k
		if d.fill == segmentPlain {
			c := d.tail
			d.tail, d.fill = nil, 0
			d.enqueue(c)
		}
	}
	return n
}

// collect moves what continues the log from the window to the queue, in full segments.
func (d *Draft) collect() {
	for !d.window.empty() {
		index, at := d.window.place(d.next)
		c := d.window.find(index)
		if c == nil || at != d.fill || !c.covers(at, segmentPlain) {
			return
		}
		if at == 0 {
			d.window.remove(c)
			d.assign(d.next, segmentPlain)
			d.enqueue(c)
			continue
		}
		// The tail holds the segment's beginning since the last drain: this happens once, not per segment.
		d.toLog(c.data[at:], d.next, true)
		c.clean(at, segmentPlain)
		d.freeIfClean(c)
	}
}

func (d *Draft) freeIfClean(c *chunk) {
	if len(c.dirty) == 0 {
		d.window.remove(c)
		d.freeChunk(c)
	}
}

// drain gives everything in the window its place in the log, in file order.
func (d *Draft) drain() {
	d.collect()
	for !d.window.empty() {
		c := d.window.chunks[0]
		start := d.window.start(c)
		if d.fill == 0 && c.covers(0, segmentPlain) {
			d.window.remove(c)
			d.assign(uint64(start), segmentPlain)
			d.enqueue(c)
			continue
		}
		for _, s := range c.dirty {
			d.toLog(c.data[s.lo:s.hi], uint64(start+int64(s.lo)), true)
		}
		d.window.remove(c)
		d.freeChunk(c)
	}
}

// flush writes the queue out while it holds at least least segments, unless
// another goroutine is at it. mu is held at entry and return, not meanwhile.
func (d *Draft) flush(ctx context.Context, least int) {
	for !d.busy && d.err == nil && len(d.queue) > 0 && len(d.queue) >= least {
		n := min(len(d.queue), batchSegments)
		batch, broken := d.queue[:n], d.broken
		d.withLog(func() error { return d.writeOut(ctx, batch, nil, broken) })
		if d.err == nil {
			d.wroteOut(n)
		}
	}
}

// settle writes out or waits until that many segments of the log are in the blob and nobody owns it.
func (d *Draft) settle(ctx context.Context, segments uint64) error {
	for d.busy || d.err == nil && d.written < segments {
		if d.busy {
			d.changes.Wait()
		} else {
			d.flush(ctx, 1)
		}
	}
	return d.err
}

// withLog runs fn as the owner of the log, without mu. Nobody may own it. An error is sticky.
func (d *Draft) withLog(fn func() error) {
	d.busy = true
	d.mu.Unlock()
	err := errors.New("content: internal error: panic while writing")
	defer func() { // also on a panic, which must find the lock as its callers expect it
		d.mu.Lock()
		d.busy = false
		if d.err == nil {
			d.err = err
		}
		d.changes.Broadcast()
	}()
	err = fn()
}

// writeOut appends a batch to the blob, which it makes first if need be. The caller owns the log.
func (d *Draft) writeOut(ctx context.Context, full []segment, final []byte, broken bool) error {
	if d.log == nil {
		l, err := d.store.openLog(ctx, d.linearFrom, d.whole)
		if err != nil {
			return err
		}
		d.log = l
		d.blobs.add(d.own, l.source)
	}
	if broken {
		if err := d.log.scatter(ctx); err != nil {
			return err
		}
	}
	return d.log.append(full, final)
}

// wroteOut takes the first n segments out of the queue: they are in the blob.
func (d *Draft) wroteOut(n int) {
	for _, s := range d.queue[:n] {
		if s.chunk != nil {
			d.freeChunk(s.chunk)
		}
	}
	d.queue = slices.Delete(d.queue, 0, n)
	d.written += uint64(n)
	d.changes.Broadcast()
}

// logged is the number of full segments that have their place in the log.
func (d *Draft) logged() uint64 { return d.written + uint64(len(d.queue)) }
