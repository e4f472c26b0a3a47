package meta

import (
	"bytes"
	"context"
	"slices"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// blobTableLimit is how many blobs are compared with the versions at once, 40 bytes each. If there are more, the versions are read
// once more for each further table.
const blobTableLimit = 1 << 20

// blobTable counts who relies on the blobs whose IDs lie in from ≤ ID < to (to nil = the end).
type blobTable struct {
	from, to []byte
	blobs    []blobCount          // in order
	keyless  map[[16]byte]*uint64 // versions that rely on a blob that has no record at all
}

type blobCount struct {
	id     [16]byte
	size   uint64    // BlobKey.stored
	used   uint64    // most plaintext bytes that a version relies on
	refs   uint32    // versions, at most 2^32-1
	state  BlobState // 0 = it has no key
	doomed bool
}

// newBlobTable takes the next blobs from their keys.
func newBlobTable(tx *Tx, from []byte, limit int) blobTable {
	t := blobTable{from: from, keyless: map[[16]byte]*uint64{}}
	keys, doomed := tx.snap.bucket(record.DomainBlobKey).Cursor(), tx.snap.bucket(record.DomainDoomed).Cursor()
	k, _ := keys.Seek(from)
	d, _ := doomed.Seek(from)
	for (k != nil || d != nil) && len(t.blobs) < limit {
		next, isDoomed := k, false
		if k == nil || d != nil && bytes.Compare(d, k) <= 0 {
			next, isDoomed = d, true
		}
		if len(next) == 16 { // the others are malformed, and that is found elsewhere
			t.blobs = append(t.blobs, blobCount{id: [16]byte(next), doomed: isDoomed})
		}
		at := bytes.Clone(next)
		if bytes.Equal(k, at) {
			k, _ = keys.Next()
		}
		if bytes.Equal(d, at) {
			d, _ = doomed.Next()
		}
	}
	switch {
	case k == nil && d == nil:
	case k == nil || d != nil && bytes.Compare(d, k) < 0:
		t.to = bytes.Clone(d)
	default:
		t.to = bytes.Clone(k)
	}
	return t
}

// get returns nil if the blob is of another table or has no record.
func (t *blobTable) get(id [16]byte) (b *blobCount, here bool) {
	if bytes.Compare(id[:], t.from) < 0 || t.to != nil && bytes.Compare(id[:], t.to) >= 0 {
		return nil, false
	}
	if i, ok := slices.BinarySearchFunc(t.blobs, id, func(b blobCount, id [16]byte) int { return bytes.Compare(b.id[:], id[:]) }); ok {
		return &t.blobs[i], true
	}
	return nil, true
}

func (t *blobTable) key(k *BlobKey) {
	if b, _ := t.get(k.ID); b != nil {
		b.state, b.size = k.State, k.stored()
	}
}

func (t *blobTable) rely(refs []extent.BlobRef) {
	for i := range refs {
		ref := &refs[i]
		b, here := t.get(ref.ID)
		switch {
		case b != nil:
			b.refs = max(b.refs, b.refs+1)
			b.used = max(b.used, ref.Bytes)
		case here:
			if t.keyless[ref.ID] == nil {
				t.keyless[ref.ID] = new(uint64)
			}
			*t.keyless[ref.ID]++
		}
	}
}

func (t *blobTable) check(find func(format string, args ...any)) {
	for i := range t.blobs {
		b := &t.blobs[i]
		switch {
		case b.doomed && (b.refs > 0 || b.state != 0):
			find("blob %x is to be unlinked but in use", b.id)
		case b.state == 0 && !b.doomed:
			find("blob %x is used by %d versions but has no key", b.id, b.refs)
		case b.state == BlobSealed && b.refs == 0:
			find("blob %x is used by no version", b.id)
		case b.state != 0 && b.used > b.size:
			find("blob %x has %d bytes, a version relies on %d", b.id, b.size, b.used)
		}
	}
	for id, refs := range t.keyless {
		find("blob %x is used by %d versions but has no key", id, *refs)
	}
}

// firstBlobs makes the table that is filled while all records are read.
func (c *census) firstBlobs(context.Context) error {
	return guard(func() error { c.blobs = newBlobTable(c.tx, nil, c.tableLimit); return nil })
}

// checkBlobs checks the first table, and fills and checks the others.
func (c *census) checkBlobs(ctx context.Context) error {
	c.blobs.check(c.find)
	for c.blobs.to != nil {
		from := c.blobs.to
		c.blobs = blobTable{} // its memory is free before the next one is made
		if err := guard(func() error { c.blobs = newBlobTable(c.tx, from, c.tableLimit); return nil }); err != nil {
			return err
		}
		err := c.sweep(ctx, func(_ *worker, kind record.Domain, key, plain []byte) {
			if kind == record.DomainBlobKey {
				if k, err := decodeBlobKey([16]byte(key), plain); err == nil {
					c.locked(func() { c.blobs.key(k) })
				}
			} else if v, err := decodeVersion(Inode(be64(key)), be64(key[8:]), plain); err == nil && len(v.Layout.Blobs) > 0 {
				c.locked(func() { c.blobs.rely(v.Layout.Blobs) })
			}
		}, record.DomainBlobKey, record.DomainVersion)
		if err != nil {
			return err
		}
		c.blobs.check(c.find)
	}
	return nil
}
