package vfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// whatSessionsHoldOfThePastIsBounded (L5): by an account, and not by a session alone.
func whatSessionsHoldOfThePastIsBounded(t *testing.T) {
	b := newBench(t)
	w := b.view()
	put(t, w, "f", noise(1, 10_000))
	then := b.instant()
	put(t, w, "f", noise(2, 10_000))
	open := func(w *View) (*File, error) { return w.History(nil).At(then).OpenHandle(t.Context(), "f") }
	sessions := []*View{b.view(), b.view(), b.view(), b.view()}
	var held []*File
	for i := range maxPast {
		held = append(held, must(open(sessions[i%len(sessions)]))(t))
	}
	refused := func(what string) {
		t.Helper()
		for _, w := range append(sessions, w) {
			_, err := open(w)
			wantErr(t, err, ErrTooManyPast)
			wantErr(t, err, ErrTooMany)
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
	refused("one session after the other")
	for range 3 { // what does not open holds nothing, and what is open now is not counted
		_, err := w.History(nil).At(then).OpenHandle(t.Context(), "none")
		wantErr(t, err, fs.ErrNotExist)
		ok(t, openFile(t, w, "f", os.O_RDONLY).Close())
	}
	wantContent(t, w, "f", noise(2, 10_000))
	ok(t, held[0].Close())
	if err := held[0].Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	held[0] = must(open(w))(t)
	refused("one was closed and another one opened")
	ok(t, sessions[1].Close()) // with all that it has
	sessions = []*View{b.view()}
	for range maxPast / 4 {
		must(open(sessions[0]))(t)
	}
	refused("a session has ended")
	other := newBench(t)
	put(t, other.view(), "f", noise(3, 100))
	ok(t, must(other.view().History(nil).At(other.instant()).OpenHandle(t.Context(), "f"))(t).Close())
	for _, w := range append(sessions, w) {
		ok(t, w.Close())
	}
	for _, f := range held {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	}
	if p := &b.vol.past; p.handles != 0 || p.extents != 0 {
		t.Errorf("%d handles and %d extents are left", p.handles, p.extents)
	}
}

// TestVersionsOfManyPiecesCountWithThem: a handle has them all in memory. A single one is never refused.
func TestVersionsOfManyPiecesCountWithThem(t *testing.T) {
	t.Parallel()
	var p pastHandles
	refused := func(extents int) {
		t.Helper()
		if err := p.take(extents); !errors.Is(err, ErrTooManyPast) {
			t.Errorf("%d extents more: %v", extents, err)
		}
	}
	ok(t, p.take(maxPastExtents+1))
	refused(0)
	p.give(maxPastExtents + 1)
	ok(t, p.take(maxPastExtents-1))
	refused(2)
	ok(t, p.take(1))
	refused(1)
	p.give(maxPastExtents - 1)
	ok(t, p.take(maxPastExtents-1))
}
