package stream

import (
	"bytes"
	"testing"
)

// FuzzOpen feeds hostile streams to the reader: refuse, never crash, never
// return anything but what was sealed.
func FuzzOpen(f *testing.F) {
	p := params{segment: 48, rotation: 1}
	plain := []byte("sixty bytes of plaintext, which is three segments and a bit.")
	for _, n := range []int{0, 1, 16, 17, len(plain)} {
		f.Add(sealAll(f, p, testKey(), nil, plain[:n]))
	}
	f.Add([]byte{})
	sealed := sealAll(f, p, testKey(), nil, plain)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := openAll(p, testKey(), nil, data); err == nil && !bytes.HasPrefix(plain, got) {
			t.Fatalf("opened %q", got)
		}
		// As segments of a stream whose header is good.
		got, err := openAll(p, testKey(), nil, append(sealed[:HeaderSize:HeaderSize], data...))
		if err == nil && !bytes.Equal(data, sealed[HeaderSize:]) {
			t.Fatalf("opened %q", got)
		}
	})
}

// FuzzRoundTrip seals and opens any plaintext at any position.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(nil), []byte(nil), uint64(0))
	f.Add([]byte("aad"), []byte("text"), uint64(MaxSegments-1))
	f.Fuzz(func(t *testing.T, aad, plain []byte, index uint64) {
		index %= MaxSegments
		plain = plain[:min(len(plain), SegmentPlain)]
		sealer, header, err := NewSealer(testKey(), aad)
		if err != nil {
			t.Fatal(err)
		}
		opener, err := NewOpener(testKey(), aad, header)
		if err != nil {
			t.Fatal(err)
		}
		segment := sealer.Seal(nil, plain, index, true)
		got, err := opener.Open(nil, segment, index, true)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %q, %v", got, err)
		}
		if _, err := opener.Open(nil, segment, (index+1)%MaxSegments, true); err == nil {
			t.Fatal("opened at another position")
		}
	})
}
