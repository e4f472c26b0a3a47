package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// VerifyResult counts what was looked at, and findings.
type VerifyResult struct{ Records, Files, Versions, Blobs, Segments, Bytes, Findings uint64 }

// Verify walks everything: records, set hash, extents, every segment of every blob. It calls report for each finding, with
// a text for the operator that names inodes and blobs, never file names. The volume stays in use meanwhile. The error
// is of Verify itself; damage is a finding.
func (v *Volume) Verify(ctx context.Context, report func(finding string)) (*VerifyResult, error) {
	res, _, err := v.verify(ctx, nil, false, report)
	return res, err
}

// VerifyEnds is Verify that reads of each blob its size, its header and its last segment only.
func (v *Volume) VerifyEnds(ctx context.Context, report func(finding string)) (*VerifyResult, error) {
	res, _, err := v.verify(ctx, &pace{ends: true}, false, report)
	return res, err
}

func (v *Volume) verify(ctx context.Context, p *pace, condemn bool, report func(string)) (res *VerifyResult, condemned bool, err error) {
	res = &VerifyResult{}
	tell := func(finding string) {
		res.Findings++
		report(finding)
	}
	damaged := false
	damage := func(finding string) {
		damaged = true
		tell(finding)
	}
	err = v.do(ctx, func(c *core) error {
		for i, step := range []func() error{
			func() error { return c.db.VerifyApart(ctx, damage, tell) },
			func() error { return c.verifyBlobs(ctx, p, res, tell) },
			func() error { return c.verifyOrphans(ctx, tell) },
		} {
			err := step()
			if err != nil && !errors.Is(public(err), ErrIntegrity) {
				return err
			}
			if damaged = damaged || err != nil; err != nil && res.Findings == 0 {
				tell(err.Error())
			}
			if i == 0 && damaged && condemn {
				c.failed.Store(true)
				condemned = true
			}
		}
		return nil
	})
	if errors.Is(err, ErrIntegrity) { // too damaged to open
		tell(err.Error())
		return res, condemn, nil
	}
	if err != nil && ctx.Err() == nil {
		err = public(err)
	}
	return res, condemned, err
}

// blobPage is how many blobs' records are in memory at once: an account may have millions.
const blobPage = 1024

func (c *core) verifyBlobs(ctx context.Context, p *pace, res *VerifyResult, tell func(string)) error {
	err := c.db.View(func(tx *meta.Tx) error {
		st := tx.Stats()
		res.Records, res.Files, res.Versions = st.Records, st.Files, st.Versions
		return nil
	})
	if err != nil {
		return err
	}
	seen := 0
	page := make([]*meta.BlobKey, 0, blobPage)
	for from, more := (blob.ID{}), true; more; {
		page = page[:0]
		err := c.db.View(func(tx *meta.Tx) error {
			return tx.BlobsFrom(from, func(b *meta.BlobKey) bool {
				page = append(page, b)
				return len(page) < cap(page)
			})
		})
		seen += len(page)
		if err != nil && !errors.Is(err, meta.ErrIntegrity) {
			return err
		}
		if err != nil { // a record was damaged below the open database: the blobs before it can be read
			tell(fmt.Sprintf("only %d of the blobs were looked at: %v", seen, err))
		}
		more = err == nil && len(page) == cap(page)
		for _, b := range page {
			if err := c.verifyBlob(ctx, p, b, res, tell); err != nil {
				return err
			}
			from = b.ID
		}
		more = more && increment(&from)
	}
	return nil
}

// increment makes the next ID in order; it returns false after the last.
func increment(id *blob.ID) bool {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			return true
		}
	}
	return false
}

func (c *core) verifyBlob(ctx context.Context, p *pace, b *meta.BlobKey, res *VerifyResult, tell func(string)) error {
	ref := extent.Sealed(b.ID, b.Size)
	if b.State == meta.BlobOpen {
		var ok bool
		var err error
		if ref, ok, err = c.reliedOn(b); err != nil || !ok {
			return err // or an upload in progress that no version relies on yet
		}
	}
	if b.State == meta.BlobSealed && b.Relied > b.Size { // recovery found less of it than was committed; some version may still rely on the rest
		most, ok, err := c.reliedOn(b)
		if err != nil {
			return err
		}
		if ok && most.Bytes > b.Size {
			tell(fmt.Sprintf("blob %s, inode %d: it has %d bytes, a version relies on %d", blob.ID(b.ID), b.Inode, b.Size, most.Bytes))
		}
	}
	n, err := c.readWhole(ctx, p, ref)
	res.Bytes += n
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		res.Blobs++
		res.Segments += ref.Segments + 1
	case c.gone(b.ID):
	default:
		tell(fmt.Sprintf("blob %s, inode %d: %v after %d of %d bytes", blob.ID(b.ID), b.Inode, public(c.missing(err)), n, ref.Bytes))
	}
	return nil
}

// missing takes a blob without a file for damage.
func (c *core) missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrIntegrity
	}
	return err
}

// reliedOn is the most that any version relies on of a blob that is still open.
func (c *core) reliedOn(b *meta.BlobKey) (most extent.BlobRef, ok bool, err error) {
	if b.Inode == 0 {
		return most, false, nil
	}
	err = c.db.View(func(tx *meta.Tx) error {
		return tx.Versions(b.Inode, func(v *meta.Version) bool {
			if ref := findRef(&v.Layout, b.ID); ref != nil && ref.Bytes > most.Bytes {
				most, ok = *ref, true
			}
			return true
		})
	})
	return most, ok, err
}

// readWhole reads every segment that ref speaks of.
func (c *core) readWhole(ctx context.Context, p *pace, ref extent.BlobRef) (uint64, error) {
	l := &extent.Layout{Size: ref.Bytes, Blobs: []extent.BlobRef{ref}}
	if ref.Bytes > 0 {
		l.Extents = []extent.Extent{{Len: ref.Bytes}}
	}
	r, err := c.content.Open(ctx, l)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if p != nil && p.ends { // Open has read them
		return 0, ctx.Err()
	}
	n, err := r.CopyTo(patient{ctx, p}, 0, -1)
	return uint64(n), err
}

// patient takes everything until its context ends, at the pace that it is given.
type patient struct {
	ctx  context.Context
	pace *pace
}

func (p patient) Write(b []byte) (int, error) {
	if err := p.pace.take(p.ctx, len(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

var _ io.Writer = patient{}

// gone says whether metadata has given up the blob since.
func (c *core) gone(id blob.ID) bool {
	err := c.db.View(func(tx *meta.Tx) error { _, err := tx.Blob(id); return err })
	return errors.Is(err, fs.ErrNotExist)
}

func (c *core) verifyOrphans(ctx context.Context, tell func(string)) error {
	ids, err := c.orphans(ctx)
	for _, id := range ids {
		tell(fmt.Sprintf("blob %s has no key record: nothing can read it, and it is removed when it is %d days old", id, int(orphanGrace.Hours())/24))
	}
	return err
}
