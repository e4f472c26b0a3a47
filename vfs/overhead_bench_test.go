package vfs

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkOverheadOfHistory uploads, overwrites and removes small files in turns in a volume with 100,000 superseded versions and in
// one with the same live files and none, and tells the CPU time of an operation in both: the median of 101 rounds in each of which
// both are measured, one after the other, and of the ratios of the rounds. The history is made in transactions of ten versions, as
// sessions at work make it, or of SALLYPORT_TOGETHER.
func BenchmarkOverheadOfHistory(b *testing.B) {
	const files, n, rounds = 1000, 40, 101
	together := 10
	if text := os.Getenv("SALLYPORT_TOGETHER"); text != "" {
		together = must(strconv.Atoi(text))(b)
	}
	for b.Loop() {
		b.StopTimer()
		with, without := newBench(b), newBench(b)
		with.pileBy(files, 101, together, func() {})
		without.pileBy(files, 1, together, func() {})
		var cpu [2][]time.Duration
		var ratios []float64
		b.StartTimer()
		for r := range rounds + 1 {
			var took [2]time.Duration
			for i := range 2 {
				which := (r + i) % 2 // who is first changes
				took[which] = []*bench{with, without}[which].small(r, n) / (3 * n)
			}
			if r == 0 {
				continue // caches
			}
			cpu[0], cpu[1] = append(cpu[0], took[0]), append(cpu[1], took[1])
			ratios = append(ratios, float64(took[0])/float64(took[1]))
		}
		b.StopTimer()
		for i := range cpu {
			slices.Sort(cpu[i])
		}
		slices.Sort(ratios)
		b.ReportMetric(float64(cpu[0][rounds/2].Microseconds()), "with-cpu-µs/op")
		b.ReportMetric(float64(cpu[1][rounds/2].Microseconds()), "without-cpu-µs/op")
		b.ReportMetric(ratios[rounds/2], "ratio")
		b.ReportMetric(ratios[rounds/4], "ratio-1st-quartile")
		b.ReportMetric(ratios[3*rounds/4], "ratio-3rd-quartile")
		with.discard()
		without.discard()
		b.StartTimer()
	}
}

// small makes n files, overwrites each and removes it, and returns the CPU time of the process meanwhile.
func (b *bench) small(round, n int) time.Duration {
	w := b.view()
	data := noise(uint64(round), 5000)
	start := cpuTime()
	for f := range n {
		name := "/live" + strconv.Itoa(f)
		put(b.t, w, name, data)
		put(b.t, w, name, data[:4000])
		ok(b.t, w.Remove(name))
	}
	took := cpuTime() - start
	ok(b.t, w.Close())
	return took
}
