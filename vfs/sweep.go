package vfs

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"sallyport/vfs/blob"
	"sallyport/vfs/meta"
)

const (
	// defaultQuarantine is how long a key record that nothing relies on is left alone after it was first seen: an error in counting
	// must not destroy a key at once. A server that restarts begins anew.
	defaultQuarantine = time.Hour

	// strayPage is how many keys of blobs are in memory at a time, some 8 MB. A volume of more blobs has its versions read once for each page.
	strayPage = 1 << 17
	// mostStrays is how many keys that nothing relies on one Tidy deals with; what is left comes with the next ones.
	mostStrays = 1 << 16
)

// sweep gives up sealed blobs that no version relies on. No normal path leaves any; one that a draft left when its file was
// purged under it, or a defect, would otherwise stay for ever.
func (t *tidier) sweep(ctx context.Context) error {
	strays, err := t.c.strays(ctx, strayPage, mostStrays)
	if err != nil {
		return err
	}
	wait := t.o.Wait
	if wait == 0 {
		wait = defaultQuarantine
	}
	v, now := t.c.vol, t.c.vol.fs.o.Now()
	v.mu.Lock()
	seen := map[blob.ID]time.Time{}
	for _, b := range strays {
		if seen[b.ID] = now; !v.quarantine[b.ID].IsZero() {
			seen[b.ID] = v.quarantine[b.ID]
		}
	}
	v.quarantine = seen
	v.mu.Unlock()
	for _, b := range strays {
		if now.Sub(seen[b.ID]) < wait {
			t.res.Quarantined++
			continue
		}
		_, err := t.c.move(ctx, []meta.Inode{b.Inode}, func(tx *meta.Tx, free map[meta.Inode]bool) error {
			if !free[b.Inode] {
				return nil
			}
			doomed, err := tx.Release(b.Inode, [][16]byte{b.ID}) // looks again whether a version relies on it
			if errors.Is(err, fs.ErrNotExist) {
				doomed, err = [][16]byte{b.ID}, tx.Doom(b.ID)
			}
			if len(doomed) > 0 {
				tx.AwaitShred(max(b.Size, 1))
			}
			return err
		})
		if err != nil {
			return err
		}
		t.res.Swept++
	}
	if t.res.Swept > 0 {
		return t.c.removeDoomed(ctx)
	}
	return nil
}

// stray is a sealed blob that no version may rely on.
type stray struct {
	ID    blob.ID
	Inode meta.Inode
	Size  uint64
}

// strays compares the sealed blobs with what versions rely on, a page of them at a time, and returns those that are left, at most that many. It
// reads in many views, so what it returns is a suspicion.
func (c *core) strays(ctx context.Context, page, most int) (out []stray, err error) {
	from := blob.ID{}
	for {
		// Keys first: a version that comes later may rely on more, but never on a blob that nothing relied on.
		sealed, next, err := c.sealedFrom(from, page)
		if err != nil {
			return nil, err
		}
		if err := c.unmark(ctx, sealed); err != nil {
			return nil, err
		}
		for id, b := range sealed {
			if out = append(out, stray{id, b.inode, b.size}); len(out) == most {
				return out, nil
			}
		}
		if from = next; from == (blob.ID{}) {
			return out, nil
		}
	}
}

// sealed is what is known of a blob while it is looked for.
type sealed struct {
	inode meta.Inode
	size  uint64
}

// sealedFrom are the next n sealed blobs; next is the ID to go on from, zero at the end.
func (c *core) sealedFrom(from blob.ID, n int) (page map[blob.ID]sealed, next blob.ID, err error) {
	page = map[blob.ID]sealed{}
	err = c.db.View(func(tx *meta.Tx) error {
		return tx.BlobsFrom(from, func(b *meta.BlobKey) bool {
			if len(page) == n {
				next = b.ID
				return false
			}
			if b.State == meta.BlobSealed {
				page[b.ID] = sealed{b.Inode, b.Size}
			}
			return true
		})
	})
	return page, next, err
}

// unmark takes out what versions rely on.
func (c *core) unmark(ctx context.Context, page map[blob.ID]sealed) error {
	id, number := meta.Inode(0), uint64(0)
	for n := tidyPage; n == tidyPage && len(page) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n = 0
		err := c.db.View(func(tx *meta.Tx) error {
			return tx.VersionsFrom(id, number, func(l meta.Located) bool {
				for _, ref := range l.Blobs {
					delete(page, blob.ID(ref.ID))
				}
				id, number, n = l.Inode, l.N+1, n+1
				return n < tidyPage
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
