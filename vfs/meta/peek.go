package meta

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck"
)

// Commit names the newest commit of a database: the SHA-256 of its head as it is sealed, which every commit seals anew, under a
// random nonce. Two files with the same one hold the same records.
type Commit [sha256.Size]byte

// Commit names what a View would see now.
func (db *DB) Commit() (c Commit, err error) {
	_, btx, err := db.beginView()
	if err != nil {
		return c, err
	}
	defer btx.Rollback()
	err = guard(func() error {
		if b := btx.Bucket([]byte{byte(record.DomainHead)}); b != nil {
			if sealed := b.Get([]byte(headKey)); sealed != nil {
				c = sha256.Sum256(sealed)
				return nil
			}
		}
		return dangling(record.DomainHead)
	})
	return c, err
}

// Peek is Commit of a database that need not be open, and may be open elsewhere: it reads the three or four pages that lead to the head. Nothing is
// authenticated: the answer means something to who knows it already from a database that was verified.
// ErrIntegrity if it cannot be read.
func Peek(path string) (c Commit, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	first := make([]byte, 3*pagecheck.Size)
	if _, err := f.ReadAt(first[:2*pagecheck.Size], 0); err != nil {
		return c, errors.Join(ErrIntegrity, err)
	}
	roots := pagecheck.Roots(first[:2*pagecheck.Size])
	page := first[2*pagecheck.Size:]
	if len(roots) == 0 {
		return c, fmt.Errorf("%w: the database has no beginning", ErrIntegrity)
	}
	at, key := roots[0], []byte{byte(record.DomainHead)}
	for range mostDepth {
		if at < 2 || at >= 1<<40 {
			break
		}
		if _, err := f.ReadAt(page, int64(at)*pagecheck.Size); err != nil || native.Uint64(page) != at {
			break
		}
		if native.Uint16(page[8:]) == pageBranch {
			at = below(page, key)
			continue
		}
		value, bucket := lookIn(page, key)
		switch {
		case value == nil, bucket && len(value) < bucketHeadSize:
			return c, dangling(record.DomainHead)
		case !bucket:
			return sha256.Sum256(value), nil
		}
		key = []byte(headKey)
		if at = native.Uint64(value); at != 0 {
			continue
		}
		value, _ = lookIn(value[bucketHeadSize:], key) // a small bucket lies in the page
		if value == nil {
			return c, dangling(record.DomainHead)
		}
		return sha256.Sum256(value), nil
	}
	return c, fmt.Errorf("%w: the pages that lead to the head of the database cannot be read", ErrIntegrity)
}

// below is the page below a branch in which a key is; 0 = the branch is damaged.
func below(p, key []byte) (page uint64) {
	for i := range int(native.Uint16(p[10:])) {
		at := pageHeaderSize + i*pageElementSize
		if at+pageElementSize > len(p) {
			return 0
		}
		from := uint64(at) + uint64(native.Uint32(p[at:]))
		to := from + uint64(native.Uint32(p[at+4:]))
		if to > uint64(len(p)) {
			return 0
		}
		if page != 0 && bytes.Compare(p[from:to], key) > 0 {
			return page
		}
		page = native.Uint64(p[at+8:])
	}
	return page
}

// lookIn finds an element of a leaf page.
func lookIn(p, key []byte) (value []byte, bucket bool) {
	if len(p) < pageHeaderSize {
		return nil, false
	}
	for i := range int(native.Uint16(p[10:])) {
		k, v, bucket, ok := element(p, i)
		if !ok {
			return nil, false
		}
		if string(k) == string(key) {
			return v, bucket
		}
	}
	return nil, false
}
