// Package blobtest is for tests of what stands on a blob.Store: the
// conformance suite that every store passes, a store in memory that can lose
// power, and a wrapper that injects faults.
package blobtest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"sallyport/vfs/blob"
)

// Mem is a blob.Store in memory. The zero Mem is empty and ready. Safe for concurrent use.
type Mem struct {
	mu    sync.Mutex
	blobs map[blob.ID]*memBlob
}

// memBlob is guarded by Mem.mu. Readers take data under the lock; bytes below its length never change in place.
type memBlob struct {
	data   []byte
	synced int64 // bytes that survive power loss; -1: not even the name does
}

var _ blob.Store = (*Mem)(nil)

// Create implements blob.Store.
func (m *Mem) Create(ctx context.Context, id blob.ID) (blob.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[blob.ID]*memBlob{}
	}
	if m.blobs[id] != nil {
		return nil, fmt.Errorf("creating blob %s: %w", id, fs.ErrExist)
	}
	b := &memBlob{synced: -1}
	m.blobs[id] = b
	return &memWriter{store: m, id: id, blob: b}, nil
}

// Resume implements blob.Store.
func (m *Mem) Resume(ctx context.Context, id blob.ID, size int64) (blob.Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.blobs[id]
	switch {
	case b == nil:
		return nil, fmt.Errorf("resuming blob %s: %w", id, fs.ErrNotExist)
	case int64(len(b.data)) < size:
		return nil, fmt.Errorf("resuming blob %s: %w", id, blob.ErrShort)
	}
	b.data = slices.Clone(b.data[:size]) // readers keep what they see
	b.synced = max(0, min(b.synced, size))
	return &memWriter{store: m, id: id, blob: b, resumed: true}, ctx.Err()
}

// Open implements blob.Store.
func (m *Mem) Open(ctx context.Context, id blob.ID) (blob.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.blobs[id]
	if b == nil {
		return nil, fmt.Errorf("opening blob %s: %w", id, fs.ErrNotExist)
	}
	return &memReader{store: m, blob: b, size: int64(len(b.data))}, ctx.Err()
}

// Remove implements blob.Store.
func (m *Mem) Remove(ctx context.Context, id blob.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, id)
	return ctx.Err()
}

// List implements blob.Store.
func (m *Mem) List(ctx context.Context, after blob.ID, fn func(blob.ID, int64) error) error {
	m.mu.Lock()
	sizes := map[blob.ID]int64{}
	for id, b := range m.blobs {
		if slices.Compare(id[:], after[:]) > 0 {
			sizes[id] = int64(len(b.data))
		}
	}
	m.mu.Unlock()
	ids := slices.SortedFunc(maps.Keys(sizes), func(a, b blob.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(id, sizes[id]); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is a copy of a blob's bytes, nil if there is none.
func (m *Mem) Bytes(id blob.ID) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.blobs[id]; b != nil {
		return append([]byte{}, b.data...)
	}
	return nil
}

// Put sets a blob's bytes, as an attacker who can write to the disk would. Open readers see the change.
func (m *Mem) Put(id blob.ID, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[blob.ID]*memBlob{}
	}
	b := m.blobs[id]
	if b == nil {
		b = &memBlob{}
		m.blobs[id] = b
	}
	b.data, b.synced = slices.Clone(data), int64(len(data))
}

// Crash returns the store as power loss leaves it. keep is asked per blob how
// many of its written bytes are there, from synced to written; synced is -1
// for a blob whose name was never synced, and keeping -1 bytes loses it. Nil
// keeps what was synced.
func (m *Mem) Crash(keep func(id blob.ID, synced, written int64) int64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := &Mem{blobs: map[blob.ID]*memBlob{}}
	for id, b := range m.blobs {
		n := b.synced
		if keep != nil {
			n = keep(id, b.synced, int64(len(b.data)))
		}
		if n < b.synced || n > int64(len(b.data)) {
			panic(fmt.Sprintf("blobtest: keeping %d of %d..%d bytes", n, b.synced, len(b.data)))
		}
		if n >= 0 {
			after.blobs[id] = &memBlob{data: slices.Clone(b.data[:n]), synced: n}
		}
	}
	return after
}

func (m *Mem) readAt(b *memBlob, p []byte, off, size int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data := b.data[:min(size, int64(len(b.data)))]
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type memWriter struct {
	store   *Mem
	id      blob.ID
	blob    *memBlob
	resumed bool
	ended   bool
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, fs.ErrClosed
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.blob.data = append(w.blob.data, p...)
	return len(p), nil
}

func (w *memWriter) ReadAt(p []byte, off int64) (int, error) {
	return w.store.readAt(w.blob, p, off, 1<<62)
}

func (w *memWriter) Sync() error {
	if w.ended {
		return fs.ErrClosed
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.blob.synced = int64(len(w.blob.data))
	return nil
}

func (w *memWriter) Commit() error {
	err := w.Sync()
	w.ended = true
	return err
}

func (w *memWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if w.blob.synced < 0 && !w.resumed {
		delete(w.store.blobs, w.id)
	}
	return nil
}

type memReader struct {
	store *Mem
	blob  *memBlob
	size  int64
}

func (r *memReader) Size() int64  { return r.size }
func (r *memReader) Close() error { return nil }
func (r *memReader) ReadAt(p []byte, off int64) (int, error) {
	return r.store.readAt(r.blob, p, off, r.size)
}
