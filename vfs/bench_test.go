package vfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
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
// file was removed since; and the first with 30,000 items of history elsewhere. live is the same directory as it is now.
func BenchmarkReadDirPast10000(b *testing.B) {
	const n = 10_000
	name := func(i int) string { return fmt.Sprintf("/d/name-of-some-length-%d", i) }
	list := func(b *testing.B, p *Past) {
		for b.Loop() {
			got := 0
			ok(b, p.ReadDir(b.Context(), "/d", func(batch []*Info) error { got += len(batch); return nil }))
			if got != n {
				b.Fatal(got)
			}
		}
	}
	build := func(b *testing.B) (*bench, *View) {
		x := newBench(b)
		w := x.view()
		ok(b, w.Mkdir("/d", 0))
		many(b, n, func(i int) { put(b, w, name(i), nil) })
		return x, w
	}
	b.Run("live", func(b *testing.B) {
		_, w := build(b)
		for b.Loop() {
			got := 0
			ok(b, w.ReadDir(b.Context(), "/d", func(batch []*Info) error { got += len(batch); return nil }))
			if got != n {
				b.Fatal(got)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		x, w := build(b)
		list(b, w.History(nil).At(x.instant()))
	})
	b.Run("elsewhere", func(b *testing.B) {
		x, w := build(b)
		then := x.instant()
		ok(b, w.Mkdir("/e", 0))
		many(b, n, func(i int) {
			put(b, w, fmt.Sprintf("/e/%d", i), nil)
			put(b, w, fmt.Sprintf("/e/%d", i), []byte("x"))
			ok(b, w.Remove(fmt.Sprintf("/e/%d", i)))
		})
		list(b, w.History(nil).At(then))
	})
	b.Run("overwritten", func(b *testing.B) {
		x, w := build(b)
		then := x.instant()
		many(b, n, func(i int) { put(b, w, name(i), []byte("x")) })
		list(b, w.History(nil).At(then))
	})
	b.Run("removed", func(b *testing.B) {
		x, w := build(b)
		then := x.instant()
		ok(b, w.RemoveAll("/d"))
		list(b, w.History(nil).At(then))
	})
}

// many runs fn for 0 … n-1 in 64 goroutines, so that commits share transactions.
func many(b *testing.B, n int, fn func(i int)) {
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
