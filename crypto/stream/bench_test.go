package stream

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"
)

// BenchmarkSegment sets sealing and opening beside raw AES-256-GCM on buffers
// of the same size; the ratio is what FLOE costs (goal: at least 95 % of raw).
func BenchmarkSegment(b *testing.B) {
	var key [32]byte
	plain := make([]byte, SegmentPlain)
	sealed := make([]byte, 0, SegmentSize)
	opened := make([]byte, 0, SegmentPlain)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	sealer, header, err := NewSealer(&key, nil)
	if err != nil {
		b.Fatal(err)
	}
	opener, err := NewOpener(&key, nil, header)
	if err != nil {
		b.Fatal(err)
	}
	segment := sealer.Seal(nil, plain, 0, false)
	raw := gcm.Seal(nil, nonce, plain, nil)

	run := func(name string, fn func(i uint64)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(SegmentPlain)
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				fn(i)
			}
		})
	}
	run("seal/raw", func(uint64) { gcm.Seal(sealed, nonce, plain, nil) })
	run("seal/floe", func(i uint64) { sealer.Seal(sealed, plain, i, false) })
	run("open/raw", func(uint64) { gcm.Open(opened, nonce, raw, nil) })
	run("open/floe", func(uint64) { opener.Open(opened, segment, 0, false) })
}
