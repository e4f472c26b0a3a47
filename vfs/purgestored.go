package vfs

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"sallyport/vfs/meta"
)

const (
	// mostWeighed is how many items of a plan are weighed for what they free, 16 bytes each while it is made.
	mostWeighed = 1 << 20
	// weighedAtOnce is how many of them are weighed in one view.
	weighedAtOnce = 512
)

// weighed is an item of a plan: a version, or a name of it (0).
type weighed struct {
	inode   meta.Inode
	version uint64
}

// weight finds out what a plan frees. Sizes do not tell: versions of a file share stored bytes with each other and with the live one.
type weight struct {
	items []weighed
	most  int
	over  bool
}

func (w *weight) add(s *Superseded) {
	switch {
	case s.Dir: // nothing of it is counted
	case len(w.items) == w.most:
		w.over = true
	default:
		w.items = append(w.items, weighed{meta.Inode(s.Inode), s.Version})
	}
}

// weigh says what the plan frees. That there was no time for all of it must not hide what is destroyed, which is counted by then.
func (p *PurgePlan) weigh(ctx context.Context, c *core, w *weight) (err error) {
	p.Stored, err = w.total(ctx, c)
	late := errors.Is(err, context.DeadlineExceeded)
	if p.Least = w.over || late; late {
		return nil
	}
	return err
}

// total takes the items of a file together. What is purged or changed meanwhile may be counted as it was or as it is.
func (w *weight) total(ctx context.Context, c *core) (bytes uint64, err error) {
	slices.SortFunc(w.items, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(a.inode, b.inode), cmp.Compare(a.version, b.version))
	})
	var versions []uint64
	for rest := w.items; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return bytes, err
		}
		err := c.db.View(func(tx *meta.Tx) error {
			for n := 0; n < weighedAtOnce && len(rest) > 0; {
				id, names := rest[0].inode, uint64(0)
				versions = versions[:0]
				for ; len(rest) > 0 && rest[0].inode == id; rest, n = rest[1:], n+1 {
					if v := rest[0].version; v == 0 {
						names++
					} else {
						versions = append(versions, v)
					}
				}
				freed, err := tx.Frees(id, versions, names)
				if err != nil {
					return err
				}
				bytes += freed
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return bytes, nil
}
