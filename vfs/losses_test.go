package vfs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// lossBench is a volume with a clock, and files of all sorts: in the metadata, in a blob, and with changes in its middle.
func lossBench(t *testing.T) (*bench, *View, *handClock) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	for i := range 3 * lossLeast {
		put(t, w, fmt.Sprintf("/%d", i), noise(uint64(i), 100+50_000*(i%3)))
		clock.advance(lossWindow)
	}
	clock.advance(time.Hour)
	return b, w, clock
}

// TestAMassOverwriteIsALoss: whether files are written anew, in their middle, or cut.
func TestAMassOverwriteIsALoss(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(w *View, name string, i int){
		"written anew": func(w *View, name string, i int) { put(t, w, name, noise(99, 100+50_000*(i%3))) },
		"written over in place": func(w *View, name string, _ int) {
			f := openFile(t, w, name, os.O_RDWR)
			must(f.WriteAt([]byte("encrypted"), 10))(t)
			ok(t, f.Close())
		},
		"cut": func(w *View, name string, _ int) { ok(t, w.SetAttr(name, AttrChange{Size: ptr(int64(5))})) },
		"after a broken overwrite": func(w *View, name string, i int) {
			broken := openFile(t, w, name, os.O_WRONLY|os.O_TRUNC)
			write(t, broken, noise(1, 200_000))
			broken.TransferError(os.ErrClosed)
			ok(t, broken.Close())
			put(t, w, name, noise(98, 100+50_000*(i%3)))
		},
	} {
		b, w, clock := lossBench(t)
		h := w.History(nil)
		if l := must(h.Losses(t.Context()))(t); len(l) != 0 {
			t.Fatalf("losses %v before anything", l)
		}
		before := b.instant()
		for i := range 3 * lossLeast {
			change(w, fmt.Sprintf("/%d", i), i)
			clock.advance(time.Second)
		}
		l := must(h.Losses(t.Context()))(t)
		if len(l) != 1 || l[0].Count != 3*lossLeast {
			t.Errorf("%s: losses %v, want one of %d", what, l, 3*lossLeast)
			continue
		}
		if at := l[0].Before; at.Before(before) || at.Sub(before) > 2*time.Hour {
			t.Errorf("%s: before %v, the last change was at %v", what, at, before)
		}
		for i := range 3 * lossLeast {
			if got := pastContent(t, h.At(l[0].Before), fmt.Sprintf("/%d", i)); !slices.Equal(got, noise(uint64(i), 100+50_000*(i%3))) {
				t.Errorf("%s: /%d was %s just before", what, i, brief(got))
			}
		}
	}
}

// TestWhatTakesNothingAwayIsNoLoss: new files, attributes, and what is added.
func TestWhatTakesNothingAwayIsNoLoss(t *testing.T) {
	t.Parallel()
	_, w, clock := lossBench(t)
	for i := range 3 * lossLeast {
		name := fmt.Sprintf("/%d", i)
		ok(t, w.SetAttr(name, AttrChange{Mode: ptr(os.FileMode(0o600)), Mtime: ptr(time.Unix(int64(i), 0))}))
		f := openFile(t, w, name, os.O_WRONLY|os.O_APPEND)
		write(t, f, noise(5, 1000))
		ok(t, f.Close())
		put(t, w, "/new"+name[1:], noise(7, 1000))
		ok(t, w.SetAttr("/new"+name[1:], AttrChange{Mtime: ptr(time.Unix(int64(i), 0))}))
		put(t, w, "/empty"+name[1:], nil)
		put(t, w, "/empty"+name[1:], []byte("first"))
		clock.advance(100 * time.Millisecond)
	}
	ok(t, w.Mkdir("/dir", 0))
	for i := range 3 * lossLeast {
		ok(t, w.Symlink("x", fmt.Sprintf("/dir/%d", i)))
		clock.advance(1100 * time.Millisecond) // a version of the directory each
	}
	if l := must(w.History(nil).Losses(t.Context()))(t); len(l) != 0 {
		t.Errorf("losses %v", l)
	}
}

// TestWhatGoesOnAllDayHidesNoLoss: neither names that come and go one by one, nor many small rows.
func TestWhatGoesOnAllDayHidesNoLoss(t *testing.T) {
	t.Parallel()
	b, w, clock := lossBench(t)
	h := w.History(nil)
	save := func(times int, every time.Duration) {
		for range times {
			put(t, w, "/doc.new", []byte("x"))
			ok(t, w.Rename("/doc.new", "/doc"))
			clock.advance(every)
		}
	}
	save(60*15, 4*time.Second) // fifteen a minute for an hour: a row of its own
	ok(t, w.Mkdir("/d", 0))
	b.links("/d", 0, 300)
	save(20, 4*time.Second)
	ok(t, w.RemoveAll("/d"))
	gone := b.instant()
	save(60*15, 4*time.Second)
	near := func(l []Loss) bool {
		return slices.ContainsFunc(l, func(l Loss) bool {
			return l.Before.Before(gone) && gone.Sub(l.Before) < lossWindow+time.Second && len(pastNames(t, h.At(l.Before), "/d")) == 300
		})
	}
	if l := must(h.Losses(t.Context()))(t); !near(l) || len(l) > 6 {
		t.Errorf("no loss just before %v in %v", gone, l)
	}
	clock.advance(2 * lossWindow)
	save(20, time.Millisecond) // two losses each: large among small ones, and too small for the next scale
	for range lossKept + 10 {
		clock.advance(2 * lossWindow)
		save(lossLeast+1, time.Millisecond)
	}
	l := must(h.Losses(t.Context()))(t)
	if !near(l) || len(l) != lossKept {
		t.Errorf("no loss just before %v among %d", gone, len(l))
	}
	if !slices.ContainsFunc(l, func(l Loss) bool { return l.Count >= 39 && l.Count <= 41 }) {
		t.Errorf("of %d the larger one is not kept", len(l))
	}
}

// TestLossesAreReadInPages: none of them is counted twice or left out, and whoever asks may go.
func TestLossesAreReadInPages(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	const n = 2*lossPage + 100
	b.links("/d", 0, n)
	ok(t, w.RemoveAll("/d"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := w.History(nil)
	_, err := h.Losses(ctx)
	wantErr(t, err, context.Canceled)
	for range 2 {
		if l := must(h.Losses(t.Context()))(t); len(l) != 1 || l[0].Count != n+1 {
			t.Errorf("losses %v, want one of %d", l, n+1)
		}
	}
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		pages, records := map[*meta.Tx]bool{}, 0
		upTo, err := eachEnded(t.Context(), c.db, 0, func(tx *meta.Tx, _ ended) error { pages[tx] = true; records++; return nil })
		if len(pages) != 3 || records != n+1 || upTo != b.instant().UnixNano() {
			t.Errorf("%d records in %d pages up to %d", records, len(pages), upTo)
		}
		return err
	}))
}

// TestAMassOverwriteAmongVeryManyChangesIsALoss: where not each version is looked at, the row begins before the first that is lost all the same.
func TestAMassOverwriteAmongVeryManyChangesIsALoss(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	const n = 2 * lossLeast
	for i := range n {
		put(t, w, fmt.Sprintf("/%d", i), noise(uint64(i), 100))
		clock.advance(lossWindow)
	}
	put(t, w, "/busy", nil)
	for i := range 5 * lossOpened {
		ok(t, w.SetAttr("/busy", AttrChange{Mtime: ptr(time.Unix(int64(i), 0))}))
	}
	clock.advance(time.Second)
	before := b.instant()
	for i := range n {
		put(t, w, fmt.Sprintf("/%d", i), noise(99, 100))
	}
	h := w.History(nil)
	l := must(h.Losses(t.Context()))(t)
	if len(l) != 1 || before.Sub(l[0].Before) > time.Second {
		t.Fatalf("losses %v, want one from %v on", l, before)
	}
	for i := range n {
		if got := pastContent(t, h.At(l[0].Before), fmt.Sprintf("/%d", i)); !slices.Equal(got, noise(uint64(i), 100)) {
			t.Errorf("/%d was %s just before", i, brief(got))
		}
	}
}

// BenchmarkLosses is what the first look at the losses of a volume costs for each record of its history, all of them overwritten files.
func BenchmarkLosses(tb *testing.B) {
	b := newBench(tb)
	const files, versions = 1000, 100
	b.pile(files, versions)
	h := b.view().History(nil)
	tb.ResetTimer()
	for range tb.N {
		ok(tb, b.vol.do(tb.Context(), func(c *core) error { c.vol.losses.forget(); return nil }))
		if l := must(h.Losses(tb.Context()))(tb); len(l) == 0 {
			tb.Fatal("no losses")
		}
	}
	tb.ReportMetric(float64(tb.Elapsed().Nanoseconds())/float64(tb.N)/(files*(versions-1)), "ns/record")
	b.discard()
}
