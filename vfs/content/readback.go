package content

import (
	"io"
	"io/fs"

	"sallyport/vfs/extent"
)

// fetch is a part of a read that needs the blob store.
type fetch struct {
	blob uint32
	off  uint64
	dst  []byte
}

// ReadAt implements io.ReaderAt. It sees every write that returned before it began.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	var few [8]fetch
	fetches, n, err := d.plan(few[:0], p, uint64(off))
	if len(fetches) == 0 {
		return n, err
	}
	defer d.readDone()
	for _, f := range fetches {
		if err := d.blobs.read(f.blob, f.dst, f.off); err != nil {
			return 0, err
		}
	}
	return n, err
}

// plan copies what lies in memory, all at one instant, and returns what must be
// fetched. If that is anything, the caller calls readDone. Blobs never change
// below their end, so the fetches may happen later.
func (d *Draft) plan(fetches []fetch, p []byte, off uint64) ([]fetch, int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil, 0, fs.ErrClosed
	}
	if off >= d.size {
		return nil, 0, io.EOF
	}
	var err error
	if uint64(len(p)) > d.size-off {
		p, err = p[:d.size-off], io.EOF
	}
	at := off
	for lo, dirty := range d.window.spans(off, off+uint64(len(p))) {
		fetches = d.planLogged(fetches, p[at-off:lo-off], at)
		copy(p[lo-off:], dirty)
		at = lo + uint64(len(dirty))
	}
	fetches = d.planLogged(fetches, p[at-off:], at)
	if len(fetches) > 0 {
		d.calls++
	}
	return fetches, len(p), err
}

// planLogged plans bytes that are not in the window.
func (d *Draft) planLogged(fetches []fetch, p []byte, off uint64) []fetch {
	for at, end := off, off+uint64(len(p)); at < end; {
		e := d.m.Piece(at, end)
		at = e.End()
		part := p[e.Off-off:][:e.Len]
		switch e.Blob {
		case extent.Hole:
			clear(part)
		case extent.Inline:
			copy(part, d.base.Inline[e.BlobOff:])
		case d.own:
			fetches = d.planOwn(fetches, part, e.BlobOff)
		default:
			fetches = append(fetches, fetch{e.Blob, e.BlobOff, part})
		}
	}
	return fetches
}

// planOwn plans bytes of the log: those in the queue and the tail are copied.
func (d *Draft) planOwn(fetches []fetch, p []byte, at uint64) []fetch {
	if end := d.written << segmentShift; at < end {
		n := min(uint64(len(p)), end-at)
		fetches = append(fetches, fetch{d.own, at, p[:n]})
		p, at = p[n:], at+n
	}
	for len(p) > 0 {
		i := at>>segmentShift - d.written
		var data []byte
		if i < uint64(len(d.queue)) {
			data = d.queue[i].plain
		} else {
			data = d.tail.data[:d.fill]
		}
		n := copy(p, data[at&segmentMask:])
		p, at = p[n:], at+uint64(n)
	}
	return fetches
}

func (d *Draft) readDone() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave()
}
