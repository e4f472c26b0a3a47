package vfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/vfs/blob"
	"sallyport/vfs/pagecheck"
)

// spoil changes one byte of a file.
func spoil(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x40
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// close closes the volumes and opens none.
func (b *bench) close() {
	b.t.Helper()
	ok(b.t, b.fs.Close())
	b.start(Options{})
}

func (b *bench) plan(o RepairOptions) *Repair {
	b.t.Helper()
	r, err := b.fs.Repair(b.t.Context(), b.id, o)
	if err != nil {
		b.t.Fatalf("repair: %v", err)
	}
	return r
}

// TestRepairOfADamagedTree: a page of the database is spoilt; the volume is refused, is repaired, and has what it had.
func TestRepairOfADamagedTree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	big, small := noise(1, 300_000), noise(2, 500)
	ok(t, w.Mkdir("dir", 0o755))
	put(t, w, "dir/big", big)
	put(t, w, "small", small)
	put(t, w, "small", noise(3, 501))
	put(t, w, "small", small)
	ok(t, w.Close())
	b.close()
	tree := filepath.Join(b.dir(), treeName(1))
	image, err := os.ReadFile(tree)
	ok(t, err)
	root := pagecheck.Roots(image)[0]
	binary.NativeEndian.PutUint64(image[root*pagecheck.Size:], 99) // the root of the newest commit says that it is another page
	ok(t, os.WriteFile(tree, image, 0o600))
	if _, err := b.fs.Volume(t.Context(), b.id); !errors.Is(err, ErrIntegrity) || !strings.Contains(err.Error(), "vfs verify --account NAME --repair") {
		t.Fatalf("opening a damaged volume: %v", err)
	}
	plan := b.plan(RepairOptions{})
	if !plan.Rebuild || plan.Done || len(plan.Damage) == 0 {
		t.Fatalf("plan: %+v", plan)
	}
	if now, err := os.ReadFile(tree); err != nil || !bytes.Equal(now, image) {
		t.Fatal("planning changed the database")
	}
	if _, err := b.fs.Repair(t.Context(), b.id, RepairOptions{Plan: "another"}); !errors.Is(err, ErrPlanChanged) {
		t.Fatalf("another plan: %v", err)
	}
	done := b.plan(RepairOptions{Plan: plan.ID})
	if !done.Done || done.Kept == "" {
		t.Fatalf("executed: %+v", done)
	}
	if kept, err := os.ReadFile(filepath.Join(b.dir(), done.Kept)); err != nil || !bytes.Equal(kept, image) {
		t.Fatalf("the damaged database is not kept: %v", err)
	}
	b.close() // opening the site again removes old databases, but not this one
	if _, err := os.Lstat(filepath.Join(b.dir(), done.Kept)); err != nil {
		t.Fatal(err)
	}
	b.open()
	w = b.view()
	wantContent(t, w, "dir/big", big)
	wantContent(t, w, "small", small)
	put(t, w, "new", small)
	wantNames(t, w, "/", "dir", "new", "small")
	if again := b.plan2(t, w); again.Rebuild || len(again.Lost) > 0 {
		t.Fatalf("after the repair: %+v", again)
	}
	b.open()
}

// plan2 plans while w is open, which must not be, and then without it.
func (b *bench) plan2(t *testing.T, w *View) *Repair {
	t.Helper()
	if _, err := b.fs.Repair(t.Context(), b.id, RepairOptions{}); !errors.Is(err, ErrBusy) {
		t.Fatalf("repair of a volume in use: %v", err)
	}
	ok(t, w.Close())
	return b.plan(RepairOptions{})
}

// TestRepairOfADamagedBlob: a segment of a file is spoilt. Which bytes are lost is said; they stay an error, until the operator wants
// an older version.
func TestRepairOfADamagedBlob(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	old, now := noise(1, 200_000), noise(2, 250_000)
	put(t, w, "f", old)
	put(t, w, "f", now)
	put(t, w, "other", old)
	f := openFile(t, w, "f", os.O_RDONLY)
	ref := f.Layout().Blobs[0]
	ok(t, f.Close())
	ok(t, w.Close())
	b.close()
	spoil(t, filepath.Join(b.dir(), blobFile(ref.ID)), 128+65_568+1000)
	plan := b.plan(RepairOptions{})
	if plan.Rebuild || len(plan.Lost) != 1 || plan.Lost[0].Path != "/f" || !strings.Contains(plan.Lost[0].What, "65536 of 250000 bytes are damaged: 65536-131071;") {
		t.Fatalf("plan: %+v", plan)
	}
	b.open()
	w = b.view()
	if _, err := readWholeFile(w, "f"); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("reading damaged bytes: %v", err)
	}
	ok(t, w.Close())
	plan = b.plan(RepairOptions{Fallback: true})
	if !plan.Rebuild || len(plan.Fallbacks) != 1 {
		t.Fatalf("plan with fallback: %+v", plan)
	}
	if done := b.plan(RepairOptions{Fallback: true, Plan: plan.ID}); !done.Done {
		t.Fatalf("executed: %+v", done)
	}
	b.open()
	w = b.view()
	wantContent(t, w, "f", old)
	wantContent(t, w, "other", old)
	if v := stat(t, w, "f").Version(); v != 3 {
		t.Errorf("version %d, want 3: history goes on", v)
	}
	ok(t, w.Close())
	b.discard() // version 2 is damaged for ever
}

// TestRepairNeverInventsBytes: the record of the current version is gone from the file. Its content is an error then, with its size,
// and not a hole or an older version.
func TestRepairNeverInventsBytes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "f", noise(1, 100_000))
	ok(t, w.Close())
	b.close()
	loseVersion(t, filepath.Join(b.dir(), treeName(1)), 2)
	plan := b.plan(RepairOptions{})
	b.plan(RepairOptions{Plan: plan.ID})
	b.open()
	w = b.view()
	if got := stat(t, w, "f").Size(); got != 100_000 {
		t.Errorf("size %d", got)
	}
	if _, err := readWholeFile(w, "f"); !errors.Is(err, ErrIntegrity) {
		t.Errorf("reading lost content: %v", err)
	}
	put(t, w, "f", []byte("anew"))
	wantContent(t, w, "f", []byte("anew"))
	ok(t, w.Close())
	b.discard()
}

// loseVersion loses the record of the first version of a file.
func loseVersion(t testing.TB, tree string, inode byte) {
	t.Helper()
	db, err := bbolt.Open(tree, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: pagecheck.Size})
	ok(t, err)
	var sealed []byte
	ok(t, db.View(func(tx *bbolt.Tx) error {
		sealed = bytes.Clone(tx.Bucket([]byte{4}).Get([]byte{15: 1, 7: inode}))
		return nil
	}))
	ok(t, db.Close())
	image, err := os.ReadFile(tree)
	ok(t, err)
	if bytes.Count(image, sealed) == 0 {
		t.Fatal("the record is nowhere")
	}
	ok(t, os.WriteFile(tree, bytes.ReplaceAll(image, sealed, make([]byte, len(sealed))), 0o600)) // on pages of earlier commits too
}

func readWholeFile(w *View, name string) ([]byte, error) {
	f, err := w.OpenHandle(context.Background(), name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// blobFile is where a blob lies below the directory of its account.
func blobFile(id blob.ID) string {
	return filepath.Join("blobs", id.String()[:2], id.String()[2:])
}
