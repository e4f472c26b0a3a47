package vfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSmallFile is one 4 KiB file created, written and closed: one metadata commit.
func BenchmarkSmallFile(b *testing.B) {
	w := newBench(b).view()
	data := noise(1, 4096)
	i := 0
	for b.Loop() {
		put(b, w, fmt.Sprintf("f%d", i), data)
		i++
	}
}

// BenchmarkMkdir is the smallest commit there is, to compare with.
func BenchmarkMkdir(b *testing.B) {
	w := newBench(b).view()
	i := 0
	for b.Loop() {
		ok(b, w.Mkdir(fmt.Sprintf("d%d", i), 0))
		i++
	}
}

func BenchmarkStat(b *testing.B) {
	w := newBench(b).view()
	ok(b, w.MkdirAll("a/b/c", 0))
	put(b, w, "a/b/c/f", noise(1, 4096))
	for b.Loop() {
		if _, err := w.Stat("/a/b/c/f"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenRead4K(b *testing.B) {
	w := newBench(b).view()
	put(b, w, "f", noise(1, 4096))
	buf := make([]byte, 8192)
	for b.Loop() {
		f := openFile(b, w, "f", os.O_RDONLY)
		if n, err := f.ReadAt(buf, 0); n != 4096 || err != io.EOF {
			b.Fatal(n, err)
		}
		ok(b, f.Close())
	}
}

func BenchmarkReadDir10000(b *testing.B) {
	w := newBench(b).view()
	for i := range 10_000 {
		ok(b, w.Symlink("x", fmt.Sprintf("name-of-some-length-%d", i)))
	}
	for b.Loop() {
		n := 0
		ok(b, w.ReadDir(b.Context(), "/", func(batch []*Info) error { n += len(batch); return nil }))
		if n != 10_000 {
			b.Fatal(n)
		}
	}
}

// BenchmarkUpload64M goes through ReadFrom, as FTPS uploads do.
func BenchmarkUpload64M(b *testing.B) {
	w := newBench(b).view()
	b.SetBytes(64 << 20)
	for b.Loop() {
		f := openFile(b, w, "f", wr)
		if _, err := f.ReadFrom(io.LimitReader(zeros{}, 64<<20)); err != nil {
			b.Fatal(err)
		}
		ok(b, f.Close())
		ok(b, w.Remove("f"))
	}
}

func BenchmarkDownload64M(b *testing.B) {
	w := newBench(b).view()
	f := openFile(b, w, "f", wr)
	if _, err := f.ReadFrom(io.LimitReader(zeros{}, 64<<20)); err != nil {
		b.Fatal(err)
	}
	ok(b, f.Close())
	b.SetBytes(64 << 20)
	for b.Loop() {
		f := openFile(b, w, "f", os.O_RDONLY)
		if n, err := f.WriteTo(io.Discard); n != 64<<20 || err != nil {
			b.Fatal(n, err)
		}
		ok(b, f.Close())
	}
}

// BenchmarkSmallFileAudited is BenchmarkSmallFile with an event in each commit that is drained meanwhile.
func BenchmarkSmallFileAudited(b *testing.B) {
	bb := newBench(b)
	bb.fs.OnOutbox(func(v *Volume) {
		if err := v.Drain(context.Background(), func([]byte) error { return nil }); err != nil {
			b.Error(err)
		}
	})
	w := bb.viewWith(ViewOptions{Note: func(Change) []byte { return make([]byte, 200) }})
	data := noise(1, 4096)
	i := 0
	for b.Loop() {
		put(b, w, fmt.Sprintf("f%d", i), data)
		i++
	}
}

// BenchmarkReadDirPast10000 lists a directory as it was: nothing has changed since; every file was overwritten since; every
// file was removed since; and the first with 30,000 items of history elsewhere. live is the same directory as it is now. In each round
// the directory of a volume without history is listed, too: x-live is the median of what the CPU time of the rounds is to that.
func BenchmarkReadDirPast10000(b *testing.B) {
	live := newBench(b)
	live.tenThousand()
	now := func(x *bench) func() {
		w := x.view()
		return func() { x.listed(w.ReadDir) }
	}
	for _, c := range []struct {
		name  string
		since func(x *bench, w *View)
	}{
		{"live", nil},
		{"unchanged", func(*bench, *View) {}},
		{"elsewhere", func(x *bench, w *View) {
			ok(b, w.Mkdir("/e", 0))
			many(b, tenThousand, func(i int) {
				put(b, w, fmt.Sprintf("/e/%d", i), nil)
				put(b, w, fmt.Sprintf("/e/%d", i), []byte("x"))
				ok(b, w.Remove(fmt.Sprintf("/e/%d", i)))
			})
		}},
		{"overwritten", func(x *bench, w *View) {
			many(b, tenThousand, func(i int) { put(b, w, longName(i), []byte("x")) })
		}},
		{"removed", func(_ *bench, w *View) { ok(b, w.RemoveAll("/d")) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := newBench(b)
			w := x.tenThousand()
			list := now(x)
			if c.since != nil {
				then := x.instant()
				c.since(x, w)
				past := w.History(nil).At(then)
				list = func() { x.listed(past.ReadDir) }
			}
			compare(b, list, now(live))
		})
	}
}

const tenThousand = 10_000

func longName(i int) string { return fmt.Sprintf("/d/name-of-some-length-%d", i) }

// tenThousand makes a directory of so many empty files.
func (b *bench) tenThousand() *View {
	w := b.view()
	ok(b.t, w.Mkdir("/d", 0))
	many(b.t, tenThousand, func(i int) { put(b.t, w, longName(i), nil) })
	return w
}

func (b *bench) listed(list func(context.Context, string, func([]*Info) error) error) {
	got := 0
	ok(b.t, list(b.t.Context(), "/d", func(batch []*Info) error { got += len(batch); return nil }))
	if got != tenThousand {
		b.t.Fatal(got)
	}
}

// compare measures fn, and its CPU time against that of another function beside it.
func compare(b *testing.B, fn, other func()) {
	var ratios []float64
	cpu := func(fn func()) time.Duration {
		start := cpuTime()
		fn()
		return cpuTime() - start
	}
	fn()
	other()
	aside := func() time.Duration {
		b.StopTimer()
		defer b.StartTimer()
		return cpu(other)
	}
	for b.Loop() {
		var took, against time.Duration
		if len(ratios)%2 == 0 { // who is first changes
			took = cpu(fn)
			against = aside()
		} else {
			against = aside()
			took = cpu(fn)
		}
		ratios = append(ratios, float64(took)/float64(against))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-live")
}

// many runs fn for 0 … n-1 in 64 goroutines, so that commits share transactions.
func many(b testing.TB, n int, fn func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	all.Wait()
}
