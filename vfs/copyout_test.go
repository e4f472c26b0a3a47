package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// copied begins a copy of the bench's volume and lists its blobs.
func (b *bench) copied() (*VolumeCopy, []BlobFile) {
	b.t.Helper()
	var list []BlobFile
	c, err := b.fs.CopyVolume(b.t.Context(), b.id, func(f BlobFile) error { list = append(list, f); return nil })
	ok(b.t, err)
	return c, list
}

// finish takes the blobs of a copy and opens what was copied as a volume of its own.
func (b *bench) finish(c *VolumeCopy, list []BlobFile) *bench {
	b.t.Helper()
	d := &bench{t: b.t, state: b.t.TempDir(), ring: b.ring, id: b.id}
	dir := filepath.Join(d.state, "accounts", filepath.Base(b.dir()))
	ok(b.t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o700))
	save := func(path string, r io.Reader) {
		b.t.Helper()
		ok(b.t, os.MkdirAll(filepath.Dir(path), 0o700))
		w := must(os.Create(path))(b.t)
		must(io.Copy(w, r))(b.t)
		ok(b.t, w.Close())
	}
	save(filepath.Join(dir, treeName(c.Version)), c.Tree)
	for _, f := range list {
		r, err := c.Open(b.t.Context(), f.ID)
		if f.Open && f.Size == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		ok(b.t, err)
		if r.Size() < f.Size || !f.Open && r.Size() != f.Size {
			b.t.Fatalf("blob %s has %d bytes, want %d", f.ID, r.Size(), f.Size)
		}
		id := f.ID.String()
		save(filepath.Join(dir, "blobs", id[:2], id[2:]), io.NewSectionReader(r, 0, r.Size()))
		ok(b.t, r.Close())
	}
	ok(b.t, c.Close())
	d.start(Options{})
	d.open()
	b.t.Cleanup(d.end)
	return d
}

// TestACopyIsOfOneInstantWhateverIsPurgedMeanwhile begins a copy, then overwrites, removes, purges, repacks and tidies
// everything, and only then takes the blobs: the copy is the tree of the instant, and after it the blobs are unlinked.
func TestACopyIsOfOneInstantWhateverIsPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	big := noise(1, 3<<20)
	put(t, w, "big", big)
	put(t, w, "gone", noise(2, 200_000))
	put(t, w, "small", []byte("inline"))
	f := openFile(t, w, "part", wr)
	write(t, f, noise(3, 4<<20))
	ok(t, f.Close())
	before := len(b.blobFiles())
	c, list := b.copied()
	if len(list) != 3 {
		t.Fatalf("%d blobs listed, want 3", len(list))
	}

	put(t, w, "big", []byte("other"))
	ok(t, w.Remove("gone"))
	ok(t, w.Remove("small"))
	f = openFile(t, w, "part", os.O_RDWR) // a blob of which a part lives on
	must(f.WriteAt(noise(4, 3<<20), 0))(t)
	ok(t, f.Close())
	b.purge(all)
	must(b.vol.RepackAll(t.Context()))(t)
	b.tidy(TidyOptions{Wait: -time.Second})
	if n := len(b.blobFiles()); n < before+1 {
		t.Fatalf("%d blobs on the disk while they are kept, %d before", n, before)
	}

	d := b.finish(c, list)
	v := d.view()
	wantNames(t, v, "/", "big", "gone", "part", "small")
	wantContent(t, v, "big", big)
	wantContent(t, v, "gone", noise(2, 200_000))
	wantContent(t, v, "small", []byte("inline"))
	wantContent(t, v, "part", noise(3, 4<<20))
	ok(t, v.Close())
	for _, f := range list {
		if id := f.ID.String(); slices.Contains(b.blobFiles(), filepath.Join(b.dir(), "blobs", id[:2], id[2:])) {
			t.Errorf("blob %s is on the disk after the copy", id)
		}
	}
	wantNames(t, w, "/", "big", "part")
}

// TestACopyHoldsWhatAnOpenUploadHasSynced: the blob of an upload in progress is open in the copy, and good for what was
// acknowledged, whatever became of the upload since.
func TestACopyHoldsWhatAnOpenUploadHasSynced(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	data := noise(1, 3<<20)
	f := openFile(t, w, "up", wr)
	write(t, f, data[:2<<20])
	ok(t, f.Sync())
	w2 := b.view()
	g := openFile(t, w2, "cut", wr)
	write(t, g, noise(2, 8<<20))
	c, list := b.copied()
	open := 0
	for _, x := range list {
		if x.Open {
			open++
		}
	}
	if len(list) != open || open != 2 {
		t.Fatalf("%d blobs, %d open", len(list), open)
	}
	write(t, f, data[2<<20:])
	ok(t, f.Close())
	ok(t, w2.Close())
	d := b.finish(c, list)
	v := d.view()
	got := get(t, v, "up")
	if len(got) < 2<<20 || string(got) != string(data[:len(got)]) {
		t.Fatalf("%d bytes of the upload are in the copy", len(got))
	}
	ok(t, v.Close())
}

// TestCopyingLeavesNoVolumeOpen: thousands of accounts that nobody uses are not all open at the end of a copy, and one
// that is used stays open.
func TestCopyingLeavesNoVolumeOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "x", []byte("x"))
	c, _ := b.copied()
	ok(t, c.Close())
	if b.vol.resting() {
		t.Fatal("a volume in use was closed")
	}
	b.reopen()
	b.vol.restNow()
	c, _ = b.copied()
	ok(t, c.Close())
	if !b.vol.resting() {
		t.Fatal("the volume stays open")
	}
	left := must(filepath.Glob(filepath.Join(b.dir(), "tree-*")))(t)
	if len(left) != 1 {
		t.Fatalf("left: %q", left)
	}
}

// TestAnAccountIsDestroyedBelowACopy: a copy under way does not keep what is to be destroyed.
func TestAnAccountIsDestroyedBelowACopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "x", noise(1, 100_000))
	ok(t, w.Close())
	c, list := b.copied()
	ok(t, b.fs.Destroy(t.Context(), b.id))
	if _, err := c.Open(t.Context(), list[0].ID); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("opening a blob of it: %v", err)
	}
	ok(t, c.Close())
	ok(t, b.fs.Close())
	b.fs = nil
}

// TestCheckBlob has a copy of a blob judged as another place gives it back.
func TestCheckBlob(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "x", noise(1, 300_000))
	data := must(os.ReadFile(b.blobFiles()[0]))(t)
	c, list := b.copied()
	ok(t, c.Close())
	id, header, rest := list[0].ID, data[:128], data[128:]
	check := func(header, sealed []byte, first uint64, final bool) error {
		return b.vol.CheckBlob(t.Context(), id, header, sealed, first, final)
	}
	ok(t, check(header, rest, 0, true))
	ok(t, check(header, rest[:2*65568], 0, false))
	ok(t, check(header, rest[4*65568:], 4, true))
	flipped := append([]byte(nil), rest...)
	flipped[3*65568+100] ^= 1
	for name, err := range map[string]error{
		"a flipped byte":         check(header, flipped, 0, true),
		"another place":          check(header, rest[65568:], 0, true),
		"an end that is none":    check(header, rest[:65568], 0, true),
		"a middle that ends":     check(header, rest[4*65568:], 4, false),
		"a header of nothing":    check(make([]byte, 128), rest, 0, true),
		"a segment that is torn": check(header, rest[:65000], 0, false),
	} {
		if !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok(t, w.Remove("x"))
	b.purge(all)
	if err := check(header, rest, 0, true); !errors.Is(err, ErrPurged) {
		t.Errorf("after a purge: %v", err)
	}
}
