package content

import "io"

// CopyFrom writes what src has, until it ends, to the file from off on, and
// returns the bytes written. It is the way of streams: full segments are read
// into one buffer, sealed where they lie and appended, a batch at a time.
// Whatever arrived before an error of src is written.
func (d *Draft) CopyFrom(src io.Reader, off int64) (int64, error) {
	if err := checkRange(off, 0); err != nil {
		return 0, err
	}
	in := inlet{draft: d}
	defer in.free()
	var total int64
	for {
		buf := in.take()
		buf = buf[:d.lead(off+total, len(buf))]
		n, srcErr := fillFrom(src, buf)
		k, err := d.put(buf[:n], off+total)
		total += int64(k)
		switch {
		case err != nil:
			return total, err
		case srcErr == io.EOF:
			return total, nil
		case srcErr != nil:
			return total, srcErr
		}
	}
}

// inlet is the buffer of one CopyFrom: one segment at first, since most files are small, then a batch.
type inlet struct {
	draft *Draft
	small *chunk
	large *slab
	paid  int64
}

func (in *inlet) take() []byte {
	store := in.draft.store
	switch {
	case in.large != nil:
		return in.large[:]
	case in.small == nil: // without it there is no progress
		store.Budget.forceDirty(segmentPlain)
		in.paid = segmentPlain
		in.small = get[chunk](&store.pools.chunks)
	case store.Budget.takeDirty(int64(len(slab{}))):
		in.paid += int64(len(slab{}))
		in.large = get[slab](&store.pools.slabs)
		return in.large[:]
	}
	return in.small.data[:]
}

// free recycles the buffers, unless a failed draft's queue still points into them.
func (in *inlet) free() {
	d := in.draft
	d.mu.Lock()
	failed := d.err != nil
	d.mu.Unlock()
	if !failed && in.small != nil {
		d.store.pools.chunks.Put(in.small)
	}
	if !failed && in.large != nil {
		d.store.pools.slabs.Put(in.large)
	}
	d.store.Budget.giveDirty(in.paid)
}

// lead is how much of n bytes to read first, so that the bytes after them start a segment of the log.
func (d *Draft) lead(off int64, n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.window.empty() && d.fill == 0 {
		return n
	}
	phase := d.window.phase
	if d.window.empty() {
		phase = d.next - uint64(d.fill)
	}
	if at := (uint64(off) - phase) & segmentMask; at != 0 {
		return min(n, segmentPlain-int(at))
	}
	return n
}

// put writes p, straight to the log as far as it consists of segments that nothing else delays.
func (d *Draft) put(p []byte, off int64) (int, error) {
	if err := checkRange(off, len(p)); err != nil {
		return 0, err
	}
	n, err := d.putSegments(p[:len(p)&^segmentMask], off)
	if err != nil || n == len(p) {
		return n, err
	}
	k, err := d.WriteAt(p[n:], off+int64(n))
	return n + k, err
}

func (d *Draft) putSegments(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.leave()
	if !d.window.empty() || d.fill != 0 {
		return 0, nil
	}
	for at := 0; at < len(p); at += segmentPlain {
		d.assign(uint64(off)+uint64(at), segmentPlain)
		d.queue = append(d.queue, segment{plain: p[at:][:segmentPlain]})
	}
	d.wrote(uint64(off) + uint64(len(p)))
	if err := d.settle(d.ctx, d.logged()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fillFrom reads until p is full. io.EOF is the regular end and nothing else
// is: a connection that broke says io.ErrUnexpectedEOF, so io.ReadFull, which
// uses that for a short last read, will not do.
func fillFrom(src io.Reader, p []byte) (int, error) {
	n, idle := 0, 0
	for n < len(p) {
		k, err := src.Read(p[n:])
		n += k
		if err != nil {
			return n, err
		}
		if idle++; k > 0 {
			idle = 0
		}
		if idle == 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}
