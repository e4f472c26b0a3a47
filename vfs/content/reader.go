package content

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"sallyport/vfs/extent"
)

// Reader serves the file bytes of a layout. Safe for concurrent use. An idle
// reader holds a file descriptor per blob (at most 16) and at most four
// decrypted segments, within the budget.
type Reader struct {
	store  *Store
	layout *extent.Layout
	blobs  *sources

	mu     sync.RWMutex // held shared by reads, so that Close waits for them
	closed bool
}

// Open authenticates the end of every blob of the layout and returns its
// reader. ErrIntegrity if one does not match. ctx governs all later reads.
func (s *Store) Open(ctx context.Context, l *extent.Layout) (*Reader, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	r := &Reader{store: s, layout: l, blobs: newSources(ctx, s, l.Blobs)}
	if err := r.blobs.verify(); err != nil {
		r.blobs.close()
		return nil, err
	}
	return r, nil
}

// Size is the size of the file, bytes.
func (r *Reader) Size() int64 { return int64(r.layout.Size) }

// ReadAt implements io.ReaderAt. It returns either all bytes up to the end of
// the file or an error and no bytes that anyone should use.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return 0, fs.ErrClosed
	}
	if uint64(off) >= r.layout.Size {
		return 0, io.EOF
	}
	var err error
	if rest := r.layout.Size - uint64(off); uint64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	if rerr := r.fill(p, uint64(off)); rerr != nil {
		return 0, rerr
	}
	return len(p), err
}

// fill reads [off, off+len(p)), which lies within the file.
func (r *Reader) fill(p []byte, off uint64) error {
	for at, end := off, off+uint64(len(p)); at < end; {
		e := r.layout.Piece(at, end)
		at = e.End()
		part := p[e.Off-off:][:e.Len]
		switch e.Blob {
		case extent.Hole:
			clear(part)
		case extent.Inline:
			copy(part, r.layout.Inline[e.BlobOff:])
		default:
			if err := r.blobs.read(e.Blob, part, e.BlobOff); err != nil {
				return err
			}
		}
	}
	return nil
}

// CopyTo streams [off, off+n) to w (n < 0: to the end), in writes of up to 256
// KiB that end on segment borders. It returns the bytes written. Bytes of a
// damaged range never reach w; those before it may have.
func (r *Reader) CopyTo(w io.Writer, off, n int64) (int64, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	size := r.Size()
	if n < 0 || n > size-off {
		n = max(0, size-off)
	}
	buf := get[slab](&r.store.pools.slabs)
	defer r.store.pools.slabs.Put(buf)
	var done int64
	for done < n {
		p := buf[:min(n-done, r.step(uint64(off+done)))]
		if _, err := r.ReadAt(p, off+done); err != nil && err != io.EOF {
			return done, err
		}
		k, err := w.Write(p)
		done += int64(k)
		if err != nil {
			return done, err
		}
		if k < len(p) {
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}

// step is how much to read at off so that the next read starts on a border of
// the segments that this one lies in: then no segment is decrypted twice.
func (r *Reader) step(off uint64) int64 {
	e := r.layout.Piece(off, off+1)
	if e.Blob == extent.Hole || e.Blob == extent.Inline {
		return int64(len(slab{}))
	}
	return int64(len(slab{})) - int64(e.BlobOff&segmentMask)
}

// Close waits for reads under way and releases everything.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return r.blobs.close()
}
