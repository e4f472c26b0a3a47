package content

import (
	"context"
	"io/fs"

	"sallyport/vfs/extent"
)

// Checkpoint makes everything written so far durable and returns its layout;
// the draft goes on. Full segments are in the blob, which the layout calls
// open; the bytes after them, less than a segment, are inline. The draft's
// Abort keeps the blob from then on.
func (d *Draft) Checkpoint(ctx context.Context) (*extent.Layout, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if !d.changed {
		return d.base, nil
	}
	d.drain()
	segments := d.logged()
	l, own := d.layout(segments << segmentShift) // now: other writers may go on while mu is not held
	if segments == 0 {
		return l, nil
	}
	if err := d.settle(ctx, segments); err != nil {
		return nil, err
	}
	d.published = true
	d.withLog(d.log.out.Sync)
	if d.err != nil {
		return nil, d.err
	}
	if own >= 0 {
		l.Blobs[own] = extent.Unsealed(d.log.id, segments)
	}
	return l, nil
}

// Finish writes what is left and the final segment, commits the blob durably
// and returns the layout: the base itself if nothing was changed, no blob if
// what was written fits inline. The draft is done, also after an error; then
// the blob, if metadata names one, is for Recover or Remove.
func (d *Draft) Finish(ctx context.Context) (*extent.Layout, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.end(); err != nil {
		return nil, err
	}
	defer d.release()
	if !d.changed {
		return d.base, nil
	}
	d.drain()
	if d.logged() == 0 {
		if l, _ := d.layout(0); len(l.Inline) <= extent.InlineMax {
			return l, nil
		}
	}
	bytes := d.logged()<<segmentShift + uint64(d.fill)
	l, own := d.layout(bytes)
	if own < 0 && !d.published { // all that was written is overwritten or cut off again
		return l, d.drop()
	}
	if err := d.seal(ctx); err != nil {
		return nil, err
	}
	if own >= 0 {
		l.Blobs[own] = extent.Sealed(d.log.id, bytes)
	}
	return l, nil
}

// Abort drops the draft. A blob that a checkpoint published is sealed as far as
// it got, any other is removed. After Finish it does nothing.
func (d *Draft) Abort() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil
	}
	failed := d.end() != nil
	defer d.release()
	if d.log == nil {
		return nil
	}
	if failed || !d.published {
		return d.drop()
	}
	d.discard()
	return d.seal(d.ctx)
}

// end stops all other calls and waits for those under way. It returns why the draft cannot be finished.
func (d *Draft) end() error {
	if d.done {
		return fs.ErrClosed
	}
	d.done = true
	for d.busy || d.calls > 0 {
		d.changes.Wait()
	}
	if d.err != nil {
		d.drop()
		d.release()
	}
	return d.err
}

// seal writes the rest of the queue and the tail as the final segment, and commits.
func (d *Draft) seal(ctx context.Context) error {
	for len(d.queue) > batchSegments && d.err == nil {
		d.flush(ctx, batchSegments)
	}
	if d.err != nil {
		d.drop()
		return d.err
	}
	d.whole = d.log == nil
	tail := []byte{}
	if d.fill > 0 {
		tail = d.tail.data[:d.fill]
	}
	d.withLog(func() error {
		if err := d.writeOut(ctx, d.queue, tail, d.broken); err != nil {
			return err
		}
		return d.log.out.Commit()
	})
	if d.err != nil {
		d.drop()
		return d.err
	}
	d.final, d.sealed = d.logged()<<segmentShift+uint64(d.fill), true
	return nil
}

// drop ends the blob's writer without commit.
func (d *Draft) drop() error {
	if d.log == nil {
		return nil
	}
	return d.log.out.Abort()
}

// discard frees all that is not in the blob.
func (d *Draft) discard() {
	for _, c := range d.window.chunks {
		d.freeChunk(c)
	}
	for _, s := range d.queue {
		if s.chunk != nil {
			d.freeChunk(s.chunk)
		}
	}
	if d.tail != nil {
		d.freeChunk(d.tail)
	}
	d.window.chunks, d.queue, d.tail, d.fill = nil, nil, nil, 0
}

// release gives everything back at the end.
func (d *Draft) release() {
	d.discard()
	d.blobs.close()
	d.m = extent.Map{}
	d.changes.Broadcast()
}

// layout flattens the map. Log bytes below inBlob are referred to as the own
// blob, whose place in Blobs is own (-1: not used) and to be filled in by the
// caller; those from there on, which must lie in the tail, become inline.
func (d *Draft) layout(inBlob uint64) (l *extent.Layout, own int) {
	b := layoutBuilder{l: &extent.Layout{Size: d.size}, number: make([]int, len(d.base.Blobs)+1)}
	for e := range d.m.All() {
		switch {
		case e.Blob == extent.Inline:
			b.inline(e.Off, d.base.Inline[e.BlobOff:][:e.Len])
		case e.Blob != d.own:
			b.blob(e, d.base.Blobs[e.Blob])
		default:
			if e.BlobOff < inBlob {
				head := e
				head.Len = min(e.Len, inBlob-e.BlobOff)
				b.blob(head, extent.BlobRef{})
				e.Off, e.BlobOff, e.Len = e.Off+head.Len, e.BlobOff+head.Len, e.Len-head.Len
			}
			if e.Len > 0 {
				b.inline(e.Off, d.tail.data[e.BlobOff-inBlob:][:e.Len])
			}
		}
	}
	return b.l, b.number[d.own] - 1
}

// layoutBuilder keeps only the blobs that are used, numbered by first use.
type layoutBuilder struct {
	l      *extent.Layout
	number []int // old number → new number + 1
}

func (b *layoutBuilder) blob(e extent.Extent, ref extent.BlobRef) {
	old := e.Blob
	if b.number[old] == 0 {
		b.l.Blobs = append(b.l.Blobs, ref)
		b.number[old] = len(b.l.Blobs)
	}
	e.Blob = uint32(b.number[old] - 1)
	b.l.Extents = append(b.l.Extents, e)
}

func (b *layoutBuilder) inline(off uint64, data []byte) {
	at := uint64(len(b.l.Inline))
	b.l.Inline = append(b.l.Inline, data...)
	if n := len(b.l.Extents); n > 0 {
		if last := &b.l.Extents[n-1]; last.Blob == extent.Inline && last.End() == off && last.BlobOff+last.Len == at {
			last.Len += uint64(len(data))
			return
		}
	}
	b.l.Extents = append(b.l.Extents, extent.Extent{Off: off, Len: uint64(len(data)), BlobOff: at, Blob: extent.Inline})
}
