// Package pagecheck looks at every page of a bbolt file before bbolt does.
//
// bbolt trusts the pages of its file: a branch that leads to itself overflows the stack, which no recover can stop, and a
// separator key that lies hides records from a lookup that a scan still finds. What Check accepts is one tree of buckets,
// each a tree of records: every page reached once, within the file, elements within their page, keys in strict order and
// within the bounds that the pages above give. What the values say is not its business: they are sealed.
//
// It takes only what our databases are: pages of Size bytes, no bucket within a bucket, and no stored list of free pages
// (bbolt.Options.NoFreelistSync), which would be one more thing that bbolt believes.
package pagecheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// ErrDamaged means that the pages do not make a database of ours.
var ErrDamaged = errors.New("pagecheck: the pages of the database are damaged")

// Size of a page, bytes. It is fixed, so that a file can be moved between machines.
const Size = 4096

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader   = 16 // id u64, flags u16, count u16, overflow u32
	elementSize  = 16
	bucketHeader = 16 // root page u64, sequence u64
	metaSize     = 64

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagMeta   = 0x04
	noFreelist = ^uint64(0)

	maxPageDepth = 32
)

// native is the byte order of bbolt's own structures: that of the machine.
var native = binary.NativeEndian

func badPage(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, what)
}

// pageCheck walks the image of a database file.
type pageCheck struct {
	image []byte
	end   uint64 // first page id that is not in use
	seen  []bool
}

// Check checks the image of a whole file and tells which of its pages are reached. Pages beyond the result are not in use.
func Check(image []byte) (reached []bool, err error) {
	root, end, err := newestMeta(image)
	if err != nil {
		return nil, err
	}
	if end > uint64(len(image)/Size) {
		return nil, badPage(end, "the file is shorter than it says")
	}
	c := &pageCheck{image: image, end: end, seen: make([]bool, end)}
	if err := c.page(root, true, nil, nil, 0); err != nil {
		return nil, err
	}
	return c.seen, nil
}

// newestMeta returns the root page and the page count of the meta page that bbolt will choose.
func newestMeta(image []byte) (root, end uint64, err error) {
	if len(image) < 4*Size {
		return 0, 0, badPage(0, "the file is too short")
	}
	var best, txid uint64
	found := false
	for id := range uint64(2) {
		page := image[id*Size:][:Size]
		m := page[pageHeader:]
		if !validMeta(m) {
			// bbolt would look for a meta page at other page sizes where the first one is damaged; none is ever there.
			if id == 0 && len(bytes.Trim(page[pageHeader+metaSize:], "\x00")) > 0 {
				return 0, 0, badPage(0, "damaged")
			}
			continue
		}
		if native.Uint32(m[8:]) != Size || native.Uint16(page[8:]) != flagMeta {
			return 0, 0, badPage(id, "of a foreign database")
		}
		if t := native.Uint64(m[48:]); !found || t > txid {
			best, txid, found = id, t, true
		}
	}
	if !found {
		return 0, 0, badPage(0, "neither of the two beginnings of the database is whole")
	}
	m := image[best*Size+pageHeader:]
	if native.Uint64(m[32:]) != noFreelist {
		return 0, 0, badPage(best, "of a foreign database")
	}
	return native.Uint64(m[16:]), native.Uint64(m[40:]), nil
}

// Roots are the root pages that the valid ones of the two beginnings of a damaged database name, the newest first. It
// promises nothing of the pages: for those who read what Check refuses, page by page.
func Roots(image []byte) []uint64 {
	var roots []uint64
	var newest uint64
	for id := range 2 {
		if len(image) < (id+1)*Size {
			break
		}
		m := image[id*Size+pageHeader:]
		if !validMeta(m) {
			continue
		}
		root, txid := native.Uint64(m[16:]), native.Uint64(m[48:])
		if len(roots) > 0 && txid > newest {
			roots = append([]uint64{root}, roots...)
		} else {
			roots = append(roots, root)
		}
		newest = max(newest, txid)
	}
	return roots
}

// validMeta is bbolt's own check: magic, version, FNV-1a over all before it.
func validMeta(m []byte) bool {
	h := fnv.New64a()
	h.Write(m[:56])
	return native.Uint32(m) == boltMagic && native.Uint32(m[4:]) == boltVersion && native.Uint64(m[56:]) == h.Sum64()
}

// page checks the tree below a page whose keys must lie in [lo, hi); nil = no
// bound. The top tree holds buckets only, the others none.
func (c *pageCheck) page(id uint64, top bool, lo, hi []byte, depth int) error {
	if id < 2 || id >= c.end {
		return badPage(id, "outside the database")
	}
	p := c.image[id*Size:]
	flags, count, overflow := native.Uint16(p[8:]), int(native.Uint16(p[10:])), uint64(native.Uint32(p[12:]))
	switch {
	case native.Uint64(p) != id:
		return badPage(id, "says that it is another")
	case overflow >= c.end-id:
		return badPage(id, "reaches beyond the database")
	case depth > maxPageDepth:
		return badPage(id, "too deep")
	case count == 0 && (flags != flagLeaf || depth > 0):
		return badPage(id, "empty")
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return badPage(i, "reached twice")
		}
		c.seen[i] = true
	}
	p = p[:(overflow+1)*Size]
	switch flags {
	case flagLeaf:
		return c.leaf(id, p, top, lo, hi)
	case flagBranch:
		return c.branch(id, p, top, lo, hi, depth)
	}
	return badPage(id, "of unknown kind")
}

func (c *pageCheck) branch(id uint64, p []byte, top bool, lo, hi []byte, depth int) error {
	keys := make([][]byte, native.Uint16(p[10:]))
	for i := range keys {
		var ok bool
		if keys[i], ok = branchElement(p, pageHeader+i*elementSize); !ok {
			return badPage(id, "an element lies outside it")
		}
	}
	if !ascending(keys, lo, hi) {
		return badPage(id, "keys out of order")
	}
	for i := range keys {
		next := hi
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		child := native.Uint64(p[pageHeader+i*elementSize+8:])
		if err := c.page(child, top, keys[i], next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks a page of records, or of buckets at the top; p may be a page inline in a bucket's value.
func (c *pageCheck) leaf(id uint64, p []byte, top bool, lo, hi []byte) error {
	prev, bound := lo, false // the low bound itself is allowed, the key before is not
	for i := range int(native.Uint16(p[10:])) {
		at := pageHeader + i*elementSize
		key, value, ok := leafElement(p, at)
		if !ok {
			return badPage(id, "an element lies outside it")
		}
		if cmp := bytes.Compare(prev, key); len(key) == 0 || cmp > 0 || cmp == 0 && bound || hi != nil && bytes.Compare(key, hi) >= 0 {
			return badPage(id, "keys out of order")
		}
		prev, bound = key, true
		switch isBucket := native.Uint32(p[at:]); {
		case isBucket > 1 || isBucket == 1 != top:
			return badPage(id, "a bucket where there is none, or none where there is one")
		case top:
			if err := c.bucket(id, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks the value of a bucket: its root page, or the page inline.
func (c *pageCheck) bucket(id uint64, v []byte) error {
	if len(v) < bucketHeader {
		return badPage(id, "a bucket cut short")
	}
	if root := native.Uint64(v); root != 0 {
		return c.page(root, false, nil, nil, 0)
	}
	p := v[bucketHeader:]
	if len(p) < pageHeader || native.Uint16(p[8:]) != flagLeaf || native.Uint32(p[12:]) != 0 {
		return badPage(id, "a bucket within it is damaged")
	}
	return c.leaf(id, p, false, nil, nil)
}

// leafElement and branchElement return the key and value of an element; its
// position is relative to its header.
func leafElement(p []byte, at int) (key, value []byte, ok bool) {
	if at+elementSize > len(p) {
		return nil, nil, false
	}
	from := uint64(at) + uint64(native.Uint32(p[at+4:]))
	mid := from + uint64(native.Uint32(p[at+8:]))
	to := mid + uint64(native.Uint32(p[at+12:]))
	if to > uint64(len(p)) {
		return nil, nil, false
	}
	return p[from:mid], p[mid:to], true
}

func branchElement(p []byte, at int) (key []byte, ok bool) {
	if at+elementSize > len(p) {
		return nil, false
	}
	from := uint64(at) + uint64(native.Uint32(p[at:]))
	to := from + uint64(native.Uint32(p[at+4:]))
	if to > uint64(len(p)) {
		return nil, false
	}
	return p[from:to], true
}

func ascending(keys [][]byte, lo, hi []byte) bool {
	for i, k := range keys {
		if i == 0 && bytes.Compare(k, lo) < 0 || i > 0 && bytes.Compare(k, keys[i-1]) <= 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
			return false
		}
	}
	return true
}
