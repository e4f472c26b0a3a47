package content

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/extent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeKeys keeps data keys in memory, as metadata would durably.
type fakeKeys struct {
	mu        sync.Mutex
	keys      map[blob.ID]*record.Key
	linear    map[blob.ID]uint64
	scattered map[blob.ID]int
	whole     map[blob.ID]bool
	err       error // of New
}

func newKeys() *fakeKeys {
	return &fakeKeys{keys: map[blob.ID]*record.Key{}, linear: map[blob.ID]uint64{}, scattered: map[blob.ID]int{}, whole: map[blob.ID]bool{}}
}

func (k *fakeKeys) New(ctx context.Context, linearFrom uint64, whole bool) (blob.ID, *record.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return blob.ID{}, nil, k.err
	}
	var id blob.ID
	key := new(record.Key)
	rand.Read(id[:])
	rand.Read(key[:])
	kept := *key
	k.keys[id], k.linear[id], k.whole[id] = &kept, linearFrom, whole
	return id, key, ctx.Err()
}

func (k *fakeKeys) Scatter(_ context.Context, id blob.ID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.scattered[id]++
	return nil
}

func (k *fakeKeys) Key(_ context.Context, id blob.ID) (*record.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kept := k.keys[id]; kept != nil {
		key := *kept
		return &key, nil
	}
	return nil, fs.ErrNotExist
}

// only returns the one blob that was made.
func (k *fakeKeys) only(t testing.TB) blob.ID {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) != 1 {
		t.Fatalf("%d blobs, want 1", len(k.keys))
	}
	for id := range k.keys {
		return id
	}
	panic("unreachable")
}

func (k *fakeKeys) made() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.keys)
}

type rig struct {
	*Store
	keys *fakeKeys
	mem  *blobtest.Mem
}

func newRig(faults ...blobtest.Fault) rig {
	keys, mem := newKeys(), &blobtest.Mem{}
	return rig{&Store{Blobs: blobtest.Inject(mem, faults...), Keys: keys, Account: record.AccountID{7}, Budget: NewBudget(64 << 20)}, keys, mem}
}

// noLeak fails if buffers are still counted after everything was closed.
func (r rig) noLeak(t testing.TB) {
	t.Helper()
	if dirty, cached := r.Budget.Used(); dirty != 0 || cached != 0 {
		t.Errorf("budget still counts %d bytes dirty, %d cached", dirty, cached)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	rnd := mrand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	rnd.Read(b)
	return b
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func edit(t fataler, s *Store, base *extent.Layout) *Draft {
	t.Helper()
	d, err := s.Edit(context.Background(), base)
	if err != nil {
		t.Fatalf("Edit: %v", err)
	}
	return d
}

func writeAt(t fataler, d *Draft, p []byte, off int64) {
	t.Helper()
	if n, err := d.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
	}
}

func finish(t fataler, d *Draft) *extent.Layout {
	t.Helper()
	l, err := d.Finish(context.Background())
	if err != nil {
		t.Fatalf("Finish: %v", err)
	}
	checkLayout(t, l)
	return l
}

func checkLayout(t fataler, l *extent.Layout) {
	t.Helper()
	b, err := l.AppendBinary(nil)
	if err != nil {
		t.Fatalf("layout: %v", err)
	}
	if _, err := extent.Decode(b); err != nil {
		t.Fatalf("layout: %v", err)
	}
	for i := 1; i < len(l.Extents); i++ {
		a, b := l.Extents[i-1], l.Extents[i]
		if a.Blob == b.Blob && a.End() == b.Off && a.BlobOff+a.Len == b.BlobOff {
			t.Fatalf("extents not merged: %+v %+v", a, b)
		}
	}
}

// readAll reads a layout by both ways of reading, which must agree.
func readAll(s *Store, l *extent.Layout) ([]byte, error) {
	r, err := s.Open(context.Background(), l)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	if _, err := r.CopyTo(&out, 0, -1); err != nil {
		return out.Bytes(), err
	}
	again, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()+10))
	if err != nil {
		return again, err
	}
	if !bytes.Equal(again, out.Bytes()) {
		return nil, errors.New("CopyTo and ReadAt differ")
	}
	return again, nil
}

func wantContent(t fataler, s *Store, l *extent.Layout, want []byte) {
	t.Helper()
	got, err := readAll(s, l)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, %v; want %d; first difference at %d", len(got), err, len(want), firstDiff(got, want))
	}
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// upload writes content in pieces of the given size, in order.
func upload(t fataler, s *Store, content []byte, piece int) *extent.Layout {
	t.Helper()
	d := edit(t, s, nil)
	for off := 0; off < len(content); off += piece {
		writeAt(t, d, content[off:min(len(content), off+piece)], int64(off))
	}
	return finish(t, d)
}

func oneExtent(l *extent.Layout) string {
	if len(l.Extents) == 1 && len(l.Blobs) <= 1 && l.Extents[0].Off == 0 && l.Extents[0].Len == l.Size && l.Extents[0].BlobOff == 0 {
		return ""
	}
	return fmt.Sprintf("%d extents in %d blobs", len(l.Extents), len(l.Blobs))
}
