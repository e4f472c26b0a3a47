package meta

import (
	"encoding/binary"
	"math/bits"

	"sallyport/crypto/record"
)

// addSums adds two partial sums of the set hash, which are 256-bit big-endian
// numbers modulo 2^256 (docs/FORMAT.md), so that several goroutines can share
// one scan.
func addSums(a, b record.Sum) record.Sum {
	var carry uint64
	for i := len(a) - 8; i >= 0; i -= 8 {
		var v uint64
		v, carry = bits.Add64(binary.BigEndian.Uint64(a[i:]), binary.BigEndian.Uint64(b[i:]), carry)
		binary.BigEndian.PutUint64(a[i:], v)
	}
	return a
}
