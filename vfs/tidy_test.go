package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// tidy runs one Tidy over everything.
func (b *bench) tidy(o TidyOptions) *TidyResult {
	b.t.Helper()
	return must(b.vol.Tidy(b.t.Context(), o))(b.t)
}

// fragmented makes a file of size bytes and overwrites many short pieces of it, in one session after another.
func fragmented(t testing.TB, w *View, name string, size, pieces, sessions int) []byte {
	t.Helper()
	data := noise(7, size)
	put(t, w, name, data)
	rnd := rand.New(rand.NewPCG(1, 2))
	for s := range sessions {
		f := openFile(t, w, name, os.O_WRONLY)
		for range pieces / sessions {
			off := rnd.IntN(size - 100)
			copy(data[off:off+100], noise(uint64(s), 100))
			must(f.WriteAt(data[off:off+100], int64(off)))(t)
		}
		ok(t, f.Close())
	}
	return data
}

func layoutOfPath(t testing.TB, w *View, name string) extent.Layout {
	t.Helper()
	f := openFile(t, w, name, os.O_RDONLY)
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		t.Fatal(err)
	}
	l, err := f.in.base.place()
	ok(t, err)
	return *l
}

func TestFoldingMakesAFileSequentialAndKeepsItsVersion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	want := fragmented(t, w, "/f", 3<<20, 6000, 3)
	before, was := stat(t, w, "/f"), layoutOfPath(t, w, "/f")
	if foldPlan(&was, false) == nil {
		t.Fatalf("%d extents in %d blobs are not worth folding", len(was.Extents), len(was.Blobs))
	}
	reader := openFile(t, b.view(), "/f", os.O_RDONLY)
	defer reader.Close()
	if r := b.tidy(TidyOptions{Fold: true}); r.Folded != 1 || r.Busy != 0 || !r.Done {
		t.Fatalf("tidied %+v", r)
	}
	b.purge(all) // the old versions and their blobs
	b.verify()
	if got := must(io.ReadAll(reader))(t); !bytes.Equal(got, want) {
		t.Error("a handle from before reads something else")
	}
	wantContent(t, w, "/f", want)
	after, is := stat(t, w, "/f"), layoutOfPath(t, b.view(), "/f")
	if after.Version() != before.Version() || !after.ModTime().Equal(before.ModTime()) || after.node != before.node {
		t.Errorf("folded: %+v, before %+v", after.node, before.node)
	}
	if len(is.Extents) > 2 || len(is.Blobs) > 2 {
		t.Errorf("%d extents in %d blobs after folding", len(is.Extents), len(is.Blobs))
	}
	if n := len(b.blobFiles()); n != len(is.Blobs) {
		t.Errorf("%d blobs on disk, the file lies in %d", n, len(is.Blobs))
	}
	if r := b.tidy(TidyOptions{Fold: true}); r.Folded != 0 || r.Copied != 0 {
		t.Errorf("folded again: %+v", r)
	}
	b.reopen()
	wantContent(t, b.view(), "/f", want)
}

func TestALogOfManyAppendsIsFoldedWithoutCopyingItsBulk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	want := noise(1, 2<<20)
	put(t, w, "/log", want)
	for i := range 70 {
		f := openFile(t, w, "/log", os.O_WRONLY|os.O_APPEND)
		more := noise(uint64(i), 5000)
		write(t, f, more)
		ok(t, f.Close())
		want = append(want, more...)
	}
	r := b.tidy(TidyOptions{Fold: true})
	if r.Folded != 1 || r.Copied > 70*5000 {
		t.Errorf("tidied %+v, want at most what was appended copied", r)
	}
	wantContent(t, w, "/log", want)
	if l := layoutOfPath(t, b.view(), "/log"); len(l.Blobs) != 2 {
		t.Errorf("%d blobs, want 2", len(l.Blobs))
	}
}

func TestFoldingLosesAgainstAWriter(t *testing.T) {
	t.Parallel()
	var during func()
	hook := func(s blob.Store) blob.Store { return &watched{Store: s, created: func() { during() }} }
	b := newBenchWith(t, Options{testOnlyBlobs: hook})
	during = func() {}
	w := b.view()
	want := fragmented(t, w, "/f", 3<<20, 6000, 1)
	var f *File
	during = func() {
		during = func() {}
		f = openFile(t, w, "/f", os.O_WRONLY)
		must(f.WriteAt([]byte("between"), 1000))(t)
	}
	if r := b.tidy(TidyOptions{Fold: true}); r.Folded != 0 || r.Busy != 1 {
		t.Errorf("tidied %+v, want to have lost", r)
	}
	ok(t, f.Close())
	copy(want[1000:], "between")
	wantContent(t, w, "/f", want)
	if n, st := len(b.blobFiles()), b.vol.Stats(); uint64(n) != st.Blobs || st.DoomedBytes != 0 {
		t.Errorf("%d blobs on disk, stats %+v", n, st)
	}
}

// watched tells when a blob is made.
type watched struct {
	blob.Store
	created func()
}

func (w *watched) Create(ctx context.Context, id blob.ID) (blob.Writer, error) {
	w.created()
	return w.Store.Create(ctx, id)
}

// halfDead makes /f with a large blob of which a purge leaves only a part, and returns its content and what was purged.
func (b *bench) halfDead(w *View) (want, purged []byte) {
	b.t.Helper()
	purged = noise(9, 4<<20)
	put(b.t, w, "/f", purged)
	want = slices.Clone(purged)
	for i := range 3 { // each version keeps less of the first blob
		f := openFile(b.t, w, "/f", os.O_WRONLY)
		part := noise(uint64(20+i), 1<<20)
		must(f.WriteAt(part, int64(i)<<20))(b.t)
		ok(b.t, f.Close())
		copy(want[i<<20:], part)
	}
	return want, purged
}

func TestRepackMovesWhatIsLiveUnderANewKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	want, _ := b.halfDead(w)
	first := layoutOfPath(t, w, "/f").Blobs
	if r := b.tidy(TidyOptions{Repack: true}); r.Repacked != 0 {
		t.Errorf("repacked while history relies on all: %+v", r)
	}
	b.purge(all)
	reader := openFile(t, b.view(), "/f", os.O_RDONLY)
	defer reader.Close()
	r := b.tidy(TidyOptions{Repack: true})
	if r.Repacked != 1 || r.Copied != 1<<20 {
		t.Errorf("tidied %+v, want the last MiB copied", r)
	}
	if got := must(io.ReadAll(reader))(t); !bytes.Equal(got, want) {
		t.Error("a handle from before reads something else")
	}
	wantContent(t, w, "/f", want)
	b.verify()
	for _, p := range b.blobFiles() { // the old blob is gone
		for _, old := range first[len(first)-1:] {
			if bytes.Contains([]byte(p), fmt.Appendf(nil, "%x", old.ID[1:])) {
				t.Errorf("%s is still there", p)
			}
		}
	}
	if live := b.liveOfAll(); live != 1 {
		t.Errorf("%v of the blobs' bytes are live, want all", live)
	}
	b.reopen()
	wantContent(t, b.view(), "/f", want)
}

// liveOfAll is how much of all blobs is relied on.
func (b *bench) liveOfAll() float64 {
	b.t.Helper()
	live, all := uint64(0), uint64(0)
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error {
		owners := map[meta.Inode]bool{}
		err := c.db.View(func(tx *meta.Tx) error {
			return tx.Blobs(func(k *meta.BlobKey) bool { owners[k.Inode] = true; all += k.Size; return true })
		})
		for id := range owners {
			s, err := c.liveSpans(b.t.Context(), id)
			if err != nil {
				return err
			}
			for _, x := range s {
				live += x.bytes()
			}
		}
		return err
	}))
	if all == 0 {
		return 1
	}
	return float64(live) / float64(all)
}

func TestRepackAllLeavesNoDeadByteUnderAKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	contents := map[string][]byte{}
	for i := range 4 {
		name := fmt.Sprintf("/f%d", i)
		contents[name] = fragmented(t, w, name, 300_000+i, 300, 3)
	}
	f := openFile(t, w, "/synced", os.O_WRONLY|os.O_CREATE) // a blob that versions refer to as open
	write(t, f, noise(1, 200_000))
	ok(t, f.Sync())
	write(t, f, noise(2, 200_000))
	ok(t, f.Truncate(150_000))
	ok(t, f.Close())
	contents["/synced"] = noise(1, 200_000)[:150_000]
	b.purge(func(s Superseded) bool { return s.Version%2 == 1 }) // holes in the histories
	r := must(b.vol.RepackAll(t.Context()))(t)
	if r.Repacked < 4 || r.Busy+r.Damaged != 0 || !r.Done {
		t.Errorf("repacked %+v", r)
	}
	if live := b.liveOfAll(); live != 1 {
		t.Errorf("%v of the blobs' bytes are live, want all", live)
	}
	for name, want := range contents {
		wantContent(t, w, name, want)
	}
	if again := must(b.vol.RepackAll(t.Context()))(t); again.Copied != 0 {
		t.Errorf("repacked again: %+v", again)
	}
	b.purge(all)
	b.verify()
	for name, want := range contents {
		wantContent(t, w, name, want)
	}
}

// TestHistoryReadsTheSameAfterHousekeeping makes a history, purges a part of it, folds and repacks, and reads every version that
// is left.
func TestHistoryReadsTheSameAfterHousekeeping(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	rnd := rand.New(rand.NewPCG(5, 6))
	type version struct{ inode, n uint64 }
	want := map[version][]byte{}
	contents := map[string][]byte{}
	for round := range 5 {
		for range 25 {
			name := fmt.Sprintf("/f%d", rnd.IntN(4))
			data, flag := slices.Clone(contents[name]), os.O_RDWR|os.O_CREATE
			if rnd.IntN(5) == 0 {
				data, flag = nil, flag|os.O_TRUNC
			}
			f := openFile(t, w, name, flag)
			for range rnd.IntN(4) + 1 {
				off, piece := rnd.IntN(len(data)+1), noise(rnd.Uint64(), 1+rnd.IntN(90_000))
				data = append(data, make([]byte, max(0, off+len(piece)-len(data)))...)
				copy(data[off:], piece)
				must(f.WriteAt(piece, int64(off)))(t)
				if rnd.IntN(4) == 0 {
					ok(t, f.Sync())
					i := stat(t, w, name)
					want[version{i.Inode(), i.Version()}] = slices.Clone(data)
				}
			}
			ok(t, f.Close())
			i := stat(t, w, name)
			want[version{i.Inode(), i.Version()}], contents[name] = data, data
		}
		b.purge(func(s Superseded) bool { return (s.Version*7+s.Inode+uint64(round))%3 == 0 })
		b.tidy(TidyOptions{FoldAll: round%2 == 0, RepackAll: round%2 == 1})
		b.verify()
		read := 0
		ok(t, b.vol.do(t.Context(), func(c *core) error {
			var left []meta.Located
			err := c.db.View(func(tx *meta.Tx) error {
				return tx.VersionsFrom(0, 0, func(l meta.Located) bool { left = append(left, l); return true })
			})
			for _, l := range left {
				content, known := want[version{uint64(l.Inode), l.N}]
				if !known { // of a directory
					continue
				}
				var v *meta.Version
				err := c.db.View(func(tx *meta.Tx) (err error) { v, err = tx.Version(l.Inode, l.N); return err })
				if err != nil {
					return err
				}
				r, err := c.content.Open(t.Context(), &v.Layout)
				if err != nil {
					return err
				}
				got := make([]byte, len(content))
				if n, err := r.ReadAt(got, 0); err != nil && err != io.EOF || n != len(content) || r.Size() != int64(n) || !bytes.Equal(got, content) {
					t.Errorf("round %d: version %d of inode %d reads differently: %d of %d bytes, %v", round, l.N, l.Inode, n, len(content), err)
				}
				r.Close()
				read++
			}
			return err
		}))
		if read < 8 {
			t.Errorf("only %d versions were read", read)
		}
	}
}

func TestAFileWithVeryManyVersionsIsRepackedInSteps(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	data := noise(1, 300_000)
	put(t, w, "/f", data)
	for i := range 3 * repackBatch {
		ok(t, w.Chmod("/f", os.FileMode(0o600+i%8)))
	}
	put(t, w, "/f", data[:100_000])
	f := openFile(t, w, "/g", os.O_WRONLY|os.O_CREATE)
	must(f.WriteAt(data, 0))(t)
	must(f.WriteAt(data, 0))(t) // what was written first is dead from the beginning
	ok(t, f.Close())
	for i := range 2 * repackBatch {
		ok(t, w.Chmod("/g", os.FileMode(0o600+i%8)))
	}
	must(b.vol.RepackAll(t.Context()))(t)
	if live := b.liveOfAll(); live != 1 {
		t.Errorf("%v of the blobs' bytes are live, want all", live)
	}
	wantContent(t, w, "/g", data)
	b.verify()
}

func TestKeysThatNothingReliesOnGoAfterTheirQuarantine(t *testing.T) {
	t.Parallel()
	now := atomic.Int64{}
	now.Store(time.Now().UnixNano())
	b := newBenchWith(t, Options{Now: func() time.Time { return time.Unix(0, now.Load()) }})
	w := b.view()
	put(t, w, "/f", noise(1, 200_000))
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		return c.update(t.Context(), func(tx *meta.Tx) error {
			return errors.Join(tx.PutBlob(&meta.BlobKey{ID: [16]byte{1}, State: meta.BlobSealed, Inode: 2}), tx.PutBlob(&meta.BlobKey{ID: [16]byte{2}, State: meta.BlobSealed, Inode: 999}))
		})
	}))
	if f := b.findings(); len(f) < 2 {
		t.Errorf("verify says %q of two keys that nothing relies on", f)
	}
	if r := b.tidy(TidyOptions{}); r.Swept != 0 || r.Quarantined != 2 {
		t.Errorf("at once: %+v", r)
	}
	now.Add(int64(defaultQuarantine) - 1)
	if r := b.tidy(TidyOptions{}); r.Swept != 0 || r.Quarantined != 2 {
		t.Errorf("before the end of the quarantine: %+v", r)
	}
	now.Add(1)
	if r := b.tidy(TidyOptions{}); r.Swept != 2 || r.Quarantined != 0 {
		t.Errorf("after the quarantine: %+v", r)
	}
	wantContent(t, w, "/f", noise(1, 200_000))
	b.verify()
}

// TestStraysArePagedThrough finds the same with pages of any size, and a Tidy that may deal with few leaves the rest to the next.
func TestStraysArePagedThrough(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 7 {
		put(t, w, fmt.Sprint("/", i), noise(uint64(i), 6000))
	}
	const n = 9
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		err := c.update(t.Context(), func(tx *meta.Tx) error {
			var errs []error
			for i := range byte(n) {
				errs = append(errs, tx.PutBlob(&meta.BlobKey{ID: [16]byte{i * 28, 1}, State: meta.BlobSealed, Inode: 2, Size: uint64(i)}))
			}
			return errors.Join(errs...)
		})
		for page := 1; page < 20; page++ {
			found, serr := c.strays(t.Context(), page, 100)
			for _, s := range found {
				if s.ID[1] != 1 || s.Size != uint64(s.ID[0]/28) {
					t.Errorf("pages of %d: %+v is no stray", page, s)
				}
			}
			if len(found) != n {
				t.Errorf("pages of %d: %d strays, want %d", page, len(found), n)
			}
			err = errors.Join(err, serr)
		}
		some, serr := c.strays(t.Context(), 4, 3)
		if len(some) != 3 {
			t.Errorf("%d strays, want no more than 3", len(some))
		}
		return errors.Join(err, serr)
	}))
	if r := b.tidy(TidyOptions{Wait: -1}); r.Swept != n {
		t.Errorf("swept %d, want %d", r.Swept, n)
	}
	for i := range 7 {
		wantContent(t, w, fmt.Sprint("/", i), noise(uint64(i), 6000))
	}
	b.verify()
}

// TestTidyingFailsWithoutHarm lets a call to the store fail in each round.
func TestTidyingFailsWithoutHarm(t *testing.T) {
	t.Parallel()
	var store *blobtest.Faulty
	b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store { store = blobtest.Inject(s); return store }})
	for _, op := range []blobtest.Op{blobtest.OpCreate, blobtest.OpWrite, blobtest.OpSync, blobtest.OpRead, blobtest.OpOpen} {
		for _, failure := range []error{syscall.ENOSPC, syscall.EIO} {
			for nth := 1; nth < 3; nth++ {
				what := fmt.Sprintf("op %d, call %d, %v", op, nth, failure)
				b.open()
				w := b.view()
				want, _ := b.halfDead(w)
				folded := fragmented(t, w, "/g", 1<<20, 6000, 1)
				b.purge(all)
				ok(t, w.Close())
				store.Set(blobtest.Fault{Op: op, Err: failure, Nth: nth})
				r, err := b.vol.Tidy(t.Context(), TidyOptions{Fold: true, Repack: true})
				if store.Calls(op) < nth {
					t.Errorf("%s: it never came to that: %+v", what, r)
				}
				if err == nil {
					t.Errorf("%s: Tidy says nothing: %+v", what, r)
				}
				store.Set()
				b.open() // a failed sync closes the volume as soon as nobody uses it
				check := b.view()
				wantContent(t, check, "/f", want)
				wantContent(t, check, "/g", folded)
				ok(t, check.Close())
				b.verify()
				if st, n := b.vol.Stats(), len(b.blobFiles()); uint64(n) != st.Blobs {
					t.Errorf("%s: %d blobs on disk, %d have keys", what, n, st.Blobs)
				}
				if r := b.tidy(TidyOptions{Fold: true, Repack: true}); r.Folded+r.Repacked == 0 {
					t.Errorf("%s: nothing was left to do: %+v", what, r)
				}
				if live := b.liveOfAll(); live < 0.6 {
					t.Errorf("%s: %v of the blobs' bytes are live", what, live)
				}
			}
		}
	}
}

// TestACrashWhileTidying opens what a crash leaves after each step.
func TestACrashWhileTidying(t *testing.T) {
	t.Parallel()
	var during func()
	during = func() {}
	b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store { return &watched{Store: s, created: func() { during() }} }})
	w := b.view()
	want, _ := b.halfDead(w)
	folded := fragmented(t, w, "/g", 1<<20, 6000, 1)
	b.purge(all)
	crashes := 0
	during = func() {
		crashes++
		c := b.crash()
		wantContent(t, c.view(), "/f", want)
		wantContent(t, c.view(), "/g", folded)
		c.tidy(TidyOptions{Fold: true, Repack: true})
		wantContent(t, c.view(), "/f", want)
		wantContent(t, c.view(), "/g", folded)
	}
	b.tidy(TidyOptions{Fold: true, Repack: true})
	if crashes != 2 {
		t.Errorf("%d crashes, want one in the fold and one in the repack", crashes)
	}
}

func TestTidyingBesideReadersAndWriters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var writes atomic.Int64
	for i := range 3 {
		w, name := b.view(), fmt.Sprintf("/f%d", i)
		data := noise(uint64(i), 400_000)
		put(t, w, name, data)
		wg.Go(func() { // the only writer of its file knows what it must read
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				writes.Add(1)
				f, err := w.OpenHandle(ctx, name, os.O_RDWR, 0)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				for range 40 {
					off := rnd.IntN(len(data) - 1000)
					copy(data[off:off+1000], noise(rnd.Uint64(), 1000))
					if _, err := f.WriteAt(data[off:off+1000], int64(off)); err != nil {
						t.Error(err)
					}
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				if got := get(t, w, name); !bytes.Equal(got, data) {
					t.Errorf("%s reads back differently", name)
				}
			}
		})
		r := b.view()
		wg.Go(func() {
			for ctx.Err() == nil {
				f, err := r.OpenHandle(ctx, name, os.O_RDONLY, 0)
				if err == nil {
					_, err = io.Copy(io.Discard, f)
					err = errors.Join(err, f.Close())
				}
				if err != nil && ctx.Err() == nil && !errors.Is(err, ErrPurged) {
					t.Error(err)
				}
			}
		})
	}
	moved := uint64(0)
	for writes.Load() < 150 || moved < 10 {
		b.purge(all)
		r := b.tidy(TidyOptions{Fold: true, RepackAll: true})
		moved += r.Folded + r.Repacked
	}
	stop()
	wg.Wait()
	if st := b.vol.Stats(); st.Damaged != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestTheHousekeeperTidiesWhatIsOpenAndQuiet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	b.halfDead(w)
	b.purge(all)
	done := make(chan *TidyResult, 1)
	stop := b.fs.Housekeep(HousekeeperOptions{Every: time.Millisecond, Quiet: time.Nanosecond, Report: func(_ *Volume, r *TidyResult, err error) {
		if err != nil {
			t.Error(err)
		}
		select {
		case done <- r:
		default:
		}
	}})
	defer stop()
	if r := <-done; r.Repacked != 1 {
		t.Errorf("tidied %+v", r)
	}
	f := openFile(t, w, "/busy", os.O_WRONLY|os.O_CREATE)
	write(t, f, noise(1, 100))
	if b.fs.drafts.quiet(time.Now().Add(time.Hour), time.Second) {
		t.Error("a volume that is being written counts as quiet")
	}
	ok(t, f.Close())
}
