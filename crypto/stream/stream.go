// Package stream is FLOE, random-access authenticated encryption of a sequence
// of segments (https://c2sp.org/FLOE, https://eprint.iacr.org/2025/2275), with
// AES-256-GCM, HKDF-Expand-SHA-384 and 64 KiB of plaintext per segment.
//
// A stream is a 74-byte header and segments 0 … n−1, of which the last, and
// only the last, is final. The header commits to key and associated data. Each
// segment authenticates its own position and whether it is final, so that
// flipped, moved, repeated, missing or foreign segments never open. A caller
// that wants to know that nothing was cut off the end opens the segment it
// takes for the last one with final set.
//
// Nonces are random, never counters: sealing one position twice (a retry, a
// torn stream finalised after a crash, a cloned machine) is safe.
//
// The package needs nothing but the standard library and works under
// GODEBUG=fips140=only.
package stream

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
)

const (
	SegmentPlain = 65536 // plaintext bytes of a full segment
	SegmentSize  = 65568 // length u32 ‖ nonce 12 ‖ ciphertext ‖ tag 16
	Overhead     = SegmentSize - SegmentPlain
	HeaderSize   = 74 // parameters 10 ‖ IV 32 ‖ header tag 32

	// MaxSegments is the number of segments one stream may have (FLOE,
	// "Derived Parameters"): 64 PiB of plaintext.
	MaxSegments = 1 << 40
)

// ErrAuth is returned when a header or a segment does not authenticate.
var ErrAuth = errors.New("stream: authentication failed")

// Sealer seals segments of one stream. It is safe for concurrent use.
type Sealer struct{ keys *keys }

// NewSealer starts a stream with a fresh random IV and returns its header. The
// key MUST be 32 uniformly random bytes, and may be overwritten when NewSealer returns; aad is bound to the whole stream and
// is not stored in it.
func NewSealer(key *[32]byte, aad []byte) (s *Sealer, header []byte, err error) {
	var iv [ivSize]byte
	rand.Read(iv[:]) // never fails: crypto/rand ends the process instead
	k, err := newKeys(floe64K, key, aad, &iv)
	if err != nil {
		return nil, nil, err
	}
	return &Sealer{k}, appendHeader(floe64K, key, aad, &iv), nil
}

// ResumeSealer continues the stream of an existing header, after a crash for
// example. It returns ErrAuth if the header is not of this key and aad.
func ResumeSealer(key *[32]byte, aad, header []byte) (*Sealer, error) {
	k, err := openHeader(floe64K, key, aad, header)
	if err != nil {
		return nil, err
	}
	return &Sealer{k}, nil
}

// Format keeps keys out of logs.
func (*Sealer) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Seal appends the sealed segment of that index (from 0) to dst and returns the
// longer slice. It does not allocate if dst has room for len(plain)+Overhead
// more bytes. That room and plain must not overlap.
//
// A segment that is not final holds exactly SegmentPlain bytes, the final one
// 0 … SegmentPlain; Seal panics otherwise, or if index is not below
// MaxSegments, because such a segment could never be opened again.
func (s *Sealer) Seal(dst, plain []byte, index uint64, final bool) []byte {
	return s.keys.seal(dst, plain, index, final)
}

// Opener opens segments in any order. It is safe for concurrent use.
type Opener struct{ keys *keys }

// NewOpener authenticates the header. It returns ErrAuth if the header is
// damaged or belongs to another key, aad or format.
func NewOpener(key *[32]byte, aad, header []byte) (*Opener, error) {
	k, err := openHeader(floe64K, key, aad, header)
	if err != nil {
		return nil, err
	}
	return &Opener{k}, nil
}

// Format keeps keys out of logs.
func (*Opener) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Open appends the plaintext of the segment to dst and returns the longer
// slice, or nil and ErrAuth. segment must be the whole sealed segment and
// nothing more. Open does not allocate if dst has room for
// len(segment)-Overhead more bytes; that room and segment must not overlap. On
// failure the room is cleared or untouched: it never holds bytes that did not
// authenticate.
func (o *Opener) Open(dst, segment []byte, index uint64, final bool) ([]byte, error) {
	return o.keys.open(dst, segment, index, final)
}

// appendHeader makes the header: parameters ‖ IV ‖ tag.
func appendHeader(p params, key *[32]byte, aad []byte, iv *[ivSize]byte) []byte {
	header := append(p.encode(), iv[:]...)
	p.kdf(key[:], iv, purposeHeaderTag, aad, headerTagSize).Use(func(tag []byte) { header = append(header, tag...) })
	return header
}

// openHeader checks a header and derives the stream's keys from it.
func openHeader(p params, key *[32]byte, aad, header []byte) (*keys, error) {
	prefix := p.encode()
	if len(header) != HeaderSize || string(header[:len(prefix)]) != string(prefix) {
		return nil, ErrAuth
	}
	iv := [ivSize]byte(header[len(prefix):])
	same := 0
	p.kdf(key[:], &iv, purposeHeaderTag, aad, headerTagSize).Use(func(tag []byte) {
		same = subtle.ConstantTimeCompare(tag, header[len(prefix)+ivSize:])
	})
	if same != 1 {
		return nil, ErrAuth
	}
	return newKeys(p, key, aad, &iv)
}

func (k *keys) seal(dst, plain []byte, index uint64, final bool) []byte {
	full := k.params.plain()
	if len(plain) > full || !final && len(plain) != full || index >= MaxSegments {
		panic(fmt.Sprintf("stream: internal error: sealing %d bytes as segment %d, final %v", len(plain), index, final))
	}
	length := uint32(notFinal)
	if final {
		length = uint32(len(plain) + Overhead)
	}
	s, err := k.segment(index)
	if err != nil {
		panic("stream: internal error: " + err.Error()) // the same derivation worked in newKeys
	}
	aad := k.segmentAAD(index, final)
	defer k.aads.Put(aad)
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = s.aead.Seal(dst, nil, plain, aad[:])
	runtime.KeepAlive(s) // its key is overwritten when it is collected
	return dst
}

func (k *keys) open(dst, segment []byte, index uint64, final bool) ([]byte, error) {
	if len(segment) < Overhead || len(segment) > k.params.segment || index >= MaxSegments {
		return nil, ErrAuth
	}
	length := uint32(notFinal)
	if final {
		length = uint32(len(segment))
	} else if len(segment) != k.params.segment {
		return nil, ErrAuth
	}
	if binary.BigEndian.Uint32(segment) != length {
		return nil, ErrAuth
	}
	s, err := k.segment(index)
	if err != nil {
		return nil, err
	}
	aad := k.segmentAAD(index, final)
	defer k.aads.Put(aad)
	plain, err := s.aead.Open(dst, nil, segment[4:], aad[:])
	runtime.KeepAlive(s) // its key is overwritten when it is collected
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}
