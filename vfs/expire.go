package vfs

import (
	"context"
	"errors"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/meta"
)

// PurgeOptions of Purge.
type PurgeOptions struct {
	Before time.Time // what was superseded before this instant goes
	// Below leaves everything but what is, or ever was, at and below this path, wherever it was moved since: what SupersededBelow tells.
	// Empty = everything goes.
	Below string
	Most  uint64 // items, rounded up to whole transactions; 0 = all
	Pace  func(ctx context.Context, items int) error
	// Still is asked inside of each transaction, before it destroys: an error ends the purge. For who decided something that may
	// have changed since. It must be quick and not call the volume. nil = nothing changes.
	Still func() error
	// Emit makes the audit event of each transaction; nil = none.
	Emit func(PurgeReceipt) []byte
}

// Purge is PlanPurgeBefore and Execute without counting first: for who purges by the clock. What is on hold or being written
// stays.
func (v *Volume) Purge(ctx context.Context, o PurgeOptions) (PurgeReceipt, error) {
	p := &PurgePlan{v: v, any: o.Below == "", below: o.Below, expired: func(Superseded) bool { return true }, until: nanos(o.Before), most: o.Most, Pace: o.Pace, still: o.Still}
	err := p.Execute(ctx, o.Emit)
	return p.Result(), err
}

// Oldest is the instant of the oldest name or version that was superseded and is not on hold; zero if there is none.
func (v *Volume) Oldest(ctx context.Context) (time.Time, error) {
	var at time.Time
	err := v.do(ctx, func(c *core) error {
		h, passed, err := c.held(ctx)
		if err != nil || h != nil && h.all {
			return err
		}
		until := int64(0)
		if err := c.db.View(func(tx *meta.Tx) error { until = tx.Stats().LastInstant + 1; return nil }); err != nil {
			return err
		}
		size := purgePage
		if h == nil {
			size = 1
		}
		return c.historyFrom(ctx, passed, until, size, h, func(page []past) error {
			for i := range page {
				if !page[i].Held {
					at = page[i].At
					return errEnough
				}
			}
			if len(page) > 0 {
				c.pass(h, page[len(page)-1].item.At+1)
			}
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return at, public(err)
}

// Superseded hands out what was superseded from an instant on and before another, oldest first. An error of fn ends it.
func (v *Volume) Superseded(ctx context.Context, from, before time.Time, fn func(Superseded) error) error {
	err := v.do(ctx, func(c *core) error {
		h, _, err := c.held(ctx)
		if err != nil {
			return err
		}
		return c.historyFrom(ctx, max(nanos(from), 0), nanos(before), purgePage, h, func(page []past) error {
			for i := range page {
				if err := fn(page[i].Superseded); err != nil {
					return &paceError{err}
				}
			}
			return nil
		})
	})
	return spoken(err)
}

// SupersededBelow is Superseded for what is, or ever was, at and below a path, wherever it was moved since. Paths are those of
// now, or the last ones. Of what has the path now it tells former names, too, which may lie where an account has no rights: it is for operators,
// who may see all of a volume, and no session has a way to it (sessions have History, which is asked by path).
func (v *Volume) SupersededBelow(ctx context.Context, name string, from, before time.Time, fn func(Superseded) error) error {
	err := v.do(ctx, func(c *core) error {
		h, _, err := c.held(ctx)
		if err != nil {
			return err
		}
		only, err := c.everAt(ctx, name)
		if err != nil {
			return err
		}
		return c.historyOf(ctx, max(nanos(from), 0), nanos(before), purgePage, h, only, func(page []past) error {
			for i := range page {
				if err := fn(page[i].Superseded); err != nil {
					return &paceError{err}
				}
			}
			return nil
		})
	})
	return spoken(err)
}

// Peek tells how many transactions were tried in a volume since Open of the FS, and whether it is open now: what is known of a
// volume whose number has not changed is still true. It opens nothing and waits for nothing.
func (f *FS) Peek(id keyring.AccountID) (changes uint64, open bool) {
	f.mu.Lock()
	v := f.volumes[id]
	f.mu.Unlock()
	if v == nil {
		return 0, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes.Load(), v.core != nil
}

// Rest closes the volume now if nothing uses it, and not when it has been idle for a while: for who looks into very many
// volumes and will not be back soon.
func (v *Volume) Rest() {
	v.mu.Lock()
	if v.refs > 0 || len(v.views) > 0 || v.core == nil || v.turning != nil {
		v.mu.Unlock()
		return
	}
	if v.idle != nil {
		v.idle.Stop()
	}
	_ = v.turn() // everything that was committed is durable: an error of closing loses nothing
}
