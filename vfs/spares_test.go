package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/meta"
)

// updates is how many transactions the open volume was asked for.
func (b *bench) updates() (n uint64) {
	b.t.Helper()
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error { n = c.updates.Load(); return nil }))
	return n
}

// open blobs in the records, spare ones included.
func (b *bench) openBlobs() (n int) {
	b.t.Helper()
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			return tx.Blobs(func(k *meta.BlobKey) bool {
				if k.State == meta.BlobOpen {
					n++
				}
				return true
			})
		})
	}))
	return n
}

// TestSmallUploadTakesOneTransaction counts what an upload waits for: one transaction, and one sync of its blob if it has one. Only the first two of an
// opened volume take another one, for their keys.
func TestSmallUploadTakesOneTransaction(t *testing.T) {
	t.Parallel()
	var faults *blobtest.Faulty
	b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store { faults = blobtest.Inject(s); return faults }})
	w := b.view()
	for i, c := range []struct {
		size, updates, syncs int
	}{
		{4096, 1, 0}, {4097, 2, 1}, {5000, 2, 1}, {5000, 1, 1}, {65_535, 1, 1}, {65_536, 1, 1}, {200_000, 1, 1}, {256<<10 - 1, 1, 1},
		{256 << 10, 2, 1}, {1 << 20, 2, 1}, {10_000, 1, 1},
	} {
		for _, what := range []string{"new", "overwritten"} {
			before := b.updates()
			faults.Set()
			data := noise(uint64(i), c.size)
			put(t, w, fmt.Sprint("f", i), data)
			if n := b.updates() - before; int(n) != c.updates {
				t.Errorf("%d bytes, %s: %d transactions, want %d", c.size, what, n, c.updates)
			}
			if n := faults.Calls(blobtest.OpSync); n != c.syncs {
				t.Errorf("%d bytes, %s: the blob was synced %d times, want %d", c.size, what, n, c.syncs)
			}
			wantContent(t, w, fmt.Sprint("f", i), data)
			if c.size == 4097 || c.size == 5000 && c.updates == 2 { // each of the first two is the first of its kind
				break
			}
		}
	}
	if files, n := b.blobFiles(), b.vol.Stats().Blobs; uint64(len(files)) != n {
		t.Errorf("%d blobs on the disk, %d in the statistics", len(files), n)
	}
	b.reopen()
	if n := b.updates(); n > 0 {
		t.Errorf("closing left something that the next opening needs %d transactions for", n)
	}
}

// TestSparesAreBounded: many uploads at once leave no more spare records than there is use for.
func TestSparesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	many(t, 400, func(i int) { put(t, w, fmt.Sprint(i), noise(uint64(i), 5000)) })
	// Whoever asks when there is none makes one beside its own, and 64 ask at once at the beginning.
	if n := b.openBlobs(); n == 0 || n > 64 {
		t.Errorf("%d spare records", n)
	}
	for i := range 100 { // one after another: each takes one, and there are enough without another
		put(t, w, fmt.Sprint(i), noise(uint64(i), 6000))
	}
	if n := b.openBlobs(); n == 0 || n > mostSpares {
		t.Errorf("%d spare records after a while", n)
	}
	b.reopen()
	w = b.view()
	for i := range 400 {
		size := 5000
		if i < 100 {
			size = 6000
		}
		wantContent(t, w, fmt.Sprint(i), noise(uint64(i), size))
	}
}

// crashDuringClose of a small upload (I8) leaves what was there before and nothing else, no mark either, and counts as no damage; nor do
// records that were spare. Only a blob that was written stays on the disk, for a week: the next test says why.
func crashDuringClose(t *testing.T) {
	for _, at := range []string{"create", "commit", ""} {
		var crashed *bench
		s := &stops{at: func(string) {}}
		b := newBenchWith(t, Options{testOnlyBlobs: func(below blob.Store) blob.Store { s.Store = below; return s }})
		w := b.view()
		for i := range 4 {
			put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
		}
		for i, name := range []string{"new", "3"} {
			before := len(b.blobFiles())
			s.at = func(which string) {
				if which == at && crashed == nil {
					crashed = b.crash()
				}
			}
			put(t, w, name, noise(9, 150_000))
			stays := 0
			switch at {
			case "":
				before++
				crashed = b.crash()
			case "commit":
				stays = 1
				before++
			}
			if n := crashed.openBlobs(); n != stays {
				t.Errorf("%q: %d blobs are open after recovery, want %d", at, n, stays)
			}
			if n := len(crashed.blobFiles()); n != before {
				t.Errorf("%q: %d blobs on the disk, want %d", at, n, before)
			}
			if n := crashed.vol.Stats().Damaged; n > 0 {
				t.Errorf("%q: %d cases of damage", at, n)
			}
			v := crashed.view()
			switch {
			case at == "":
				wantContent(t, v, name, noise(9, 150_000))
			case i == 0:
				_, err := v.Stat(name)
				wantErr(t, err, fs.ErrNotExist)
			default:
				wantContent(t, v, name, noise(3, 5000))
				if stat(t, v, name).Interrupted() {
					t.Errorf("%q: the file is marked as if bytes were in its history", at)
				}
			}
			put(t, v, name, noise(10, 7000))
			wantContent(t, v, name, noise(10, 7000))
			crashed.end()
			crashed = nil
		}
	}
}

// TestSpareKeysFollowRotation: the account gets a new key between the key of a small file and its commit.
func TestSpareKeysFollowRotation(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"create", "commit"} {
		b, arm, fired := rotatesAt(t, at)
		w := b.view()
		for i := range 3 {
			put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
		}
		arm()
		put(t, w, "3", noise(3, 5000))
		if !fired() {
			t.Fatal("no rotation")
		}
		put(t, w, "4", noise(4, 5000)) // its key was made under the old one, or with the commit of the one before
		b.reopen()
		w = b.view()
		for i := range 5 {
			wantContent(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
		}
	}
}

// TestFailedSmallUploadGivesUpItsBlob: what a full disk or a broken connection ends leaves no file without a version, and the next one goes through.
func TestFailedSmallUploadGivesUpItsBlob(t *testing.T) {
	t.Parallel()
	var faults *blobtest.Faulty
	b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store { faults = blobtest.Inject(s); return faults }})
	w := b.viewWith(ViewOptions{Broken: func(string) bool { return false }})
	for i := range 3 {
		put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	for _, op := range []blobtest.Op{blobtest.OpCreate, blobtest.OpWrite} {
		f := openFile(t, w, "full", wr)
		write(t, f, noise(1, 5000))
		faults.Set(blobtest.Fault{Op: op, Err: syscall.ENOSPC})
		wantErr(t, f.Close(), syscall.ENOSPC)
		faults.Set()
	}
	cutUpload(t, w, "cut", wr, noise(2, 5000))
	if got := names(t, w, "/"); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("%q", got)
	}
	if n := len(b.blobFiles()); n != 3 {
		t.Errorf("%d blobs on the disk", n)
	}
	put(t, w, "next", noise(3, 5000))
	wantContent(t, w, "next", noise(3, 5000))
}

// TestBlobsOfSmallVolumesShareADirectory: each directory costs a sync and a block of the disk, so that their number follows that of the blobs.
func TestBlobsOfSmallVolumesShareADirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	made := 0
	for _, c := range []struct{ blobs, least, most int }{{60, 1, 1}, {180, 2, 4}, {1100, 16, 32}} {
		one := func(i int) { put(t, w, fmt.Sprint(made+i), noise(1, 4097)) }
		if c.blobs < 1000 {
			for i := range c.blobs - made {
				one(i)
			}
		} else {
			many(t, c.blobs-made, one)
		}
		made = c.blobs
		if n := len(filesIn(t, filepath.Join(b.dir(), "blobs"))); n < c.least || n > c.most {
			t.Errorf("%d blobs lie in %d directories, want %d to %d", c.blobs, n, c.least, c.most)
		}
	}
}

// TestAnOldDatabasePutBackByMistakeLosesNothing: in an old database the blobs of the next small files are spare ones, whose keys were
// made with the files before. Opening it must not remove them before there was time to put the right one back; then it must.
func TestAnOldDatabasePutBackByMistakeLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 4 {
		put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	if b.openBlobs() == 0 {
		t.Fatal("no key is spare: this test proves nothing")
	}
	tree := filepath.Join(b.dir(), treeName(1))
	old, err := os.ReadFile(tree)
	ok(t, err)
	for i := 4; i < 8; i++ {
		put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	b.close()
	right, err := os.ReadFile(tree)
	ok(t, err)

	ok(t, os.WriteFile(tree, old, 0o600))
	b.open()
	w = b.view()
	for i := range 4 {
		wantContent(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	put(t, w, "more", noise(20, 5000)) // under no key that was spare before
	b.close()
	if n := len(b.blobFiles()); n != 9 {
		t.Errorf("%d blobs are left, want the nine that were written", n)
	}
	mistaken, err := os.ReadFile(tree)
	ok(t, err)

	ok(t, os.WriteFile(tree, right, 0o600))
	b.open()
	w = b.view()
	for i := range 8 {
		wantContent(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	b.close()

	ok(t, os.WriteFile(tree, mistaken, 0o600)) // and they keep it
	long := time.Now().Add(-orphanGrace - time.Hour)
	for _, p := range b.blobFiles() {
		ok(t, os.Chtimes(p, long, long))
	}
	b.open()
	if n := len(b.blobFiles()); n != 5 {
		t.Errorf("%d blobs are left after a week, want those of five files", n)
	}
	if n := b.openBlobs(); n != 0 {
		t.Errorf("%d blobs are open after a week", n)
	}
	b.verify()
}

// TestAKeyThatIsNotCommittedIsOverwritten: the draft ends, by whatever, before the key that its commit was to make became spare.
func TestAKeyThatIsNotCommittedIsOverwritten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 3 {
		put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
	}
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		d := must(c.newDraft(nil, meta.BlobKey{Dir: meta.Root, Name: "x"}))(t)
		_, key, err := blobKeys{c}.New(d.ctx, 0, true)
		if err != nil || d.next == nil {
			t.Fatalf("no spare one was used: %v", err)
		}
		clear(key[:])
		next := d.next.key
		ok(t, d.Abort())
		c.ended(d)
		if *next != (record.Key{}) {
			t.Error("the key is still in memory")
		}
		return c.update(t.Context(), d.doom)
	}))
}
