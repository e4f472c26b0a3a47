package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"sallyport/crypto/locked"
)

// Sum is a keyed multiset hash (MSet-Add-HMAC, after Clarke et al., "Incremental
// Multiset Hash Functions", ASIACRYPT 2003): order does not matter, each record
// counts once. It is a 256-bit big-endian number; the empty set has Sum 0. A Sum
// is secret from whoever can write records: keep it in a sealed record.
type Sum [32]byte

// Set adds and removes records of one account to and from a Sum. Safe for
// concurrent use, but not two calls on one Sum.
type Set struct{ macs macs }

// NewSet makes the Set of a key.
func NewSet(key *Key) *Set { return &Set{macs{key: locked.Copy(key[:])}} }

// Add counts a record in. It takes the database key (bucket name included) and
// the sealed value. dbkey must not be longer than 65,535 bytes.
func (s *Set) Add(sum *Sum, dbkey, value []byte) {
	sum.add(s.element(dbkey, value))
}

// Remove counts out a record that Add counted in.
func (s *Set) Remove(sum *Sum, dbkey, value []byte) {
	e := s.element(dbkey, value)
	// −e = ^e + 1 modulo 2^256
	carry := uint64(1)
	for i := range e {
		e[i], carry = bits.Add64(^e[i], 0, carry)
	}
	sum.add(e)
}

// words is a 256-bit number, least significant word first.
type words [4]uint64

// element is HMAC(k_set, length of dbkey u16 ‖ dbkey ‖ value). The length keeps
// a byte from wandering between key and value.
func (s *Set) element(dbkey, value []byte) words {
	if len(dbkey) > math.MaxUint16 {
		panic(fmt.Sprintf("record: internal error: database key of %d bytes", len(dbkey)))
	}
	m := s.macs.get()
	defer s.macs.put(m)
	m.in = binary.BigEndian.AppendUint16(m.in, uint16(len(dbkey)))
	m.in = append(m.in, dbkey...)
	return wordsOf(m.sum(value))
}

func wordsOf(b *[32]byte) (w words) {
	for i := range w {
		w[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return w
}

// add is addition modulo 2^256.
func (sum *Sum) add(e words) {
	w := wordsOf((*[32]byte)(sum))
	var carry uint64
	for i := range w {
		w[i], carry = bits.Add64(w[i], e[i], carry)
		binary.BigEndian.PutUint64(sum[24-8*i:], w[i])
	}
}
