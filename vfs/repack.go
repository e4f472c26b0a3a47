package vfs

import (
	"cmp"
	"context"
	"slices"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// When a blob of which only a part is relied on is repacked, unless all are.
const (
	repackDead  = 1 << 20 // bytes that nothing relies on, at least
	repackBatch = 32      // versions that one transaction rewrites
)

// span is a range of a blob's plaintext, and where it will lie.
type blobSpan struct{ off, end, at uint64 }

// spans are ascending and do not touch.
type spans []blobSpan

// union merges sorted spans into sorted spans.
func (s spans) union(more spans) spans {
	all := append(slices.Clone(s), more...)
	slices.SortFunc(all, func(a, b blobSpan) int { return cmp.Compare(a.off, b.off) })
	out := all[:0]
	for _, x := range all {
		if n := len(out); n > 0 && x.off <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, x.end)
			continue
		}
		out = append(out, x)
	}
	return out
}

func (s spans) bytes() (n uint64) {
	for _, x := range s {
		n += x.end - x.off
	}
	return n
}

// find is where [off,off+n) of the blob lies in the new one.
func (s spans) find(off, n uint64) (at uint64, ok bool) {
	i, exact := slices.BinarySearchFunc(s, off, func(x blobSpan, off uint64) int { return cmp.Compare(x.off, off) })
	if !exact {
		i--
	}
	if i < 0 || off+n > s[i].end {
		return 0, false
	}
	return s[i].at + off - s[i].off, true
}

// liveSpans is what the versions of a file rely on of each blob. It reads a few versions in a view.
func (c *core) liveSpans(ctx context.Context, id meta.Inode) (map[blob.ID]spans, error) {
	live := map[blob.ID]spans{}
	err := c.eachVersion(ctx, id, func(v *meta.Version) {
		of := map[uint32]spans{}
		for _, e := range v.Layout.Extents {
			if e.Blob != extent.Inline {
				of[e.Blob] = append(of[e.Blob], blobSpan{off: e.BlobOff, end: e.BlobOff + e.Len})
			}
		}
		for i, ref := range v.Layout.Blobs {
			if have, more := live[ref.ID], spans(nil).union(of[uint32(i)]); !slices.Equal(have, more) {
				live[ref.ID] = have.union(more)
			}
		}
	})
	return live, err
}

// eachVersion calls fn with every version of a file, a batch in each view.
func (c *core) eachVersion(ctx context.Context, id meta.Inode, fn func(*meta.Version)) error {
	for from := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 0
		err := c.db.View(func(tx *meta.Tx) error {
			var failed error
			err := tx.VersionsFrom(id, from, func(l meta.Located) bool {
				if l.Inode != id || n == repackBatch {
					return false
				}
				var v *meta.Version
				if v, failed = tx.Version(id, l.N); failed != nil {
					return false
				}
				fn(v)
				n, from = n+1, l.N+1
				return true
			})
			return cmp.Or(failed, err)
		})
		if err != nil || n < repackBatch {
			return err
		}
	}
}

// partly finds the sealed blobs of a file of which the versions rely on a part only; all: also where little is dead.
func (c *core) partly(live map[blob.ID]spans, all bool) (refs []extent.BlobRef, err error) {
	err = c.db.View(func(tx *meta.Tx) error {
		for id, s := range live {
			b, err := tx.Blob(id)
			if err != nil {
				return missing(err)
			}
			dead := b.Size - min(s.bytes(), b.Size)
			if b.State == meta.BlobSealed && dead > 0 && (all || dead >= repackDead && dead >= b.Size/2) {
				refs = append(refs, extent.Sealed(b.ID, b.Size))
			}
		}
		return nil
	})
	slices.SortFunc(refs, func(a, b extent.BlobRef) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return refs, err
}

// repack copies what is relied on of a file's partly live blobs into one new blob, under a new key, points the versions
// at it, and gives the old ones up, so that their keys can go and with them what was purged. Versions are
// rewritten a few at a time; after a crash in between some rely on the old blob and some on the new one, and the next repack goes on. It
// returns the bytes copied; done is false if somebody was writing the file.
func (c *core) repack(ctx context.Context, id meta.Inode, all bool) (copied uint64, done bool, err error) {
	live, err := c.liveSpans(ctx, id)
	if err != nil || len(live) == 0 {
		return 0, true, err
	}
	old, err := c.partly(live, all)
	if err != nil || len(old) == 0 {
		return 0, true, err
	}
	if c.pins.pinned(id) {
		return 0, false, nil
	}
	r := relocation{c: c, id: id}
	for _, ref := range old {
		for i := range live[ref.ID] {
			s := &live[ref.ID][i]
			s.at = r.add(ref, s.off, s.end-s.off)
		}
	}
	if err := r.copy(ctx); err != nil {
		return 0, false, err
	}
	done, err = r.point(ctx, old, live)
	if err != nil || !done {
		r.discard(ctx)
		return r.from.Size, false, err
	}
	return r.from.Size, true, c.removeDoomed(ctx)
}

// point rewrites the versions that rely on the old blobs, and gives those up with the last.
func (r *relocation) point(ctx context.Context, old []extent.BlobRef, live map[blob.ID]spans) (done bool, err error) {
	moved := map[blob.ID]bool{}
	for _, ref := range old {
		moved[ref.ID] = true
	}
	for from, last := uint64(0), false; !last; {
		next := from
		done = false
		_, err := r.c.move(ctx, []meta.Inode{r.id}, func(tx *meta.Tx, free map[meta.Inode]bool) (err error) {
			if !free[r.id] {
				return nil
			}
			if next, last, err = r.batch(tx, from, moved, live); err != nil {
				return err
			}
			if err := r.seal(tx); err != nil {
				return err
			}
			if last {
				err = r.release(tx, old, live)
			}
			done = true
			return absentIsFine(err)
		})
		if err != nil || !done {
			return false, err
		}
		r.sealed = true
		from = next
	}
	return true, nil
}

// release gives up the old blobs. What of them was dead was purged, perhaps before the account got its present key.
func (r *relocation) release(tx *meta.Tx, old []extent.BlobRef, live map[blob.ID]spans) error {
	doomed, err := tx.Release(r.id, append(ids(old), r.to.ID))
	for _, ref := range old {
		if slices.Contains(doomed, ref.ID) {
			tx.AwaitShred(ref.Bytes - min(live[ref.ID].bytes(), ref.Bytes))
		}
	}
	return err
}

// batch rewrites a few versions from a number on.
func (r *relocation) batch(tx *meta.Tx, from uint64, moved map[blob.ID]bool, live map[blob.ID]spans) (next uint64, last bool, err error) {
	var some []uint64
	last = true
	err = tx.VersionsFrom(r.id, from, func(l meta.Located) bool {
		if l.Inode != r.id {
			return false
		}
		if len(some) == repackBatch {
			last = false
			return false
		}
		next = l.N + 1
		if slices.ContainsFunc(l.Blobs, func(ref extent.BlobRef) bool { return moved[ref.ID] }) {
			some = append(some, l.N)
		}
		return true
	})
	if err != nil {
		return 0, false, err
	}
	for _, n := range some {
		v, err := tx.Version(r.id, n)
		if err != nil {
			return 0, false, missing(err)
		}
		now := relayout(&v.Layout, r.to, func(i int) (uint64, bool) {
			e := v.Layout.Extents[i]
			id := v.Layout.Blobs[e.Blob].ID
			if !moved[id] {
				return 0, false
			}
			return live[id].find(e.BlobOff, e.Len)
		})
		if _, err := tx.Relayout(r.id, n, &v.Layout, now); err != nil {
			return 0, false, err
		}
	}
	return next, last, nil
}
