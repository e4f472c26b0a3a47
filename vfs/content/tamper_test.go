package content

import (
	"bytes"
	"errors"
	"testing"

	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// wantRefused reads l by every way: an error each time, ErrIntegrity, and no byte that was not written.
func wantRefused(t *testing.T, s *Store, l *extent.Layout, want []byte, what string) {
	t.Helper()
	got, err := readAll(s, l)
	if !errors.Is(err, ErrIntegrity) {
		t.Errorf("%s: read %d bytes, error %v, want ErrIntegrity", what, len(got), err)
	}
	if !bytes.HasPrefix(want, got) {
		t.Errorf("%s: served bytes that were never written", what)
	}
	d, err := s.Edit(t.Context(), l)
	if err != nil {
		t.Errorf("%s: Edit: %v", what, err)
		return
	}
	defer d.Abort()
	p := make([]byte, l.Size)
	if n, err := d.ReadAt(p, 0); n != 0 || !errors.Is(err, ErrIntegrity) {
		t.Errorf("%s: Draft.ReadAt = %d, %v, want ErrIntegrity", what, n, err)
	}
}

// Every kind of damage to a blob, at every structure of it. Regressions of
// other encrypting file systems are among them: cut at a segment border, header
// only, zeroed segment, leading segments removed, whole blob swapped.
func TestTamper(t *testing.T) {
	t.Parallel()
	r := newRig()
	const size = 3*segmentPlain + 1000
	want, other := pattern(size), pattern(size + 1)[:size]
	l := upload(t, r.Store, want, 1<<20)
	id := r.keys.only(t)
	good := r.mem.Bytes(id)
	l2 := upload(t, r.Store, other, 1<<20)
	id2 := blob.ID(l2.Blobs[0].ID)
	good2 := r.mem.Bytes(id2)
	cases := 0
	try := func(what string, b []byte) {
		t.Helper()
		cases++
		r.mem.Put(id, b)
		wantRefused(t, r.Store, l, want, what)
	}

	for at := 0; at < headerSize; at++ {
		b := bytes.Clone(good)
		b[at] ^= 1
		try("flipped header byte", b)
	}
	for n := uint64(0); n < 4; n++ {
		end := min(segmentAt(n+1), int64(len(good)))
		for _, at := range []int64{segmentAt(n), segmentAt(n) + 3, segmentAt(n) + 4, segmentAt(n) + 15, segmentAt(n) + 16, (segmentAt(n) + end) / 2, end - 16, end - 1} {
			b := bytes.Clone(good)
			b[at] ^= 0x80
			try("flipped byte of a segment", b)
		}
		b := bytes.Clone(good)
		clear(b[segmentAt(n):end])
		try("zeroed segment", b)
		try("cut before a segment", good[:segmentAt(n)])
		try("cut inside a segment", good[:segmentAt(n)+stream.Overhead])
		try("segment dropped", append(bytes.Clone(good[:segmentAt(n)]), good[end:]...))
		try("segment doubled", append(bytes.Clone(good[:end]), good[segmentAt(n):]...))
		b = bytes.Clone(good)
		copy(b[segmentAt(n):end], good2[segmentAt(n):])
		try("segment of another blob", b)
	}
	for a := range uint64(3) {
		for c := range a {
			b := bytes.Clone(good)
			copy(b[segmentAt(a):], good[segmentAt(c):segmentAt(c+1)])
			copy(b[segmentAt(c):], good[segmentAt(a):segmentAt(a+1)])
			try("two segments swapped", b)
		}
	}
	try("header only", good[:headerSize])
	try("empty file", nil)
	try("one byte more", append(bytes.Clone(good), 0))
	try("a final segment more", append(bytes.Clone(good), good[segmentAt(3):]...))
	try("another blob", good2)
	try("another blob under this header", append(bytes.Clone(good[:headerSize]), good2[headerSize:]...))
	renamed := bytes.Clone(good2)
	copy(renamed[idAt:], id[:])
	try("another blob under this name", renamed)
	try("plaintext", want)

	if err := r.mem.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	cases++
	wantRefused(t, r.Store, l, want, "blob removed")
	r.mem.Put(id, good)
	wantContent(t, r.Store, l, want)
	t.Logf("%d cases", cases)
}

// The blob belongs to its account, also under the same key.
func TestForeignAccount(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(100000)
	l := upload(t, r.Store, want, 1<<20)
	other := &Store{Blobs: r.Blobs, Keys: r.keys, Account: record.AccountID{8}}
	wantRefused(t, other, l, want, "other account")
}

// A layout whose claim about the blob is not what the blob is.
func TestWrongReference(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(2*segmentPlain + 100)
	good := upload(t, r.Store, want, 1<<20)
	id := good.Blobs[0].ID
	for what, ref := range map[string]extent.BlobRef{
		"one byte more":               extent.Sealed(id, uint64(len(want)+1)),
		"one byte less":               extent.Sealed(id, uint64(len(want)-1)),
		"without its last part":       extent.Sealed(id, 2*segmentPlain),
		"more segments, while open":   extent.Unsealed(id, 3),
		"far more than can be":        extent.Sealed(id, extent.MaxSize),
		"another blob":                extent.Sealed([16]byte{1}, uint64(len(want))),
		"far more segments than fit":  extent.Unsealed(id, 1<<46),
		"segments and bytes disagree": {ID: id, Bytes: uint64(len(want)), Segments: 1},
	} {
		size := min(ref.Bytes, uint64(len(want)))
		l := &extent.Layout{Size: size, Blobs: []extent.BlobRef{ref}, Extents: []extent.Extent{{Len: size}}}
		if _, err := r.Open(t.Context(), l); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v, want ErrIntegrity", what, err)
		}
	}
	// An earlier checkpoint of this blob relies on less, and that is fine.
	l := &extent.Layout{Size: 2 * segmentPlain, Blobs: []extent.BlobRef{extent.Unsealed(id, 2)}, Extents: []extent.Extent{{Len: 2 * segmentPlain}}}
	wantContent(t, r.Store, l, want[:2*segmentPlain])
	// Extents that point nowhere are refused and crash nothing.
	bad := *good
	bad.Extents = []extent.Extent{{Len: uint64(len(want)), BlobOff: 1}}
	if _, err := r.Open(t.Context(), &bad); !errors.Is(err, ErrIntegrity) {
		t.Errorf("extent beyond the blob: %v", err)
	}
}

// Damage that happens while a reader is open is found where it lies.
func TestDamageWhileOpen(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(20 * segmentPlain)
	l := upload(t, r.Store, want, 1<<20)
	rd, err := r.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	id := r.keys.only(t)
	b := r.mem.Bytes(id)
	b[segmentAt(10)+100] ^= 1
	r.mem.Put(id, b)
	var out bytes.Buffer
	n, err := rd.CopyTo(&out, 0, -1)
	if !errors.Is(err, ErrIntegrity) || n != int64(out.Len()) || !bytes.HasPrefix(want, out.Bytes()) || out.Len() > 10*segmentPlain {
		t.Fatalf("CopyTo = %d, %v", n, err)
	}
	p := make([]byte, segmentPlain/2)
	if _, err := rd.ReadAt(p, 10*segmentPlain+5); !errors.Is(err, ErrIntegrity) {
		t.Errorf("damaged part: %v", err)
	}
	if _, err := rd.ReadAt(p, 11*segmentPlain+5); err != nil || !bytes.Equal(p, want[11*segmentPlain+5:][:len(p)]) {
		t.Errorf("sound part: %v", err)
	}
}

// The end is authenticated before anything is served: Open itself fails, and
// with it the draft's first read.
func TestDamagedEndIsFoundFirst(t *testing.T) {
	t.Parallel()
	r := newRig()
	want := pattern(3*segmentPlain + 10)
	d := edit(t, r.Store, nil)
	writeAt(t, d, want, 0)
	open, err := d.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed := finish(t, d)
	id := r.keys.only(t)
	good := r.mem.Bytes(id)
	for _, c := range []struct {
		l    *extent.Layout
		last uint64
		name string
	}{{sealed, 3, "sealed"}, {open, 2, "open"}} {
		b := bytes.Clone(good)
		b[segmentAt(c.last)+20] ^= 1
		r.mem.Put(id, b)
		if _, err := r.Open(t.Context(), c.l); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: Open: %v, want ErrIntegrity", c.name, err)
		}
		d := edit(t, r.Store, c.l)
		if n, err := d.ReadAt(make([]byte, 10), 0); n != 0 || !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: Draft.ReadAt = %d, %v", c.name, n, err)
		}
		if err := d.Abort(); err != nil {
			t.Error(err)
		}
	}
}
