//go:build !race

// The race detector makes sync.Pool drop items at random.

package stream

import "testing"

func TestNoAllocationPerSegment(t *testing.T) {
	sealer, header, err := NewSealer(testKey(), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(testKey(), []byte("aad"), header)
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, SegmentPlain)
	sealed, opened := make([]byte, 0, SegmentSize), make([]byte, 0, SegmentPlain)
	if n := testing.AllocsPerRun(100, func() { sealed = sealer.Seal(sealed[:0], plain, 7, false) }); n >= 1 {
		t.Errorf("Seal allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, err = opener.Open(opened, sealed, 7, false) }); n >= 1 || err != nil {
		t.Errorf("Open allocates %v times, err %v", n, err)
	}
}
