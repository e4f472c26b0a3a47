package stream

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// sealAll seals plain as one byte string: header, then segments.
func sealAll(t testing.TB, p params, key *[32]byte, aad, plain []byte) []byte {
	t.Helper()
	var iv [ivSize]byte
	rand.Read(iv[:])
	out := appendHeader(p, key, aad, &iv)
	k, err := newKeys(p, key, aad, &iv)
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	for ; len(plain) > p.plain(); index++ {
		out = k.seal(out, plain[:p.plain()], index, false)
		plain = plain[p.plain():]
	}
	return k.seal(out, plain, index, true)
}

// openAll is the whole-stream reader that a format on top of this package must
// have: the segment that ends where the data ends must be final.
func openAll(p params, key *[32]byte, aad, sealed []byte) (plain []byte, err error) {
	if len(sealed) < HeaderSize {
		return nil, ErrAuth
	}
	k, err := openHeader(p, key, aad, sealed[:HeaderSize])
	if err != nil {
		return nil, err
	}
	sealed = sealed[HeaderSize:]
	index := uint64(0)
	for ; len(sealed) > p.segment; index++ {
		if plain, err = k.open(plain, sealed[:p.segment], index, false); err != nil {
			return nil, err
		}
		sealed = sealed[p.segment:]
	}
	return k.open(plain, sealed, index, true)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	key, aad := testKey(), []byte("aad")
	for _, size := range []int{0, 1, 5000, SegmentPlain - 1, SegmentPlain, SegmentPlain + 1, 200000} {
		plain := randomBytes(size)
		sealed := sealAll(t, floe64K, key, aad, plain)
		segments := max(1, (size+SegmentPlain-1)/SegmentPlain)
		if want := HeaderSize + size + segments*Overhead; len(sealed) != want {
			t.Errorf("%d bytes: sealed to %d bytes, want %d", size, len(sealed), want)
		}
		got, err := openAll(floe64K, key, aad, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d bytes and %v", size, len(got), err)
		}
	}
}

func TestAppendsToDst(t *testing.T) {
	t.Parallel()
	sealer, header, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(testKey(), nil, header)
	if err != nil {
		t.Fatal(err)
	}
	segment := sealer.Seal([]byte("before"), []byte("text"), 0, true)
	if !bytes.HasPrefix(segment, []byte("before")) || len(segment) != len("before")+4+Overhead {
		t.Fatalf("got %q", segment)
	}
	plain, err := opener.Open([]byte("plain"), segment[len("before"):], 0, true)
	if err != nil || string(plain) != "plaintext" {
		t.Fatalf("got %q, %v", plain, err)
	}
}

// TestResume seals the segments of one stream in two lives, one position twice.
func TestResume(t *testing.T) {
	t.Parallel()
	first, header, err := NewSealer(testKey(), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	plain := randomBytes(SegmentPlain)
	lost := first.Seal(nil, plain, 1, false)
	second, err := ResumeSealer(testKey(), []byte("aad"), header)
	if err != nil {
		t.Fatal(err)
	}
	kept := second.Seal(nil, plain, 1, false)
	if bytes.Equal(lost[4:16], kept[4:16]) {
		t.Fatal("the same position was sealed twice under one nonce")
	}
	opener, err := NewOpener(testKey(), []byte("aad"), header)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{lost, kept} {
		if got, err := opener.Open(nil, s, 1, false); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %d bytes and %v", len(got), err)
		}
	}
	if _, err := ResumeSealer(testKey(), []byte("other"), header); !errors.Is(err, ErrAuth) {
		t.Fatalf("resuming under other associated data: got %v, want %v", err, ErrAuth)
	}
}

func TestTwoStreamsShareNothing(t *testing.T) {
	t.Parallel()
	a, headerA, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, headerB, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(headerA, headerB) {
		t.Fatal("two streams under one key have one IV")
	}
	opener, err := NewOpener(testKey(), nil, headerB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener.Open(nil, a.Seal(nil, nil, 0, true), 0, true); !errors.Is(err, ErrAuth) {
		t.Fatalf("segment of another stream: got %v, want %v", err, ErrAuth)
	}
}

// TestOpenFailureLeavesNoPlaintext guards callers that reuse one buffer.
func TestOpenFailureLeavesNoPlaintext(t *testing.T) {
	t.Parallel()
	sealer, header, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(testKey(), nil, header)
	if err != nil {
		t.Fatal(err)
	}
	segment := sealer.Seal(nil, bytes.Repeat([]byte("canary"), 1000), 0, true)
	segment[len(segment)-1] ^= 1
	buf := make([]byte, 0, SegmentPlain)
	if _, err := opener.Open(buf, segment, 0, true); !errors.Is(err, ErrAuth) {
		t.Fatalf("got %v, want %v", err, ErrAuth)
	}
	if bytes.Contains(buf[:cap(buf)], []byte("canary")) {
		t.Fatal("the buffer holds plaintext that did not authenticate")
	}
}

func TestKeysNeverPrint(t *testing.T) {
	t.Parallel()
	sealer, header, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(testKey(), nil, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb+verb, sealer, opener); got != "[redacted][redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestSealRefusesWhatCouldNotBeOpened(t *testing.T) {
	t.Parallel()
	sealer, _, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		size  int
		index uint64
		final bool
	}{
		{SegmentPlain - 1, 0, false}, {SegmentPlain + 1, 0, false}, {0, 0, false},
		{SegmentPlain + 1, 0, true}, {SegmentPlain, MaxSegments, false}, {0, MaxSegments, true},
	} {
		if !panics(func() { sealer.Seal(nil, make([]byte, c.size), c.index, c.final) }) {
			t.Errorf("%d bytes as segment %d, final %v: sealed", c.size, c.index, c.final)
		}
	}
}

func TestOpenBounds(t *testing.T) {
	t.Parallel()
	sealer, header, err := NewSealer(testKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(testKey(), nil, header)
	if err != nil {
		t.Fatal(err)
	}
	last := sealer.Seal(nil, []byte("x"), MaxSegments-1, true)
	if got, err := opener.Open(nil, last, MaxSegments-1, true); err != nil || string(got) != "x" {
		t.Fatalf("last possible segment: got %q, %v", got, err)
	}
	for size := range Overhead {
		if _, err := opener.Open(nil, make([]byte, size), 0, true); !errors.Is(err, ErrAuth) {
			t.Errorf("%d bytes: got %v, want %v", size, err, ErrAuth)
		}
	}
	for _, size := range []int{SegmentSize + 1, 2 * SegmentSize} {
		if _, err := opener.Open(nil, make([]byte, size), 0, true); !errors.Is(err, ErrAuth) {
			t.Errorf("%d bytes: got %v, want %v", size, err, ErrAuth)
		}
	}
	if _, err := opener.Open(nil, last, MaxSegments, true); !errors.Is(err, ErrAuth) {
		t.Errorf("index out of range: got %v, want %v", err, ErrAuth)
	}
}

// TestConcurrentUse crosses rotation boundaries in many goroutines; it is for -race.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := params{segment: 64, rotation: 1}
	var iv [ivSize]byte
	k, err := newKeys(p, testKey(), nil, &iv)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			plain := bytes.Repeat([]byte{byte(g)}, p.plain())
			for i := range uint64(50) {
				got, err := k.open(nil, k.seal(nil, plain, i, false), i, false)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("goroutine %d, segment %d: got %x, %v", g, i, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testKey() *[32]byte { return (*[32]byte)([]byte("an unsafe test key of 32 bytes!!")) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func panics(fn func()) (did bool) {
	defer func() { did = recover() != nil }()
	fn()
	return false
}

func ExampleSealer() {
	key := testKey() // 32 random bytes
	sealer, header, err := NewSealer(key, []byte("what it is"))
	if err != nil {
		panic(err)
	}
	segment := sealer.Seal(nil, []byte("the only segment"), 0, true)

	opener, err := NewOpener(key, []byte("what it is"), header)
	if err != nil {
		panic(err)
	}
	plain, err := opener.Open(nil, segment, 0, true)
	fmt.Println(string(plain), err)
	// Output: the only segment <nil>
}
