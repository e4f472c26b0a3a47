package meta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// Relayout says that the bytes of a version lie elsewhere now. Nothing else of the version changes, and its number stays: it
// is the same content. It returns false, and changes nothing, if the version does not lie where the caller
// believes (was), or is not there any more. What it relied on before is not given up: see Release.
func (tx *Tx) Relayout(id Inode, n uint64, was, now *extent.Layout) (bool, error) {
	if err := now.Check(); err != nil || now.Size != was.Size {
		return false, invalid("layout")
	}
	s, err := tx.stored(id, n)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := tx.readPages(s); err != nil {
		return false, err
	}
	if !slices.Equal(s.Layout.Blobs, was.Blobs) || !slices.Equal(s.Layout.Extents, was.Extents) || !bytes.Equal(s.Layout.Inline, was.Inline) {
		return false, nil
	}
	if err := tx.keepRelaid(id, n, was, now); err != nil {
		return false, err
	}
	tx.db.owner.relaid.Add(1) // committed or not: who remembers what versions rely on reads it again
	s.Layout, s.pages = *now, nil
	if len(now.Extents) > directExtents {
		tx.newPages(s)
	}
	tx.put(record.DomainVersion, versionKey(id, n), s.encode(), nil)
	return true, nil
}

// newPages stores the extents of a version that has been written before: its new pages get numbers after those that it has
// or had, because later versions may share those.
func (tx *Tx) newPages(s *storedVersion) {
	next := uint32(0)
	prefix := versionKey(s.Inode, s.N)
	for f := range tx.scan(record.DomainExtents, prefix, nil) {
		if len(f.key) == len(prefix)+4 {
			next = max(next, binary.BigEndian.Uint32(f.key[len(prefix):])+1)
		}
	}
	for rest := s.Layout.Extents; len(rest) > 0; next++ {
		n := cutPage(rest)
		page := appendPacked(make([]byte, 0, 1+n*packedGuess), rest[:n])
		rest = rest[n:]
		p := pageRef{n: s.N, page: next, count: uint32(n), hash: hashPage(page)}
		tx.put(record.DomainExtents, pageKey(s.Inode, p.n, p.page), page, nil)
		s.pages = append(s.pages, p)
	}
}

// Release gives up those of the blobs, and all pages of an inode, that none of its versions relies on. It returns the
// blobs that are doomed.
func (tx *Tx) Release(id Inode, blobs [][16]byte) (doomed [][16]byte, err error) {
	n, err := tx.node(id)
	if err != nil {
		return nil, err
	}
	free := newRelied()
	for _, b := range blobs {
		free.blobs[b] = 1
	}
	for f := range tx.scan(record.DomainExtents, inodeKey(id), nil) {
		if len(f.key) != 20 {
			return nil, broken(record.DomainExtents, errMalformed)
		}
		free.pages[pageName{be64(f.key[8:]), binary.BigEndian.Uint32(f.key[16:])}] = 1
	}
	if _, err := tx.unused(n, free, nil); err != nil {
		return nil, fmt.Errorf("meta: releasing: %w", err)
	}
	return tx.drop(id, free)
}

// drop removes the pages and dooms the blobs that are left in free.
func (tx *Tx) drop(id Inode, free *relied) (doomed [][16]byte, err error) {
	for page := range free.pages {
		tx.remove(record.DomainExtents, pageKey(id, page.n, page.page))
	}
	for _, blob := range free.sorted() {
		gone, err := tx.giveUp(blob)
		if err != nil {
			return nil, err
		}
		if gone {
			doomed = append(doomed, blob)
		}
	}
	return doomed, nil
}

// Located is what is known of a version without reading the extents that lie in pages.
type Located struct {
	Inode   Inode
	N       uint64
	Size    uint64
	Blobs   []extent.BlobRef
	Extents int
}

// VersionsFrom calls fn with every version of every inode, in the order of inodes and numbers, from a place on, until fn
// returns false.
func (tx *Tx) VersionsFrom(id Inode, n uint64, fn func(Located) bool) error {
	for f := range tx.scan(record.DomainVersion, nil, versionKey(id, n)) {
		s, err := tx.openVersion(f)
		if err != nil {
			return err
		}
		l := Located{Inode: s.Inode, N: s.N, Size: s.Size, Blobs: s.Layout.Blobs, Extents: len(s.Layout.Extents)}
		for i := range s.pages {
			l.Extents += int(s.pages[i].count)
		}
		if !fn(l) {
			return nil
		}
	}
	return nil
}

// StoredBytes are the keys and sealed values of all records, as the file holds them. It reads every page.
func (tx *Tx) StoredBytes() (n uint64) {
	tx.snap.inside = true
	defer func() { tx.snap.inside = false }()
	for _, kind := range buckets() {
		c := tx.snap.bucket(kind).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			n += uint64(len(k) + len(v))
		}
	}
	return n
}
