package vfs

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestTheInstantBeforeADeletionHasWhatCameShortlyBefore: what a file became within the minute before a tree was deleted.
func TestTheInstantBeforeADeletionHasWhatCameShortlyBefore(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	w := newBenchWith(t, Options{Now: clock.now}).view()
	ok(t, w.Mkdir("/d", 0))
	for i := range 2 * lossLeast {
		put(t, w, fmt.Sprintf("/d/%d", i), []byte("old"))
	}
	clock.advance(time.Hour)
	put(t, w, "/d/0", []byte("new"))
	clock.advance(3 * time.Second)
	for i := range 2 * lossLeast {
		ok(t, w.Remove(fmt.Sprintf("/d/%d", i)))
		clock.advance(100 * time.Millisecond)
	}
	h := w.History(nil)
	r := must(h.Losses(t.Context()))(t)
	if len(r) != 2 || r[1].Count != 2*lossLeast {
		t.Fatalf("rows %v, want the one of both and that of the deletion", r)
	}
	for i, want := range []string{"old", "new"} {
		f := must(h.At(r[i].Before).OpenHandle(t.Context(), "/d/0"))(t)
		got := make([]byte, 3)
		must(f.ReadAt(got, 0))(t)
		ok(t, f.Close())
		if string(got) != want {
			t.Errorf("before row %d /d/0 was %q, want %q", i, got, want)
		}
	}
}

// TestNoInstantLiesWithinADeletion, nor within an attack: whoever goes back to the last one wants all of it back.
func TestNoInstantLiesWithinADeletion(t *testing.T) {
	t.Parallel()
	const o, n = 'o', 'n' // a file lost bytes; a name went
	type loss struct {
		after time.Duration
		what  rune
	}
	many := func(k int, of ...loss) (all []loss) {
		for range k {
			all = append(all, of...)
		}
		return all
	}
	const quick = 50 * time.Millisecond
	names := many(2*lossLeast, loss{quick, n})
	for what, c := range map[string]struct {
		losses []loss
		first  int // the loss before which there is an instant; -1: none
	}{
		"work, and a deletion":                   {append(many(3, loss{time.Second, o}), append([]loss{{5 * time.Second, n}}, names...)...), 3},
		"a deletion alone":                       {names, -1}, // the row of losses has it
		"work long before":                       {append([]loss{{quick, o}, {2 * time.Minute, n}}, names...), -1},
		"a deletion at the heels of work":        {append([]loss{{quick, o}}, names...), -1},
		"a deletion that stands still":           {append([]loss{{quick, o}, {5 * time.Second, n}, {5 * time.Second, n}}, names...), -1},
		"names that went shortly before":         {append([]loss{{quick, n}, {quick, o}, {5 * time.Second, n}}, names...), -1},
		"files encrypted and renamed one by one": {many(3*lossLeast, loss{quick, o}, loss{quick, n}), -1},
		"one encrypted, a pause, and so on":      {append([]loss{{quick, o}, {5 * time.Second, n}}, many(3*lossLeast, loss{quick, o}, loss{quick, n})...), -1},
		"many encrypted first, and then renamed": {append(many(lossLeast, loss{quick, o}), append([]loss{{5 * time.Second, n}}, names...)...), -1},
		"two deletions in a minute":              {append(append([]loss{{quick, o}, {5 * time.Second, n}}, names...), append([]loss{{20 * time.Second, n}}, names...)...), 1},
		"few names":                              {append([]loss{{quick, o}, {5 * time.Second, n}}, many(lossLeast-2, loss{quick, n})...), -1},
	} {
		var d deletions
		at, want := int64(time.Hour), int64(0)
		for i, l := range c.losses {
			at += int64(l.after)
			if i == c.first {
				want = at
			}
			if l.what == o {
				d.overwritten(at)
			} else {
				d.gone(at)
			}
		}
		switch {
		case c.first < 0 && len(d.rows) > 0:
			t.Errorf("%s: rows %+v", what, d.rows)
		case c.first >= 0 && (len(d.rows) != 1 || d.rows[0].first != want):
			t.Errorf("%s: rows %+v, want one that begins at %d", what, d.rows, want)
		}
	}
}

// TestWhatIsNotLookedAtMayBeOfAnAttack: of very many versions in a minute only some are looked at, and the others are no work on a few files.
func TestWhatIsNotLookedAtMayBeOfAnAttack(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	w := newBenchWith(t, Options{Now: clock.now}).view()
	const many = lossOneIn - 1
	for i := range many + 1 {
		put(t, w, fmt.Sprintf("/%d", i), []byte("old"))
	}
	clock.advance(time.Hour)
	for i := range lossOpened - 1 {
		ok(t, w.Chmod("/0", os.FileMode(0o600+i%2)))
		clock.advance(50 * time.Millisecond)
	}
	for i := range many + 1 { // the first is looked at
		put(t, w, fmt.Sprintf("/%d", i), []byte("new"))
		clock.advance(50 * time.Millisecond)
	}
	clock.advance(3 * time.Second)
	for i := range many + 1 {
		ok(t, w.Remove(fmt.Sprintf("/%d", i)))
		clock.advance(50 * time.Millisecond)
	}
	if r := must(w.History(nil).Losses(t.Context()))(t); len(r) != 1 {
		t.Errorf("rows %v, want the one that began with the first file", r)
	}
}
