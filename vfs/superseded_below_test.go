package vfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

var endOfTime = time.Unix(0, 1<<62)

// below is what SupersededBelow tells, in order: path and version, held with a star.
func (b *bench) below(name string, from, before time.Time) (list []string) {
	b.t.Helper()
	last := time.Time{}
	ok(b.t, b.vol.SupersededBelow(b.t.Context(), name, from, before, func(s Superseded) error {
		if s.At.Before(last) {
			b.t.Errorf("below %s: %q of %v comes after what is of %v", name, s.Path, s.At, last)
		}
		last = s.At
		text := fmt.Sprintf("%s %d", s.Path, s.Version)
		if s.Held {
			text += "*"
		}
		list = append(list, text)
		return nil
	}))
	return list
}

// wantBelow compares without regard to the order, in which below has looked already, and to versions of the attributes of directories.
func (b *bench) wantBelow(name string, want ...string) {
	b.t.Helper()
	got := b.below(name, time.Time{}, endOfTime)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("below %s: %q, want %q", name, got, want)
	}
}

func twice(t *testing.T, w *View, name string) {
	t.Helper()
	put(t, w, name, noise(1, 100))
	put(t, w, name, noise(2, 100))
}

// TestBelowAPathIsWhatIsOrEverWasThere: a file, a tree and the root; a name that begins alike is another one.
func TestBelowAPathIsWhatIsOrEverWasThere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/a/b/c", 0o755))
	twice(t, w, "/a/b/c/deep")
	twice(t, w, "/a/top")
	twice(t, w, "/ab")
	b.wantBelow("/a/b", "/a/b/c/deep 1")
	b.wantBelow("/a/b/c/deep", "/a/b/c/deep 1")
	b.wantBelow("/a/top", "/a/top 1")
	b.wantBelow("/a", "/a/b/c/deep 1", "/a/top 1")
	b.wantBelow("/", "/a/b/c/deep 1", "/a/top 1", "/ab 1")
	b.wantBelow("/never")

	// Deleted: the names, the version that was the last, and the directories.
	ok(t, w.RemoveAll("/a/b"))
	b.wantBelow("/a/b", "/a/b 0", "/a/b/c 0", "/a/b/c/deep 0", "/a/b/c/deep 1")
	b.wantBelow("/a/b/c", "/a/b/c 0", "/a/b/c/deep 0", "/a/b/c/deep 1")

	// Created again: what the new tree loses belongs there, and so does what the old one had lost.
	ok(t, w.MkdirAll("/a/b/c", 0o755))
	twice(t, w, "/a/b/c/deep")
	b.wantBelow("/a/b/c", "/a/b/c 0", "/a/b/c/deep 0", "/a/b/c/deep 1", "/a/b/c/deep 1")
	b.wantBelow("/a/top", "/a/top 1")
}

// TestBelowAPathIsWhatWasMovedAway: it is found by the path that it had, under the one that it has; who asks for
// just what was moved is told of its former name, too.
func TestBelowAPathIsWhatWasMovedAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/from/d", 0o755))
	ok(t, w.MkdirAll("/to", 0o755))
	twice(t, w, "/from/d/f")
	twice(t, w, "/from/one")
	ok(t, w.Rename("/from/d", "/to/e"))
	ok(t, w.Rename("/from/one", "/to/two"))
	twice(t, w, "/to/stranger")
	b.wantBelow("/from", "/from/d 0", "/from/one 0", "/to/e/f 1", "/to/two 1")
	b.wantBelow("/from/d/f", "/to/e/f 1")
	b.wantBelow("/to/e", "/from/d 0", "/to/e/f 1")
	b.wantBelow("/to", "/to/e/f 1", "/to/two 1", "/to/stranger 1")
}

// TestBelowAPathSaysWhatIsHeld, whatever path was asked for.
func TestBelowAPathSaysWhatIsHeld(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/cases/42", 0o755))
	twice(t, w, "/cases/42/a")
	twice(t, w, "/cases/7")
	paths.Store(&[]string{"/cases/42"})
	b.wantBelow("/cases", "/cases/42/a 1*", "/cases/7 1")
	ok(t, w.Rename("/cases/42/a", "/cases/gone"))
	b.wantBelow("/cases/gone", "/cases/42/a 0*", "/cases/gone 1*")
	paths.Store(&[]string{})
	b.wantBelow("/cases/gone", "/cases/42/a 0", "/cases/gone 1")
}

// TestBelowAPathGoesThroughManyPages, and takes from them what is between two instants, though most pages have nothing of it.
func TestBelowAPathGoesThroughManyPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/few", 0o755))
	ok(t, w.Mkdir("/many", 0o755))
	const n = 3 * purgePage
	twice(t, w, "/few/first")
	middle := b.instant().Add(1)
	b.links("/many", 0, n)
	ok(t, w.RemoveAll("/many"))
	twice(t, w, "/few/last")
	b.wantBelow("/few", "/few/first 1", "/few/last 1")
	if got := b.below("/few", middle, endOfTime); !slices.Equal(got, []string{"/few/last 1"}) {
		t.Errorf("from then on: %q", got)
	}
	if got := b.below("/few", time.Time{}, middle); !slices.Equal(got, []string{"/few/first 1"}) {
		t.Errorf("before then: %q", got)
	}
	got := map[string]int{}
	for _, s := range b.below("/many", time.Time{}, endOfTime) {
		got[s]++
	}
	for i := range n {
		if c := got["/many/n"+strconv.Itoa(i)+" 0"]; c != 1 {
			t.Fatalf("/many/n%d is told %d times", i, c)
		}
	}
}

// TestBelowAPathEndsWhenItIsToldTo: by the context, and by who is told, whose error comes back as it is.
func TestBelowAPathEndsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0o755))
	b.links("/d", 0, 2*purgePage)
	ok(t, w.RemoveAll("/d"))

	ctx, cancel := context.WithCancel(t.Context())
	enough := errors.New("this is enough")
	told := 0
	err := b.vol.SupersededBelow(ctx, "/d", time.Time{}, endOfTime, func(Superseded) error { told++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || told == 0 || told >= 2*purgePage {
		t.Errorf("cancelled meanwhile: %v after %d", err, told)
	}
	if err := b.vol.SupersededBelow(ctx, "/d", time.Time{}, endOfTime, func(Superseded) error { return enough }); !errors.Is(err, context.Canceled) {
		t.Errorf("to who has gone: %v", err)
	}

	told = 0
	if err := b.vol.SupersededBelow(t.Context(), "/d", time.Time{}, endOfTime, func(Superseded) error { told++; return enough }); err != enough || told != 1 {
		t.Errorf("%v after %d", err, told)
	}
}
