package vfs

import "testing"

// TestStats has nothing take up space unseen.
func TestStats(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.viewWith(ViewOptions{Note: func(Change) []byte { return []byte("event") }})
	put(t, w, "a", noise(1, 100_000))
	put(t, w, "a", noise(2, 50_000))
	ok(t, w.Mkdir("d", 0))
	put(t, w, "d/gone", noise(3, 7000))
	ok(t, w.Remove("d/gone"))
	f := openFile(t, w, "open", wr)
	write(t, f, []byte("x"))
	s := b.vol.Stats()
	if s.LiveBytes != 50_000 || s.HistoryBytes != 107_000 || s.Files != 1 || s.Blobs != 3 {
		t.Errorf("live %d, history %d, files %d, blobs %d", s.LiveBytes, s.HistoryBytes, s.Files, s.Blobs)
	}
	if s.OpenHandles != 1 || s.OpenDrafts != 1 || s.PendingOutbox != 5 || s.Damaged != 0 || s.DoomedBytes != 0 {
		t.Errorf("handles %d, drafts %d, outbox %d, damaged %d, doomed %d", s.OpenHandles, s.OpenDrafts, s.PendingOutbox, s.Damaged, s.DoomedBytes)
	}
	ok(t, f.Close())
	bytes, files, history := w.Usage()
	if bytes != 50_001 || files != 2 || history != 107_000 {
		t.Errorf("usage %d bytes, %d files, %d in history", bytes, files, history)
	}
	res, err := b.vol.Verify(t.Context(), func(f string) { t.Error(f) })
	if err != nil || res.Blobs != 3 || res.Bytes != 157_000 || res.Segments != 4 || res.Findings != 0 {
		t.Errorf("verified %+v, %v", res, err)
	}
}
