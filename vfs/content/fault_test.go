package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
)

// Disk full at any point: the draft fails for good, its buffers and its blob
// go, and the base still reads.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	content := pattern(20 * segmentPlain)
	for _, room := range []int64{1, headerSize, headerSize + 100, segmentAt(1), segmentAt(4) + 1, segmentAt(20) - 1, segmentAt(20) + 1} {
		for _, stream := range []bool{true, false} {
			r := newRig()
			base := upload(t, r.Store, content, 1<<20)
			faulty := blobtest.Inject(r.mem, blobtest.Fault{Op: blobtest.OpWrite, After: room, Err: syscall.ENOSPC})
			s := &Store{Blobs: faulty, Keys: r.keys, Account: r.Account, Budget: r.Budget}
			d := edit(t, s, base)
			var err error
			if stream {
				_, err = d.CopyFrom(bytes.NewReader(content), 0)
			} else {
				for off := 0; off < len(content) && err == nil; off += 32768 {
					_, err = d.WriteAt(content[off:off+32768], int64(off))
				}
			}
			if err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("room %d: write: %v", room, err)
			}
			if err != nil {
				if _, err := d.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("room %d: write after the failure: %v", room, err)
				}
				if _, err := d.Checkpoint(t.Context()); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("room %d: Checkpoint: %v", room, err)
				}
			}
			if _, err := d.Finish(t.Context()); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("room %d: Finish: %v, want ENOSPC", room, err)
			}
			if err := d.Abort(); err != nil {
				t.Errorf("room %d: Abort: %v", room, err)
			}
			wantContent(t, r.Store, base, content)
			left := 0
			for id := range r.keys.keys {
				if r.mem.Bytes(id) != nil {
					left++
				}
			}
			if left != 1 {
				t.Errorf("room %d: %d blobs left, want the base's alone", room, left)
			}
			r.noLeak(t)
		}
	}
}

// A failed sync fails Finish and is not tried again; likewise at Checkpoint,
// after which the draft is dead.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		r := newRig()
		faulty := blobtest.Inject(r.mem, blobtest.Fault{Op: blobtest.OpSync, Nth: 1, Err: syscall.EIO, Applied: applied})
		r.Blobs = faulty
		d := edit(t, r.Store, nil)
		writeAt(t, d, pattern(100000), 0)
		if _, err := d.Finish(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Finish: %v, want EIO", err)
		}
		if err := d.Abort(); err != nil || faulty.Calls(blobtest.OpSync) != 1 || faulty.Calls(blobtest.OpAbort) != 1 {
			t.Fatalf("Abort: %v; %d syncs, %d aborts", err, faulty.Calls(blobtest.OpSync), faulty.Calls(blobtest.OpAbort))
		}

		faulty.Set(blobtest.Fault{Op: blobtest.OpSync, Nth: 1, Err: syscall.EIO, Applied: applied})
		d = edit(t, r.Store, nil)
		writeAt(t, d, pattern(100000), 0)
		if l, err := d.Checkpoint(t.Context()); l != nil || !errors.Is(err, syscall.EIO) {
			t.Fatalf("Checkpoint: %v, want EIO", err)
		}
		if _, err := d.Finish(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Finish after a failed Checkpoint: %v, want EIO", err)
		}
		if n := faulty.Calls(blobtest.OpSync); n != 1 {
			t.Errorf("%d syncs: tried again", n)
		}
		r.noLeak(t)
	}
}

func TestFailuresOfKeysAndCreate(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	r := newRig()
	r.keys.err = boom
	d := edit(t, r.Store, nil)
	writeAt(t, d, pattern(5000), 0)
	if _, err := d.Finish(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Finish: %v", err)
	}
	r = newRig(blobtest.Fault{Op: blobtest.OpCreate, Err: boom})
	d = edit(t, r.Store, nil)
	writeAt(t, d, pattern(5000), 0)
	if _, err := d.Finish(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Finish: %v", err)
	}
	r.noLeak(t)
	d = edit(t, r.Store, nil)
	writeAt(t, d, pattern(5000), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Checkpoint(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Checkpoint: %v", err)
	}
	if err := d.Abort(); err != nil {
		t.Error(err)
	}
}

// An I/O error while reading is not called damage: the operator would look in the wrong place.
func TestReadErrorIsNotDamage(t *testing.T) {
	t.Parallel()
	r := newRig()
	l := upload(t, r.Store, pattern(200000), 1<<20)
	s := &Store{Blobs: blobtest.Inject(r.mem, blobtest.Fault{Op: blobtest.OpRead, Err: syscall.EIO}), Keys: r.keys, Account: r.Account}
	if _, err := s.Open(t.Context(), l); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrIntegrity) {
		t.Errorf("Open: %v, want EIO alone", err)
	}
	if _, err := s.Recover(t.Context(), r.keys.only(t)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Recover: %v, want EIO", err)
	}
	wantContent(t, r.Store, l, pattern(200000)) // and Recover cut nothing off
}

// A source that breaks is not one that ends, whatever its error looks like; what came is kept.
func TestCopyFromBrokenSource(t *testing.T) {
	t.Parallel()
	for _, broken := range []error{errors.New("reset"), io.ErrUnexpectedEOF} {
		for _, size := range []int{0, 100, segmentPlain, 3*segmentPlain + 7, 9 * segmentPlain} {
			r := newRig()
			want := pattern(size)
			d := edit(t, r.Store, nil)
			n, err := d.CopyFrom(io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)), 0)
			if n != int64(size) || !errors.Is(err, broken) {
				t.Fatalf("CopyFrom = %d, %v", n, err)
			}
			wantContent(t, r.Store, finish(t, d), want)
			r.noLeak(t)
		}
	}
}

// With the budget in other hands a draft goes on with one segment; without even that it says so and loses nothing.
func TestBudget(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.Budget = NewBudget(8 * segmentPlain) // six for drafts
	hog := edit(t, r.Store, nil)
	for i := range int64(6) {
		writeAt(t, hog, []byte{1}, i<<20)
	}
	d := edit(t, r.Store, nil)
	if n, err := d.WriteAt([]byte("x"), 0); n != 0 || !errors.Is(err, ErrBudget) {
		t.Fatalf("WriteAt = %d, %v; want ErrBudget", n, err)
	}
	want := pattern(10*segmentPlain + 5)
	copyFrom(t, d, bytes.NewReader(want[:5*segmentPlain]), 0, 5*segmentPlain) // a stream always gets its one buffer
	writeAt(t, hog, pattern(7*segmentPlain), 20<<20)                          // the hog must write out to go on
	if err := hog.Abort(); err != nil {
		t.Fatal(err)
	}
	writePieces(t, d, want, 30000)
	wantContent(t, r.Store, finish(t, d), want)
	r.noLeak(t)
}

// Readers and writers of one draft at once: every read sees all writes that returned before it.
func TestReadYourWritesConcurrently(t *testing.T) {
	t.Parallel()
	r := newRig()
	d := edit(t, r.Store, nil)
	const regions, rounds, size = 6, 60, 300000
	var wg sync.WaitGroup
	for i := range regions {
		wg.Go(func() {
			off := int64(i) * size
			for round := range rounds {
				p := bytes.Repeat([]byte{byte(i*rounds + round)}, size-round*1000)
				if n, err := d.WriteAt(p, off); n != len(p) || err != nil {
					t.Errorf("WriteAt: %d, %v", n, err)
					return
				}
				got := make([]byte, len(p))
				if n, err := d.ReadAt(got, off); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(got, p) {
					t.Errorf("region %d round %d: ReadAt = %d, %v; difference at %d", i, round, n, err, firstDiff(got, p))
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if _, err := d.Checkpoint(t.Context()); err != nil {
				t.Errorf("Checkpoint: %v", err)
			}
		}
	})
	wg.Wait()
	l := finish(t, d)
	got, err := readAll(r.Store, l)
	if err != nil {
		t.Fatal(err)
	}
	for i := range regions {
		if got[i*size] != byte(i*rounds+rounds-1) {
			t.Errorf("region %d ends with round %d", i, int(got[i*size])-i*rounds)
		}
	}
	r.noLeak(t)
}

// Finish waits for writes that began before it and refuses those that come after.
func TestFinishAgainstWriters(t *testing.T) {
	t.Parallel()
	for range 20 {
		r := newRig()
		d := edit(t, r.Store, nil)
		done := make([]bool, 8)
		started := make(chan struct{}, len(done))
		var wg sync.WaitGroup
		for i := range done {
			wg.Go(func() {
				started <- struct{}{}
				n, err := d.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 100000), int64(i)*100000)
				if err != nil && (n != 0 || !errors.Is(err, fs.ErrClosed)) {
					t.Errorf("WriteAt = %d, %v", n, err)
				}
				done[i] = err == nil
			})
		}
		<-started
		l := finish(t, d)
		wg.Wait()
		got, err := readAll(r.Store, l)
		if err != nil {
			t.Fatal(err)
		}
		for i, ok := range done {
			if ok && (len(got) < (i+1)*100000 || got[i*100000] != byte(i+1) || got[i*100000+99999] != byte(i+1)) {
				t.Errorf("write %d was acknowledged and is not there", i)
			}
		}
		r.noLeak(t)
	}
}

// gate is a blob store whose reads wait.
type gate struct {
	blob.Store
	open chan struct{}
}

type gatedReader struct {
	blob.Reader
	open chan struct{}
}

func (g *gate) Open(ctx context.Context, id blob.ID) (blob.Reader, error) {
	r, err := g.Store.Open(ctx, id)
	return &gatedReader{r, g.open}, err
}

func (r *gatedReader) ReadAt(p []byte, off int64) (int, error) {
	<-r.open
	return r.Reader.ReadAt(p, off)
}

// Finish and Abort wait for reads under way: their files and buffers are in use.
func TestEndWaitsForReads(t *testing.T) {
	t.Parallel()
	want := pattern(200000)
	for _, end := range []string{"Finish", "Abort"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig()
			base := upload(t, r.Store, want, 1<<20)
			g := &gate{r.mem, make(chan struct{})}
			r.Blobs = g
			d := edit(t, r.Store, base)
			writeAt(t, d, []byte("change"), 0)
			stop := d.Abort
			if end == "Finish" {
				stop = func() error { _, err := d.Finish(t.Context()); return err }
			}
			read, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(read)
				p := make([]byte, 100000)
				if n, err := d.ReadAt(p, 70000); n != len(p) || err != nil || !bytes.Equal(p, want[70000:170000]) {
					t.Errorf("%s: ReadAt = %d, %v", end, n, err)
				}
			}()
			synctest.Wait()
			go func() {
				defer close(ended)
				if err := stop(); err != nil {
					t.Errorf("%s: %v", end, err)
				}
			}()
			synctest.Wait()
			select {
			case <-ended:
				t.Errorf("%s did not wait for a read", end)
			default:
			}
			close(g.open)
			<-read
			<-ended
		})
	}
}
