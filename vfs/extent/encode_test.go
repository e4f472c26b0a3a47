package extent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"
)

func sample() *Layout {
	return &Layout{
		Size: 1 << 20,
		Extents: []Extent{
			{Off: 0, Len: 65536, BlobOff: 0, Blob: 0},
			{Off: 70000, Len: 10, BlobOff: 2, Blob: Inline},
			{Off: 100000, Len: 1, BlobOff: 65536 + 99, Blob: 1},
		},
		Blobs:  []BlobRef{Unsealed([16]byte{1}, 1), Sealed([16]byte{2}, 65536+100)},
		Inline: []byte("..inline bytes"),
	}
}

func TestEncodingVector(t *testing.T) {
	t.Parallel()
	l := &Layout{
		Size:    5,
		Extents: []Extent{{Off: 1, Len: 2, BlobOff: 3, Blob: 0}, {Off: 3, Len: 2, Blob: Inline}},
		Blobs:   []BlobRef{Sealed([16]byte(bytes.Repeat([]byte{0xab}, 16)), 5)},
		Inline:  []byte("hi"),
	}
	const want = "01000000" + "00000001" + "00000002" + "00000002" + "0000000000000005" +
		"abababababababababababababababab" + "0000000000000005" + "0000000000000000" +
		"0000000000000001" + "0000000000000002" + "0000000000000003" + "00000000" + "00000000" +
		"0000000000000003" + "0000000000000002" + "0000000000000000" + "ffffffff" + "00000000" +
		"6869"
	got, err := l.AppendBinary(nil)
	if err != nil || hex.EncodeToString(got) != want {
		t.Fatalf("got %x, %v; want %s", got, err, want)
	}
	if len(got) != l.EncodedSize() {
		t.Fatalf("EncodedSize %d, encoding has %d", l.EncodedSize(), len(got))
	}
}

func TestEncodingRoundTrip(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]*Layout{
		"empty": {}, "hole": {Size: MaxSize}, "sample": sample(), "inlined": Inlined([]byte("abc")), "inlined empty": Inlined(nil),
	} {
		b, err := l.AppendBinary([]byte("prefix"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Decode(b[len("prefix"):])
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Fatalf("%s: got %+v, %v; want %+v", name, got, err, l)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := sample().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := Decode(good[:n]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("prefix of %d bytes: %v", n, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); !errors.Is(err, ErrInvalid) {
		t.Fatalf("trailing byte: %v", err)
	}
	for _, at := range []int{0, 1, 2, 3, 4, 8, 12, 24 + 24, 24 + 25, 24 + 31, 24 + 64 + 28, 24 + 64 + 31} {
		bad := bytes.Clone(good)
		bad[at] ^= 2
		if _, err := Decode(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	// Counts that would ask for 2^32 * 32 bytes and wrap nowhere.
	huge := append([]byte{1, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 20)...)
	if _, err := Decode(huge); !errors.Is(err, ErrInvalid) {
		t.Fatalf("huge counts: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*Layout){
		"size beyond int64":        func(l *Layout) { l.Size = math.MaxUint64 },
		"inline too long":          func(l *Layout) { l.Inline = make([]byte, InlineLimit+1) },
		"open with a part":         func(l *Layout) { l.Blobs[0].Bytes++ },
		"segments do not match":    func(l *Layout) { l.Blobs[1].Segments++ },
		"blob beyond int64":        func(l *Layout) { l.Blobs[1] = Sealed([16]byte{2}, math.MaxUint64) },
		"empty extent":             func(l *Layout) { l.Extents[1].Len = 0 },
		"overlap":                  func(l *Layout) { l.Extents[1].Off = 65535 },
		"unsorted":                 func(l *Layout) { l.Extents[0], l.Extents[2] = l.Extents[2], l.Extents[0] },
		"beyond size":              func(l *Layout) { l.Extents[2].Off = l.Size },
		"offset overflow":          func(l *Layout) { l.Extents[2].Off = math.MaxUint64 },
		"length overflow":          func(l *Layout) { l.Extents[2].Len = math.MaxUint64 },
		"beyond blob":              func(l *Layout) { l.Extents[2].BlobOff++ },
		"blob offset overflow":     func(l *Layout) { l.Extents[2].BlobOff = math.MaxUint64 },
		"beyond inline":            func(l *Layout) { l.Extents[1].BlobOff = 5 },
		"no such blob":             func(l *Layout) { l.Extents[0].Blob = 2 },
		"hole stored":              func(l *Layout) { l.Extents[0].Blob = Hole },
		"beyond open blob's count": func(l *Layout) { l.Extents[0].Len++ },
	} {
		l := sample()
		breakIt(l)
		if err := l.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := l.AppendBinary(nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s encoded: %v", name, err)
		}
	}
	if err := sample().Check(); err != nil {
		t.Fatal(err)
	}
}

func TestUsed(t *testing.T) {
	t.Parallel()
	l := sample()
	if l.Used(0) != 65536 || l.Used(1) != 1 {
		t.Fatalf("got %d, %d", l.Used(0), l.Used(1))
	}
}

func FuzzDecode(f *testing.F) {
	for _, l := range []*Layout{{}, sample(), Inlined([]byte("x"))} {
		b, err := l.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		// What decodes has one encoding only.
		again, err := l.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("decoded and encoded again: %x, %v; was %x", again, err, b)
		}
		for range l.Pieces(0, l.Size) {
		}
	})
}
