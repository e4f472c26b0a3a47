// Package stream is FLOE: random-access authenticated encryption of a
// sequence of segments (c2sp.org/FLOE). docs/FORMAT.md "Blob file".
package stream

import "errors"

const (
	SegmentPlain = 65536 // plaintext bytes of a full segment
	SegmentSize  = 65568 // length u32 ‖ nonce 12 ‖ ciphertext ‖ tag 16
	Overhead     = SegmentSize - SegmentPlain
	HeaderSize   = 74
)

// ErrAuth is returned when a header or a segment does not authenticate.
var ErrAuth = errors.New("stream: authentication failed")

// Sealer seals segments of one stream. Seal is safe for concurrent use and does not allocate when dst has room.
type Sealer struct{}

// NewSealer starts a stream with a fresh random IV and returns its header.
func NewSealer(key *[32]byte, aad []byte) (s *Sealer, header []byte, err error) {
	return nil, nil, errors.ErrUnsupported
}

// ResumeSealer continues a stream whose header exists (recovery after a crash); random nonces make that safe.
func ResumeSealer(key *[32]byte, aad, header []byte) (*Sealer, error) {
	return nil, errors.ErrUnsupported
}

// Seal appends segment index to dst. A non-final segment MUST hold exactly
// SegmentPlain bytes; the final one 0..SegmentPlain.
func (s *Sealer) Seal(dst, plain []byte, index uint64, final bool) []byte { panic("skeleton") }

// Opener opens segments in any order. Safe for concurrent use.
type Opener struct{}

// NewOpener authenticates the header.
func NewOpener(key *[32]byte, aad, header []byte) (*Opener, error) {
	return nil, errors.ErrUnsupported
}

// Open appends the plaintext of segment index to dst or returns ErrAuth.
func (o *Opener) Open(dst, segment []byte, index uint64, final bool) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
