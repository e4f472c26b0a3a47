package content

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// recovered reads the whole plaintext of a recovered blob.
func recovered(t *testing.T, s *Store, id blob.ID, bytes uint64) []byte {
	t.Helper()
	l := &extent.Layout{Size: bytes, Blobs: []extent.BlobRef{extent.Sealed(id, bytes)}}
	if bytes > 0 {
		l.Extents = []extent.Extent{{Len: bytes}}
	}
	got, err := readAll(s, l)
	if err != nil {
		t.Fatalf("reading what was recovered: %v", err)
	}
	return got
}

// A blob torn at every length near a structure is recovered to its whole segments.
func TestRecoverAfterCut(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(3*segmentPlain + 1000)
	upload(t, r.Store, want, 1<<20)
	id := r.keys.only(t)
	good := r.mem.Bytes(id)
	cuts := []int64{headerSize, headerSize + 1, headerSize + stream.Overhead}
	for n := uint64(1); n <= 3; n++ {
		for d := int64(-33); d <= 33; d++ {
			cuts = append(cuts, segmentAt(n)+d)
		}
	}
	cuts = append(cuts, int64(len(good))-1, int64(len(good)))
	for _, cut := range cuts {
		for _, tail := range []string{"", "zeros"} {
			torn, intact := bytes.Clone(good[:cut]), cut
			if tail != "" { // the size reached the disk, the data did not
				torn = append(torn, make([]byte, 70000)...)
				for intact < int64(len(good)) && good[intact] == 0 {
					intact++ // one tag in 256 ends with a zero, and loses nothing
				}
			}
			r.mem.Put(id, torn)
			whole := uint64(max(0, intact-headerSize)/stream.SegmentSize) << segmentShift
			if cut == int64(len(good)) && tail == "" {
				whole = uint64(len(want))
			}
			for range 2 { // again: recovery may itself be cut short
				n, err := r.Recover(t.Context(), id)
				if err != nil || n != whole {
					t.Fatalf("cut at %d%s: %d bytes, %v; want %d", cut, tail, n, err, whole)
				}
			}
			if got := recovered(t, r.Store, id, whole); !bytes.Equal(got, want[:whole]) {
				t.Fatalf("cut at %d%s: other bytes", cut, tail)
			}
			if len(r.mem.Crash(nil).Bytes(id)) != int(fileSize(whole)) {
				t.Fatalf("cut at %d%s: not durable", cut, tail)
			}
		}
	}
}

// Without its header nothing of a blob can be read: Recover says so and leaves it as it is.
func TestRecoverWithoutHeader(t *testing.T) {
	t.Parallel()
	r := newRig()
	upload(t, r.Store, pattern(3*segmentPlain), 1<<20)
	id := r.keys.only(t)
	good := r.mem.Bytes(id)
	flipped := bytes.Clone(good)
	flipped[50] ^= 1
	for name, b := range map[string][]byte{
		"empty": {}, "cut": good[:headerSize-1], "flipped": flipped, "zeros": make([]byte, len(good)), "foreign": append([]byte("x"), good...),
	} {
		r.mem.Put(id, b)
		if _, err := r.Recover(t.Context(), id); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v, want ErrIntegrity", name, err)
		}
		if !bytes.Equal(r.mem.Bytes(id), b) {
			t.Errorf("%s: changed", name)
		}
	}
	if err := r.mem.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recover(t.Context(), id); !errors.Is(err, ErrIntegrity) {
		t.Errorf("absent: %v, want ErrIntegrity", err)
	}
}

// What Checkpoint acknowledged survives a crash that keeps any amount of what
// was written after it, before and after recovery, and so does Finish.
func TestCheckpointSurvivesCrash(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 5000, segmentPlain, 2*segmentPlain + 17, 10 * segmentPlain} {
		r := newRig()
		want := pattern(size)
		d := edit(t, r.Store, nil)
		writePieces(t, d, want, 30000)
		l, err := d.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkLayout(t, l)
		more := pattern(6 * segmentPlain)
		copyFrom(t, d, bytes.NewReader(more), int64(size), len(more))
		for _, part := range []int64{0, 1, 2, 4} {
			after := r.mem.Crash(func(_ blob.ID, synced, written int64) int64 {
				if part == 0 || synced < 0 {
					return synced
				}
				return synced + (written-synced)/part
			})
			s := &Store{Blobs: after, Keys: r.keys, Account: r.Account}
			wantContent(t, s, l, want)
			for _, ref := range l.Blobs {
				n, err := s.Recover(t.Context(), ref.ID)
				if err != nil || n < ref.Bytes {
					t.Fatalf("recovered %d bytes, %v; the checkpoint relies on %d", n, err, ref.Bytes)
				}
			}
			wantContent(t, s, l, want)
		}
		l2 := finish(t, d)
		s := &Store{Blobs: r.mem.Crash(nil), Keys: r.keys, Account: r.Account}
		wantContent(t, s, l2, append(bytes.Clone(want), more...))
		wantContent(t, s, l, want)
		if len(l2.Extents) != 1 {
			t.Errorf("size %d: %d extents after a checkpoint in between", size, len(l2.Extents))
		}
	}
}

// An aborted draft leaves nothing, except what a checkpoint published.
func TestAbort(t *testing.T) {
	t.Parallel()
	for _, publish := range []bool{false, true} {
		r := newRig()
		want := pattern(5*segmentPlain + 99)
		d := edit(t, r.Store, nil)
		copyFrom(t, d, bytes.NewReader(want), 0, len(want))
		var l *extent.Layout
		if publish {
			var err error
			if l, err = d.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			writeAt(t, d, pattern(200000), 10)
		}
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
		id := r.keys.only(t)
		if _, bytes, ok := d.Blob(); ok != publish || ok && bytes < 5*segmentPlain {
			t.Errorf("Blob(): %d, %v", bytes, ok)
		}
		if publish {
			wantContent(t, r.Store, l, want)
			_, n, _ := d.Blob()
			recovered(t, r.Store, id, n)
		} else if r.mem.Bytes(id) != nil {
			t.Error("blob left behind")
		}
		if _, err := d.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("WriteAt after Abort: %v", err)
		}
		if _, err := d.Finish(t.Context()); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Finish after Abort: %v", err)
		}
		if err := d.Abort(); err != nil {
			t.Errorf("second Abort: %v", err)
		}
		r.noLeak(t)
	}
}

// Bytes that were truncated away must not come back through recovery: from the
// moment Truncate returns, metadata knows that the blob is not one line of the file.
func TestTruncateLeavesTheLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int64
		want int
	}{{10 * segmentPlain, 0}, {8 * segmentPlain, 0}, {8*segmentPlain - 1, 1}, {0, 1}} {
		r := newRig()
		d := edit(t, r.Store, nil)
		copyFrom(t, d, bytes.NewReader(pattern(8*segmentPlain)), 0, 8*segmentPlain)
		if err := d.Truncate(c.size); err != nil {
			t.Fatal(err)
		}
		if got := r.keys.scattered[r.keys.only(t)]; got != c.want {
			t.Errorf("truncated to %d: Scatter called %d times, want %d", c.size, got, c.want)
		}
		copyFrom(t, d, bytes.NewReader(pattern(5*segmentPlain)), c.size, 5*segmentPlain)
		finish(t, d)
		if got := r.keys.scattered[r.keys.only(t)]; got > 1 {
			t.Errorf("truncated to %d: Scatter called %d times in all", c.size, got)
		}
		r.noLeak(t)
	}
	// Nothing in the blob yet: the first append says so.
	r := newRig()
	d := edit(t, r.Store, nil)
	writeAt(t, d, pattern(3*segmentPlain), 0)
	if err := d.Truncate(segmentPlain + 1); err != nil {
		t.Fatal(err)
	}
	writeAt(t, d, pattern(4*segmentPlain), segmentPlain+1)
	if got := r.keys.scattered[r.keys.only(t)]; got != 1 {
		t.Errorf("Scatter called %d times, want once", got)
	}
	finish(t, d)
	if got := r.keys.scattered[r.keys.only(t)]; got != 1 {
		t.Errorf("Scatter called %d times in all, want once", got)
	}
}

// A blob that the end writes with one call is whole: its key may come with the layout, and nobody need be told that it is no line
// of the file. One that has to be written earlier, or with several calls, is not.
func TestWholeBlobs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write func(d *Draft)
		want  bool
	}{
		"small":    {func(d *Draft) { writeAt(t, d, pattern(5000), 0) }, true},
		"segments": {func(d *Draft) { writeAt(t, d, pattern(4*segmentPlain-1), 0) }, true},
		"cut": {func(d *Draft) {
			writeAt(t, d, pattern(3*segmentPlain), 0)
			_ = d.Truncate(segmentPlain + 1)
		}, true},
		"a batch": {func(d *Draft) { writeAt(t, d, pattern(4*segmentPlain), 0) }, false},
		"gaps": {func(d *Draft) { // wait in the window, for more than one call
			for i := range int64(6) {
				writeAt(t, d, pattern(segmentPlain), (2*i+1)*segmentPlain)
			}
		}, false},
		"checkpoint": {func(d *Draft) {
			writeAt(t, d, pattern(2*segmentPlain), 0)
			_, _ = d.Checkpoint(t.Context())
		}, false},
		"relieved": {func(d *Draft) { writeAt(t, d, pattern(2*segmentPlain), 0); d.Relieve() }, false},
	} {
		r := newRig()
		d := edit(t, r.Store, nil)
		c.write(d)
		l := finish(t, d)
		id := r.keys.only(t)
		if r.keys.whole[id] != c.want || c.want && r.keys.scattered[id] > 0 {
			t.Errorf("%s: whole %v, scattered %d times", name, r.keys.whole[id], r.keys.scattered[id])
		}
		if got, err := readAll(r.Store, l); err != nil || len(got) != int(l.Size) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		r.noLeak(t)
	}
}
