package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
)

// TestAnInterruptEndsTheWaitForAPipe: of a reader whose writer does nothing, and of a writer whose reader takes nothing more; before that everything
// passes as it is.
func TestAnInterruptEndsTheWaitForAPipe(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	data := bytes.Repeat([]byte("0123456789"), 1000)

	r, w := mustPipe(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	in, end := waiting[io.Reader](ctx, r)
	defer end()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read: %v", err)
	}
	go cancel(stop)
	if _, err := in.Read(got); !errors.Is(err, stop) {
		t.Errorf("reading went on: %v", err)
	}

	r, w = mustPipe(t)
	ctx, cancel = context.WithCancelCause(t.Context())
	out, end := waiting[io.Writer](ctx, w)
	defer end()
	all := make(chan []byte)
	go func() {
		part := make([]byte, len(data))
		_, _ = io.ReadFull(r, part)
		all <- part
	}()
	if n, err := out.Write(data); err != nil || n != len(data) || !bytes.Equal(<-all, data) {
		t.Fatalf("written: %d, %v", n, err)
	}
	go cancel(stop)
	if _, err := out.Write(make([]byte, 10<<20)); !errors.Is(err, stop) {
		t.Errorf("writing went on: %v", err)
	}

	var plain bytes.Buffer
	if same, end := waiting[io.Writer](ctx, &plain); same != io.Writer(&plain) {
		t.Error("what is no file is waited for")
	} else {
		end()
	}
}

func mustPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
