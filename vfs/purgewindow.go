package vfs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"

	"sallyport/vfs/meta"
)

const (
	// purgeWindow is how many items of the time index are gathered and put in order before they are purged. What remains of a file is read once
	// (meta.Usages), or once for each window that has versions of it. An item takes about 50 bytes, and a name what it is long.
	purgeWindow = 50_000
	// purgeBatch is how many of them one transaction purges: it is what others wait for at most.
	purgeBatch = 500
	// purgeLeast is the smallest batch that is tried on a full disk, where a small transaction may still find room.
	purgeLeast = 8
)

// window is how many items are gathered: no more than shall go.
func (e *purge) window() int {
	if e.plan.most > 0 && e.plan.most < purgeWindow {
		return int(e.plan.most)
	}
	return purgeWindow
}

// byInode brings the versions of an inode together, and lets the names follow in the order of time: a directory's name can go
// only after those in it. In the order of time alone each transaction would have versions of as many files as it has items where
// many files are overwritten in turns, and would read for each of them all versions that remain.
func byInode(window []meta.Superseded) {
	slices.SortStableFunc(window, func(a, b meta.Superseded) int {
		switch {
		case a.Version == 0 && b.Version == 0:
			return 0
		case a.Version == 0:
			return 1
		case b.Version == 0:
			return -1
		}
		return cmp.Compare(a.Inode, b.Inode)
	})
}

// flush purges what was gathered.
func (e *purge) flush(ctx context.Context) error {
	window, full := e.gathered, min(purgeBatch, e.window())
	e.gathered = e.gathered[:0]
	byInode(window)
	for size := full; len(window) > 0; {
		some := window[:min(size, len(window))]
		rest := window[len(some):]
		err := e.purgeSome(ctx, some)
		if errors.Is(err, syscall.ENOSPC) && !e.c.failed.Load() && len(some) > purgeLeast {
			size = max(len(some)/4, purgeLeast)
			continue
		}
		if err != nil {
			return err
		}
		window, size = rest, min(2*size, full)
		if e.plan.Pace != nil {
			if err := e.plan.Pace(ctx, len(some)); err != nil {
				return &paceError{err}
			}
		}
		if r := &e.plan.result; e.plan.most > 0 && r.Names+r.Versions >= e.plan.most {
			return errEnough
		}
	}
	return nil
}

func (e *purge) purgeSome(ctx context.Context, some []meta.Superseded) error {
	some, err := e.again(some)
	if err != nil || len(some) == 0 {
		return err
	}
	return e.purge(ctx, some)
}

// again drops what may stay by now: while the transactions before this one were paced, it can have been renamed to a place that
// is on hold, or that the plan does not ask for.
func (e *purge) again(some []meta.Superseded) (still []meta.Superseded, err error) {
	if e.held == nil && e.plan.any {
		return some, nil
	}
	err = e.c.db.View(func(tx *meta.Tx) error {
		w := newWay(tx, e.held)
		for i := range some {
			p, err := describe(tx, w, some[i])
			if err != nil {
				return err
			}
			if !p.Held && e.plan.expired(p.Superseded) {
				still = append(still, some[i])
			}
		}
		return nil
	})
	return still, err
}
