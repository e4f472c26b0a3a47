package content

import (
	"bytes"
	"errors"
	"testing"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// FuzzBlob puts arbitrary bytes in the place of a blob: a reader serves the
// content or ErrIntegrity, and Recover keeps a prefix of the content or
// refuses. The fuzzer edits a good blob: data replaces it from at on, and cut bytes are missing at its end.
func FuzzBlob(f *testing.F) {
	r := newRig()
	want := pattern(segmentPlain + 300)
	l := upload(f, r.Store, want, 1<<20)
	id := r.keys.only(f)
	good := r.mem.Bytes(id)
	f.Add(uint32(0), []byte("SPBLOB1\n"), uint32(0))
	f.Add(uint32(headerSize), []byte{0, 0, 0, 32}, uint32(300))
	f.Add(uint32(len(good)), []byte("more"), uint32(0))
	f.Add(uint32(len(good)), []byte{}, uint32(332))
	f.Fuzz(func(t *testing.T, at uint32, data []byte, cut uint32) {
		b := bytes.Clone(good)
		at %= uint32(len(b) + 1)
		b = append(b[:at], append(data, b[min(len(b), int(at)+len(data)):]...)...)
		b = b[:len(b)-int(cut%uint32(len(b)+1))]

		r := rig{&Store{Keys: r.keys, Account: r.Account}, r.keys, newRig().mem}
		r.Blobs = r.mem
		r.mem.Put(id, b)
		got, err := readAll(r.Store, l)
		if err == nil && !bytes.Equal(got, want) || err != nil && !errors.Is(err, ErrIntegrity) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		if (err == nil) != bytes.Equal(b, good) {
			t.Fatalf("changed blob: %v, error: %v", !bytes.Equal(b, good), err)
		}
		n, err := r.Recover(t.Context(), id)
		if err != nil {
			if !errors.Is(err, ErrIntegrity) {
				t.Fatalf("Recover: %v", err)
			}
			return
		}
		fuzzRecovered(t, r.Store, id, n, want)
	})
}

func fuzzRecovered(t *testing.T, s *Store, id blob.ID, n uint64, want []byte) {
	l := &extent.Layout{Size: n, Blobs: []extent.BlobRef{extent.Sealed(id, n)}}
	if n > 0 {
		l.Extents = []extent.Extent{{Len: n}}
	}
	got, err := readAll(s, l)
	if err != nil || !bytes.HasPrefix(want, got) {
		t.Fatalf("recovered %d bytes, %v", len(got), err)
	}
}
