package vfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

// stamped is content that tells a mixture: its length and every 8 bytes name the writer.
func stamped(writer uint64, size int) []byte {
	b := make([]byte, size/8*8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], writer)
	}
	return b
}

func checkStamped(b []byte) error {
	for i := 8; i+8 <= len(b); i += 8 {
		if !bytes.Equal(b[i:i+8], b[:8]) {
			return fmt.Errorf("bytes of %x at 0 and of %x at %d of %d", b[:8], b[i:i+8], i, len(b))
		}
	}
	return nil
}

// known are the refusals that concurrent use may meet. Anything else is a bug.
func known(err error) bool {
	for _, e := range []error{fs.ErrNotExist, fs.ErrExist, ErrNotEmpty, ErrIsDir, ErrNotDir, ErrInterrupted, ErrBusy, ErrTooMany, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err == nil
}

// TestStress has several sessions do everything to a few names at once. No reader ever sees a mixture, every error is one
// that a client can be told, and in the end everything verifies and nothing is left pending.
func TestStress(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	b.vol.SetReserve(func(int64, int64, int64) error { return nil })
	ok(t, b.view().Mkdir("d", 0))
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for i := 0; ctx.Err() == nil; i++ {
				w := b.vol.View(ViewOptions{Writer: fmt.Sprint(n), Note: func(Change) []byte { return []byte("event") }, MaxOpen: 8})
				for range 20 {
					if err := stressOp(ctx, w, r, uint64(n)<<32|uint64(i)); !known(err) {
						t.Errorf("session %d: %v", n, err)
						cancel()
					}
				}
				if err := w.Close(); !known(err) {
					t.Errorf("ending session %d: %v", n, err)
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			err := b.vol.Drain(ctx, func([]byte) error { return nil })
			if err != nil && ctx.Err() == nil {
				t.Errorf("draining: %v", err)
			}
		}
	})
	wg.Wait()
	c := must(b.vol.acquire(t.Context()))(t)
	defer b.vol.release(c)
	if p, q := c.pendingBytes.Load(), c.pendingFiles.Load(); p != 0 || q != 0 {
		t.Errorf("%d bytes and %d files pending for ever", p, q)
	}
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if len(c.claims.slots)+len(c.claims.dirs)+len(c.claims.removed) != 0 {
		t.Errorf("names claimed for ever: %v", c.claims.slots)
	}
	if s := c.handles.Load() + c.drafts.Load(); s != 0 {
		t.Errorf("%d handles and drafts left", s)
	}
}

func stressOp(ctx context.Context, w *View, r *rand.Rand, stamp uint64) error {
	name := []string{"a", "b", "d/a", "d/b", "e/a"}[r.IntN(5)]
	other := []string{"a", "b", "d/a", "d/b", "e/a"}[r.IntN(5)]
	switch r.IntN(12) {
	case 0, 1, 2:
		return stressUpload(ctx, w, r, name, stamp)
	case 3, 4, 5:
		f, err := w.OpenHandle(ctx, name, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(f)
		return errors.Join(err, checkStamped(data), f.Close())
	case 6:
		return w.Rename(name, other)
	case 7:
		return w.Remove(name)
	case 8:
		return w.Rename("d", "e")
	case 9:
		return errors.Join(w.Rename("e", "d"), w.MkdirAll("d", 0))
	case 10:
		return w.ReadDir(ctx, "/", func([]*Info) error { return nil })
	default:
		return w.Chtimes(name, time.Time{}, time.Unix(int64(stamp), 0))
	}
}

func stressUpload(ctx context.Context, w *View, r *rand.Rand, name string, stamp uint64) error {
	f, err := w.OpenHandle(ctx, name, wr, 0)
	if err != nil {
		return err
	}
	data := stamped(stamp, []int{100, 5000, 300_000}[r.IntN(3)])
	// Blocks in any order, from several goroutines: as pkg/sftp writes.
	const block = 32 << 10
	var wg sync.WaitGroup
	for _, i := range r.Perm((len(data) + block - 1) / block) {
		wg.Go(func() {
			if _, werr := f.WriteAt(data[i*block:min((i+1)*block, len(data))], int64(i*block)); !known(werr) {
				panic(werr)
			}
		})
	}
	wg.Wait()
	switch r.IntN(5) {
	case 0:
		f.TransferError(errCut)
	case 1:
		if err := f.Sync(); !known(err) {
			return err
		}
	}
	return f.Close()
}

// gate gives its bytes and then blocks until it is opened.
type gate struct {
	data    []byte
	reached chan struct{}
	open    chan struct{}
	once    sync.Once
}

func (g *gate) Read(p []byte) (int, error) {
	if len(g.data) > 0 {
		n := copy(p, g.data)
		g.data = g.data[n:]
		return n, nil
	}
	g.once.Do(func() { close(g.reached) })
	<-g.open
	return 0, io.EOF
}

// TestSlowUploadStallsNobody has a client that stops sending: neither other sessions nor its own wait for it.
func TestSlowUploadStallsNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w, other := b.view(), b.view()
	put(t, other, "a", []byte("a"))
	f := openFile(t, w, "a", os.O_WRONLY)
	data := noise(1, 200_000)
	g := &gate{data: data, reached: make(chan struct{}), open: make(chan struct{})}
	opened := sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(opened)
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadFrom(g)
		done <- err
	}()
	<-g.reached
	wantContent(t, other, "a", []byte("a"))
	put(t, other, "b", []byte("b"))
	ok(t, other.Rename("b", "c"))
	so := get(t, w, "a")
	if i := stat(t, w, "a"); len(so) < 1<<16 || !bytes.HasPrefix(data, so) || i.Size() != int64(len(so)) {
		t.Fatalf("%d bytes, size %d in the middle of an upload", len(so), i.Size())
	}
	ok(t, w.Rename("a", "z")) // commits what came so far
	wantContent(t, other, "z", so)
	wantNames(t, w, "/", "c", "z")
	opened()
	ok(t, <-done)
	ok(t, f.Close())
	wantContent(t, other, "z", data)
}

// TestGroupOfCommits has many sessions upload small files at once and checks each.
func TestGroupOfCommits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			w := b.vol.View(ViewOptions{})
			defer w.Close()
			for i := range 20 {
				name := fmt.Sprintf("%d-%d", n, i)
				f, err := w.OpenHandle(t.Context(), name, wr|os.O_EXCL, 0)
				if err == nil {
					_, err = f.WriteString(name)
					err = errors.Join(err, f.Close())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w := b.view()
	if n := len(names(t, w, "/")); n != 160 {
		t.Fatalf("%d files", n)
	}
	for n := range 8 {
		wantContent(t, w, fmt.Sprintf("%d-19", n), fmt.Appendf(nil, "%d-19", n))
	}
}

// TestExclusiveCreateHasOneWinner races O_EXCL, mkdir and symlink for one name.
func TestExclusiveCreateHasOneWinner(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for round := range 20 {
		name := fmt.Sprint("n", round)
		var mu sync.Mutex
		won := 0
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() {
				w := b.vol.View(ViewOptions{})
				defer w.Close()
				var err error
				switch n % 3 {
				case 0:
					var f *File
					if f, err = w.OpenHandle(t.Context(), name, wrNew|os.O_EXCL, 0); err == nil {
						err = f.Close()
					}
				case 1:
					err = w.Mkdir(name, 0)
				case 2:
					err = w.Symlink("x", name)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("%d winners of %s", won, name)
		}
	}
}
