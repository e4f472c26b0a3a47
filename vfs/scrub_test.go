package vfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/vfs/pagecheck"
)

// TestScrubFindsAReplay: somebody below the open volume puts an older value of one record back, byte for byte. Nothing but the set hash
// can tell; the scrub finds it, and the volume does not open any more.
func TestScrubFindsAReplay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "f", []byte("old"))
	tree := filepath.Join(b.dir(), treeName(1))
	stored := func() []byte { // the inode record of the file, as it lies there now
		t.Helper()
		image, err := os.ReadFile(tree)
		ok(t, err)
		copied := filepath.Join(t.TempDir(), "tree.db")
		ok(t, os.WriteFile(copied, image, 0o600))
		db, err := bbolt.Open(copied, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: pagecheck.Size})
		ok(t, err)
		defer db.Close()
		var v []byte
		ok(t, db.View(func(tx *bbolt.Tx) error { v = bytes.Clone(tx.Bucket([]byte{3}).Get([]byte{7: 2})); return nil }))
		return v
	}
	old := stored()
	put(t, w, "f", []byte("new"))
	res, condemned, err := b.vol.Scrub(t.Context(), 0, func(f string) { t.Errorf("before: %s", f) })
	if err != nil || condemned || res.Records == 0 {
		t.Fatalf("scrub of a whole volume: %+v, %v, %v", res, condemned, err)
	}
	now := stored()
	image, err := os.ReadFile(tree)
	ok(t, err)
	if len(old) != len(now) || bytes.Equal(old, now) || !bytes.Contains(image, now) {
		t.Fatalf("records of %d and %d bytes: nothing to replay", len(old), len(now))
	}
	f, err := os.OpenFile(tree, os.O_WRONLY, 0)
	ok(t, err)
	for at := 0; ; at += len(now) { // in place, in the pages that the open database has mapped
		i := bytes.Index(image[at:], now)
		if i < 0 {
			break
		}
		at += i
		must(f.WriteAt(old, int64(at)))(t)
	}
	ok(t, f.Close())
	findings := 0
	_, condemned, err = b.vol.Scrub(t.Context(), 0, func(string) { findings++ })
	if err != nil || !condemned || findings == 0 {
		t.Fatalf("scrub after a replay: %d findings, condemned %v, %v", findings, condemned, err)
	}
	ok(t, w.Close())
	if _, err := b.fs.Volume(t.Context(), b.id); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("a condemned volume opens: %v", err)
	}
	b.discard()
}

// TestScrubOfABlob: a damaged blob is found and hurts only its file.
func TestScrubOfABlob(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "f", noise(1, 200_000))
	put(t, w, "g", noise(2, 200_000))
	f := openFile(t, w, "f", os.O_RDONLY)
	id := f.Layout().Blobs[0].ID
	ok(t, f.Close())
	spoil(t, filepath.Join(b.dir(), blobFile(id)), 70_000)
	findings := 0
	_, condemned, err := b.vol.Scrub(t.Context(), 0, func(string) { findings++ })
	if err != nil || condemned || findings != 1 {
		t.Fatalf("%d findings, condemned %v, %v", findings, condemned, err)
	}
	wantContent(t, w, "g", noise(2, 200_000))
	ok(t, w.Close())
	b.discard()
}

func TestScrubKeepsItsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pace{rate: 1 << 20, began: time.Now()}
		for range 40 {
			ok(t, p.take(t.Context(), 256<<10))
		}
		if took := time.Since(p.began); took < 10*time.Second-time.Millisecond || took > 10*time.Second+time.Millisecond {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.take(ctx, 1<<30); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting beyond the context: %v", err)
		}
	})
}
