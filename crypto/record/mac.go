package record

import (
	"crypto/sha256"
	"hash"
	"runtime"
	"sync"

	"sallyport/crypto/locked"
)

// macs computes HMAC-SHA256 under one key without setting the key up for
// every message. Safe for concurrent use.
type macs struct {
	key  *locked.Secret
	pool sync.Pool // of *mac; what it drops is overwritten
}

// mac is one HMAC state with its input and output buffers, which are here so
// that they are not allocated for every message.
type mac struct {
	hash hash.Hash
	in   []byte
	out  [sha256.Size]byte
}

// get returns an idle state with an empty input; the caller calls sum and gives it back with put, until which it
// must not let go of it: the state is overwritten when it is collected.
func (m *macs) get() *mac {
	s, ok := m.pool.Get().(*mac)
	if !ok {
		s = new(mac)
		m.key.Use(func(key []byte) { s.hash = locked.HMAC(sha256.New, key) })
		runtime.AddCleanup(s, func(h hash.Hash) { locked.Hash(h) }, s.hash)
	}
	s.in = s.in[:0]
	return s
}

func (m *macs) put(s *mac) {
	if cap(s.in) <= keepScratch {
		m.pool.Put(s)
	}
}

// sum authenticates the input followed by more; the result is valid until put.
func (s *mac) sum(more []byte) *[sha256.Size]byte {
	s.hash.Reset()
	s.hash.Write(s.in)
	s.hash.Write(more)
	s.hash.Sum(s.out[:0])
	return &s.out
}
