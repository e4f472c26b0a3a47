package vfs

import (
	"context"
	"fmt"
	"io"
	"os"
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
