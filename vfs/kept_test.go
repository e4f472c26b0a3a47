package vfs

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// wantHistory counts byte by byte what is stored for history, with nothing but the layouts of all versions: each byte of a blob that some
// version relies on and no live file uses, and what no version relies on any more of the blobs that are there.
func (b *bench) wantHistory() {
	b.t.Helper()
	var kept, sizes, got uint64
	count := func(tx *meta.Tx) error {
		got = tx.Stats().HistoryBytes
		live := map[blob.ID]spans{}
		for id := meta.Inode(0); ; id++ {
			more := false
			err := tx.VersionsFrom(id, 0, func(l meta.Located) bool { id, more = l.Inode, true; return false })
			if err != nil {
				return err
			}
			if !more {
				break
			}
			n, err := tx.Node(id)
			if err != nil {
				return err
			}
			_ = tx.Versions(id, func(v *meta.Version) bool {
				current := v.N == n.Version && n.Parent != 0
				if n.Kind == meta.File && !current {
					sizes, kept = sizes+v.Size, kept+uint64(len(v.Layout.Inline))
				}
				for _, e := range v.Layout.Extents {
					if current && e.Blob != extent.Inline {
						ref := v.Layout.Blobs[e.Blob]
						live[ref.ID] = live[ref.ID].union(spans{{off: e.BlobOff, end: e.BlobOff + e.Len}})
					}
				}
				return true
			})
		}
		return tx.Blobs(func(k *meta.BlobKey) bool {
			size := k.Size
			if k.State == meta.BlobOpen {
				size = k.Relied
			}
			kept += max(size, k.Relied) - live[k.ID].bytes()
			return true
		})
	}
	ok(b.t, b.vol.do(context.Background(), func(c *core) error { return c.db.View(count) }))
	if want := min(kept, sizes); got != want {
		b.t.Errorf("%d bytes are in history, want %d (%d are stored, of versions of %d bytes)", got, want, kept, sizes)
	}
}

// TestHistoryCountsWhatIsStoredOnce: each byte, and only while no live file uses it.
func TestHistoryCountsWhatIsStoredOnce(t *testing.T) {
	t.Parallel()
	const size = 200_000
	b := newBench(t)
	w := b.view()
	put(t, w, "a", noise(1, size))
	want := func(what string, bytes uint64) {
		t.Helper()
		if got := b.vol.Stats().HistoryBytes; got != bytes {
			t.Errorf("%s: %d bytes in history, want %d", what, got, bytes)
		}
		b.verify()
	}
	fuss := func() {
		t.Helper()
		for i := range 20 {
			ok(t, w.Chmod("a", os.FileMode(0o600+i)))
			ok(t, w.Chtimes("a", time.Unix(int64(i), 0), time.Unix(int64(i), 0)))
		}
	}
	fuss()
	want("mode and times", 0)
	first := b.instant()
	put(t, w, "a", noise(2, size))
	fuss()
	want("an overwrite, mode and times", size)
	f := openFile(t, w, "a", os.O_WRONLY|os.O_APPEND)
	write(t, f, noise(3, 5000))
	ok(t, f.Close())
	want("an append", size)
	f = openFile(t, w, "a", os.O_WRONLY)
	must(f.WriteAt(noise(4, 70_000), 10_000))(t)
	ok(t, f.Sync())
	want("a part in the middle, published by an fsync", size+70_000)
	must(f.Seek(150_000, io.SeekStart))(t)
	write(t, f, noise(5, 10_000))
	ok(t, f.Close())
	const before = size + 80_000 + 4464 // what does not fill a segment lies in the version that the fsync made, and once more in the next
	want("another part", before)
	ok(t, w.SetAttr("a", AttrChange{Size: ptr(int64(100_000))}))
	want("a shorter file", before+105_000)
	ok(t, w.Rename("a", "b"))
	want("another name", before+105_000)
	everything := b.vol.Stats().HistoryBytes + 100_000
	ok(t, w.Remove("b"))
	want("no name", everything)
	b.restore(w, RestoreAsk{At: first, From: "/", Exact: true})
	want("the first content lives again", everything-size)
	ok(t, w.Remove("a"))
	want("and is gone again", everything)
	b.reopen()
	w = b.view()
	want("opened again", everything)

	b.purge(func(s Superseded) bool { return s.Version%2 == 1 }) // of the versions that share a blob some stay
	want("every second was purged", everything)
	b.purge(all)
	want("all was purged", 0)
}

// TestAFileOfHolesIsNoHistory: what is stored counts, and not the size.
func TestAFileOfHolesIsNoHistory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "holes", noise(1, 100_000))
	ok(t, w.SetAttr("holes", AttrChange{Size: ptr(int64(1 << 40))}))
	ok(t, w.SetAttr("holes", AttrChange{Size: ptr(int64(100_000))}))
	ok(t, w.SetAttr("holes", AttrChange{Size: ptr(int64(1 << 40))}))
	if got := b.vol.Stats().HistoryBytes; got != 0 {
		t.Errorf("%d bytes in history", got)
	}
	ok(t, w.Remove("holes"))
	if got := b.vol.Stats().HistoryBytes; got != 100_000 {
		t.Errorf("%d bytes in history, want 100000", got)
	}
	b.verify()
}
