package vfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
)

// TestARefusedRemovalPublishesNothing: an upload that the session has not finished stays its own, in a tree and by its path, and can be
// finished; a removal that is allowed puts it into history in the judged step.
func TestARefusedRemovalPublishesNothing(t *testing.T) {
	t.Parallel()
	no := errors.New("not for you")
	for _, name := range []string{"/d", "/d/f"} {
		b := newBench(t)
		inside, outside := 0, 0
		entered := false
		w := b.viewWith(ViewOptions{Note: func(ch Change) []byte {
			if ch.Op == "upload" || ch.Op == "remove" {
				if entered {
					inside++
				} else {
					outside++
				}
			}
			return nil
		}})
		ok(t, w.Mkdir("/d", 0o755))
		f := openFile(t, w, "/d/f", wr)
		write(t, f, noise(1, 300_000))
		enter := func() func() { entered = true; return func() { entered = false } }
		var asked []string
		err := w.RemoveAllJudged(name, enter, func(paths []string) error { asked = append(asked, paths...); return no })
		if err != no || !slices.Equal(asked, []string{"/d/f"}) {
			t.Fatalf("%s: %v, asked for %q", name, err, asked)
		}
		if _, err := b.view().Lstat("/d/f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: others see half a file: %v", name, err)
		}
		write(t, f, noise(2, 10))
		ok(t, f.Close())
		wantContent(t, b.view(), "/d/f", append(noise(1, 300_000), noise(2, 10)...))

		f = openFile(t, w, "/d/g", wr)
		write(t, f, noise(3, 300_000))
		inside, outside = 0, 0
		ok(t, w.RemoveAllJudged("/d", enter, func([]string) error { return nil }))
		if inside != 3 || outside != 0 { // the file that was whole, the upload, and its end
			t.Errorf("%s: %d changes in a judged step, %d outside", name, inside, outside)
		}
		ok(t, f.Close())
		if _, err := b.view().Lstat("/d"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the tree is there: %v", name, err)
		}
		b.verify()
	}
}

// TestRemovingATreeEndsWhatNeverGotAByte, and what broke off.
func TestRemovingATreeEndsWhatNeverGotAByte(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0o755))
	empty, broken := openFile(t, w, "/d/empty", wr), openFile(t, w, "/d/broken", os.O_WRONLY|os.O_CREATE)
	write(t, broken, noise(1, 200_000))
	broken.TransferError(errCut)
	ok(t, w.RemoveAll("/d"))
	if _, err := w.Lstat("/d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is there: %v", err)
	}
	_ = empty.Close() // what it says is told elsewhere
	_ = broken.Close()
	b.verify()
}
