package record

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// macs computes HMAC-SHA256 under one key without setting the key up for
// every message. Safe for concurrent use.
type macs struct {
	key  *Key
	pool sync.Pool // of *mac
}

// mac is one HMAC state with its input and output buffers, which are here so
// that they are not allocated for every message.
type mac struct {
	hash hash.Hash
	in   []byte
	out  [sha256.Size]byte
}

// get returns an idle state with an empty input; the caller calls sum and gives it back with put.
func (m *macs) get() *mac {
	s, ok := m.pool.Get().(*mac)
	if !ok {
		s = &mac{hash: hmac.New(sha256.New, m.key[:])}
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
