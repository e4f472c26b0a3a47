package content

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/extent"
)

var sizes = []int{0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 4*65536 - 1, 4 * 65536, 5<<20 + 12345}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		want := pattern(size)
		ways := map[string]func(*testing.T, *Draft){
			"WriteAt 32 KiB":   func(t *testing.T, d *Draft) { writePieces(t, d, want, 32768) },
			"WriteAt 255 KiB":  func(t *testing.T, d *Draft) { writePieces(t, d, want, 255<<10) },
			"WriteAt odd":      func(t *testing.T, d *Draft) { writePieces(t, d, want, 9973) },
			"WriteAt whole":    func(t *testing.T, d *Draft) { writeAt(t, d, want, 0) },
			"CopyFrom":         func(t *testing.T, d *Draft) { copyFrom(t, d, bytes.NewReader(want), 0, size) },
			"CopyFrom halting": func(t *testing.T, d *Draft) { copyFrom(t, d, iotest.HalfReader(bytes.NewReader(want)), 0, size) },
			"CopyFrom after WriteAt": func(t *testing.T, d *Draft) {
				head := size / 3
				writePieces(t, d, want[:head], 5000)
				copyFrom(t, d, bytes.NewReader(want[head:]), int64(head), size-head)
			},
		}
		for name, write := range ways {
			t.Run(fmt.Sprintf("%d/%s", size, name), func(t *testing.T) {
				t.Parallel()
				r := newRig()
				d := edit(t, r.Store, nil)
				write(t, d)
				if d.Size() != int64(size) || d.Changed() != (size > 0) {
					t.Fatalf("Size %d, Changed %v", d.Size(), d.Changed())
				}
				l := finish(t, d)
				wantContent(t, r.Store, l, want)
				checkShape(t, r, d, l, size)
				r.noLeak(t)
			})
		}
	}
}

// checkShape checks what lies where after a sequential upload.
func checkShape(t *testing.T, r rig, d *Draft, l *extent.Layout, size int) {
	t.Helper()
	if size <= extent.InlineMax {
		if r.keys.made() != 0 || len(l.Blobs) != 0 || len(l.Inline) != size {
			t.Fatalf("%d keys, %d blobs, %d bytes inline", r.keys.made(), len(l.Blobs), len(l.Inline))
		}
		return
	}
	if bad := oneExtent(l); bad != "" || len(l.Inline) != 0 {
		t.Fatalf("%s, %d bytes inline", bad, len(l.Inline))
	}
	id := r.keys.only(t)
	if got, want := len(r.mem.Bytes(id)), int(fileSize(uint64(size))); got != want {
		t.Fatalf("blob of %d bytes, want %d: something was stored twice or padded", got, want)
	}
	if r.keys.scattered[id] != 0 || r.keys.linear[id] != 0 {
		t.Fatalf("scattered %d, linear from %d", r.keys.scattered[id], r.keys.linear[id])
	}
	if got, bytes, ok := d.Blob(); !ok || got != id || bytes != uint64(size) {
		t.Fatalf("Blob() = %v, %d, %v", got, bytes, ok)
	}
}

func writePieces(t fataler, d *Draft, p []byte, piece int) {
	t.Helper()
	for off := 0; off < len(p); off += piece {
		writeAt(t, d, p[off:min(len(p), off+piece)], int64(off))
	}
}

func copyFrom(t fataler, d *Draft, src io.Reader, off int64, want int) {
	t.Helper()
	if n, err := d.CopyFrom(src, off); n != int64(want) || err != nil {
		t.Fatalf("CopyFrom = %d, %v; want %d", n, err, want)
	}
}

// Eight workers take pieces from a queue, as pkg/sftp does, so that pieces
// arrive out of order but not far apart. In a bubble a worker that lost the
// processor is waited for, however long that takes.
func TestWorkersOutOfOrder(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{32 << 10, 255 << 10, 10001} {
		for _, start := range []int{0, 1000} {
			t.Run(fmt.Sprintf("%d from %d", piece, start), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { workersOutOfOrder(t, piece, start) })
			})
		}
	}
}

func workersOutOfOrder(t *testing.T, piece, start int) {
	want := pattern(9<<20 + 77)
	r, base := newRig(), pattern(start)
	d := edit(t, r.Store, extent.Inlined(base))
	offs := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for off := range offs {
				p := want[off:min(len(want), off+piece)]
				if n, err := d.WriteAt(p, int64(start+off)); n != len(p) || err != nil {
					t.Errorf("WriteAt: %d, %v", n, err)
				}
			}
		})
	}
	for off := 0; off < len(want); off += piece {
		offs <- off
	}
	close(offs)
	wg.Wait()
	l := finish(t, d)
	wantContent(t, r.Store, l, append(base, want...))
	inBlob := 0
	for _, e := range l.Extents {
		if e.Blob != extent.Inline {
			inBlob++
		}
	}
	if id := r.keys.only(t); inBlob != 1 || r.keys.scattered[id] != 0 {
		t.Errorf("%d extents, scattered %d", inBlob, r.keys.scattered[id])
	}
	r.noLeak(t)
}

// A piece that comes late, when the window is full of what follows it, still
// lands in its place; one that never comes holds nobody up for long.
func TestMissingPiece(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{gapPatience / 2, 2 * gapPatience} {
		synctest.Test(t, func(t *testing.T) {
			want := pattern(windowMax + 500000)
			r := newRig()
			d := edit(t, r.Store, nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for off := 100000; off < len(want); off += 32768 {
					p := want[off:min(len(want), off+32768)]
					if n, err := d.WriteAt(p, int64(off)); n != len(p) || err != nil {
						t.Errorf("WriteAt: %d, %v", n, err)
					}
				}
			}()
			synctest.Wait() // the window is full
			time.Sleep(late)
			writeAt(t, d, want[:100000], 0)
			<-done
			l := finish(t, d)
			wantContent(t, r.Store, l, want)
			if one := oneExtent(l) == ""; one != (late < gapPatience) {
				t.Errorf("late by %v: %s", late, oneExtent(l))
			}
			r.noLeak(t)
		})
	}
}

func TestPermutations(t *testing.T) {
	t.Parallel()
	const pieces, piece = 24, 40000 // less than the window in all: any order makes one extent
	want := pattern(pieces * piece)
	for seed := range uint64(20) {
		r := newRig()
		d := edit(t, r.Store, nil)
		for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(pieces) {
			writeAt(t, d, want[i*piece:(i+1)*piece], int64(i*piece))
		}
		l := finish(t, d)
		wantContent(t, r.Store, l, want)
		if bad := oneExtent(l); bad != "" {
			t.Errorf("seed %d: %s", seed, bad)
		}
	}
}

// Written once each in random order over a range far larger than the window:
// nothing is stored twice and nothing padded.
func TestRandomOrderStoresOnlyWhatWasWritten(t *testing.T) {
	t.Parallel()
	const blocks, block = 4096, 4096
	want := pattern(blocks * block)
	r := newRig()
	d := edit(t, r.Store, nil)
	for _, i := range rand.New(rand.NewPCG(5, 6)).Perm(blocks) {
		writeAt(t, d, want[i*block:(i+1)*block], int64(i*block))
		if d.held > windowMax+2*segmentPlain {
			t.Fatalf("holds %d bytes", d.held)
		}
	}
	l := finish(t, d)
	wantContent(t, r.Store, l, want)
	id := r.keys.only(t)
	if got, wantSize := len(r.mem.Bytes(id)), int(fileSize(blocks*block)); got != wantSize {
		t.Errorf("blob of %d bytes, want %d", got, wantSize)
	}
	if r.keys.scattered[id] != 1 {
		t.Errorf("Scatter called %d times, want once", r.keys.scattered[id])
	}
}

func TestAppendAndOverwriteShareTheBase(t *testing.T) {
	t.Parallel()
	r := newRig()
	content := pattern(300000)
	v1 := upload(t, r.Store, content, 1<<20)

	d := edit(t, r.Store, v1)
	more := pattern(100001)
	writeAt(t, d, more, int64(len(content)))
	v2 := finish(t, d)
	want2 := append(bytes.Clone(content), more...)
	wantContent(t, r.Store, v2, want2)
	if len(v2.Blobs) != 2 || v2.Blobs[0] != v1.Blobs[0] || v2.Blobs[1].Bytes != uint64(len(more)) {
		t.Fatalf("blobs %+v", v2.Blobs)
	}

	d = edit(t, r.Store, v2)
	patch := []byte("a few bytes in the middle")
	writeAt(t, d, patch, 299990)
	v3 := finish(t, d)
	want3 := bytes.Clone(want2)
	copy(want3[299990:], patch)
	wantContent(t, r.Store, v3, want3)
	if len(v3.Blobs) != 2 || string(v3.Inline) != string(patch) || r.keys.made() != 2 {
		t.Fatalf("a small change should lie inline: %+v", v3)
	}

	d = edit(t, r.Store, v3)
	if err := d.Truncate(100); err != nil {
		t.Fatal(err)
	}
	if err := d.Truncate(200); err != nil {
		t.Fatal(err)
	}
	v4 := finish(t, d)
	wantContent(t, r.Store, v4, append(bytes.Clone(content[:100]), make([]byte, 100)...))
	if len(v4.Blobs) != 1 || len(v4.Inline) != 0 {
		t.Fatalf("blobs that are not used any more are still referred to: %+v", v4)
	}
	wantContent(t, r.Store, v1, content) // nothing was overwritten in place
	wantContent(t, r.Store, v2, want2)
	r.noLeak(t)
}

func TestUnchangedDraftIsTheBase(t *testing.T) {
	t.Parallel()
	r := newRig()
	v1 := upload(t, r.Store, pattern(100000), 1<<20)
	d := edit(t, r.Store, v1)
	if err := d.Truncate(100000); err != nil {
		t.Fatal(err)
	}
	writeAt(t, d, nil, 5)
	if d.Changed() {
		t.Error("changed")
	}
	if l := finish(t, d); l != v1 {
		t.Errorf("got another layout %+v", l)
	}
}

func TestOverwrittenBlobIsDropped(t *testing.T) {
	t.Parallel()
	r := newRig()
	d := edit(t, r.Store, nil)
	copyFrom(t, d, bytes.NewReader(pattern(200000)), 0, 200000)
	if err := d.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := d.Truncate(10); err != nil {
		t.Fatal(err)
	}
	l := finish(t, d)
	wantContent(t, r.Store, l, make([]byte, 10))
	if _, _, ok := d.Blob(); ok || r.mem.Bytes(r.keys.only(t)) != nil {
		t.Error("the blob that nothing refers to was kept")
	}
	r.noLeak(t)
}

func TestFarOffsets(t *testing.T) {
	t.Parallel()
	r := newRig()
	d := edit(t, r.Store, nil)
	const far = extent.MaxSize - 5000
	writeAt(t, d, pattern(5000), far)
	if _, err := d.WriteAt([]byte("xy"), extent.MaxSize-1); !errors.Is(err, errTooLarge) {
		t.Errorf("beyond the largest file: %v", err)
	}
	if _, err := d.WriteAt([]byte("x"), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("negative offset: %v", err)
	}
	l := finish(t, d)
	rd, err := r.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	p := make([]byte, 5010)
	if n, err := rd.ReadAt(p, far-5); n != 5005 || err != io.EOF || !bytes.Equal(p[5:5005], pattern(5000)) {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestReaderEdges(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(200000)
	l := upload(t, r.Store, want, 1<<20)
	rd, err := r.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ off, n int64 }{{0, 10}, {65530, 20}, {65536, 65536}, {199999, 5}, {131072, 100000}, {1, 199999}} {
		p := make([]byte, c.n)
		n, err := rd.ReadAt(p, c.off)
		wantN := min(c.n, 200000-c.off)
		wantErr := io.EOF
		if wantN == c.n {
			wantErr = nil
		}
		if int64(n) != wantN || err != wantErr || !bytes.Equal(p[:n], want[c.off:c.off+wantN]) {
			t.Errorf("ReadAt(%d, %d) = %d, %v", c.n, c.off, n, err)
		}
		var out bytes.Buffer
		if k, err := rd.CopyTo(&out, c.off, c.n); k != wantN || err != nil || !bytes.Equal(out.Bytes(), want[c.off:c.off+wantN]) {
			t.Errorf("CopyTo(%d, %d) = %d, %v", c.off, c.n, k, err)
		}
	}
	if n, err := rd.ReadAt(make([]byte, 1), 200000); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if k, err := rd.CopyTo(io.Discard, 300000, -1); k != 0 || err != nil {
		t.Errorf("CopyTo beyond the end: %d, %v", k, err)
	}
	if err := errors.Join(rd.Close(), rd.Close()); err != nil {
		t.Error(err)
	}
	if _, err := rd.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	r.noLeak(t)
}

func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(3<<20 + 5)
	l := upload(t, r.Store, want, 255<<10)
	rd, err := r.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 2))
			for range 300 {
				p := make([]byte, rnd.IntN(40000)+1)
				off := rnd.IntN(len(want) - len(p))
				if _, err := rd.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+len(p)]) {
					t.Errorf("ReadAt(%d, %d): %v", len(p), off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if _, cached := r.Budget.Used(); cached > cacheSegments*segmentPlain {
		t.Errorf("an idle reader keeps %d bytes", cached)
	}
	rd.Close()
	r.noLeak(t)
}

// A file appended to many times lies in more blobs than a reader keeps open.
func TestManyBlobs(t *testing.T) {
	t.Parallel()
	dir, err := blobdir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := &Store{Blobs: dir, Keys: newKeys()}
	var l *extent.Layout
	var want []byte
	for i := range 3 * maxOpenSources {
		d := edit(t, s, l)
		more := pattern(5000 + i)
		writeAt(t, d, more, int64(len(want)))
		want = append(want, more...)
		l = finish(t, d)
	}
	if len(l.Blobs) != 3*maxOpenSources {
		t.Fatalf("%d blobs", len(l.Blobs))
	}
	wantContent(t, s, l, want)
	r, err := s.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := len(r.blobs.open); n > maxOpenSources {
		t.Errorf("%d blobs open at once", n)
	}
}

// A reader that takes half a segment at a time decrypts it once and, when it went on, keeps nothing.
func TestSequentialReaderKeepsNothing(t *testing.T) {
	t.Parallel()
	r := newRig()
	l := upload(t, r.Store, pattern(10*segmentPlain), 1<<20)
	faulty := blobtest.Inject(r.mem)
	r.Blobs = faulty
	rd, err := r.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	faulty.Set()
	p := make([]byte, segmentPlain/2)
	for off := int64(0); off < rd.Size(); off += int64(len(p)) {
		if _, err := rd.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if n := faulty.Calls(blobtest.OpRead); n != 10 {
		t.Errorf("%d reads of the store for 10 segments", n)
	}
	if _, cached := r.Budget.Used(); cached != 0 {
		t.Errorf("keeps %d bytes", cached)
	}
}

// Nothing but sealed bytes goes to the store.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	r := newRig()
	canary := bytes.Repeat([]byte("canary-7f3a "), 40000)
	upload(t, r.Store, canary, 32768)
	stored := r.mem.Bytes(r.keys.only(t))
	if bytes.Contains(stored, []byte("canary")) {
		t.Fatal("plaintext in the blob")
	}
	if len(stored) < len(canary) {
		t.Fatal("the test looked at nothing")
	}
}
