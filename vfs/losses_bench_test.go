package vfs

import (
	"testing"
)

// BenchmarkLossesOfEveryMinute is the worst that the first look at the losses of a volume meets: in each minute as many files are overwritten
// as are looked at one by one, for weeks. cold is after the volume was closed as idle, new after a start of the server.
func BenchmarkLossesOfEveryMinute(tb *testing.B) {
	clock := newHandClock()
	b := newBenchWith(tb, Options{Now: clock.now})
	const files, versions = lossOpened, 2000
	b.pileAt(files, versions, func() { clock.advance(lossWindow) })
	h := b.view().History(nil)
	tb.ResetTimer()
	for range tb.N {
		ok(tb, b.vol.do(tb.Context(), func(c *core) error { c.vol.losses.forget(); return nil }))
		if l := must(h.Losses(tb.Context()))(tb); len(l) == 0 {
			tb.Fatal("no losses")
		}
	}
	tb.ReportMetric(float64(tb.Elapsed().Nanoseconds())/float64(tb.N)/(files*(versions-1)), "ns/record")
	b.discard()
}
