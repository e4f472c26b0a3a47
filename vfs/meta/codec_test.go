package meta

import (
	"bytes"
	"reflect"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

var (
	sampleNode = &Node{
		ID: 7, Kind: Symlink, Changed: 2, Version: 3, Versions: 4, Parent: 1, Target: "../a",
		Attr: Attr{Size: 4, Mode: 0o777, Mtime: -5, Atime: 6, Created: -7, State: Complete}, Interrupted: true, Home: 8, Name: "n", Left: 9, Past: 10,
	}
	sampleUnplaced = &Node{ID: 7, Kind: Dir, Changed: 2, Version: 3, Versions: 4, Parent: 1, Attr: Attr{State: Complete}, unplaced: true}
	sampleEntry    = &Entry{Dir: 1, Name: "na\xffme", Inode: 9, Since: 10}
	sampleVersion  = &storedVersion{
		Version: Version{Inode: 3, N: 5, At: 11, Writer: "w", Attr: Attr{Size: 2, State: Partial}, Layout: *extent.Inlined([]byte("hi"))},
		prev:    4,
	}
	samplePaged = &storedVersion{
		Version: Version{Inode: 3, N: 5, At: 11, Attr: Attr{Size: 2, State: Complete}, Layout: extent.Layout{Size: 1 << 20, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 9)}}},
		pages:   []pageRef{{n: 5, page: 0, count: 2000, hash: [16]byte{2}}, {n: 2, page: 1, count: 1}},
	}
	sampleBlob = &BlobKey{
		ID: [16]byte{1}, Wrapped: []byte("wrapped"), State: BlobOpen, Relied: 1, Size: 2, Dir: 3, Name: "n", Inode: 4,
		LinearFrom: 5, Base: 6, Scattered: true, Writer: "s",
	}
	sampleHead = head{
		format: 4, generation: 1, records: 2, sum: record.Sum{3}, last: 4, nextInode: 5, lastSeq: 6, folds: 7,
		files: 8, dirs: 9, versions: 10, blobs: 11, live: 12, history: 13, shred: 14, kept: 17, marks: marks{purged: 15, lacking: 16},
	}
)

func TestRecordRoundTrips(t *testing.T) {
	t.Parallel()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", what, got, err, want)
		}
	}
	n, err := decodeNode(7, sampleNode.encode())
	check("node", n, sampleNode, err)
	n, err = decodeNode(7, sampleUnplaced.encode())
	check("node of format 1", n, sampleUnplaced, err)
	en, err := decodeEntry(sampleEntry.encode(), 0)
	check("entry", en, sampleEntry, err)
	for _, want := range []*storedVersion{sampleVersion, samplePaged} {
		v, err := decodeVersion(3, 5, want.encode())
		check("version", v, want, err)
	}
	k, err := decodeBlobKey([16]byte{1}, sampleBlob.encode())
	check("blob", k, sampleBlob, err)
	h, err := decodeHead(sampleHead.encode())
	check("head", h, sampleHead, err)
	page := []extent.Extent{{Off: 1, Len: 2, BlobOff: 3, Blob: 4}, {Off: 5, Len: 6, BlobOff: 7, Blob: extent.Inline}}
	x, err := appendPage(nil, appendPacked(nil, page))
	check("page", x, page, err)
	x, err = appendPage(nil, plainPage(page))
	check("page of format 1", x, page, err)
}

// anyKind decodes b as every kind of record; what decodes must encode to the same bytes.
func anyKind(t *testing.T, b []byte) (accepted int) {
	t.Helper()
	same := func(what string, err error, again func() []byte) {
		if err != nil {
			return
		}
		accepted++
		if a := again(); !bytes.Equal(a, b) {
			t.Errorf("%s: %x decodes but encodes as %x", what, b, a)
		}
	}
	n, err := decodeNode(7, b)
	same("node", err, func() []byte { return n.encode() })
	en, err := decodeEntry(b, 0)
	same("entry", err, func() []byte { return en.encode() })
	v, err := decodeVersion(3, 5, b)
	same("version", err, func() []byte { return v.encode() })
	k, err := decodeBlobKey([16]byte{1}, b)
	same("blob", err, func() []byte { return k.encode() })
	h, err := decodeHead(b)
	same("head", err, func() []byte { return h.encode() })
	page, err := appendPage(nil, b)
	same("page", err, func() []byte { return pageAgain(b, page) })
	dir, name, err := decodeFold(b)
	same("fold", err, func() []byte { return encodeFold(dir, name) })
	event, err := decodeEvent(b)
	same("event", err, func() []byte { e := encoder{}; e.bytes(event); return e.b })
	at, err := decodeInstant(b)
	same("instant", err, func() []byte { return encodeSince(at) })
	return accepted
}

func samples() [][]byte {
	return [][]byte{
		sampleNode.encode(), sampleUnplaced.encode(), sampleEntry.encode(), sampleVersion.encode(), samplePaged.encode(), sampleBlob.encode(), sampleHead.encode(),
		plainPage([]extent.Extent{{Off: 1, Len: 2, BlobOff: 3, Blob: 4}}), appendPacked(nil, []extent.Extent{{Off: 1, Len: 2, BlobOff: 3, Blob: 4}}), encodeFold(1, "e\u0301"), encodeSince(5), {0, 0, 0, 1, 'x'},
	}
}

func FuzzRecords(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) { anyKind(t, b) })
}

// TestDecodersAreStrict changes each byte and length of the samples: what is
// still accepted must be what would be written.
func TestDecodersAreStrict(t *testing.T) {
	t.Parallel()
	accepted, cases := 0, 0
	for _, s := range samples() {
		if anyKind(t, s) == 0 {
			t.Errorf("%x: no decoder takes its own sample", s)
		}
		for i := range s {
			for _, bit := range []byte{1, 0x80} {
				m := bytes.Clone(s)
				m[i] ^= bit
				accepted += anyKind(t, m)
				cases++
			}
			anyKind(t, s[:i])
		}
		anyKind(t, append(bytes.Clone(s), 0))
	}
	t.Logf("%d changed records, %d decoded to something else", cases, accepted)
}

func FuzzListCursor(f *testing.F) {
	c := &listCursor{legs: []listLeg{{version: 1, passes: []pass{{instant: 5}}}, {version: 2}}, past: true, until: 7, marks: []leg{{version: 2}}}
	f.Add(c.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeListCursor(b); err == nil && len(b) > 0 && !bytes.Equal(c.encode(), b) {
			t.Errorf("%x encodes as %x", b, c.encode())
		}
	})
}
