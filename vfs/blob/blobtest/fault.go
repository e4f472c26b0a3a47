package blobtest

import (
	"context"
	"sync"

	"sallyport/vfs/blob"
)

// Op is a kind of call that a fault can hit.
type Op uint8

// Ops of a store, its writers and its readers.
const (
	OpCreate Op = iota
	OpResume
	OpOpen
	OpRemove
	OpList
	OpWrite
	OpSync // of Writer.Sync and of Writer.Commit alike
	OpAbort
	OpRead // of readers and of writers
	opCount
)

// Fault makes calls fail.
type Fault struct {
	Op    Op
	Err   error
	Nth   int   // the call that fails, counted from 1 over the whole store; 0 = every call
	After int64 // OpWrite with Nth 0: the store takes this many bytes in all, then every write fails; a write across the border is short
	// Applied: the call does its work and then reports failure. Otherwise nothing is done (but see After).
	Applied bool
}

// Faulty is a store whose calls fail as told. Safe for concurrent use.
type Faulty struct {
	store blob.Store

	mu      sync.Mutex
	faults  []Fault
	calls   [opCount]int
	written int64
}

var _ blob.Store = (*Faulty)(nil)

// Inject wraps a store. Without faults it changes nothing.
func Inject(s blob.Store, faults ...Fault) *Faulty { return &Faulty{store: s, faults: faults} }

// Set replaces the faults and starts counting anew.
func (f *Faulty) Set(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.calls, f.written = faults, [opCount]int{}, 0
}

// Calls says how many calls of op there were.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// hit counts a call and returns the fault that it meets.
func (f *Faulty) hit(op Op) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for i := range f.faults {
		t := &f.faults[i]
		if t.Op == op && t.After == 0 && (t.Nth == 0 || t.Nth == f.calls[op]) {
			return t
		}
	}
	return nil
}

// room returns how many of n bytes may still be written, and the error if not all.
func (f *Faulty) room(n int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.faults {
		if t.Op == OpWrite && t.After > 0 && f.written+int64(n) > t.After {
			n = int(max(0, t.After-f.written))
			f.written += int64(n)
			return n, t.Err
		}
	}
	f.written += int64(n)
	return n, nil
}

// do runs call unless a fault says otherwise.
func (f *Faulty) do(op Op, call func() error) error {
	t := f.hit(op)
	if t == nil {
		return call()
	}
	if t.Applied {
		if err := call(); err != nil {
			return err
		}
	}
	return t.Err
}

// Create implements blob.Store.
func (f *Faulty) Create(ctx context.Context, id blob.ID) (w blob.Writer, err error) {
	err = f.do(OpCreate, func() error { w, err = f.store.Create(ctx, id); return err })
	return f.writer(w, err)
}

// Resume implements blob.Store.
func (f *Faulty) Resume(ctx context.Context, id blob.ID, size int64) (w blob.Writer, err error) {
	err = f.do(OpResume, func() error { w, err = f.store.Resume(ctx, id, size); return err })
	return f.writer(w, err)
}

func (f *Faulty) writer(w blob.Writer, err error) (blob.Writer, error) {
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, f: f}, nil
}

// Open implements blob.Store.
func (f *Faulty) Open(ctx context.Context, id blob.ID) (r blob.Reader, err error) {
	err = f.do(OpOpen, func() error { r, err = f.store.Open(ctx, id); return err })
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	return &faultyReader{r, f}, nil
}

// Remove implements blob.Store.
func (f *Faulty) Remove(ctx context.Context, id blob.ID) error {
	return f.do(OpRemove, func() error { return f.store.Remove(ctx, id) })
}

// List implements blob.Store.
func (f *Faulty) List(ctx context.Context, after blob.ID, fn func(blob.ID, int64) error) error {
	return f.do(OpList, func() error { return f.store.List(ctx, after, fn) })
}

// faultyWriter is dead after its first failure, as the contract says.
type faultyWriter struct {
	blob.Writer
	f    *Faulty
	dead error
}

func (w *faultyWriter) Write(p []byte) (n int, err error) {
	if w.dead != nil {
		return 0, w.dead
	}
	w.dead = w.f.do(OpWrite, func() error {
		room, full := w.f.room(len(p))
		if n, err = w.Writer.Write(p[:room]); err != nil {
			return err
		}
		return full
	})
	return n, w.dead
}

func (w *faultyWriter) Sync() error { return w.sync(w.Writer.Sync) }

func (w *faultyWriter) Commit() error { return w.sync(w.Writer.Commit) }

func (w *faultyWriter) sync(call func() error) error {
	if w.dead == nil {
		w.dead = w.f.do(OpSync, call)
	}
	return w.dead
}

func (w *faultyWriter) Abort() error { return w.f.do(OpAbort, w.Writer.Abort) }

func (w *faultyWriter) ReadAt(p []byte, off int64) (n int, err error) {
	err = w.f.do(OpRead, func() error { n, err = w.Writer.ReadAt(p, off); return err })
	return n, err
}

type faultyReader struct {
	blob.Reader
	f *Faulty
}

func (r *faultyReader) ReadAt(p []byte, off int64) (n int, err error) {
	err = r.f.do(OpRead, func() error { n, err = r.Reader.ReadAt(p, off); return err })
	return n, err
}
