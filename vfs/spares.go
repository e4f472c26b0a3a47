package vfs

import (
	"context"
	"crypto/rand"
	"math/bits"
	"slices"
	"sync"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/meta"
)

// mostSpares is how many spare key records a volume keeps: one for each of so many uploads that end at the same time.
const mostSpares = 16

// spares are blobs that have a key record and nothing else, for whoever ends the upload of a small file next. A key is durable before
// the first segment under it leaves memory. For a file that is written as a whole when it is closed that took a transaction of its own,
// beside the one that commits it; so whoever commits such a file makes the key record of the next one in the same transaction.
//
// The records lie open, scattered and of nobody. A volume that is closed gives them up itself, and after a crash recovery does; one that
// has a file by then keeps it for orphanGrace.
type spares struct {
	mu    sync.Mutex // guards all below
	ids   []blob.ID
	left  []blob.ID // have a file that a crash kept from its commit, or that is of a newer database
	asked bool      // before: who uploads one file only shall not pay for a second
}

// take takes one out. If there is none, more says whether it pays to make one.
func (s *spares) take() (id blob.ID, ok, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.ids)
	if n == 0 {
		more, s.asked = s.asked, true
		return id, false, more
	}
	id = s.ids[n-1]
	s.ids = s.ids[:n-1]
	return id, true, false
}

// add takes over one that is committed.
func (s *spares) add(b *newBlob) {
	b.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, b.id)
}

// leave has housekeeping look after a blob that recovery left.
func (s *spares) leave(id blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, id)
}

// full says whether there is no need of more.
func (s *spares) full() bool { return s.count() >= mostSpares }

func (s *spares) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

func (s *spares) has(id blob.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.ids, id)
}

// dropSpares gives up what is spare: nothing was ever written under these keys. A failed volume leaves it to the next opening.
func (c *core) dropSpares() error {
	c.spares.mu.Lock()
	ids := c.spares.ids
	c.spares.ids = nil
	c.spares.mu.Unlock()
	if len(ids) == 0 || c.failed.Load() {
		return nil
	}
	return c.update(context.Background(), func(tx *meta.Tx) error {
		for _, id := range ids {
			if err := tx.DeleteBlob(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// giveUpLeft gives up what recovery left, once it is old enough (orphanGrace).
func (c *core) giveUpLeft(ctx context.Context) error {
	c.spares.mu.Lock()
	left := slices.Clone(c.spares.left)
	c.spares.mu.Unlock()
	for _, id := range left {
		if stays, err := c.young(ctx, id); err != nil {
			return err
		} else if stays {
			continue
		}
		r := rescue{c: c, id: id, spare: true}
		if err := c.update(ctx, r.apply); err != nil {
			return err
		}
		c.spares.mu.Lock()
		c.spares.left = slices.DeleteFunc(c.spares.left, func(at blob.ID) bool { return at == id })
		c.spares.mu.Unlock()
	}
	return nil
}

// isSpare says whether a key record is, or was when its blob was begun, a spare one.
func isSpare(b *meta.BlobKey) bool { return b.State == meta.BlobOpen && b.Dir == 0 && b.Inode == 0 }

// newBlob is a blob on its way into metadata.
type newBlob struct {
	id  blob.ID
	key *record.Key
}

// forget overwrites the key. b may be nil.
func (b *newBlob) forget() {
	if b != nil {
		clear(b.key[:])
	}
}

// blobsPerDir is about how many blobs a volume has in each directory before it makes more of them, up to 256.
const blobsPerDir = 64

// nextBlob draws id and key. The first byte of an id names the directory of the blob's file, and each new one of these costs a sync
// and a block of the disk. So a volume of few blobs uses few of them: one, then two, four and so on.
func (c *core) nextBlob() (*newBlob, error) {
	b := &newBlob{key: record.NewKey()}
	rand.Read(b.id[:]) // never fails (crypto/rand)
	err := c.db.View(func(tx *meta.Tx) error {
		dirs := tx.Stats().Blobs / blobsPerDir
		b.id[0] &= 1<<bits.Len8(uint8(min(dirs, 255))) - 1
		return nil
	})
	return b, err
}

// put makes the key record, as plan says for what: a spare one is scattered, and no more. b may be nil. It wraps in the transaction, because the account may get a new key
// at any time.
func (b *newBlob) put(tx *meta.Tx, plan meta.BlobKey) error {
	if b == nil {
		return nil
	}
	plan.ID, plan.State, plan.Wrapped = b.id, meta.BlobOpen, tx.Keys().WrapDataKey(b.id, b.key)
	return tx.PutBlob(&plan)
}
