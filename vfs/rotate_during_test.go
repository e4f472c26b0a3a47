package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/blob"
)

// stops is a blob store that stops for a test at its calls, each time before it does anything.
type stops struct {
	blob.Store
	at func(call string)
}

func (s *stops) Create(ctx context.Context, id blob.ID) (blob.Writer, error) {
	s.at("create")
	w, err := s.Store.Create(ctx, id)
	return &stopsWriter{w, s}, err
}

func (s *stops) Resume(ctx context.Context, id blob.ID, size int64) (blob.Writer, error) {
	s.at("resume")
	w, err := s.Store.Resume(ctx, id, size)
	return &stopsWriter{w, s}, err
}

func (s *stops) Open(ctx context.Context, id blob.ID) (blob.Reader, error) {
	s.at("open")
	return s.Store.Open(ctx, id)
}

func (s *stops) Remove(ctx context.Context, id blob.ID) error {
	s.at("remove")
	return s.Store.Remove(ctx, id)
}

type stopsWriter struct {
	blob.Writer
	s *stops
}

func (w *stopsWriter) Commit() error {
	w.s.at("commit")
	return w.Writer.Commit()
}

// rotatesAt makes a bench whose account gets a new key before the named call of the blob store, once armed.
func rotatesAt(t *testing.T, call string) (b *bench, arm func(), fired func() bool) {
	armed, did := false, false
	s := &stops{at: func(string) {}}
	b = newBenchWith(t, Options{IdleClose: -1, testOnlyBlobs: func(below blob.Store) blob.Store { s.Store = below; return s }})
	s.at = func(at string) {
		if armed && at == call {
			armed, did = false, true
			b.rotate()
		}
	}
	return b, func() { armed = true }, func() bool { return did }
}

// onlyTree fails unless the account has the one database.
func (b *bench) onlyTree(version uint32) {
	b.t.Helper()
	if got := filesIn(b.t, b.dir()); !slices.Equal(got, []string{"blobs", treeName(version)}) {
		b.t.Errorf("left are %v, want %s", got, treeName(version))
	}
}

// TestHistoryIsReadWholeAcrossRotations: names of one instant are in the order of their tokens, which is another after each
// rotation. Whoever pages through them gets each once.
func TestHistoryIsReadWholeAcrossRotations(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 8 {
		from, to := fmt.Sprintf("/from%d", i), fmt.Sprintf("/to%d", i)
		ok(t, w.Symlink("x", from))
		ok(t, w.Symlink("y", to))
		ok(t, w.Rename(from, to)) // both names are superseded at one instant
	}
	ok(t, w.Close())
	pages, seen, pairs := 0, map[string]int{}, map[int64]int{}
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		return c.history(t.Context(), 1<<62, 1, nil, func(page []past) error {
			for i := range page {
				seen[page[i].Path]++
				pairs[page[i].item.At]++
			}
			pages++
			b.rotate()
			return nil
		})
	}))
	if len(seen) != 16 || len(pairs) != 8 || pages != 8 {
		t.Fatalf("%d names of %d instants in %d pages, want 16 of 8 in 8", len(seen), len(pairs), pages)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", name, n)
		}
	}
}

// TestPurgeGoesOnAcrossARotation: between its transactions, and between the records and the files of the blobs.
func TestPurgeGoesOnAcrossARotation(t *testing.T) {
	t.Parallel()
	b, arm, fired := rotatesAt(t, "remove")
	w := b.view()
	for i := range 600 {
		put(t, w, "/small", noise(uint64(i), 10))
	}
	for i := range 3 {
		put(t, w, "/large", noise(uint64(i), 70_000))
	}
	ok(t, w.Rename("/large", "/kept"))
	small := get(t, w, "/small")
	ok(t, w.Close())
	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	root := uint64(0) // versions of the directory's times: one for each second that this has taken
	for s, err := range plan.Items(t.Context()) {
		ok(t, err)
		if s.Dir && s.Version > 0 {
			root++
		}
	}
	plan.Pace = func(context.Context, int) error { b.rotate(); return nil }
	arm()
	events := 0
	ok(t, plan.Execute(t.Context(), func(r PurgeReceipt) []byte { events++; return []byte("purged") }))
	if r := plan.Result(); r.Versions != 599+2+root || r.Names != 1 || r.Blobs != 2 || r.Busy != 0 || events != 2 || !fired() {
		t.Errorf("purged %+v with %d events", r, events)
	}
	if n := len(b.blobFiles()); n != 1 {
		t.Errorf("%d blobs left, want 1", n)
	}
	b.onlyTree(4)
	for range 2 {
		w := b.view()
		wantContent(t, w, "/kept", noise(2, 70_000))
		wantContent(t, w, "/small", small)
		ok(t, w.Close())
		if st := b.vol.Stats(); st.HistoryBytes != 0 || st.DoomedBytes != 0 {
			t.Errorf("stats %+v: something stays", st)
		}
		b.verify()
		b.reopen()
	}
}

// TestTidyGoesOnAcrossARotation: while it copies, when the copy is whole, and before the old blobs go.
func TestTidyGoesOnAcrossARotation(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"create", "commit", "open", "remove"} {
		t.Run("fold, "+call, func(t *testing.T) {
			t.Parallel()
			b, arm, fired := rotatesAt(t, call)
			w := b.view()
			want := fragmented(t, w, "/f", 1<<20, 6000, 3)
			ok(t, w.Close())
			arm()
			if r := b.tidy(TidyOptions{FoldAll: true}); r.Folded != 1 || r.Busy+r.Damaged != 0 || !r.Done {
				t.Errorf("tidied %+v", r)
			}
			b.purge(all)
			b.rotated(fired(), "/f", want)
		})
		t.Run("repack, "+call, func(t *testing.T) {
			t.Parallel()
			b, arm, fired := rotatesAt(t, call)
			w := b.view()
			want, _ := b.halfDead(w)
			ok(t, w.Close())
			b.purge(all)
			arm()
			if r := must(b.vol.RepackAll(t.Context()))(t); r.Repacked != 1 || r.Busy+r.Damaged != 0 || !r.Done {
				t.Errorf("tidied %+v", r)
			}
			if live := b.liveOfAll(); live != 1 {
				t.Errorf("%v of the blobs' bytes are live, want all", live)
			}
			b.rotated(fired(), "/f", want)
		})
	}
}

// rotated checks a volume after one rotation in the middle of something.
func (b *bench) rotated(fired bool, name string, want []byte) {
	b.t.Helper()
	if !fired {
		b.t.Error("nothing was rotated: the test proves nothing")
	}
	b.onlyTree(2)
	for range 2 {
		w := b.view()
		wantContent(b.t, w, name, want)
		ok(b.t, w.Close())
		if n, st := len(b.blobFiles()), b.vol.Stats(); uint64(n) != st.Blobs || st.DoomedBytes != 0 {
			b.t.Errorf("%d blobs on disk, stats %+v", n, st)
		}
		b.verify()
		b.reopen()
	}
}

// TestUploadIsCommittedAcrossARotation: when its blob gets its key, and between its last byte and its version.
func TestUploadIsCommittedAcrossARotation(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"create", "commit"} {
		for _, before := range []int{0, 150_000} { // a new file, an overwrite
			b, arm, fired := rotatesAt(t, call)
			w := b.view()
			want := noise(2, 200_000)
			if before > 0 {
				put(t, w, "/f", noise(1, before))
			}
			arm()
			put(t, w, "/f", want)
			ok(t, w.Close())
			b.purge(all)
			b.rotated(fired(), "/f", want)
		}
	}
}

// TestCommitWaitsForTheSwitch: a frozen database takes no version, and a crash then has the old one only; once the keyring
// names the new database the version goes there.
func TestCommitWaitsForTheSwitch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, Options{IdleClose: -1})
		w := b.view()
		old, now := noise(1, 100_000), noise(2, 120_000)
		put(t, w, "/f", old)
		r := must(b.fs.prepare(t.Context(), b.id))(t)
		ok(t, r.copy.Freeze(t.Context()))
		done := false
		go func() {
			put(t, w, "/f", now)
			done = true
		}()
		synctest.Wait()
		if done {
			t.Error("a version was acknowledged by a frozen database")
		}
		wantContent(t, b.view(), "/f", old) // readers do not wait
		c := b.crash()
		wantContent(t, c.view(), "/f", old)
		c.onlyTree(1)
		ok(t, r.settle(b.fs.switchAll(t.Context(), []*rotation{r})))
		synctest.Wait()
		if !done {
			t.Fatal("the version still waits")
		}
		wantContent(t, b.view(), "/f", now)
		b.onlyTree(2)
		c = b.crash()
		wantContent(t, c.view(), "/f", now)
	})
}

// TestUploadOfBeforeARotationIsRecovered: a power loss takes a server in the middle of uploads that began under the key before. A
// rotation that comes while recovery is at work waits for the end of it.
func TestUploadOfBeforeARotationIsRecovered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	data, old := noise(1, 400_000), noise(2, 100_000)
	put(t, w, "/over", old)
	for _, name := range []string{"/new", "/over"} {
		f := openFile(t, w, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		defer f.Close()
		write(t, f, data[:200_000])
		b.rotate()
		write(t, f, data[200_000:300_000])
	}
	c := &bench{t: t, state: t.TempDir(), id: b.id}
	ok(t, os.CopyFS(c.state, os.DirFS(b.state)))
	c.ring = must(keyring.Open(t.Context(), c.state, b.seal))(t)
	defer c.ring.Close()
	s, rotated := &stops{}, make(chan error, 1)
	var asked atomic.Bool
	s.at = func(string) {
		if asked.CompareAndSwap(false, true) {
			go func() {
				var one error
				err := c.fs.Rotate(t.Context(), []keyring.AccountID{c.id}, func(r Rotated) { one = r.Err })
				rotated <- errors.Join(err, one)
			}()
		}
	}
	c.start(Options{IdleClose: -1, testOnlyBlobs: func(below blob.Store) blob.Store { s.Store = below; return s }})
	defer c.end()
	c.open()
	if !asked.Load() {
		t.Fatal("recovery did nothing: the test proves nothing")
	}
	ok(t, <-rotated)
	c.onlyTree(4)
	v := c.view()
	wantContent(t, v, "/over", old)
	got := get(t, v, "/new")
	if n := len(got); n < 65536 || !bytes.Equal(got, data[:n]) || !stat(t, v, "/new").Partial() {
		t.Fatalf("recovered %d bytes, or others than were written", n)
	}
	f := openFile(t, v, "/new", os.O_WRONLY|os.O_APPEND)
	write(t, f, data[len(got):])
	ok(t, f.Close())
	wantContent(t, v, "/new", data)
}

// TestIdleCloseAndRotation: what nobody uses is closed, but not under a rotation, and opens under its new key.
func TestIdleCloseAndRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		b := newBenchWith(t, Options{IdleClose: idle})
		w := b.view()
		put(t, w, "/f", []byte("content"))
		ok(t, w.Close())
		isOpen := func() bool { b.vol.mu.Lock(); defer b.vol.mu.Unlock(); return b.vol.core != nil }
		time.Sleep(idle / 2)
		r := must(b.fs.prepare(t.Context(), b.id))(t)
		time.Sleep(2 * idle)
		synctest.Wait()
		if !isOpen() || b.vol.core != r.c {
			t.Fatal("the volume was closed under the rotation")
		}
		ok(t, r.copy.Freeze(t.Context()))
		time.Sleep(2 * idle)
		ok(t, r.settle(b.fs.switchAll(t.Context(), []*rotation{r})))
		time.Sleep(2 * idle)
		synctest.Wait()
		if isOpen() {
			t.Fatal("the volume stays open after the rotation")
		}
		b.rotate() // opens it
		wantContent(t, b.view(), "/f", []byte("content"))
		b.onlyTree(3)
	})
}

// TestRepairAndRotationKeepApart: either finds the volume in use by the other, and a plan is of the key that it was made under.
func TestRepairAndRotationKeepApart(t *testing.T) {
	t.Parallel()
	b := newBenchWith(t, Options{IdleClose: -1})
	w := b.view()
	old, now := noise(1, 100_000), noise(2, 100_000)
	put(t, w, "/f", old)
	put(t, w, "/f", now)
	id := layoutOfPath(t, w, "/f").Blobs[0].ID
	ok(t, w.Close())
	spoil(t, b.dir()+"/"+blobFile(id), 70_000)
	plan := b.plan(RepairOptions{Fallback: true})
	ok(t, b.vol.alone(func() error {
		return b.fs.Rotate(t.Context(), []keyring.AccountID{b.id}, func(r Rotated) {
			if !errors.Is(r.Err, ErrRepairing) || r.Version != 1 {
				t.Errorf("rotated during a repair: %+v", r)
			}
		})
	}))
	r := must(b.fs.prepare(t.Context(), b.id))(t)
	if _, err := b.fs.Repair(t.Context(), b.id, RepairOptions{Fallback: true, Plan: plan.ID}); !errors.Is(err, ErrBusy) {
		t.Errorf("repair during a rotation: %v", err)
	}
	ok(t, r.copy.Freeze(t.Context()))
	ok(t, r.settle(b.fs.switchAll(t.Context(), []*rotation{r})))
	if _, err := b.fs.Repair(t.Context(), b.id, RepairOptions{Fallback: true, Plan: plan.ID}); !errors.Is(err, ErrPlanChanged) {
		t.Errorf("a plan of before the rotation: %v", err)
	}
	plan = b.plan(RepairOptions{Fallback: true})
	done := b.plan(RepairOptions{Fallback: true, Plan: plan.ID})
	if !done.Done {
		t.Fatalf("repaired: %+v", done)
	}
	b.open()
	wantContent(t, b.view(), "/f", old)
	b.discard() // the damaged version is in history
}

// TestScrubAcrossARotation: it finds nothing wrong with what moves under it, and reads every blob.
func TestScrubAcrossARotation(t *testing.T) {
	t.Parallel()
	b, arm, fired := rotatesAt(t, "open")
	w := b.view()
	for i := range 3 {
		put(t, w, fmt.Sprintf("/f%d", i), noise(uint64(i), 100_000))
	}
	f := openFile(t, w, "/f1", os.O_RDONLY)
	arm()
	res, condemned, err := b.vol.Scrub(t.Context(), 0, func(f string) { t.Errorf("finding: %s", f) })
	if err != nil || condemned || res.Blobs != 3 || !fired() {
		t.Errorf("scrubbed %+v, condemned %v, %v", res, condemned, err)
	}
	if got := must(io.ReadAll(f))(t); !bytes.Equal(got, noise(1, 100_000)) {
		t.Error("the reader got something else")
	}
	ok(t, f.Close())
}
