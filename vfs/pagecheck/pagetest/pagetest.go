// Package pagetest makes bbolt files whose pages are hostile, for the tests of whoever opens one: each would crash bbolt,
// send it round for ever, or have it miss records.
package pagetest

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"testing"

	"sallyport/vfs/pagecheck"
)

const (
	pageHeader  = 16 // id u64, flags u16, count u16, overflow u32
	elementSize = 16 // branch: position, key size, page u64; leaf: flags, position, key size, value size

	flagBranch = 0x01
	flagLeaf   = 0x02
)

// native is the byte order of bbolt's own structures.
var native = binary.NativeEndian

// Hostile returns changed copies of the image of a good file, by what was done to them. The image must hold a branch page
// and a leaf of at least two records.
func Hostile(t testing.TB, image []byte) map[string][]byte {
	t.Helper()
	reached, err := pagecheck.Check(image)
	if err != nil {
		t.Fatal(err)
	}
	image = image[:len(reached)*pagecheck.Size]
	branch, leaf := -1, -1
	for id := range reached {
		switch p := image[id*pagecheck.Size:]; {
		case !reached[id] || native.Uint64(p) != uint64(id): // free, or part of a longer page
		case native.Uint16(p[8:]) == flagBranch:
			branch = id * pagecheck.Size
		case native.Uint16(p[8:]) == flagLeaf && native.Uint16(p[10:]) > 1 && native.Uint32(p[pageHeader:]) == 0:
			leaf = id * pagecheck.Size
		}
	}
	if branch < 0 || leaf < 0 {
		t.Fatal("no branch or no leaf page in the database")
	}
	all := map[string][]byte{}
	for what, change := range changes(branch, leaf) {
		all[what] = change(bytes.Clone(image))
	}
	return all
}

func changes(branch, leaf int) map[string]func([]byte) []byte {
	first := branch + pageHeader
	return map[string]func([]byte) []byte{
		"a branch that leads to itself": func(b []byte) []byte {
			native.PutUint64(b[first+8:], uint64(branch/pagecheck.Size))
			return b
		},
		"a branch that leads to the same page twice": func(b []byte) []byte {
			copy(b[first+elementSize+8:][:8], b[first+8:][:8])
			return b
		},
		"a branch beyond the file": func(b []byte) []byte { native.PutUint64(b[first+8:], 1<<40); return b },
		"a branch to a meta page":  func(b []byte) []byte { native.PutUint64(b[first+8:], 0); return b },
		"a count too high":         func(b []byte) []byte { native.PutUint16(b[branch+10:], 0xffff); return b },
		"a leaf of no count":       func(b []byte) []byte { native.PutUint16(b[leaf+10:], 0); return b },
		"a leaf of unknown kind":   func(b []byte) []byte { native.PutUint16(b[leaf+8:], 0x10); return b },
		"an overflow too long":     func(b []byte) []byte { native.PutUint32(b[leaf+12:], 0xffffffff); return b },
		"a value too long":         func(b []byte) []byte { native.PutUint32(b[leaf+pageHeader+12:], 0xfffffff0); return b },
		"a key too long":           func(b []byte) []byte { native.PutUint32(b[leaf+pageHeader+8:], 0xfffffff0); return b },
		"a bucket among records":   func(b []byte) []byte { native.PutUint32(b[leaf+pageHeader:], 1); return b },
		"elements in other order":  func(b []byte) []byte { swapElements(b[leaf:]); return b },
		"a separator that hides records": func(b []byte) []byte {
			at := first + elementSize
			b[at+int(native.Uint32(b[at:]))] = 0xff
			return b
		},
		"half a page less":     func(b []byte) []byte { return b[:len(b)-pagecheck.Size/2] },
		"half the file":        func(b []byte) []byte { return b[:len(b)/2] },
		"one page":             func(b []byte) []byte { return b[:pagecheck.Size] },
		"no page":              func([]byte) []byte { return nil },
		"zeros":                func(b []byte) []byte { return make([]byte, len(b)) },
		"something else":       func([]byte) []byte { return bytes.Repeat([]byte("text"), 5000) },
		"no meta page":         func(b []byte) []byte { meta(b, 0)[20]++; meta(b, 1)[20]++; return b },
		"of another page size": func(b []byte) []byte { return both(b, func(m []byte) { native.PutUint32(m[8:], 8192) }) },
		"a root page beyond the file": func(b []byte) []byte {
			return both(b, func(m []byte) { native.PutUint64(m[16:], 1<<30) })
		},
		"a stored list of free pages": func(b []byte) []byte {
			return both(b, func(m []byte) { native.PutUint64(m[32:], uint64(leaf/pagecheck.Size)) })
		},
	}
}

// meta is what one of the two meta pages holds.
func meta(b []byte, id int) []byte { return b[id*pagecheck.Size+pageHeader:] }

// both changes the meta pages and makes their checksums, which are no secret, right again.
func both(b []byte, change func(m []byte)) []byte {
	for id := range 2 {
		change(meta(b, id))
	}
	FixSums(b)
	return b
}

// FixSums makes the checksums of the meta pages right.
func FixSums(b []byte) {
	for id := range 2 {
		m, h := meta(b, id), fnv.New64a()
		h.Write(m[:56])
		native.PutUint64(m[56:], h.Sum64())
	}
}

// swapElements swaps what the first two elements of a leaf page say.
func swapElements(leaf []byte) {
	a, b := leaf[pageHeader:][:elementSize], leaf[pageHeader+elementSize:][:elementSize]
	pa, pb := native.Uint32(a[4:]), native.Uint32(b[4:])
	tmp := bytes.Clone(a)
	copy(a, b)
	copy(b, tmp)
	native.PutUint32(a[4:], pb+elementSize) // positions are relative to the element
	native.PutUint32(b[4:], pa-elementSize)
}
