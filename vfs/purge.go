package vfs

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"

	"sallyport/vfs/meta"
)

// purgePage is how many records of the time index are looked at in one view.
const purgePage = 512

// Superseded is a name that was removed, replaced or renamed away, or a version that another took the place of or
// that was never current (an interrupted overwrite).
type Superseded struct {
	Inode   uint64
	Version uint64 // 0 = a name
	// Path as its directories are named now, or were last. It begins without a slash below a directory that is purged already.
	Path  string
	At    time.Time // since when; the server's instants, which a client cannot set
	Bytes uint64    // size of the version; of a name: of what goes with it
	Dir   bool      // the name of a directory, or a version of its attributes
	Held  bool      // on hold: no purge takes it
}

// PurgePlan is what a purge would destroy. It holds totals and no list: its items are read from the time index
// again when they are wanted, so that a plan of a million items is small.
type PurgePlan struct {
	Names, Versions uint64    // of a removed file, its current version is not counted: it goes with the last of the others
	Bytes           uint64    // logical sizes; that of a removed file's current version with its last name
	Stored          uint64    // bytes that would not be stored any more; of what other versions share, none
	Least           bool      // Stored is of the oldest 1,048,576 items alone, or of those for which there was time, and all of them free no less
	Kept            uint64    // items that were looked at and stay
	Oldest, Newest  time.Time // of what goes; zero if nothing does

	// Pace is called after each transaction of at most 500 items with their number, to limit the rate; an error ends Execute.
	// nil = no limit.
	Pace func(ctx context.Context, items int) error

	v       *Volume
	expired func(Superseded) bool
	any     bool   // expired admits everything
	below   string // only what is, or ever was, at and below this path; "" = everything
	most    uint64 // items; Execute ends after them. 0 = all
	still   func() error
	until   int64 // instants below this one only: what was superseded after the plan was made is not part of it
	result  PurgeReceipt
}

// PurgeReceipt is what one transaction of a purge, or all of them, destroyed.
type PurgeReceipt struct {
	Names, Versions, Inodes, Blobs uint64
	Bytes                          uint64    // logical sizes of the versions
	Stored                         uint64    // bytes that are not stored any more
	Busy                           uint64    // items left for another time: somebody is writing the file
	Oldest, Newest                 time.Time // instants of the items
	At                             time.Time
}

func (r *PurgeReceipt) add(o *PurgeReceipt) {
	r.Names, r.Versions, r.Inodes, r.Blobs = r.Names+o.Names, r.Versions+o.Versions, r.Inodes+o.Inodes, r.Blobs+o.Blobs
	r.Bytes, r.Stored, r.Busy = r.Bytes+o.Bytes, r.Stored+o.Stored, r.Busy+o.Busy
	r.Oldest, r.Newest = span(r.Oldest, r.Newest, o.Oldest)
	r.Oldest, r.Newest = span(r.Oldest, r.Newest, o.Newest)
	r.At = o.At
}

// span widens a span of time; zero times are none.
func span(from, to, at time.Time) (time.Time, time.Time) {
	if at.IsZero() {
		return from, to
	}
	if from.IsZero() || at.Before(from) {
		from = at
	}
	if at.After(to) {
		to = at
	}
	return from, to
}

// PlanPurge finds what a purge of all that expired admits would destroy. Nothing is changed. expired must answer alike each time
// it is asked (a fixed now), and must not call the volume.
func (v *Volume) PlanPurge(ctx context.Context, expired func(Superseded) bool) (*PurgePlan, error) {
	return v.PlanPurgeBefore(ctx, time.Unix(0, math.MaxInt64), expired)
}

// PlanPurgeBefore is PlanPurge for what was superseded before an instant. It reads nothing that is younger.
func (v *Volume) PlanPurgeBefore(ctx context.Context, before time.Time, expired func(Superseded) bool) (*PurgePlan, error) {
	return v.planPurge(ctx, &PurgePlan{v: v, expired: expired, until: nanos(before)})
}

// PlanPurgeBelow is PlanPurgeBefore for everything that is, or ever was, at and below a path, wherever it was moved since: what SupersededBelow tells.
func (v *Volume) PlanPurgeBelow(ctx context.Context, name string, before time.Time) (*PurgePlan, error) {
	return v.planPurge(ctx, &PurgePlan{v: v, below: name, expired: func(Superseded) bool { return true }, until: nanos(before)})
}

func (v *Volume) planPurge(ctx context.Context, p *PurgePlan) (*PurgePlan, error) {
	w := weight{most: mostWeighed}
	err := v.do(ctx, func(c *core) error {
		err := c.db.View(func(tx *meta.Tx) error { p.until = min(p.until, tx.Stats().LastInstant+1); return nil })
		if err != nil {
			return err
		}
		err = p.history(ctx, c, func(batch []past) error {
			for i := range batch {
				s := &batch[i].Superseded
				if s.Held || !p.expired(*s) {
					p.Kept++
					continue
				}
				w.add(s)
				if s.Version == 0 {
					p.Names++
				} else {
					p.Versions++
				}
				p.Bytes += s.Bytes
				p.Oldest, p.Newest = span(p.Oldest, p.Newest, s.At)
			}
			return nil
		})
		if err == nil {
			err = p.weigh(ctx, c, &w)
		}
		return err
	})
	if err != nil {
		return nil, spoken(err)
	}
	return p, nil
}

// spoken passes the errors of a caller's functions and contexts, and hides what lower layers say.
func spoken(err error) error {
	var own *paceError
	if errors.As(err, &own) {
		return own.err
	}
	return public(err)
}

// errEnough ends a purge that has taken as much as it may at once.
var errEnough = errors.New("enough")

type paceError struct{ err error }

func (e *paceError) Error() string { return e.err.Error() }

// by is how the plan finds what it destroys: what is left of the time of a plan that chooses is not whole, and nobody can tell what is missing.
func (p *PurgePlan) by() meta.PurgeBy {
	if p.any {
		return meta.ByClock
	}
	return meta.ByChoice
}

// Items yields what the plan would destroy, oldest first.
func (p *PurgePlan) Items(ctx context.Context) iter.Seq2[Superseded, error] {
	return func(yield func(Superseded, error) bool) {
		stop := errors.New("enough")
		err := p.v.do(ctx, func(c *core) error {
			return p.history(ctx, c, func(batch []past) error {
				for i := range batch {
					if s := batch[i].Superseded; !s.Held && p.expired(s) && !yield(s, nil) {
						return stop
					}
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, stop) {
			yield(Superseded{}, public(err))
		}
	}
}

// Result is what Execute has destroyed so far. Not to be called while it runs.
func (p *PurgePlan) Result() PurgeReceipt { return p.result }

// Execute destroys what the plan found, the oldest 50,000 items first, or less: what was restored, renamed to where it may stay, or is
// being written (Busy) meanwhile stays. First the records and wrapped keys go, in transactions of at most 500
// items, each with the audit event that emit makes of its receipt (nil = none); then the files of the blobs. A crash or an
// error leaves a volume in which some is gone and the rest is not; a new plan goes on. One Execute of a volume runs at a time.
func (p *PurgePlan) Execute(ctx context.Context, emit func(PurgeReceipt) []byte) error {
	unlock, err := p.v.tidy(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = p.v.do(ctx, func(c *core) error { return p.execute(ctx, c, emit) })
	return spoken(err)
}

func (p *PurgePlan) execute(ctx context.Context, c *core, emit func(PurgeReceipt) []byte) error {
	h, passed, err := c.held(ctx)
	if err != nil {
		return err
	}
	if h != nil && h.all {
		return c.removeDoomed(ctx)
	}
	if c.usages == nil {
		c.usages = meta.NewUsages()
	}
	only, err := p.only(ctx, c)
	if err != nil {
		return err
	}
	e := purge{plan: p, c: c, emit: emit, held: h, only: only, known: c.usages}
	look := describing(h, only)
	if h == nil && p.any {
		look = undescribed
	}
	err = c.itemsFrom(ctx, passed, p.until, purgePage, look, func(batch []past) error { return e.take(ctx, batch) })
	if err == nil {
		err = e.flush(ctx)
	}
	if err == nil && len(e.leading) > 0 {
		if err = only.order(ctx, c, e.leading); err == nil {
			e.gathered = e.leading
			err = e.flush(ctx)
		}
	}
	if err == nil {
		c.usages = nil // who had enough comes again
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return c.removeDoomed(ctx)
}

// only is what the plan is bounded to; nil = nothing.
func (p *PurgePlan) only(ctx context.Context, c *core) (*ever, error) {
	if p.below == "" {
		return nil, nil
	}
	return c.everAt(ctx, p.below)
}

// history hands out what the plan is asked about, oldest first.
func (p *PurgePlan) history(ctx context.Context, c *core, fn func(page []past) error) error {
	only, err := p.only(ctx, c)
	if err != nil {
		return err
	}
	return c.history(ctx, p.until, purgePage, only, fn)
}

// tidy makes the caller the only housekeeper of the volume.
func (v *Volume) tidy(ctx context.Context) (unlock func(), err error) {
	select {
	case v.tidying <- struct{}{}:
		return func() { <-v.tidying }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// purge is a PurgePlan at work.
type purge struct {
	plan     *PurgePlan
	c        *core
	emit     func(PurgeReceipt) []byte
	gathered []meta.Superseded // what they are called is found out again when that matters: there are many
	known    *meta.Usages
	leading  []meta.Superseded // names by which the rest is known to belong to the path: the last to go (ever.order), or who goes on after a crash would not find it
	held     *held             // as the items are judged by
	only     *ever             // nothing else is looked at; nil = everything is
	loose    bool              // something was met that is not held
}

// take gathers what has expired of a page of the time index, and purges it when there is a window full of it.
func (e *purge) take(ctx context.Context, page []past) error {
	for i := range page {
		if page[i].Held {
			continue
		}
		if e.loose = true; !e.plan.expired(page[i].Superseded) {
			continue
		}
		if item := &page[i].item; e.only != nil && item.Entry != nil && e.only.gone[item.Inode] != 0 {
			e.leading = append(e.leading, *item)
			continue
		}
		if e.gathered = append(e.gathered, page[i].item); len(e.gathered) == e.window() {
			if err := e.flush(ctx); err != nil {
				return err
			}
		}
	}
	if e.held != nil && e.only == nil && !e.loose && len(page) > 0 {
		e.c.pass(e.held, page[len(page)-1].item.At+1)
	}
	return nil
}

// purge is one transaction.
func (e *purge) purge(ctx context.Context, batch []meta.Superseded) error {
	ids := make([]meta.Inode, 0, len(batch))
	for i := range batch {
		ids = append(ids, batch[i].Inode)
	}
	var gone meta.Purged
	var receipt PurgeReceipt
	var seen int64
	e.c.vol.fs.purging.RLock()
	defer e.c.vol.fs.purging.RUnlock()
	_, err := e.c.move(ctx, ids, func(tx *meta.Tx, free map[meta.Inode]bool) (err error) {
		if e.plan.still != nil {
			if err := e.plan.still(); err != nil {
				return &paceError{err}
			}
		}
		if seen, err = e.c.unchanged(tx, e.held); err != nil {
			return err
		}
		receipt = PurgeReceipt{At: time.Unix(0, tx.Instant())}
		items := make([]meta.Superseded, 0, len(batch))
		for i := range batch {
			if !free[batch[i].Inode] {
				receipt.Busy++
				continue
			}
			items = append(items, batch[i])
			receipt.Oldest, receipt.Newest = span(receipt.Oldest, receipt.Newest, time.Unix(0, batch[i].At))
		}
		if gone, err = tx.Purge(items, e.plan.by(), e.known); err != nil {
			return err
		}
		receipt.Names, receipt.Versions, receipt.Inodes = gone.Names, gone.Versions, gone.Inodes
		receipt.Blobs, receipt.Bytes, receipt.Stored = uint64(len(gone.Blobs)), gone.Bytes, gone.Stored
		if e.emit == nil || gone.Names+gone.Versions == 0 {
			return nil
		}
		if event := e.emit(receipt); event != nil {
			return tx.Emit(event)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if e.held != nil {
		e.held.seen = seen
	}
	gone.Remember(e.known)
	e.c.vol.fs.purged.Add(gone.Names + gone.Versions)
	e.plan.result.add(&receipt)
	if e.emit != nil {
		e.c.vol.notify()
	}
	return nil
}
