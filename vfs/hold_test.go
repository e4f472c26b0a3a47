package vfs

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
)

// heldBench is a bench whose holds can be set.
func heldBench(t testing.TB) (*bench, *atomic.Pointer[[]string]) {
	var paths atomic.Pointer[[]string]
	paths.Store(&[]string{})
	return newBenchWith(t, Options{Holds: func(keyring.AccountID) ([]string, error) { return *paths.Load(), nil }}), &paths
}

func (b *bench) purgeAll() PurgeReceipt {
	b.t.Helper()
	return must(b.vol.Purge(b.t.Context(), PurgeOptions{Before: time.Now().Add(time.Hour)}))(b.t)
}

// items are paths and versions of what the time index has, held ones with a star.
func (b *bench) items() (list []string) {
	b.t.Helper()
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error {
		return c.history(b.t.Context(), 1<<62, purgePage, nil, func(page []past) error {
			for i := range page {
				s := page[i].Path + " " + strconv.FormatUint(page[i].Version, 10)
				if page[i].Held {
					s += "*"
				}
				list = append(list, s)
			}
			return nil
		})
	}))
	slices.Sort(list)
	return list
}

func (b *bench) wantItems(want ...string) {
	b.t.Helper()
	if got := b.items(); !slices.Equal(got, want) {
		b.t.Errorf("history has %q, want %q", got, want)
	}
}

func TestHoldOnAPathKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/cases/42", 0o755))
	put(t, w, "/cases/42/a", noise(1, 1000))
	put(t, w, "/cases/42/a", noise(2, 1000))
	put(t, w, "/cases/7", noise(3, 1000))
	put(t, w, "/cases/7", noise(4, 1000))
	put(t, w, "/cases/42b", noise(5, 1000))
	ok(t, w.Remove("/cases/42b"))
	ok(t, w.RemoveAll("/cases"))
	paths.Store(&[]string{"/cases/42"})
	b.wantItems("/cases 0*", "/cases/42 0*", "/cases/42/a 0*", "/cases/42/a 1*", "/cases/42b 0", "/cases/7 0", "/cases/7 1")
	if r := b.purgeAll(); r.Names != 2 || r.Versions != 3 {
		t.Errorf("purged %+v", r)
	}
	b.wantItems("/cases 0*", "/cases/42 0*", "/cases/42/a 0*", "/cases/42/a 1*")
	if at := must(b.vol.Oldest(t.Context()))(t); !at.IsZero() {
		t.Errorf("something from %v would go", at)
	}
	paths.Store(&[]string{})
	if at := must(b.vol.Oldest(t.Context()))(t); at.IsZero() {
		t.Error("nothing would go after the release")
	}
	if r := b.purgeAll(); r.Names != 3 || r.Bytes != 2000 {
		t.Errorf("purged %+v after the release", r)
	}
	b.wantItems()
	b.verify()
}

// A hold cannot be shed by moving things out of it, whatever is moved, in whatever order, and however deep.
func TestHoldFollowsWhatIsMovedAway(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(t *testing.T, w *View){
		"the file":           func(t *testing.T, w *View) { ok(t, w.Rename("/h/x/y/f", "/out/f")) },
		"the file twice":     func(t *testing.T, w *View) { ok(t, w.Rename("/h/x/y/f", "/h/g")); ok(t, w.Rename("/h/g", "/out/f")) },
		"its directory":      func(t *testing.T, w *View) { ok(t, w.Rename("/h/x/y", "/out/y")) },
		"the held directory": func(t *testing.T, w *View) { ok(t, w.Rename("/h", "/out/h")) },
		"inner first, then outer": func(t *testing.T, w *View) {
			ok(t, w.Rename("/h/x/y", "/h/x/z"))
			ok(t, w.Rename("/h/x", "/out/x"))
			ok(t, w.Rename("/out/x/z", "/out/z"))
		},
		"file within what moves later": func(t *testing.T, w *View) {
			ok(t, w.Rename("/h/x", "/out/x"))
			ok(t, w.Rename("/out/x/y/f", "/out/f"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, paths := heldBench(t)
			w := b.view()
			ok(t, w.MkdirAll("/h/x/y", 0o755))
			ok(t, w.MkdirAll("/out", 0o755))
			put(t, w, "/h/x/y/f", noise(1, 1000))
			put(t, w, "/other", noise(1, 1000))
			put(t, w, "/other", noise(2, 1000))
			paths.Store(&[]string{"/h"})
			move(t, w)
			ok(t, w.RemoveAll("/out"))
			put(t, w, "/out2", noise(3, 1000))
			before := b.items()
			r := b.purgeAll()
			if r.Names != 0 || r.Versions != 1 || r.Bytes != 1000 {
				t.Errorf("purged %+v of %q", r, before)
			}
			b.verify()
		})
	}
}

// The version that was overwritten after a move is from the time of the hold, and stays.
func TestHoldKeepsVersionsOfWhatWasMovedAndOverwritten(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	paths.Store(&[]string{"/h"})
	w := b.view()
	ok(t, w.MkdirAll("/h", 0o755))
	put(t, w, "/h/f", noise(1, 1000))
	ok(t, w.Rename("/h/f", "/f"))
	b.wantItems("/h/f 0*")
	put(t, w, "/f", noise(2, 1000))
	b.wantItems("/f 1*", "/h/f 0*")
	b.purgeAll()
	b.wantItems("/f 1*", "/h/f 0*")
}

func TestHoldOnTheAccount(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	put(t, w, "/a", noise(1, 1000))
	put(t, w, "/a", noise(2, 1000))
	paths.Store(&[]string{"/"})
	if r := b.purgeAll(); r.Names+r.Versions != 0 {
		t.Errorf("purged %+v", r)
	}
	ok(t, w.Close())
	if err := b.fs.Destroy(t.Context(), b.id); !errors.Is(err, ErrHeld) {
		t.Errorf("destroyed: %v", err)
	}
	paths.Store(&[]string{"/nowhere"})
	if err := b.fs.Destroy(t.Context(), b.id); !errors.Is(err, ErrHeld) {
		t.Errorf("destroyed beside a hold on a path: %v", err)
	}
	wantContent(t, b.view(), "/a", noise(2, 1000))
}

// A hold that was answered before a transaction of a purge began is respected by it.
func TestHoldStopsAPurgeThatIsUnderWay(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	for i := range 3 * purgeBatch {
		put(t, w, "/a", noise(uint64(i), 10))
	}
	_, err := b.vol.Purge(t.Context(), PurgeOptions{Before: time.Now().Add(time.Hour), Pace: func(context.Context, int) error {
		paths.Store(&[]string{"/a"})
		return nil
	}})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("it went on: %v", err)
	}
	if n := len(b.items()); n != 2*purgeBatch-1 {
		t.Errorf("%d items are left", n)
	}
}

// Nothing is destroyed while nobody can tell what is on hold.
func TestPurgeNeedsToKnowTheHolds(t *testing.T) {
	t.Parallel()
	b := newBenchWith(t, Options{Holds: func(keyring.AccountID) ([]string, error) { return nil, errors.New("no idea") }})
	w := b.view()
	put(t, w, "/a", noise(1, 10))
	put(t, w, "/a", noise(2, 10))
	if r, err := b.vol.Purge(t.Context(), PurgeOptions{Before: time.Now().Add(time.Hour)}); err == nil || r.Versions != 0 {
		t.Errorf("purged %+v, %v", r, err)
	}
	ok(t, w.Close())
	if err := b.fs.Destroy(t.Context(), b.id); !errors.Is(err, ErrHeld) {
		t.Errorf("destroyed: %v", err)
	}
}

func TestPurgeTakesTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 2*purgeBatch + 11 {
		put(t, w, "/a", noise(uint64(i), 10))
	}
	var emitted uint64
	o := PurgeOptions{Before: time.Now().Add(time.Hour), Most: purgeBatch, Emit: func(r PurgeReceipt) []byte { emitted += r.Versions; return nil }}
	for _, want := range []uint64{purgeBatch, purgeBatch, 10, 0} {
		if r := must(b.vol.Purge(t.Context(), o))(t); r.Versions != want || r.Blobs != 0 {
			t.Errorf("purged %+v, want %d versions", r, want)
		}
	}
	if emitted != 2*purgeBatch+10 {
		t.Errorf("%d in the receipts", emitted)
	}
	b.verify()
}

// What was superseded at the instant that is asked for stays, and so does what is younger.
func TestPurgeKeepsWhatIsYoungEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		var at []time.Time
		for i := range 4 {
			put(t, w, "/a", noise(uint64(i), 10))
			time.Sleep(time.Hour) // of the bubble
		}
		ok(t, b.vol.do(t.Context(), func(c *core) error {
			return c.history(t.Context(), 1<<62, purgePage, nil, func(page []past) error {
				for i := range page {
					at = append(at, page[i].At)
				}
				return nil
			})
		}))
		if got := must(b.vol.Oldest(t.Context()))(t); len(at) != 3 || !got.Equal(at[0]) {
			t.Errorf("the oldest is from %v of %v", got, at)
		}
		if r := must(b.vol.Purge(t.Context(), PurgeOptions{Before: at[1]}))(t); r.Versions != 1 || !r.Oldest.Equal(at[0]) {
			t.Errorf("purged %+v", r)
		}
		if got := must(b.vol.Oldest(t.Context()))(t); !got.Equal(at[1]) {
			t.Errorf("the oldest is from %v of %v", got, at)
		}
		b.end()
	})
}

func TestPeekTellsWhatChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first, open := b.fs.Peek(b.id)
	w := b.view()
	must(w.Stat("/"))(t)
	if n, _ := b.fs.Peek(b.id); n != first || !open {
		t.Errorf("looking changed it from %d to %d; open: %v", first, n, open)
	}
	put(t, w, "/a", noise(1, 10))
	second, _ := b.fs.Peek(b.id)
	if second == first {
		t.Error("an upload did not change it")
	}
	ok(t, w.Close())
	b.vol.Rest()
	if n, open := b.fs.Peek(b.id); open || n != second {
		t.Errorf("after it was closed: %d, %d before; open: %v", n, second, open)
	}
	b.open()
	if n, open := b.fs.Peek(b.id); n < second || !open {
		t.Errorf("after it was opened: %d, %d before; open: %v", n, second, open)
	}
}

// What is moved out of a hold while a purge runs that began before stays.
func TestAPurgeThatRunsSeesWhatIsMovedOutOfAHold(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	paths.Store(&[]string{"/1", "/2", "/3"})
	for _, dir := range *paths.Load() {
		ok(t, w.MkdirAll(dir+"/d", 0o755))
		put(t, w, dir+"/d/f", noise(1, 1000))
	}
	put(t, w, "/x", nil)
	for range purgePage / 2 { // the rest is another page of the index
		ok(t, w.Rename("/x", "/y"))
		ok(t, w.Rename("/y", "/x"))
	}
	for _, dir := range *paths.Load() {
		put(t, w, dir+"/d/f", noise(2, 1000))
	}
	moved := false
	_, err := b.vol.Purge(t.Context(), PurgeOptions{Before: time.Now().Add(time.Hour), Pace: func(context.Context, int) error {
		if moved {
			return nil
		}
		moved = true
		return errors.Join(w.Rename("/1/d/f", "/out"), w.Rename("/2/d", "/away"), w.Rename("/3", "/gone"))
	}})
	if !moved || !errors.Is(err, ErrBusy) {
		t.Fatalf("moved: %v, the purge ended with %v", moved, err)
	}
	b.purgeAll()
	if n := b.vol.Stats().HistoryBytes; n != 3000 {
		t.Errorf("%d bytes of history are left, want the 3000 on hold", n)
	}
	b.verify()
}

// Who was told of a hold sees nothing go afterwards, not even by a transaction that had begun.
func TestSettleWaitsForTransactionsThatDestroy(t *testing.T) {
	t.Parallel()
	b, _ := heldBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 1000))
	ok(t, w.Remove("/f"))
	left := make(chan uint64, 1)
	_, err := b.vol.Purge(t.Context(), PurgeOptions{Before: time.Now().Add(time.Hour), Emit: func(PurgeReceipt) []byte {
		go func() {
			b.fs.Settle()
			left <- b.vol.Stats().HistoryBytes
		}()
		return nil
	}})
	ok(t, err)
	if n := <-left; n != 0 {
		t.Errorf("%d bytes of history were still to go", n)
	}
}
