package content

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/extent"
)

// TestFrozenBlob opens a blob of format 1 that was written once and is never
// written again: what lies on people's disks must open for ever.
func TestFrozenBlob(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/blob-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Key, Account, Blob, Plaintext, File string }
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want, file := unhex(v.Plaintext), unhex(v.File)
	id, keys, mem := blob.ID(unhex(v.Blob)), newKeys(), &blobtest.Mem{}
	key := record.Key(unhex(v.Key))
	keys.keys[id] = &key
	mem.Put(id, file)
	s := &Store{Blobs: mem, Keys: keys, Account: record.AccountID(unhex(v.Account))}
	size := uint64(len(want))
	l := &extent.Layout{Size: size, Blobs: []extent.BlobRef{extent.Sealed(id, size)}, Extents: []extent.Extent{{Len: size}}}
	wantContent(t, s, l, want)
	for at := range file { // and it has no byte that does not count
		bad := append([]byte(nil), file...)
		bad[at] ^= 1
		mem.Put(id, bad)
		if got, err := readAll(s, l); err == nil {
			t.Fatalf("byte %d changed: read %q", at, got)
		}
	}
}

// Worked sizes of docs/FORMAT.md "Blob file".
func TestFileSize(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[uint64]int64{0: 160, 1: 161, 5000: 5160, 65536: 65728, 200000: 200256} {
		if got := fileSize(bytes); got != want {
			t.Errorf("%d bytes: file of %d, want %d", bytes, got, want)
		}
	}
}
