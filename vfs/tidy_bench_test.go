package vfs

import (
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// BenchmarkRandomWritesAndFolding writes 4 KiB at random places of a large file (MIB=256 unless told otherwise, a quarter of its bytes),
// in one session, then folds it. It reports the bytes that reach the blobs for each byte written, the growth of the metadata for each
// write, and how long reading the whole file takes compared with before: after the writes, and after folding.
func BenchmarkRandomWritesAndFolding(b *testing.B) {
	mib := 256
	if s := os.Getenv("MIB"); s != "" {
		var err error
		if mib, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	size := mib << 20
	for b.Loop() {
		h := newBench(b)
		w := h.view()
		f := openFile(b, w, "/f", os.O_WRONLY|os.O_CREATE)
		chunk := noise(1, 1<<20)
		for range mib {
			write(b, f, chunk)
		}
		ok(b, f.Close())
		plain := h.readTime("/f")
		blobs, tree := h.blobBytes(), h.treeBytes()
		n := size / 4 / 4096
		rnd := rand.New(rand.NewPCG(1, 2))
		f = openFile(b, w, "/f", os.O_WRONLY)
		for range n {
			must(f.WriteAt(chunk[:4096], int64(rnd.IntN(size/4096))*4096))(b)
		}
		ok(b, f.Close())
		b.ReportMetric(float64(h.blobBytes()-blobs)/float64(n*4096), "data-bytes/byte")
		b.ReportMetric(float64(h.treeBytes()-tree)/float64(n), "metadata-B/write")
		b.ReportMetric(float64(h.readTime("/f"))/float64(plain), "fragmented-read/plain")
		start := time.Now()
		r := h.tidy(TidyOptions{Fold: true})
		if r.Folded != 1 {
			b.Fatalf("tidied %+v", r)
		}
		b.ReportMetric(float64(r.Copied)/(1<<20)/time.Since(start).Seconds(), "fold-MiB/s")
		b.ReportMetric(float64(r.Copied)/float64(n*4096), "fold-bytes/byte")
		b.ReportMetric(float64(h.readTime("/f"))/float64(plain), "folded-read/plain")
		h.discard()
	}
}

// readTime is the best of three.
func (b *bench) readTime(name string) time.Duration {
	best := time.Duration(1 << 62)
	for range 3 {
		w := b.view()
		f := openFile(b.t, w, name, os.O_RDONLY)
		start := time.Now()
		if _, err := f.WriteTo(struct{ io.Writer }{io.Discard}); err != nil {
			b.t.Fatal(err)
		}
		best = min(best, time.Since(start))
		ok(b.t, f.Close())
		ok(b.t, w.Close())
	}
	return best
}

func (b *bench) blobBytes() (n int64) {
	for _, p := range b.blobFiles() {
		i, err := os.Stat(p)
		ok(b.t, err)
		n += i.Size()
	}
	return n
}

// treeBytes are those of all records as they are stored, keys included, and not of the pages between, which bbolt uses again.
func (b *bench) treeBytes() (n int64) {
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { n = int64(tx.StoredBytes()); return nil })
	}))
	return n
}

// BenchmarkPurge purges 100,000 versions of 1,000 small files, in transactions of 500 that each wait for the disk.
func BenchmarkPurge(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		h := newBench(b)
		const files, versions = 1000, 101
		ok(b, h.vol.do(b.Context(), func(c *core) error {
			ids := make([]meta.Node, files)
			for v := range versions {
				err := c.update(b.Context(), func(tx *meta.Tx) error {
					for i := range ids {
						if v == 0 {
							ids[i] = meta.Node{Kind: meta.File}
							if err := tx.NewNode(&ids[i]); err != nil {
								return err
							}
							if err := tx.Link(meta.Root, "f"+strconv.Itoa(i), ids[i].ID); err != nil {
								return err
							}
						}
						if err := tx.AddVersion(&ids[i], &meta.Version{Attr: meta.Attr{State: meta.Complete, Mode: uint32(v)}}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
		b.StartTimer()
		start := time.Now()
		plan := must(h.vol.PlanPurge(b.Context(), all))(b)
		planned := time.Since(start)
		ok(b, plan.Execute(b.Context(), nil))
		total := time.Since(start)
		b.StopTimer()
		if r := plan.Result(); r.Versions != files*(versions-1) {
			b.Fatalf("purged %+v", r)
		}
		b.ReportMetric(float64(files*(versions-1))/planned.Seconds(), "planned/s")
		b.ReportMetric(float64(files*(versions-1))/(total-planned).Seconds(), "purged/s")
		h.discard()
		b.StartTimer()
	}
}
