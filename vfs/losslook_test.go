package vfs

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"
)

// looks is which of some versions one reading looks at.
func looks(records []ended) (at []int64, fine int64) {
	p := newLossPlan(&density{})
	for _, e := range records {
		p.saw(e)
	}
	var d density
	var s sampler
	s.fine, s.every = p.settle()
	for _, e := range records {
		for _, q := range d.saw(e) {
			if q.id != 0 && s.takes(q.at) {
				at, s.waiting = append(at, q.at), s.waiting[:0]
			}
		}
	}
	return at, s.fine
}

// TestAReadingLooksAtABoundedNumberOfVersions, whatever the history is like; the newest are looked at as those of a small one are.
func TestAReadingLooksAtABoundedNumberOfVersions(t *testing.T) {
	t.Parallel()
	every := func(n int, step time.Duration) (records []ended) {
		for i := range n {
			records = append(records, ended{int64(i) * int64(step), 1, uint64(i + 1)})
		}
		return records
	}
	for what, c := range map[string]struct {
		records []ended
		least   int // versions looked at
	}{
		"little at once":           {every(100, time.Second), 91},
		"as many as are looked at": {every(lossBudget, lossWindow/lossOpened), lossBudget},
		"in each minute as many":   {every(1_000_000, lossWindow/lossOpened), lossBudget / 2},
		"in each minute few":       {every(1_000_000, lossWindow/12), lossBudget / 2},
		"in each minute very many": {every(3_000_000, lossWindow/10_000), lossBudget / 2},
		"all in one minute":        {every(1_000_000, time.Microsecond), lossBudget / 2},
		"never ten in a minute":    {every(1_000_000, lossWindow/8), 0},
	} {
		at, fine := looks(c.records)
		if len(at) < c.least || len(at) > lossBudget+lossOpened {
			t.Errorf("%s: %d versions are looked at", what, len(at))
		}
		if c.least == 0 {
			if len(at) != 0 {
				t.Errorf("%s: %d versions are looked at", what, len(at))
			}
			continue
		}
		if len(at) < lossBudget/2 && fine != math.MinInt64 {
			t.Errorf("%s: few are, and not all as they should be", what)
		}
		// The last minute is looked at as if there were nothing before it.
		n := len(c.records)
		end := c.records[n-1].at
		last := 0
		for _, a := range at {
			if end-a < int64(lossWindow)/2 {
				last++
			}
		}
		want := 0
		for _, e := range c.records {
			if end-e.at < int64(lossWindow)/2 {
				want++
			}
		}
		if want = min(want, lossOpened/4); last < want/2 {
			t.Errorf("%s: of the last half minute %d are looked at, want %d", what, last, want/2)
		}
	}
}

// TestTheNewestLossIsFoundInALargeHistory, exactly before its first file, though not all can be looked at.
func TestTheNewestLossIsFoundInALargeHistory(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	b.pileAt(lossOpened, 2*lossBudget/lossOpened, func() { clock.advance(lossWindow) })
	w := b.view()
	const n = 2 * lossOpened // a larger row than any before, of which 64 are kept
	name := func(i int) string { return "/lost" + strconv.Itoa(i) }
	for i := range n {
		put(t, w, name(i), noise(uint64(i), 100))
	}
	clock.advance(2 * time.Hour)
	before := b.instant()
	for i := range n {
		put(t, w, name(i), noise(999, 100))
	}
	l := must(w.History(nil).Losses(t.Context()))(t)
	if len(l) < 2 {
		t.Fatalf("losses %v", l)
	}
	newest := l[len(l)-1]
	if newest.Count < n-lossOneIn || newest.Count > n || newest.Before.Before(before) {
		t.Errorf("the newest loss is %+v, the last change before it was at %v", newest, before)
	}
	for i := range n {
		if got := pastContent(t, w.History(nil).At(newest.Before), name(i)); !slices.Equal(got, noise(uint64(i), 100)) {
			t.Fatalf("%s was %s just before", name(i), brief(got))
		}
	}
	b.discard()
}

// TestWhatTookLongToFindIsKeptWhenTheVolumeIsClosed, and goes on from there; what was found soon is forgotten.
func TestWhatTookLongToFindIsKeptWhenTheVolumeIsClosed(t *testing.T) {
	t.Parallel()
	for files, kept := range map[int]bool{lossWorth / 10: true, 100: false} {
		clock := newHandClock()
		b := newBenchWith(t, Options{Now: clock.now})
		b.pile(files, 12)
		rows := func() []Loss {
			w := b.vol.View(ViewOptions{})
			defer w.Close()
			return must(w.History(nil).Losses(t.Context()))(t)
		}
		first := rows()
		b.vol.Rest()
		if b.vol.core != nil {
			t.Fatal("the volume is open")
		}
		if got := b.vol.losses.seen != 0; got != kept {
			t.Errorf("%d files: what was found is kept: %v", files, got)
		}
		clock.advance(time.Hour)
		w := b.view()
		for i := range 2 * lossLeast {
			put(t, w, "/n"+strconv.Itoa(i), nil)
			ok(t, w.Remove("/n"+strconv.Itoa(i)))
		}
		if again := rows(); len(first) != 1 || len(again) != 2 || !again[0].Before.Equal(first[0].Before) || again[0].Count != first[0].Count {
			t.Errorf("%d files: losses %v, before the volume was closed %v", files, again, first)
		}
		b.discard()
	}
}
