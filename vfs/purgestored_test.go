package vfs

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// TestAPlanSaysWhatIsFreed, where versions share what is stored and where they do not, and the purge frees that.
func TestAPlanSaysWhatIsFreed(t *testing.T) {
	t.Parallel()
	const size = 200_000
	names := func(s Superseded) bool { return s.Version == 0 }
	versions := func(s Superseded) bool { return s.Version != 0 }
	grow := func(t *testing.T, w *View) {
		put(t, w, "f", noise(1, size))
		for i := range uint64(10) {
			f := openFile(t, w, "f", os.O_WRONLY|os.O_APPEND)
			must(f.Write(noise(i, 10_000)))(t)
			ok(t, f.Close())
			ok(t, w.Chmod("f", os.FileMode(0o600+i%2)))
		}
	}
	gone := func(t *testing.T, w *View) { grow(t, w); ok(t, w.Remove("f")) }
	for what, c := range map[string]struct {
		make    func(t *testing.T, w *View)
		expired func(Superseded) bool
		bytes   uint64 // sizes
		stored  uint64
	}{
		"appended and dated":                {grow, all, 5_000_000, 0},
		"appended and removed":              {gone, all, 5_300_000, size + 100_000},
		"removed, but its name stays":       {gone, versions, 5_000_000, 0},
		"removed, but its versions stay":    {gone, names, 300_000, 0},
		"overwritten":                       {func(t *testing.T, w *View) { put(t, w, "f", noise(1, size)); put(t, w, "f", noise(2, 100)) }, all, size, size},
		"had two names, of which one stays": {renamedAndRemoved, func(s Superseded) bool { return s.Path == "/f" }, 0, 0},
		"had two names, of which both go":   {renamedAndRemoved, all, size, size},
		"shared with an old version that stays": {func(t *testing.T, w *View) {
			put(t, w, "f", noise(1, size))
			ok(t, w.Chmod("f", 0o600))
			put(t, w, "f", noise(2, size))
		}, func(s Superseded) bool { return s.Version == 1 }, size, 0},
		"no file at all": {func(t *testing.T, w *View) {
			ok(t, w.MkdirAll("d/e", 0o755))
			ok(t, w.Symlink("x", "l"))
			ok(t, errors.Join(w.Remove("l"), w.RemoveAll("d")))
		}, all, 0, 0},
		"in metadata, dated and made anew": {func(t *testing.T, w *View) {
			put(t, w, "f", noise(1, 3000))
			ok(t, w.Chmod("f", 0o600))
			put(t, w, "f", noise(2, 2000))
		}, all, 6000, 6000},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c.make(t, b.view())
			before := b.vol.Stats()
			p := must(b.vol.PlanPurge(t.Context(), c.expired))(t)
			ok(t, p.Execute(t.Context(), nil))
			r := p.Result()
			if p.Bytes != c.bytes || p.Stored != c.stored || r.Stored != c.stored || p.Least {
				t.Errorf("the plan has %d bytes and frees %d, the purge freed %d; want %d and %d", p.Bytes, p.Stored, r.Stored, c.bytes, c.stored)
			}
			if got := b.vol.Stats().AwaitingShred - before.AwaitingShred; got != max(c.stored, 1) {
				t.Errorf("%d more bytes await shredding", got)
			}
			b.wantHistory()
		})
	}
}

func renamedAndRemoved(t *testing.T, w *View) {
	put(t, w, "f", noise(1, 200_000))
	ok(t, w.Rename("f", "g"))
	ok(t, w.Remove("g"))
}

// TestAPlanOfVeryMuchWeighsTheOldest, and says that all of it frees no less.
func TestAPlanOfVeryMuchWeighsTheOldest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range uint64(6) {
		put(t, w, "f", noise(i, 1000+int(i)))
	}
	for most, want := range map[int]uint64{0: 0, 2: 1000 + 1001, 5: 5000 + 10, 6: 5000 + 10} {
		heavy := weight{most: most}
		ok(t, b.vol.do(t.Context(), func(c *core) error {
			err := c.history(t.Context(), 1<<62, purgePage, nil, func(page []past) error {
				for i := range page {
					heavy.add(&page[i].Superseded)
				}
				return nil
			})
			got, failed := heavy.total(t.Context(), c)
			if got != want || heavy.over != (most < 5) {
				t.Errorf("of %d items: %d bytes (least: %v), want %d", most, got, heavy.over, want)
			}
			return errors.Join(err, failed)
		}))
	}
}

// TestAPlanForWhichThereIsNoTimeTellsWhatItHasCounted: what is destroyed is known before what that frees.
func TestAPlanForWhichThereIsNoTimeTellsWhatItHasCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "f", noise(1, 100))
	ok(t, w.Remove("f"))
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for ctx, want := range map[context.Context]error{t.Context(): nil, late: nil, gone: context.Canceled} {
		p := PurgePlan{}
		ok(t, b.vol.do(t.Context(), func(c *core) error {
			heavy := weight{most: 10, items: []weighed{{2, 0}}}
			if err := p.weigh(ctx, c, &heavy); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			return nil
		}))
		if want == nil && p.Least != (ctx == late) {
			t.Errorf("%v: least: %v", ctx, p.Least)
		}
	}
}
