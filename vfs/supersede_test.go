package vfs

import (
	"errors"
	"math"
	"os"
	"testing"
)

// TestAnAppendIsAskedForWhatHistoryStoresOfIt: with files of every layout, and what was asked is what is counted afterwards.
func TestAnAppendIsAskedForWhatHistoryStoresOfIt(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		make func(t *testing.T, w *View, name string)
		more uint64 // stored once more
	}{
		"empty":       {func(t *testing.T, w *View, name string) { put(t, w, name, nil) }, 0},
		"in metadata": {func(t *testing.T, w *View, name string) { put(t, w, name, noise(1, 3000)) }, 3000},
		"in a blob":   {func(t *testing.T, w *View, name string) { put(t, w, name, noise(1, 200_000)) }, 0},
		"dated": {func(t *testing.T, w *View, name string) {
			put(t, w, name, noise(1, 200_000))
			ok(t, w.Chmod(name, 0o600))
		}, 0},
		"many pieces":  {scatteredFile, 300},
		"synced, open": {syncedFile, 200_000 - 3<<16},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			put(t, b.view(), "other", noise(9, 100_000))
			ok(t, b.view().Remove("other"))
			c.make(t, b.view(), "f")
			var asked []Superseding
			w := b.viewWith(ViewOptions{Writer: "test", Supersede: func(s Superseding) error { asked = append(asked, s); return nil }})
			size := must(w.Stat("f"))(t).Size()
			f := openFile(t, w, "f", os.O_WRONLY|os.O_APPEND)
			for i := range uint64(3) {
				must(f.Write(noise(i, 50_000)))(t)
			}
			ok(t, f.Close())
			if i := must(w.Stat("f"))(t); i.Size() != size+150_000 {
				t.Fatalf("%d bytes after %d and an append", i.Size(), size)
			}
			if len(asked) != 1 || asked[0].Bytes != c.more || asked[0].History != b.vol.Stats().HistoryBytes {
				t.Errorf("asked %+v, and history has %d bytes", asked, b.vol.Stats().HistoryBytes)
			}
			b.wantHistory()
		})
	}
}

func scatteredFile(t *testing.T, w *View, name string) {
	put(t, w, name, noise(1, 400_000))
	f := openFile(t, w, name, os.O_WRONLY)
	for i := range int64(300) { // of a byte each; more than a record of a version holds
		must(f.WriteAt([]byte("x"), i*1000))(t)
	}
	ok(t, f.Close())
}

// syncedFile stays open for writing in its session.
func syncedFile(t *testing.T, w *View, name string) {
	f := openFile(t, w, name, wrNew)
	must(f.Write(noise(1, 200_000)))(t)
	ok(t, f.Sync())
}

// TestWhoMayAppendMayNotOverwrite: what keeps the content is not refused where what replaces it is, by whichever way.
func TestWhoMayAppendMayNotOverwrite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	put(t, b.view(), "f", noise(1, 200_000))
	put(t, b.view(), "small", noise(1, 3000))
	w := b.viewWith(ViewOptions{Writer: "test", Supersede: func(s Superseding) error {
		if s.Bytes > 2999 {
			return errors.New("too much")
		}
		return nil
	}})
	for _, flag := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND | os.O_TRUNC} {
		_, err := w.OpenHandle(t.Context(), "f", flag, 0)
		wantErr(t, err, ErrQuota)
	}
	_, err := w.OpenHandle(t.Context(), "small", os.O_WRONLY|os.O_APPEND, 0)
	wantErr(t, err, ErrQuota)
	f := openFile(t, w, "f", os.O_WRONLY|os.O_APPEND)
	must(f.Write([]byte("more")))(t)
	size := int64(199_999)
	for what, err := range map[string]error{
		"truncate": f.Truncate(size), "to nothing": f.Truncate(0), "set the size": f.SetAttr(AttrChange{Size: &size}),
		"by path": w.SetAttr("f", AttrChange{Size: &size}), "remove": w.Remove("f"),
	} {
		t.Run(what, func(t *testing.T) { wantErr(t, err, ErrQuota) })
	}
	ok(t, f.Truncate(200_002)) // takes nothing but what it wrote itself
	must(f.WriteAt([]byte("!"), math.MaxInt32))(t)
	ok(t, f.Truncate(200_003))
	must(f.WriteAt([]byte("!"), 200_002))(t)
	ok(t, f.Close())
	wantContent(t, w, "f", append(noise(1, 200_000), "mo!"...))
	b.wantHistory()
}

// TestACommitMakesNoMoreHistoryThanItsOpeningWasAskedFor: an opening to append is asked for nothing, and so is one of a new file.
func TestACommitMakesNoMoreHistoryThanItsOpeningWasAskedFor(t *testing.T) {
	t.Parallel()
	const size, room = 200_000, 100_000
	limited := func(b *bench) *View {
		return b.viewWith(ViewOptions{Writer: "test", Supersede: func(s Superseding) error {
			if s.Bytes > 0 && s.History > room {
				return errors.New("too much")
			}
			return nil
		}})
	}
	more := noise(2, size)
	appending := func(t *testing.T, w *View) *File {
		f := openFile(t, w, "f", os.O_WRONLY|os.O_APPEND)
		must(f.Write(more))(t)
		return f
	}
	for what, c := range map[string]struct {
		do   func(t *testing.T, b *bench) error // which is refused
		want []byte
	}{
		"two sessions append": {func(t *testing.T, b *bench) error {
			first, second := appending(t, limited(b)), appending(t, limited(b))
			ok(t, first.Close())
			return second.Close()
		}, append(noise(1, size), more...)},
		"another session has replaced it": {func(t *testing.T, b *bench) error {
			f := appending(t, limited(b))
			put(t, b.view(), "small", noise(3, 5000))
			ok(t, b.view().Rename("small", "f"))
			put(t, b.view(), "f", noise(4, 5000))
			return f.Close()
		}, noise(4, 5000)},
		"written anew after each fsync": {func(t *testing.T, b *bench) error {
			w := limited(b)
			ok(t, b.view().Remove("f"))
			ok(t, must(b.vol.PlanPurge(t.Context(), all))(t).Execute(t.Context(), nil))
			f := openFile(t, w, "f", os.O_WRONLY|os.O_CREATE)
			must(f.WriteAt(noise(1, size), 0))(t)
			ok(t, f.Sync())
			must(f.WriteAt(more, 0))(t)
			wantErr(t, f.Sync(), ErrQuota)
			return f.Close()
		}, noise(1, size)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			put(t, b.view(), "f", noise(1, size))
			wantErr(t, c.do(t, b), ErrQuota)
			wantContent(t, limited(b), "f", c.want)
			b.wantHistory()
		})
	}

	t.Run("a broken append", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		put(t, b.view(), "f", noise(1, size))
		f := appending(t, limited(b))
		f.TransferError(errors.New("gone"))
		ok(t, f.Close())
		wantContent(t, b.view(), "f", noise(1, size))
		if s := b.vol.Stats(); s.HistoryBytes != 0 {
			t.Errorf("history has %d bytes", s.HistoryBytes)
		}
		_, err := limited(b).OpenHandle(t.Context(), "f", os.O_WRONLY|os.O_APPEND, 0)
		wantErr(t, err, ErrInterrupted)
		b.wantHistory()
	})
	t.Run("an append to what has no name any more", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		put(t, b.view(), "f", noise(1, 5000))
		f := appending(t, limited(b))
		ok(t, b.view().Remove("f"))
		wantErr(t, f.Sync(), ErrQuota)
		wantErr(t, f.Close(), ErrQuota)
		if s := b.vol.Stats(); s.HistoryBytes != 5000 {
			t.Errorf("history has %d bytes", s.HistoryBytes)
		}
		b.wantHistory()
	})
	t.Run("appends that share", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		put(t, b.view(), "full", noise(9, size))
		ok(t, b.view().Remove("full"))
		put(t, b.view(), "f", noise(1, size))
		w := limited(b)
		f := openFile(t, w, "f", os.O_WRONLY|os.O_APPEND)
		for range 3 {
			must(f.Write(noise(2, 1<<16)))(t) // what an fsync leaves of less than that lies in metadata
			ok(t, b.view().Chmod("f", 0o600)) // a version of another session, with the same bytes
			ok(t, f.Sync())
			ok(t, b.view().Chmod("f", 0o644))
		}
		ok(t, f.Close())
		put(t, w, "new", noise(3, size))
		b.wantHistory()
	})
}
