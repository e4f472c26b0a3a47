package vfs

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// BenchmarkRetention purges by the clock as the server does, SALLYPORT_PURGE_VERSIONS versions (100,000 unless set) of
// SALLYPORT_PURGE_FILES files (1,000) that were overwritten in turns, in slices of 50 versions of each, and tells the rate, the
// greatest heap, the transactions and the most CPU time of one (for which others wait), and what a small upload costs beside that
// history and without it.
func BenchmarkRetention(b *testing.B) {
	number := func(name string, n int) int {
		if text := os.Getenv(name); text != "" {
			return must(strconv.Atoi(text))(b)
		}
		return n
	}
	files, total := number("SALLYPORT_PURGE_FILES", 1000), number("SALLYPORT_PURGE_VERSIONS", 100_000)
	for b.Loop() {
		b.StopTimer()
		h := newBench(b)
		h.pile(files, total/files+1)
		with, without := h.uploadsBeside(newBench(b))
		var most, before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		purged, start, cpu := uint64(0), time.Now(), cpuTime()
		transactions, began, longest := 0, cpu, time.Duration(0)
		b.StartTimer()
		for {
			r := must(h.vol.Purge(b.Context(), PurgeOptions{Before: start.Add(time.Hour), Most: uint64(50 * files), Still: func() error { began = cpuTime(); return nil }, Pace: func(context.Context, int) error {
				transactions++
				longest = max(longest, cpuTime()-began)
				var m runtime.MemStats
				if runtime.ReadMemStats(&m); m.HeapInuse > most.HeapInuse {
					most = m
				}
				return nil
			}}))(b)
			if r.Names+r.Versions == 0 {
				break
			}
			purged += r.Versions
		}
		b.StopTimer()
		took, cpu := time.Since(start), cpuTime()-cpu
		if purged < uint64(total) {
			b.Fatalf("purged %d of %d", purged, total)
		}
		b.ReportMetric(float64(purged)/took.Seconds(), "purged/s")
		b.ReportMetric(float64(cpu.Microseconds())/float64(purged), "cpu-µs/purged")
		b.ReportMetric(float64(transactions), "transactions")
		b.ReportMetric(float64(longest.Microseconds())/1000, "most-cpu-ms/transaction")
		b.ReportMetric(float64(most.HeapInuse-min(before.HeapInuse, most.HeapInuse))/(1<<20), "more-MiB")
		b.ReportMetric(float64(most.HeapInuse)/(1<<20), "heap-MiB")
		b.ReportMetric(with, "uploads-beside/s")
		b.ReportMetric(without, "uploads-without/s")
		h.discard()
		b.StartTimer()
	}
}

// uploadsBeside is how many small files a second are overwritten in a volume and in a fresh one, in turns.
func (b *bench) uploadsBeside(fresh *bench) (with, without float64) {
	const n, rounds = 100, 10
	var took [2]time.Duration
	for r := range rounds + 1 {
		for i, h := range []*bench{b, fresh} {
			w := h.view()
			start := time.Now()
			for f := range n {
				put(b.t, w, "/live"+strconv.Itoa(f), noise(uint64(f), 5000))
			}
			if r > 0 { // the first makes the names
				took[i] += time.Since(start)
			}
			ok(b.t, w.Close())
		}
	}
	return n * rounds / took[0].Seconds(), n * rounds / took[1].Seconds()
}

// pile gives files so many versions each, of which each has a blob of its own, without its file.
func (b *bench) pile(files, versions int) { b.t.Helper(); b.pileAt(files, versions, func() {}) }

// pileAt is pile that calls next after each version that all files have got.
func (b *bench) pileAt(files, versions int, next func()) {
	b.t.Helper()
	b.pileBy(files, versions, files, next)
}

// pileBy is pileAt in transactions of so many files. Large ones leave very many free pages behind, which bbolt remembers in maps.
func (b *bench) pileBy(files, versions, together int, next func()) {
	b.t.Helper()
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error {
		ids := make([]meta.Node, files)
		for at := 0; at < files*versions; at += together {
			v, first := at/files, at%files
			err := c.update(b.t.Context(), func(tx *meta.Tx) error {
				for i := first; i < first+together; i++ {
					if v == 0 {
						ids[i] = meta.Node{Kind: meta.File}
						if err := tx.NewNode(&ids[i]); err != nil {
							return err
						}
						if err := tx.Link(meta.Root, "f"+strconv.Itoa(i), ids[i].ID); err != nil {
							return err
						}
					}
					id := [16]byte{byte(i >> 8), byte(i), byte(v >> 16), byte(v >> 8), byte(v), 1}
					next := meta.Version{Attr: meta.Attr{State: meta.Complete, Mode: uint32(v), Size: 100}}
					next.Layout.Size = 100
					next.Layout.Blobs = []extent.BlobRef{extent.Sealed(id, 100)}
					next.Layout.Extents = []extent.Extent{{Len: 100}}
					err := errors.Join(tx.PutBlob(&meta.BlobKey{ID: id, Wrapped: id[:], State: meta.BlobSealed, Size: 100, Inode: ids[i].ID}), tx.AddVersion(&ids[i], &next))
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if first+together == files {
				next()
			}
		}
		return nil
	}))
}
