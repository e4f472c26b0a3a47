// Package locked keeps key bytes where they can be found again: in memory of
// their own that is not part of the Go heap, is neither swapped out nor dumped
// as far as the system allows, and is overwritten when nobody uses it any more.
//
// What the standard library makes of a key (an expanded AES key, the states of
// an HMAC) lives on the heap all the same and cannot be moved; Cipher and Hash
// overwrite such an object when its owner is done with it.
package locked

import (
	"crypto/rand"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Size is the most bytes that a Secret holds.
const Size = 64

// chunkSize is what is mapped at a time: room for 1,024 secrets.
const chunkSize = 64 << 10

// Secret is up to Size bytes in locked memory. They are overwritten after the
// last reference to the Secret is gone, or by Wipe. Safe for concurrent use,
// but for Wipe.
type Secret struct {
	slot *[Size]byte
	n    int
}

// memory is what secrets lie in. It belongs to the process as the heap does:
// pages are locked for a process and not for a package, and a page for each
// secret would meet the limit on locked memory at two thousand of them.
var memory arena

type arena struct {
	mu   sync.Mutex
	free []*[Size]byte // overwritten

	refused atomic.Bool // memory could not be locked
}

// New is a Secret of n zeroes, to be filled with Use.
func New(n int) *Secret {
	if n < 0 || n > Size {
		panic(fmt.Sprintf("locked: internal error: a secret of %d bytes", n))
	}
	s := &Secret{memory.take(), n}
	runtime.AddCleanup(s, memory.give, s.slot)
	return s
}

// Random is a Secret of n random bytes.
func Random(n int) *Secret {
	s := New(n)
	rand.Read(s.slot[:n]) // never fails: crypto/rand ends the process instead
	return s
}

// Copy is a Secret of the bytes of b.
func Copy(b []byte) *Secret {
	s := New(len(b))
	copy(s.slot[:], b)
	return s
}

// Move is Copy, and overwrites b.
func Move(b []byte) *Secret {
	defer clear(b)
	return Copy(b)
}

// Use calls fn with the bytes, which are good until it returns.
func (s *Secret) Use(fn func(b []byte)) {
	fn(s.slot[:s.n:s.n])
	runtime.KeepAlive(s) // the slot is another secret's afterwards
}

// Wipe overwrites the bytes at once. Nobody may use them meanwhile; afterwards they are zeroes.
func (s *Secret) Wipe() {
	clear(s.slot[:])
	runtime.KeepAlive(s)
}

// Format keeps secrets out of logs.
func (*Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Locked tells whether the system locked all memory that was asked for until now.
func Locked() bool { return !memory.refused.Load() }

func (a *arena) take() *[Size]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.free) == 0 {
		chunk, err := Pages(chunkSize)
		if err != nil { // as the runtime does when there is no memory for the heap
			panic("locked: out of memory: " + err.Error())
		}
		for ; len(chunk) >= Size; chunk = chunk[Size:] {
			a.free = append(a.free, (*[Size]byte)(chunk))
		}
	}
	slot := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	return slot
}

func (a *arena) give(slot *[Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(slot[:])
	a.free = append(a.free, slot)
}
