package vfs

import (
	"context"
	"slices"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// When a file is folded: it lies in many short extents, or in many blobs.
const (
	foldExtents = 4096
	foldMean    = 64 << 10 // bytes
	foldBlobs   = 64
	// foldLong is an extent that reads well where it is, bytes.
	foldLong = 1 << 20
	// foldBack is how many versions before the current one are folded with it, if they have the same bytes.
	foldBack = 64
	// foldMultiple bounds the copying: never more than so many times the bytes that do not lie in the file's largest blob,
	// that is, roughly, what was written since it was uploaded or folded last.
	foldMultiple = 32
)

// worthFolding is a first look that needs no extents.
func worthFolding(v *meta.Located) bool { return v.Extents > foldExtents || len(v.Blobs) > foldBlobs }

// foldPlan says which extents of a layout to copy into one blob; nil = it is good as it is. all: whatever is in pieces, at any cost.
func foldPlan(l *extent.Layout, all bool) []bool {
	used := make([]uint64, len(l.Blobs))
	total, n, largest := uint64(0), uint64(0), 0
	for _, e := range l.Extents {
		if e.Blob == extent.Inline {
			continue
		}
		total, n = total+e.Len, n+1
		if used[e.Blob] += e.Len; used[e.Blob] > used[largest] {
			largest = int(e.Blob)
		}
	}
	fragmented := n > foldExtents && total/n < foldMean
	scattered := len(l.Blobs) > foldBlobs
	if all {
		fragmented, scattered = n > 1, len(l.Blobs) > 1
	}
	if !fragmented && !scattered {
		return nil
	}
	plan := make([]bool, len(l.Extents))
	cost, runs := uint64(0), uint64(0)
	stay := map[uint32]bool{}
	for i, e := range l.Extents {
		if e.Blob == extent.Inline {
			continue
		}
		plan[i] = all || fragmented && e.Len < foldLong || scattered && e.Blob != uint32(largest)
		if !plan[i] {
			stay[e.Blob] = true
			runs++
			continue
		}
		cost += e.Len
		if i == 0 || !plan[i-1] || l.Extents[i-1].End() != e.Off {
			runs++
		}
	}
	better := fragmented && runs <= n/2 || scattered && len(stay)+1 <= len(l.Blobs)/2
	if all && (runs < n || len(l.Blobs) > 1) {
		return plan
	}
	if !better || cost > foldMultiple*(total-used[largest]) {
		return nil
	}
	return plan
}

// fold copies what lies in pieces of the current version of a file into one blob. The version stays the same one, with its
// number and times: only where its bytes lie changes. A writer who comes in between wins, and the copy is thrown away. It returns the bytes copied.
func (c *core) fold(ctx context.Context, id meta.Inode, all bool) (copied uint64, done bool, err error) {
	r := relocation{c: c, id: id}
	var v *meta.Version
	var now *extent.Layout
	var plan []bool
	var refs []extent.BlobRef
	err = c.db.View(func(tx *meta.Tx) error {
		n, err := tx.Node(id)
		if err != nil || n.Kind != meta.File || n.Version == 0 || c.pins.pinned(id) {
			return absentIsFine(err)
		}
		if v, err = tx.Version(id, n.Version); err != nil {
			return missing(err)
		}
		if plan = foldPlan(&v.Layout, all); plan == nil {
			return nil
		}
		var ok bool
		if refs, ok, err = sealedRefs(tx, v.Layout.Blobs); err != nil || !ok {
			plan = nil
			return err
		}
		at := make([]uint64, len(plan))
		for i, e := range v.Layout.Extents {
			if plan[i] {
				at[i] = r.add(refs[e.Blob], e.BlobOff, e.Len)
			}
		}
		now = relayout(&v.Layout, extent.BlobRef{}, func(i int) (uint64, bool) { return at[i], plan[i] })
		return nil
	})
	if err != nil || plan == nil {
		return 0, false, err
	}
	if err := r.copy(ctx); err != nil {
		return 0, false, err
	}
	for i := range now.Blobs {
		if now.Blobs[i].ID == ([16]byte{}) {
			now.Blobs[i] = r.to
		}
	}
	_, err = c.move(ctx, []meta.Inode{id}, func(tx *meta.Tx, free map[meta.Inode]bool) error {
		done = false
		n, err := tx.Node(id)
		if err != nil || !free[id] || n.Version != v.N {
			return absentIsFine(err)
		}
		if done, err = tx.Relayout(id, v.N, &v.Layout, now); err != nil || !done {
			return err
		}
		// Those before it of which only times or mode were changed: they would keep the old blobs, and look like other bytes.
		for i, same := uint64(1), true; same && i <= min(foldBack, v.N-1); i++ {
			if same, err = tx.Relayout(id, v.N-i, &v.Layout, now); err != nil {
				return err
			}
		}
		if err := r.seal(tx); err != nil {
			return err
		}
		doomed, err := tx.Release(id, ids(v.Layout.Blobs))
		for i, ref := range refs {
			if slices.Contains(doomed, ref.ID) {
				tx.AwaitShred(ref.Bytes - min(v.Layout.Used(i), ref.Bytes))
			}
		}
		return err
	})
	if err != nil || !done {
		r.discard(ctx)
		return r.from.Size, false, err
	}
	return r.from.Size, true, c.removeDoomed(ctx)
}
