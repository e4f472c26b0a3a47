package content

import (
	"context"
	"io/fs"
	"sync"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// Draft is one file's content under change: the base layout, one new blob and
// the window. Safe for concurrent use.
//
// Bytes travel window → queue → blob. In the window they lie by file offset
// and may be overwritten. When a run is long enough they get their place in
// the log (the extent map points there from then on) and become full segments
// in the queue, or wait in the tail for their segment to fill. One goroutine
// at a time owns the log: it seals and writes the queue without holding mu,
// while others go on filling the window.
//
// An error of sealing or writing is sticky: the draft then takes no more
// writes and Finish fails. The base is never touched.
type Draft struct {
	store *Store
	ctx   context.Context // of the file handle: io.WriterAt and io.ReaderAt take none
	base  *extent.Layout
	own   uint32 // number of the own blob in the map
	blobs *sources

	mu      sync.Mutex
	changes *sync.Cond // of busy, calls, written, err
	m       extent.Map
	size    uint64
	changed bool
	done    bool
	err     error // sticky
	calls   int   // under way, which the end waits for

	window window
	held   int64     // bytes of buffers counted in the budget
	next   uint64    // file offset that would continue the log
	queue  []segment // in log order; queue[0] is segment number written
	tail   *chunk    // the segment being filled after the queue; nil if empty
	fill   int       // bytes in the tail

	written    uint64 // segments in the blob
	log        *blobLog
	busy       bool   // a goroutine owns the log
	linearFrom uint64 // file offset of log byte 0
	broken     bool   // the log is not one line of the file
	published  bool   // a checkpoint relies on the blob
	whole      bool   // the end writes the blob with one call, and nothing was written before
	final      uint64 // plaintext bytes of the blob once it is sealed
	sealed     bool
}

// Edit starts a draft on base (nil = empty). Nothing is read or written until
// needed. ctx governs all later calls that take none.
func (s *Store) Edit(ctx context.Context, base *extent.Layout) (*Draft, error) {
	if base == nil {
		base = &extent.Layout{}
	}
	if err := base.Check(); err != nil {
		return nil, err
	}
	d := &Draft{
		store: s, ctx: ctx, base: base, own: uint32(len(base.Blobs)), blobs: newSources(ctx, s, base.Blobs),
		m: *extent.NewMap(base.Extents), size: base.Size, next: base.Size,
	}
	d.changes = sync.NewCond(&d.mu)
	if len(base.Inline) > extent.InlineMax {
		d.absorb()
	}
	return d, nil
}

// absorb moves the inline bytes of a version made by Checkpoint, up to a
// segment, into the log, so that inline bytes do not pile up.
func (d *Draft) absorb() {
	for _, e := range d.base.Extents {
		if e.Blob == extent.Inline {
			d.toLog(d.base.Inline[e.BlobOff:][:e.Len], e.Off, true)
		}
	}
}

// enter begins a call that changes the draft; leave ends it. mu is held.
func (d *Draft) enter() error {
	if d.err != nil {
		return d.err
	}
	if d.done {
		return fs.ErrClosed
	}
	d.calls++
	return nil
}

func (d *Draft) leave() {
	if d.calls--; d.calls == 0 {
		d.changes.Broadcast()
	}
}

// Size is the size of the file as written so far, bytes.
func (d *Draft) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(d.size)
}

// Changed says whether anything was written or truncated since Edit.
func (d *Draft) Changed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Blob names the draft's own blob if it stands sealed in the store after
// Finish or Abort, with its plaintext bytes; a layout may use fewer or none of them.
func (d *Draft) Blob() (id blob.ID, bytes uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.sealed {
		return blob.ID{}, 0, false
	}
	return d.log.id, d.final, true
}

// WriteAt implements io.WriterAt. The bytes are not durable before Checkpoint
// or Finish. ErrBudget is the one error after which the draft may go on.
func (d *Draft) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, len(p)); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.leave()
	n := 0
	for n < len(p) && d.err == nil {
		at := uint64(off) + uint64(n)
		k := d.buffer(p[n:], at)
		if k == 0 {
			if d.makeRoom(at) {
				continue
			}
			// Others hold the whole budget, this draft nothing but its tail: go on in order of arrival.
			if k = d.toLog(p[n:], at, false); k == 0 {
				return n, ErrBudget
			}
		}
		n += k
		d.wrote(at + uint64(k))
		d.collect()
	}
	d.flush(d.ctx, batchSegments)
	return n, d.err
}

func (d *Draft) wrote(end uint64) {
	d.changed = true
	d.size = max(d.size, end)
}

// buffer copies into the window and returns how much found room.
func (d *Draft) buffer(p []byte, off uint64) int {
	if d.window.empty() {
		d.aim(off)
	}
	limit := int64(windowMax)
	if off <= d.next && d.next < off+uint64(len(p)) {
		limit += 8 * segmentPlain // what all the others wait for must get in
	}
	n := 0
	for n < len(p) {
		index, at := d.window.place(off + uint64(n))
		c := d.window.find(index)
		if c == nil {
			if c = d.newChunk(limit); c == nil {
				break
			}
			d.window.insert(c, index)
			if d.held > windowMax { // whoever has the rest of this chunk may be waiting for room
				d.changes.Broadcast()
			}
		}
		k := copy(c.data[at:], p[n:])
		c.mark(at, at+k)
		n += k
	}
	return n
}

// aim sets the grid of the empty window for a first write at off. A write
// shortly after the end of the log is taken for a later part of a sequential
// upload whose pieces arrive out of order.
func (d *Draft) aim(off uint64) {
	if off < d.next || off-d.next > windowMax {
		d.next = off
	}
	d.window.phase = (d.next - uint64(d.fill)) & segmentMask
}

// newChunk takes a buffer if this draft holds less than limit and the budget
// allows it. A limit of 0 means that progress depends on it.
func (d *Draft) newChunk(limit int64) *chunk {
	if limit == 0 {
		d.store.Budget.forceDirty(segmentPlain)
	} else if d.held >= limit || !d.store.Budget.takeDirty(segmentPlain) {
		return nil
	}
	d.held += segmentPlain
	c := get[chunk](&d.store.pools.chunks)
	c.dirty = c.dirty[:0]
	return c
}

func (d *Draft) freeChunk(c *chunk) {
	d.store.pools.chunks.Put(c)
	d.held -= segmentPlain
	d.store.Budget.giveDirty(segmentPlain)
}

// makeRoom lets bytes go on their way to the blob, or waits until some did, or until there is a chunk for off.
// False means that there is nothing to let go.
func (d *Draft) makeRoom(off uint64) bool {
	switch {
	case d.busy:
		d.changes.Wait()
	case len(d.queue) > 0:
		d.flush(d.ctx, 1)
	case d.window.empty():
		return false
	case d.held >= windowMax && d.window.dense() && d.progressed(off):
	default:
		d.drain()
	}
	return true
}

// progressed waits for the piece that an otherwise sequential upload lacks, and
// says whether it came: a worker may lose the processor for longer than the
// others need to fill the window. Pieces may be smaller than a chunk: then the one that begins it lets the others in, long before the log
// goes on.
func (d *Draft) progressed(off uint64) bool {
	index, _ := d.window.place(off)
	was, expired := d.next, false
	came := func() bool { return d.next != was || d.window.find(index) != nil }
	timer := time.AfterFunc(gapPatience, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		expired = true
		d.changes.Broadcast()
	})
	defer timer.Stop()
	for !came() && !expired && d.err == nil {
		d.changes.Wait()
	}
	return came()
}
