package stream

import (
	"bytes"
	"slices"
	"testing"
)

// TestTamper damages a small stream in every way that keeps no byte: each bit,
// each truncation, and each removal, repetition, move and exchange of
// segments. The oracle: the original bytes or ErrAuth, nothing else.
func TestTamper(t *testing.T) {
	t.Parallel()
	p := params{segment: 48, rotation: 1}
	key, aad := testKey(), []byte("aad")
	plain := bytes.Repeat([]byte("0123456789abcdef"), 4)[:60] // three full segments and 12 bytes
	sealed := sealAll(t, p, key, aad, plain)
	foreign := sealAll(t, p, key, aad, plain)
	cases := 0
	refuse := func(what string, at int, damaged []byte) {
		t.Helper()
		cases++
		if bytes.Equal(damaged, sealed) {
			return // a change that changes nothing
		}
		if got, err := openAll(p, key, aad, damaged); err != ErrAuth || got != nil {
			t.Errorf("%s at %d: got %q and %v, want %v", what, at, got, err, ErrAuth)
		}
	}
	if got, err := openAll(p, key, aad, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("undamaged: got %q and %v", got, err)
	}

	for i := range sealed {
		for bit := range 8 {
			damaged := slices.Clone(sealed)
			damaged[i] ^= 1 << bit
			refuse("bit flipped", i*8+bit, damaged)
		}
		refuse("truncated", i, sealed[:i])
		refuse("byte removed", i, slices.Delete(slices.Clone(sealed), i, i+1))
		refuse("byte inserted", i, slices.Insert(slices.Clone(sealed), i, 0))
	}
	for n := 1; n <= 2*p.segment; n++ {
		refuse("zeroes appended", n, append(slices.Clone(sealed), make([]byte, n)...))
	}

	header, segments := sealed[:HeaderSize], segmentsOf(p, sealed)
	others := segmentsOf(p, foreign)
	join := func(s [][]byte) []byte { return append(slices.Clone(header), bytes.Join(s, nil)...) }
	for i := range segments {
		refuse("segment dropped", i, join(slices.Delete(slices.Clone(segments), i, i+1)))
		refuse("cut before segment", i, join(segments[:i]))
		refuse("leading segments removed", i+1, join(segments[i+1:]))
		zeroed := slices.Clone(segments)
		zeroed[i] = make([]byte, len(zeroed[i]))
		refuse("segment zeroed", i, join(zeroed))
		swapped := slices.Clone(segments)
		swapped[i] = others[i]
		refuse("segment of another stream", i, join(swapped))
		for j := range segments {
			refuse("segment repeated", i*10+j, join(slices.Insert(slices.Clone(segments), j, segments[i])))
			refuse("foreign segment inserted", i*10+j, join(slices.Insert(slices.Clone(segments), j, others[i])))
			swapped := slices.Clone(segments)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			refuse("segments exchanged", i*10+j, join(swapped))
		}
		refuse("segment repeated at the end", i, join(append(slices.Clone(segments), segments[i])))
	}
	refuse("header of another stream", 0, append(slices.Clone(foreign[:HeaderSize]), sealed[HeaderSize:]...))
	t.Logf("%d cases", cases)
}

// TestWrongFinalFlag asks for each segment at each position, final and not.
func TestWrongFinalFlag(t *testing.T) {
	t.Parallel()
	p := params{segment: 48, rotation: 20}
	sealed := sealAll(t, p, testKey(), nil, make([]byte, 48)) // three full segments: the last one is final and full
	k, err := openHeader(p, testKey(), nil, sealed[:HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	segments := segmentsOf(p, sealed)
	for i, s := range segments {
		for index := range uint64(5) {
			for _, final := range []bool{false, true} {
				want := uint64(i) == index && final == (i == len(segments)-1)
				if _, err := k.open(nil, s, index, final); (err == nil) != want {
					t.Errorf("segment %d opened as %d, final %v: %v", i, index, final, err)
				}
				// Also with a length field that suits the question, so that
				// only the authentication of the flag itself stands in the way.
				relabelled := slices.Clone(s)
				copy(relabelled, []byte{0xff, 0xff, 0xff, 0xff})
				if final {
					copy(relabelled, []byte{0, 0, 0, byte(len(s))})
				}
				if _, err := k.open(nil, relabelled, index, final); (err == nil) != want {
					t.Errorf("relabelled segment %d opened as %d, final %v: %v", i, index, final, err)
				}
			}
		}
	}
}

func segmentsOf(p params, sealed []byte) [][]byte {
	return slices.Collect(slices.Chunk(sealed[HeaderSize:], p.segment))
}
