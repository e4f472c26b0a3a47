package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"sallyport/vfs/blob"
)

// Run checks a store against the contract of blob.Store. make returns a fresh, empty store.
func Run(t *testing.T, make func(t *testing.T) blob.Store) {
	for name, check := range map[string]func(*testing.T, blob.Store){
		"CreateCommitOpen": createCommitOpen,
		"CreateTwice":      createTwice,
		"Sync":             syncThenGoOn,
		"Abort":            abort,
		"AbortAfterSync":   abortAfterSync,
		"EndedWriter":      endedWriter,
		"WriterReadAt":     writerReadAt,
		"Resume":           resume,
		"ResumeShort":      resumeShort,
		"Absent":           absent,
		"Remove":           remove,
		"RemoveWhileOpen":  removeWhileOpen,
		"List":             list,
		"ListStops":        listStops,
		"Cancelled":        cancelled,
		"Concurrent":       concurrent,
		"Large":            large,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, make(t))
		})
	}
}

func id(bs ...byte) blob.ID {
	var out blob.ID
	copy(out[:], bs)
	out[15] = 1
	return out
}

func put(t *testing.T, s blob.Store, id blob.ID, data []byte) {
	t.Helper()
	w := create(t, s, id)
	write(t, w, data)
	if err := w.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func create(t *testing.T, s blob.Store, id blob.ID) blob.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), id)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return w
}

func write(t *testing.T, w blob.Writer, data []byte) {
	t.Helper()
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("Write: %d, %v; want %d", n, err, len(data))
	}
}

func wantBytes(t *testing.T, s blob.Store, id blob.ID, want []byte) {
	t.Helper()
	r, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer r.Close()
	if r.Size() != int64(len(want)) {
		t.Fatalf("Size %d, want %d", r.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()+1))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
	}
}

func wantAbsent(t *testing.T, s blob.Store, id blob.ID) {
	t.Helper()
	if _, err := s.Open(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open: %v, want fs.ErrNotExist", err)
	}
	for _, have := range ids(t, s) {
		if have == id {
			t.Fatal("still listed")
		}
	}
}

func ids(t *testing.T, s blob.Store) (out []blob.ID) {
	t.Helper()
	err := s.List(t.Context(), blob.ID{}, func(id blob.ID, _ int64) error { out = append(out, id); return nil })
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return out
}

func createCommitOpen(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("hello "))
	write(t, w, nil)
	write(t, w, []byte("world"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("hello world"))
	put(t, s, id(2), nil)
	wantBytes(t, s, id(2), nil)

	r, err := s.Open(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 5)
	if n, err := r.ReadAt(p, 6); n != 5 || err != nil && err != io.EOF || string(p) != "world" {
		t.Fatalf("ReadAt: %d, %v, %q", n, err, p)
	}
	if n, err := r.ReadAt(p, 8); n != 3 || err != io.EOF {
		t.Fatalf("ReadAt across the end: %d, %v; want 3, EOF", n, err)
	}
}

func createTwice(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	if _, err := s.Create(t.Context(), id(1)); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create beside an open writer: %v, want fs.ErrExist", err)
	}
	write(t, w, []byte("first"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), id(1)); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create after Commit: %v, want fs.ErrExist", err)
	}
	wantBytes(t, s, id(1), []byte("first"))
}

func syncThenGoOn(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("one"))
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("one"))
	write(t, w, []byte("two"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("onetwo"))
}

func abort(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("gone"))
	for range 2 {
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	wantAbsent(t, s, id(1))
	put(t, s, id(1), []byte("again"))
	wantBytes(t, s, id(1), []byte("again"))
}

func abortAfterSync(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("kept"))
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("kept"))
}

func endedWriter(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("x"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("y")); err == nil {
		t.Error("Write after Commit succeeded")
	}
	if err := w.Sync(); err == nil {
		t.Error("Sync after Commit succeeded")
	}
	if err := w.Commit(); err == nil {
		t.Error("second Commit succeeded")
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	wantBytes(t, s, id(1), []byte("x"))
}

func writerReadAt(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("hello world"))
	p := make([]byte, 5)
	if n, err := w.ReadAt(p, 3); n != 5 || err != nil || string(p) != "lo wo" {
		t.Fatalf("ReadAt: %d, %v, %q", n, err, p)
	}
	if n, err := w.ReadAt(p, 9); n != 2 || err != io.EOF {
		t.Fatalf("ReadAt across the end: %d, %v; want 2, EOF", n, err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, s blob.Store) {
	w := create(t, s, id(1))
	write(t, w, []byte("0123456789"))
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	w, err := s.Resume(t.Context(), id(1), 4)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, []byte("end"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("0123end"))

	w, err = s.Resume(t.Context(), id(1), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, id(1), []byte("01")) // cut, and not removed
}

func resumeShort(t *testing.T, s blob.Store) {
	put(t, s, id(1), []byte("0123"))
	if _, err := s.Resume(t.Context(), id(1), 5); !errors.Is(err, blob.ErrShort) {
		t.Fatalf("Resume: %v, want blob.ErrShort", err)
	}
	wantBytes(t, s, id(1), []byte("0123"))
}

func absent(t *testing.T, s blob.Store) {
	wantAbsent(t, s, id(9))
	if _, err := s.Resume(t.Context(), id(9), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Resume: %v, want fs.ErrNotExist", err)
	}
	if err := s.Remove(t.Context(), id(9)); err != nil {
		t.Fatalf("Remove: %v", err)
	}
}

func remove(t *testing.T, s blob.Store) {
	put(t, s, id(1), []byte("x"))
	put(t, s, id(1, 1), []byte("stays"))
	for range 2 {
		if err := s.Remove(t.Context(), id(1)); err != nil {
			t.Fatal(err)
		}
		wantAbsent(t, s, id(1))
	}
	wantBytes(t, s, id(1, 1), []byte("stays"))
}

func removeWhileOpen(t *testing.T, s blob.Store) {
	put(t, s, id(1), []byte("still here"))
	r, err := s.Open(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.Remove(t.Context(), id(1)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if _, err := r.ReadAt(got, 0); err != nil && err != io.EOF || string(got) != "still here" {
		t.Fatalf("%q, %v", got, err)
	}
}

func list(t *testing.T, s blob.Store) {
	want := []blob.ID{id(), id(0, 7), id(1), id(1, 0, 5), id(0x80), id(0xff), id(0xff, 0xff)}
	for _, i := range []int{3, 0, 6, 2, 5, 1, 4} {
		put(t, s, want[i], make([]byte, i))
	}
	if got := ids(t, s); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i, after := range want {
		next := i + 1
		err := s.List(t.Context(), after, func(id blob.ID, size int64) error {
			if id != want[next] || size != int64(next) {
				t.Fatalf("after %s: got %s of %d bytes, want %s of %d", after, id, size, want[next], next)
			}
			next++
			return nil
		})
		if err != nil || next != len(want) {
			t.Fatalf("after %s: stopped at %d, %v", after, next, err)
		}
	}
}

func listStops(t *testing.T, s blob.Store) {
	put(t, s, id(1), nil)
	put(t, s, id(2), nil)
	stop, calls := errors.New("stop"), 0
	err := s.List(t.Context(), blob.ID{}, func(blob.ID, int64) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Fatalf("%d calls, %v", calls, err)
	}
}

func cancelled(t *testing.T, s blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(ctx, id(1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Create: %v, want context.Canceled", err)
	}
	wantAbsent(t, s, id(1))
}

func concurrent(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 8 {
				name, data := id(byte(j), byte(i)), fmt.Appendf(nil, "%d/%d", i, j)
				w, err := s.Create(t.Context(), name)
				if err != nil {
					t.Errorf("Create: %v", err)
					return
				}
				if _, err := w.Write(data); err != nil {
					t.Errorf("Write: %v", err)
				}
				if err := w.Commit(); err != nil {
					t.Errorf("Commit: %v", err)
				}
				if j%2 == 1 {
					if err := s.Remove(t.Context(), name); err != nil {
						t.Errorf("Remove: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := len(ids(t, s)); got != 32 {
		t.Fatalf("%d blobs, want 32", got)
	}
	wantBytes(t, s, id(6, 5), []byte("5/6"))
}

func large(t *testing.T, s blob.Store) {
	const chunk, chunks = 1 << 20, 17 // enough for the early writeback of blobdir
	w := create(t, s, id(1))
	for i := range chunks {
		write(t, w, bytes.Repeat([]byte{byte(i)}, chunk))
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 2)
	for i := 1; i < chunks; i++ {
		if _, err := r.ReadAt(p, int64(i)*chunk-1); err != nil || p[0] != byte(i-1) || p[1] != byte(i) {
			t.Fatalf("border %d: % x, %v", i, p, err)
		}
	}
}
