package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
)

func all(Superseded) bool { return true }

// purge plans and executes, beside nobody.
func (b *bench) purge(expired func(Superseded) bool) PurgeReceipt {
	b.t.Helper()
	p, r := b.planned(expired)
	b.wantFreed(p, r)
	return r
}

// planned plans and executes.
func (b *bench) planned(expired func(Superseded) bool) (*PurgePlan, PurgeReceipt) {
	b.t.Helper()
	p := must(b.vol.PlanPurge(b.t.Context(), expired))(b.t)
	ok(b.t, p.Execute(b.t.Context(), nil))
	r := p.Result()
	if r.Names > p.Names || r.Versions > p.Versions+r.Inodes { // an inode takes its current version with it
		b.t.Errorf("planned %d names and %d versions, purged %+v", p.Names, p.Versions, r)
	}
	return p, r
}

// wantFreed compares what a plan found by reading what stays with what the purge counted as it went.
func (b *bench) wantFreed(p *PurgePlan, r PurgeReceipt) {
	b.t.Helper()
	if r.Stored != p.Stored && r.Busy == 0 || p.Least {
		b.t.Errorf("the plan was to free %d bytes (least: %v), and %d were freed: %+v, %+v", p.Stored, p.Least, r.Stored, p, r)
	}
}

func TestPurgeTakesWhatWasSupersededAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/tree/deep", 0o755))
	old, kept := noise(1, 200_000), noise(2, 300_000)
	put(t, w, "/kept", old)
	put(t, w, "/kept", kept)
	put(t, w, "/tree/deep/gone", noise(3, 100_000))
	put(t, w, "/small", []byte("inline"))
	ok(t, w.Rename("/small", "/tree/small"))
	ok(t, w.RemoveAll("/tree"))

	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	var paths []string
	bytes := uint64(0)
	for s, err := range plan.Items(t.Context()) {
		ok(t, err)
		paths = append(paths, fmt.Sprintf("%s %d", s.Path, s.Version))
		bytes += s.Bytes
	}
	slices.Sort(paths)
	want := []string{"/kept 1", "/small 0", "/tree 0", "/tree/deep 0", "/tree/deep/gone 0", "/tree/small 0"}
	if !slices.Equal(paths, want) {
		t.Errorf("the plan has %q, want %q", paths, want)
	}
	if plan.Names != 5 || plan.Versions != 1 || plan.Bytes != 300_006 || bytes != plan.Bytes || plan.Kept != 0 {
		t.Errorf("plan %+v, its items have %d bytes", plan, bytes)
	}
	if st := b.vol.Stats(); st.HistoryBytes != plan.Bytes {
		t.Errorf("%d bytes in history, the plan says %d", st.HistoryBytes, plan.Bytes)
	}
	ok(t, plan.Execute(t.Context(), nil))
	if r := plan.Result(); r.Names != 5 || r.Bytes != plan.Bytes || r.Blobs != 2 || r.Inodes != 4 || r.Busy != 0 {
		t.Errorf("purged %+v", r)
	}
	if st := b.vol.Stats(); st.HistoryBytes != 0 || st.AwaitingShred != 300_006 || st.DoomedBytes != 0 || st.Blobs != 1 {
		t.Errorf("stats %+v", st)
	}
	if n := len(b.blobFiles()); n != 1 {
		t.Errorf("%d blobs are on disk, want that of the live file", n)
	}
	wantContent(t, w, "/kept", kept)
	b.verify()
	b.reopen()
	wantContent(t, b.view(), "/kept", kept)
	if again := b.purge(all); again.Names+again.Versions != 0 {
		t.Errorf("purged again: %+v", again)
	}
}

func TestPurgeAsksForEachItemAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/hold", 0o755))
	for i := range 5 {
		put(t, w, "/hold/not", noise(uint64(i), 80_000))
		put(t, w, "/free", noise(uint64(i), 70_000))
	}
	held := func(s Superseded) bool { return s.Path != "/hold/not" }
	r := b.purge(held)
	if r.Versions != 4 {
		t.Errorf("purged %+v, want 4 versions of /free", r)
	}
	plan := must(b.vol.PlanPurge(t.Context(), held))(t)
	if plan.Versions != 0 || plan.Kept != 4 {
		t.Errorf("plan %+v", plan)
	}
}

func TestPurgeLeavesWhatIsYoungerThanThePlan(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 70_000))
	put(t, w, "/f", noise(2, 70_000))
	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	put(t, w, "/f", noise(3, 70_000))
	ok(t, plan.Execute(t.Context(), nil))
	if r := plan.Result(); r.Versions != 1 {
		t.Errorf("purged %+v, want one version", r)
	}
	if st := b.vol.Stats(); st.HistoryBytes != 70_000 {
		t.Errorf("%d bytes in history, want those of the version that came after the plan", st.HistoryBytes)
	}
}

func TestPurgeKeepsBlobsThatLaterVersionsRelyOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	want := noise(1, 300_000)
	put(t, w, "/log", want)
	for i := range 3 {
		f := openFile(t, w, "/log", os.O_WRONLY|os.O_APPEND)
		more := noise(uint64(i+2), 100_000)
		write(t, f, more)
		ok(t, f.Close())
		want = append(want, more...)
	}
	r := b.purge(all)
	if r.Versions != 3 || r.Blobs != 0 {
		t.Errorf("purged %+v", r)
	}
	wantContent(t, w, "/log", want)
}

func TestAReceiptOfEachTransactionRidesInIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 600 {
		put(t, w, "/f", []byte{byte(i)})
	}
	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	paces := 0
	plan.Pace = func(_ context.Context, items int) error { paces += items; return nil }
	var sum PurgeReceipt
	ok(t, plan.Execute(t.Context(), func(r PurgeReceipt) []byte {
		return fmt.Appendf(nil, "%d", r.Versions)
	}))
	events := 0
	ok(t, b.vol.Drain(t.Context(), func(e []byte) error {
		n := uint64(0)
		fmt.Sscan(string(e), &n)
		sum.Versions += n
		events++
		return nil
	}))
	if sum.Versions != 599 || events != 2 || paces != 599 || plan.Result().Versions != 599 {
		t.Errorf("%d events speak of %d versions, paced %d, result %+v", events, sum.Versions, paces, plan.Result())
	}
	stop := errors.New("stop")
	put(t, w, "/f", nil)
	plan = must(b.vol.PlanPurge(t.Context(), all))(t)
	plan.Pace = func(context.Context, int) error { return stop }
	if err := plan.Execute(t.Context(), nil); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of Pace", err)
	}
}

func TestAReaderOfAPurgedVersionIsToldSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 300_000))
	put(t, w, "/g", noise(2, 300_000))
	w2 := b.view()
	opened, lazy := openFile(t, w2, "/f", os.O_RDONLY), openFile(t, w2, "/g", os.O_WRONLY)
	defer opened.Close()
	ok(t, w.Remove("/f"))
	put(t, w, "/g", noise(3, 10))
	before := b.vol.Stats().Damaged
	b.purge(all)
	buf := make([]byte, 300_000)
	n, err := opened.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, ErrPurged) && err != io.EOF || err == nil && !slices.Equal(buf[:n], noise(1, 300_000)[:n]) {
		t.Errorf("read %d bytes and %v of a purged version that was open", n, err)
	}
	if _, err := lazy.WriteAt([]byte("x"), 5); !errors.Is(err, ErrPurged) {
		t.Errorf("writing over a purged version: %v, want ErrPurged", err)
	}
	if err := lazy.Close(); !errors.Is(err, ErrPurged) {
		t.Errorf("closing: %v, want ErrPurged", err)
	}
	if got := b.vol.Stats().Damaged; got != before {
		t.Errorf("what was purged counts as damage: %d", got-before)
	}
	wantContent(t, w, "/g", noise(3, 10))
}

func TestWhatIsBeingWrittenIsPurgedLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	base := noise(1, 300_000)
	put(t, w, "/f", base)
	f := openFile(t, w, "/f", os.O_RDWR)
	must(f.WriteAt([]byte("changed"), 5))(t)
	put(t, b.view(), "/f", noise(2, 70_000))
	if r := b.purge(all); r.Busy != 1 || r.Versions != 0 {
		t.Errorf("purged %+v under an open draft", r)
	}
	ok(t, f.Close())
	copy(base[5:], "changed")
	wantContent(t, w, "/f", base)
	if r := b.purge(all); r.Versions != 2 || r.Blobs != 1 {
		t.Errorf("purged %+v", r)
	}
	wantContent(t, w, "/f", base)
}

func TestPurgeOnAFullDiskOrABrokenStoreGoesOnLater(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{syscall.ENOSPC, syscall.EIO} {
		var store *blobtest.Faulty
		b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store { store = blobtest.Inject(s); return store }})
		w := b.view()
		for i := range 3 {
			put(t, w, "/f", noise(uint64(i), 70_000))
		}
		plan := must(b.vol.PlanPurge(t.Context(), all))(t)
		store.Set(blobtest.Fault{Op: blobtest.OpRemove, Err: failure})
		if err := plan.Execute(t.Context(), nil); err == nil {
			t.Errorf("%v: Execute says that all is gone", failure)
		}
		if st := b.vol.Stats(); st.HistoryBytes != 0 || st.DoomedBytes == 0 {
			t.Errorf("%v: stats %+v, want nothing in history and something doomed", failure, st)
		}
		store.Set()
		b.purge(all)
		if n := len(b.blobFiles()); n != 1 {
			t.Errorf("%v: %d blobs left, want 1", failure, n)
		}
	}
}

func TestACrashInThePurgeLeavesItToGoOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 600 {
		put(t, w, "/f", noise(uint64(i), 500))
	}
	last := get(t, w, "/f")
	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	left := []uint64{99, 0}
	plan.Pace = func(context.Context, int) error {
		c := b.crash()
		if got := c.vol.Stats().HistoryBytes; got != left[0]*500 {
			t.Errorf("%d bytes in history after the crash, want %d", got, left[0]*500)
		}
		wantContent(t, c.view(), "/f", last)
		if r := c.purge(all); r.Versions != left[0] {
			t.Errorf("purged %+v after the crash, want the %d that were left", r, left[0])
		}
		left = left[1:]
		return nil
	}
	ok(t, plan.Execute(t.Context(), nil))
}

func TestPurgeBesideReadersAndWriters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var writes atomic.Int64
	for i := range 4 {
		w, name := b.view(), fmt.Sprintf("/f%d", i%2)
		wg.Go(func() {
			for n := uint64(0); ctx.Err() == nil; n++ {
				data := noise(n, 70_000+int(n%3)*1000)
				writes.Add(1)
				switch n % 4 {
				case 0, 1:
					put(t, w, name, data)
				case 2:
					f, err := w.OpenHandle(ctx, name, os.O_RDWR, 0)
					if err != nil {
						if ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
							t.Error(err)
						}
						continue
					}
					_, werr := f.WriteAt(data[:100], 1000)
					if err := errors.Join(werr, f.Close()); err != nil && !errors.Is(err, ErrPurged) {
						t.Error(err)
					}
				case 3:
					if err := w.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrBusy) {
						t.Error(err)
					}
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
				if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	for writes.Load() < 100 {
		b.planned(all)
	}
	stop()
	wg.Wait()
	b.purge(all)
	if st := b.vol.Stats(); st.HistoryBytes != 0 {
		t.Errorf("stats %+v: something stays in history", st)
	}
}

func TestPlanReadsNothingThatIsTooYoung(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 10))
	put(t, w, "/f", noise(2, 10))
	cut := oneSecond()
	put(t, w, "/f", noise(3, 10))
	asked := 0
	plan := must(b.vol.PlanPurgeBefore(t.Context(), cut, func(Superseded) bool { asked++; return true }))(t)
	if asked != 1 || plan.Versions != 1 {
		t.Errorf("asked for %d items, plan %+v", asked, plan)
	}
}

// TestWhatIsCommittedAfterThePlanIsNoPartOfIt, though it has an instant from before: it was being committed.
func TestWhatIsCommittedAfterThePlanIsNoPartOfIt(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	b := newBenchWith(t, Options{Now: func() time.Time { return time.Unix(0, now.Add(1)) }})
	put(t, b.view(), "/f", []byte("content"))
	removing, planned := make(chan struct{}), make(chan struct{})
	w := b.vol.View(ViewOptions{Writer: "late", Note: func(Change) []byte {
		close(removing)
		<-planned
		return nil
	}})
	defer w.Close()
	done := make(chan error, 1)
	go func() { done <- w.Remove("/f") }()
	<-removing
	p := must(b.vol.PlanPurge(t.Context(), all))(t)
	close(planned)
	ok(t, <-done)
	ok(t, p.Execute(t.Context(), nil))
	if r := p.Result(); p.Names != 0 || r.Names != 0 {
		t.Errorf("planned %d names, purged %d", p.Names, r.Names)
	}
}
