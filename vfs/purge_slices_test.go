package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sliced is one file, whose history is destroyed in slices while it is made. It belongs to one goroutine.
type sliced struct {
	b    *bench
	w    *View
	name string
	from string // what server-side copies come from
	rng  *rand.Rand

	now    []byte // nil = there is none
	ever   map[string]bool
	when   []time.Time // instants at which something was there
	copied int
	back   int // restores that brought something back
}

func newSliced(b *bench, name, from string, rng *rand.Rand) *sliced {
	return &sliced{b: b, w: b.view(), name: name, from: from, rng: rng, ever: map[string]bool{}}
}

// step changes the file in one of the ways that make a version.
func (s *sliced) step(what int) {
	t := s.b.t
	switch what {
	case 0: // small ones lie in metadata
		s.set(noise(s.rng.Uint64(), 1+s.rng.IntN(200_000)>>(s.rng.IntN(3)*6)))
		put(t, s.w, s.name, s.now)
	case 1, 2, 3, 4:
		s.edit(what)
	case 5:
		if err := s.w.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		s.now = nil
	case 6:
		s.restore()
	}
	if s.now != nil {
		s.when = append(s.when, s.b.instant())
	}
}

func (s *sliced) set(data []byte) {
	s.now = data
	s.ever[string(data)] = true
}

// edit writes a part of the file: behind it, somewhere, in very many places, or by a copy within the server.
func (s *sliced) edit(what int) {
	t := s.b.t
	f := openFile(t, s.w, s.name, os.O_RDWR|os.O_CREATE)
	data := slices.Clone(s.now)
	at := func(p []byte, off int) {
		must(f.WriteAt(p, int64(off)))(t)
		if grow := off + len(p) - len(data); grow > 0 {
			data = append(data, make([]byte, grow)...)
		}
		copy(data[off:], p)
	}
	switch what {
	case 1:
		at(noise(s.rng.Uint64(), 1+s.rng.IntN(90_000)), len(data))
	case 2:
		at(noise(s.rng.Uint64(), 1+s.rng.IntN(9000)), s.rng.IntN(len(data)+1))
	case 3: // enough for pages of extents
		for range 200 {
			at(noise(s.rng.Uint64(), 20), s.rng.IntN(len(data)+5000))
		}
	case 4:
		src := openFile(t, s.w, s.from, os.O_RDONLY)
		p := must(io.ReadAll(src))(t)
		must(src.Seek(0, io.SeekStart))(t)
		must(f.Seek(int64(len(data)), io.SeekStart))(t)
		must(f.ReadFrom(src))(t)
		data = append(data, p...)
		s.copied++
		ok(t, src.Close())
	}
	ok(t, f.Close())
	if data == nil {
		data = []byte{}
	}
	if s.set(data); len(data) > 600_000 { // the next one begins anew
		put(t, s.w, s.name, nil)
		s.set([]byte{})
	}
}

// restore brings the file back as it was, if that is still known: the new version relies on the blobs of an old one.
func (s *sliced) restore() {
	t := s.b.t
	if len(s.when) == 0 {
		return
	}
	ask := RestoreAsk{At: s.when[s.rng.IntN(len(s.when))], From: s.name}
	if s.rng.IntN(2) == 0 {
		ask.At = s.when[len(s.when)-1-s.rng.IntN(min(len(s.when), 4))]
	}
	p, err := s.w.History(nil).PlanRestore(t.Context(), ask)
	if err == nil {
		err = p.Execute(t.Context())
	}
	var not *NotWhole
	if err != nil && !errors.As(err, &not) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("restoring %s: %v", s.name, err)
	}
	if err == nil {
		if r := p.Result(); r.Changed+r.Created > 0 {
			s.back++
		} else if s.now == nil { // it had been purged meanwhile
			return
		}
		s.now = get(t, s.w, s.name)
		s.known(s.now, "what was restored")
	}
}

func (s *sliced) known(data []byte, what string) {
	if !s.ever[string(data)] {
		s.b.t.Errorf("%s of %s is %s, which it never was", what, s.name, brief(data))
	}
}

// check reads what is there and every version that is kept.
func (s *sliced) check() {
	t := s.b.t
	if s.now != nil {
		wantContent(t, s.w, s.name, s.now)
	}
	h := s.w.History(nil)
	err := h.Versions(t.Context(), s.name, time.Time{}, func(v PathVersion) error {
		f, err := h.OpenVersion(t.Context(), s.name, v)
		if err != nil {
			return fmt.Errorf("opening version %d: %w", v.Version(), err)
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return fmt.Errorf("reading version %d: %w", v.Version(), err)
		}
		s.known(data, "a version")
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", s.name, err)
	}
}

// slice purges a few of the oldest items, and remembers what it has read for the next one.
func (b *bench) slice(before time.Time, most uint64) PurgeReceipt {
	b.t.Helper()
	return must(b.vol.Purge(context.Background(), PurgeOptions{Before: before, Most: most}))(b.t)
}

// TestSlicesOfAPurgeKeepWhatStays: whatever is written, copied, restored, moved on the disk or put under another key between two slices,
// what they remember never destroys the key of a blob that a version still relies on.
func TestSlicesOfAPurgeKeepWhatStays(t *testing.T) {
	t.Parallel()
	remembered, back := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		clock := newHandClock()
		b := newBenchWith(t, Options{Now: clock.now})
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 7))
		put(t, b.view(), "/src", noise(1, 70_000))
		files := []*sliced{newSliced(b, "/a", "/src", rng), newSliced(b, "/b", "/src", rng)}
		var writer *File // holds a file, which cannot be purged then
		purge := func(rt *rapid.T) {
			before := b.instant().Add(-time.Duration(rapid.IntRange(0, 3).Draw(rt, "young")) * time.Second)
			for range rapid.IntRange(1, 3).Draw(rt, "slices") {
				b.slice(before, uint64(rapid.IntRange(1, 3).Draw(rt, "most")))
			}
			ok(t, b.vol.do(t.Context(), func(c *core) error {
				if c.usages != nil {
					remembered++
				}
				return nil
			}))
			for _, s := range files {
				s.check()
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(rt, "steps") {
					clock.advance(time.Second)
					files[rapid.IntRange(0, 1).Draw(rt, "file")].step(rapid.SampledFrom([]int{0, 1, 2, 3, 4, 1, 2, 6, 1, 2, 5, 6}).Draw(rt, "what"))
				}
			},
			"purge": purge, "purge again": purge,
			"choose": func(*rapid.T) { b.purge(func(s Superseded) bool { return (s.Inode+s.Version)%3 == 0 }) },
			"tidy": func(rt *rapid.T) {
				b.tidy(TidyOptions{FoldAll: rapid.Bool().Draw(rt, "fold"), RepackAll: true, Wait: -1})
			},
			"rotate": func(*rapid.T) { b.rotate() },
			"open": func(*rapid.T) {
				if writer == nil && files[0].now != nil {
					writer = openFile(t, b.view(), "/a", os.O_RDWR)
				}
			},
			"close": func(*rapid.T) {
				if writer != nil {
					ok(t, writer.Close())
					writer = nil
				}
			},
		})
		if writer != nil {
			ok(t, writer.Close())
		}
		for _, s := range files {
			s.check()
			back += s.back
		}
		b.end()
		if t.Failed() {
			rt.FailNow()
		}
	})
	if remembered == 0 || back == 0 {
		t.Errorf("%d slices remembered something, %d restores brought something back", remembered, back)
	}
}

// TestSlicesOfAPurgeBesideEverything is the same at the same time.
func TestSlicesOfAPurgeBesideEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	put(t, b.view(), "/src", noise(1, 70_000))
	var writers, keepers sync.WaitGroup
	var files []*sliced
	steps := make(chan struct{}, 400)
	for i := range 3 {
		s := newSliced(b, fmt.Sprintf("/f%d", i), "/src", rand.New(rand.NewPCG(uint64(i), 3)))
		files = append(files, s)
		writers.Go(func() {
			for n := range 120 {
				s.step([]int{0, 1, 2, 3, 1, 6, 4, 2, 6, 5, 6}[s.rng.IntN(11)])
				steps <- struct{}{}
				if n%10 == 9 && s.now != nil {
					wantContent(t, s.w, s.name, s.now)
				}
			}
		})
	}
	purged := uint64(0)
	keepers.Go(func() { // slower than the writers, or nothing would be left to remember
		for n := 0; ; n++ {
			if _, more := <-steps; !more {
				return
			}
			switch {
			case n%2 == 1:
				purged += b.slice(oneSecond(), 1).Versions
			case n%40 == 20:
				b.tidy(TidyOptions{FoldAll: true, RepackAll: true, Wait: -1})
			case n%40 == 30:
				b.rotate()
			}
		}
	})
	writers.Wait()
	close(steps)
	keepers.Wait()
	for _, s := range files {
		s.check()
	}
	b.verify()
	if purged == 0 {
		t.Error("nothing was purged")
	}
	b.slice(oneSecond(), 0)
	for _, s := range files {
		s.check()
	}
}
