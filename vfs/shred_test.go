package vfs

import (
	"errors"
	"os"
	"testing"
)

// shred is a shred epoch over the bench's account.
func (b *bench) shred(o ShredOptions) Shredded {
	b.t.Helper()
	return must(b.fs.Shred(b.t.Context(), o))(b.t)
}

// halfPurged leaves a blob of which the first version relied on all, and only a
// part is in use: the other part is purged.
func halfPurged(t testing.TB, b *bench, w *View) {
	t.Helper()
	put(t, w, "/f", noise(1, 300_000))
	f := openFile(t, w, "/f", os.O_WRONLY)
	ok(t, f.Truncate(100_000))
	ok(t, f.Close())
	b.purge(all)
}

// TestAKeyThatHousekeepingGivesUpAwaitsShredding: an epoch that moved nothing
// took the key of a half dead blob along. When it goes at last it lies in free
// pages, and the part that was purged long ago with it.
func TestAKeyThatHousekeepingGivesUpAwaitsShredding(t *testing.T) {
	t.Parallel()
	for what, o := range map[string]TidyOptions{"repack": {RepackAll: true}, "fold": {FoldAll: true}} {
		b := newBench(t)
		w := b.view()
		halfPurged(t, b, w)
		if what == "fold" { // in two blobs, so that there is something to fold
			f := openFile(t, w, "/f", os.O_WRONLY)
			must(f.WriteAt(noise(2, 70_000), 10_000))(t)
			ok(t, f.Close())
			b.purge(all)
		}
		if r := b.shred(ShredOptions{}); len(r.Accounts) != 1 || r.Accounts[0].Err != nil {
			t.Fatalf("%s: shredded %+v", what, r)
		}
		if r := b.tidy(o); r.Copied == 0 {
			t.Fatalf("%s: tidied %+v", what, r)
		}
		if st := b.vol.Stats(); st.AwaitingShred == 0 {
			t.Errorf("%s: the key of purged bytes went, and nothing awaits shredding", what)
		}
		if r := b.shred(ShredOptions{}); len(r.Accounts) != 1 {
			t.Errorf("%s: the next epoch passes over the account: %+v", what, r)
		}
		if r := b.tidy(o); r.Copied != 0 || b.vol.Stats().AwaitingShred != 0 {
			t.Errorf("%s: %d bytes await shredding for ever", what, b.vol.Stats().AwaitingShred)
		}
		b.verify()
	}
}

// TestAShredKeepsWhatItCouldNotRepackForAnotherTime: who writes a file keeps
// its half dead blobs where they are, and the epoch must not pass over that.
func TestAShredKeepsWhatItCouldNotRepackForAnotherTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	halfPurged(t, b, w)
	f := openFile(t, b.view(), "/f", os.O_WRONLY)
	must(f.WriteAt([]byte("x"), 5))(t)
	r := b.shred(ShredOptions{Repack: Repack})
	if len(r.Accounts) != 1 || !errors.Is(r.Accounts[0].Err, ErrBusy) || r.Bytes != 0 {
		t.Errorf("with a writer: %+v", r)
	}
	if b.vol.Stats().AwaitingShred == 0 {
		t.Error("nothing awaits shredding any more")
	}
	ok(t, f.Close())
	b.purge(all)
	r = b.shred(ShredOptions{Repack: Repack})
	if len(r.Accounts) != 1 || r.Accounts[0].Err != nil || r.Accounts[0].ID != b.id || b.liveOfAll() != 1 {
		t.Errorf("afterwards: %+v, %v of the blobs are live", r, b.liveOfAll())
	}
}
