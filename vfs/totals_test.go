package vfs

import (
	"os"
	"testing"
)

func TestTotals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "a", noise(1, 100_000))
	if got := b.fs.Totals(); got.Volumes != 1 || got.Handles != 0 || got.Drafts != 0 || got.DirtyBytes != 0 || got.Damaged != 0 {
		t.Errorf("at rest: %+v", got)
	}
	f := openFile(t, w, "b", os.O_CREATE|os.O_WRONLY)
	if _, err := f.Write(noise(2, 100_000)); err != nil {
		t.Fatal(err)
	}
	if got := b.fs.Totals(); got.Handles != 1 || got.Drafts != 1 || got.DirtyBytes < 4096 {
		t.Errorf("during an upload: %+v", got)
	}
	ok(t, f.Close())
	ok(t, w.Close())
	if got := b.fs.Totals(); got.Handles != 0 || got.Drafts != 0 || got.DirtyBytes != 0 {
		t.Errorf("after it: %+v", got)
	}
}
