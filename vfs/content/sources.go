package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// maxOpenSources is how many blobs one reader or draft keeps open: a file that
// was appended to for years lies in many, and file descriptors are few.
const maxOpenSources = 16

// sources reads the blobs of one layout, each opened when it is needed. Safe for concurrent use.
type sources struct {
	store *Store
	ctx   context.Context // of the reader or draft: io.ReaderAt takes none
	cache segmentCache

	mu    sync.Mutex // guards the rest; held while a blob is opened
	refs  []extent.BlobRef
	open  map[uint32]*openSource
	ticks uint64
}

type openSource struct {
	*source
	users int
	used  uint64 // tick of the last use
}

func newSources(ctx context.Context, s *Store, refs []extent.BlobRef) *sources {
	return &sources{store: s, ctx: ctx, refs: refs, cache: segmentCache{store: s}}
}

// verify authenticates the end of every blob.
func (b *sources) verify() error {
	for i := range b.refs {
		src, err := b.acquire(uint32(i))
		if err != nil {
			return err
		}
		b.release(src)
	}
	return nil
}

// add makes the blob that a draft is writing readable as number i.
func (b *sources) add(i uint32, src *source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.insert(i, src)
}

func (b *sources) insert(i uint32, src *source) *openSource {
	if b.open == nil {
		b.open = map[uint32]*openSource{}
	}
	o := &openSource{source: src}
	b.open[i] = o
	return o
}

func (b *sources) acquire(i uint32) (*openSource, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.open[i]
	if o == nil {
		if uint64(i) >= uint64(len(b.refs)) {
			return nil, fmt.Errorf("%w: no blob %d in the layout", ErrIntegrity, i)
		}
		src, err := b.store.openSource(b.ctx, b.refs[i])
		if err != nil {
			return nil, err
		}
		b.evict()
		o = b.insert(i, src)
	}
	b.ticks++
	o.users++
	o.used = b.ticks
	return o, nil
}

// evict makes room for one more open blob, unless all are in use.
func (b *sources) evict() {
	if len(b.open) < maxOpenSources {
		return
	}
	var oldest uint32
	found := false
	for i, o := range b.open {
		if o.users == 0 && o.closer != nil && (!found || o.used < b.open[oldest].used) {
			oldest, found = i, true
		}
	}
	if found {
		b.open[oldest].close()
		delete(b.open, oldest)
	}
}

func (b *sources) release(o *openSource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o.users--
}

// read fills p with the plaintext of blob i from off on.
func (b *sources) read(i uint32, p []byte, off uint64) error {
	o, err := b.acquire(i)
	if err != nil {
		return err
	}
	defer b.release(o)
	return integrity(blob.ID(o.ref.ID), b.readFrom(o.source, i, p, off))
}

func (b *sources) readFrom(src *source, i uint32, p []byte, off uint64) error {
	if off > src.ref.Bytes || uint64(len(p)) > src.ref.Bytes-off {
		return fmt.Errorf("%w: layout points beyond the blob", ErrIntegrity)
	}
	for len(p) > 0 {
		segment, at := off>>segmentShift, int(off&segmentMask)
		var n int
		var err error
		if at == 0 && len(p) >= src.plainLen(segment) {
			n, err = src.whole(p, segment)
		} else {
			n, err = b.cache.read(src, segmentName{i, segment}, p, at)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+uint64(n)
	}
	return nil
}

// close closes every blob; nobody may be reading.
func (b *sources) close() error {
	b.cache.drop()
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, o := range b.open {
		errs = append(errs, o.close())
	}
	b.open = nil
	return errors.Join(errs...)
}
