package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"sallyport/crypto/keyring"
)

// rotate gives the bench's account a new key, or fails the test.
func (b *bench) rotate() {
	b.t.Helper()
	before, err := b.ring.Age(b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.fs.Rotate(b.t.Context(), []keyring.AccountID{b.id}, func(r Rotated) {
		if r.Err != nil || r.Version != before.Version+1 {
			b.t.Errorf("rotated: %+v after version %d", r, before.Version)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		out = append(out, d.Name())
	}
	return out
}

var keySentences = map[string]func(*testing.T){"K1": leavesEverythingOpen}

// leavesEverythingOpen holds readers, a half-done upload and a half-done listing over two rotations.
func leavesEverythingOpen(t *testing.T) {
	b := newBench(t)
	w := b.view()
	data := noise(1, 300_000)
	put := func(w *View, name string, data []byte) {
		t.Helper()
		f, err := w.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put(w, "/old", data)
	for i := range 1300 { // more than two batches of a listing
		if err := w.Mkdir(fmt.Sprintf("/d%04d", i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := w.OpenFile("/old", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(reader, head); err != nil {
		t.Fatal(err)
	}
	later, err := w.OpenFile("/old", os.O_RDONLY, 0) // not read before the rotation: its keys are fetched after it
	if err != nil {
		t.Fatal(err)
	}
	writer, err := w.OpenFile("/new", os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write(data[:200_000]); err != nil {
		t.Fatal(err)
	}
	list, err := w.OpenFile("/", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := list.Readdirnames(100)
	if err != nil {
		t.Fatal(err)
	}

	for range 2 {
		b.rotate()
	}
	put(b.view(), "/old", []byte("new content")) // the open readers of the other session keep theirs

	rest, err := io.ReadAll(reader)
	if err != nil || !bytes.Equal(append(head, rest...), data) {
		t.Errorf("the open reader: %d bytes, %v", len(rest), err)
	}
	if got, err := io.ReadAll(later); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the reader that began later: %d bytes, %v", len(got), err)
	}
	if _, err := writer.Write(data[200_000:]); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	more, err := list.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	listed = append(listed, more...)
	slices.Sort(listed)
	if n := len(listed); n < 1301 || len(slices.Compact(listed)) != n {
		t.Errorf("the listing gave %d names, %d of them different, want 1301 or 1302 once each", n, len(slices.Compact(listed)))
	}
	for _, f := range []io.Closer{reader, later, list} {
		f.Close()
	}
	for range 2 {
		w := b.view()
		f, err := w.OpenFile("/new", os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the upload: %d bytes, %v", len(got), err)
		}
		f.Close()
		w.Close()
		b.verify()
		b.reopen()
	}
	if got := filesIn(t, b.dir()); !slices.Equal(got, []string{"blobs", "tree-3.db"}) {
		t.Errorf("left are %v", got)
	}
}

// TestRotationUnderLoad rotates accounts, together and with the root, while uploads and downloads run in them.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ids := []keyring.AccountID{b.id}
	for range 2 {
		id, err := b.ring.NewAccount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := b.fs.Create(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	var rounds [3]int
	for k, id := range ids {
		v, err := b.fs.Volume(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			w := v.View(ViewOptions{Writer: "load"})
			defer w.Close()
			for i := 0; ; i++ {
				select {
				case <-done:
					rounds[k] = i
					return
				default:
				}
				name, data := fmt.Sprintf("/f%d", i%7), noise(uint64(i), 100_000*(i%3)+10)
				f, err := w.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
				if err == nil {
					_, err = f.Write(data)
					err = errors.Join(err, f.Close())
				}
				var got []byte
				if err == nil {
					var r interface {
						io.Reader
						io.Closer
					}
					if r, err = w.OpenFile(name, os.O_RDONLY, 0); err == nil {
						got, err = io.ReadAll(r)
						r.Close()
					}
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("account %d, round %d: %d of %d bytes, %v", k, i, len(got), len(data), err)
					return
				}
			}
		})
	}
	for i := range 6 {
		if i%3 == 2 {
			if err := b.ring.RotateRoot(t.Context()); err != nil {
				t.Error(err)
			}
		}
		err := b.fs.Rotate(t.Context(), ids, func(r Rotated) {
			if r.Err != nil || r.Version != uint32(i+2) {
				t.Errorf("rotation %d: %+v", i, r)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	for k, n := range rounds {
		if n == 0 {
			t.Errorf("account %d did nothing meanwhile", k)
		}
	}
	for _, id := range ids {
		v, err := b.fs.Volume(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(context.Background(), func(f string) { t.Errorf("%v: %s", id, f) }); err != nil {
			t.Error(err)
		}
	}
	b.verify()
}

// TestOldTreesAndKeysAreUseless exchanges what belongs to different versions.
func TestOldTreesAndKeysAreUseless(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	if err := w.Mkdir("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := b.fs.Close(); err != nil {
		t.Fatal(err)
	}
	oldTree, err := os.ReadFile(filepath.Join(b.dir(), "tree-1.db"))
	if err != nil {
		t.Fatal(err)
	}
	oldRing, err := os.ReadFile(filepath.Join(b.state, "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	b.start(Options{})
	b.open()
	b.rotate()
	if err := b.fs.Close(); err != nil {
		t.Fatal(err)
	}
	newTree := filepath.Join(b.dir(), "tree-2.db")
	good, err := os.ReadFile(newTree)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, want error) {
		t.Helper()
		b.start(Options{})
		if _, err := b.fs.Volume(t.Context(), b.id); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
		if err := b.fs.Close(); err != nil {
			t.Error(err)
		}
	}
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(newTree, oldTree)
	refused("the old tree under the new name", ErrIntegrity)

	// The keyring of before, with the new tree: it names a tree that is gone, and nothing is removed.
	write(newTree, good)
	ring := b.ring
	copied := t.TempDir()
	sealJSON, err := os.ReadFile(filepath.Join(b.state, "seal.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(copied, "seal.json"), sealJSON)
	write(filepath.Join(copied, "keyring"), oldRing)
	if b.ring, err = keyring.Open(t.Context(), copied, b.seal); err != nil {
		t.Fatal(err)
	}
	refused("the old keyring", fs.ErrNotExist)
	if got := filesIn(t, b.dir()); !slices.Equal(got, []string{"blobs", "tree-2.db"}) {
		t.Errorf("left are %v", got)
	}
	if err := os.Rename(newTree, filepath.Join(b.dir(), "tree-1.db")); err != nil {
		t.Fatal(err)
	}
	refused("the new tree under the old name", ErrIntegrity)
	if err := os.Rename(filepath.Join(b.dir(), "tree-1.db"), newTree); err != nil {
		t.Fatal(err)
	}
	b.ring.Close()
	b.ring = ring

	// What a rotation that was cut off leaves is removed, on either side of the switch.
	for _, leftover := range []string{"tree-1.db", "tree-3.db", "tree-3.db.new", "tree-3.db.tmp-1"} {
		write(filepath.Join(b.dir(), leftover), oldTree)
	}
	b.start(Options{})
	b.open()
	if got := filesIn(t, b.dir()); !slices.Equal(got, []string{"blobs", "tree-2.db"}) {
		t.Errorf("left are %v", got)
	}
	if _, err := b.view().Stat("/d"); err != nil {
		t.Error(err)
	}
}

// TestRotationOfWhatCannotBeRotated: one account's trouble is not another's.
func TestRotationOfWhatCannotBeRotated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	without, err := b.ring.NewAccount(t.Context()) // has no volume
	if err != nil {
		t.Fatal(err)
	}
	got := map[keyring.AccountID]Rotated{}
	ids := []keyring.AccountID{without, {1}, b.id}
	if err := b.fs.Rotate(t.Context(), ids, func(r Rotated) { got[r.ID] = r }); err != nil {
		t.Fatal(err)
	}
	if r := got[without]; !errors.Is(r.Err, fs.ErrNotExist) || r.Version != 1 {
		t.Errorf("without a volume: %+v", r)
	}
	if r := got[keyring.AccountID{1}]; !errors.Is(r.Err, keyring.ErrNoAccount) || r.Version != 0 {
		t.Errorf("without a key: %+v", r)
	}
	if r := got[b.id]; r.Err != nil || r.Version != 2 {
		t.Errorf("the other one: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.fs.Rotate(ctx, ids, func(Rotated) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	closed := b.fs
	b.reopen()
	if err := closed.Rotate(t.Context(), ids, func(Rotated) {}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
