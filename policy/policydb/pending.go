package policydb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/policy"
)

var (
	// ErrPending: a change waits for its confirmation, and another one on top of it could not be taken back with it.
	ErrPending = errors.New("policydb: a change waits for its confirmation")
	// ErrNotPending: there is nothing to confirm.
	ErrNotPending = errors.New("policydb: no change waits for a confirmation")
)

// Pending is a change that goes back by itself unless it is confirmed in time, also over a restart.
type Pending struct {
	Revision uint64    `json:"revision"` // that waits
	Back     uint64    `json:"back"`     // what it goes back to
	Until    time.Time `json:"until"`
	Who      string    `json:"who"`
}

var pendingKey = []byte{'c'}

// Pending change, nil if there is none.
func (db *DB) Pending() (p *Pending, err error) {
	err = db.view(func(t *tx) error { p, err = t.pending(); return err })
	return p, err
}

func (t *tx) pending() (*Pending, error) {
	plain, err := t.get(pendingKey)
	if err != nil || plain == nil {
		return nil, err
	}
	return decode[Pending](plain)
}

// free says whether a new revision may be made.
func (t *tx) free() error {
	p, err := t.pending()
	if err != nil {
		return err
	}
	if p != nil {
		return fmt.Errorf("%w: revision %d of %s, until %s", ErrPending, p.Revision, p.Who, p.Until.Format(time.RFC3339))
	}
	return nil
}

// Confirm keeps the change that waits, durably. Whoever confirms says which revision is meant: the one looked at may have gone
// back meanwhile, and what waits now is somebody else's. Then ErrConflict.
func (db *DB) Confirm(ctx context.Context, revision uint64) (p *Pending, err error) {
	err = db.change(ctx, func(t *tx) error {
		if p, err = t.pending(); err != nil {
			return err
		}
		if p == nil {
			return ErrNotPending
		}
		if p.Revision != revision {
			return fmt.Errorf("%w: revision %d of %s waits for a confirmation, not %d", ErrConflict, p.Revision, p.Who, revision)
		}
		return t.remove(pendingKey)
	}, func() {})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Rollback makes a new revision with the document of an earlier one; a change that waits for its confirmation is given up
// with it. base is the current revision, or ErrConflict.
func (db *DB) Rollback(ctx context.Context, to, base uint64, who, why string) (*policy.Revision, error) {
	return db.rollback(ctx, func(t *tx) (uint64, string, string, error) {
		if base != t.h.Revision {
			return 0, "", "", fmt.Errorf("%w: it is at revision %d, not %d", ErrConflict, t.h.Revision, base)
		}
		return to, who, why, nil
	})
}

// Automatic is who makes the revisions that nobody made.
const Automatic = "sallyport"

// errEarly: the confirmation has time yet, or came.
var errEarly = errors.New("policydb: not due")

// expire takes back the change that waits, if its time is over.
func (db *DB) expire() (*policy.Revision, error) {
	return db.rollback(context.Background(), func(t *tx) (uint64, string, string, error) {
		p, err := t.pending()
		if err != nil {
			return 0, "", "", err
		}
		if p == nil || db.o.Now().Before(p.Until) {
			return 0, "", "", errEarly
		}
		return p.Back, Automatic, fmt.Sprintf("revision %d was not confirmed until %s", p.Revision, p.Until.Format(time.RFC3339)), nil
	})
}

func (db *DB) rollback(ctx context.Context, which func(*tx) (to uint64, who, why string, err error)) (*policy.Revision, error) {
	var r *policy.Revision
	err := db.change(ctx, func(t *tx) error {
		to, who, why, err := which(t)
		if err != nil {
			return err
		}
		old, err := t.revision(to)
		if err != nil {
			return err
		}
		if err := t.remove(pendingKey); err != nil {
			return err
		}
		r, err = t.putRevision(old.Document, who, why)
		return err
	}, func() { db.current.Store(r) })
	if err != nil {
		return nil, err
	}
	db.tellChange(r)
	return r, nil
}

// OnRollback has fn called after each automatic rollback; also of one that Open made, because its time was over before.
func (db *DB) OnRollback(fn func(*policy.Revision)) {
	db.mu.Lock()
	db.onRollback = append(db.onRollback, fn)
	missed := db.missed
	db.missed = nil
	db.mu.Unlock()
	if missed != nil {
		fn(missed)
	}
}

// arm sets the timer for a change that waits. The timer is stopped by Close, which waits for what it started.
func (db *DB) arm(p *Pending) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.timer != nil && db.timer.Stop() {
		db.timing.Done()
	}
	if db.disarmed {
		return
	}
	db.timing.Add(1)
	db.timer = time.AfterFunc(max(p.Until.Sub(db.o.Now()), 0), func() {
		defer db.timing.Done()
		db.due()
	})
}

// due is the end of the time for a confirmation.
func (db *DB) due() {
	r, err := db.expire()
	switch {
	case errors.Is(err, errEarly): // confirmed meanwhile, or the clock was set back
		if p, err := db.Pending(); err == nil && p != nil {
			db.arm(p)
		}
		return
	case err != nil: // a failed commit: nothing is written until the file is reopened, and opening it rolls back
		return
	}
	db.mu.Lock()
	fns := db.onRollback
	db.mu.Unlock()
	for _, fn := range fns {
		fn(r)
	}
}

// disarm ends the timer and waits for a rollback under way.
func (db *DB) disarm() {
	db.mu.Lock()
	db.disarmed = true
	if db.timer != nil && db.timer.Stop() {
		db.timing.Done()
	}
	db.timer = nil
	db.mu.Unlock()
	db.timing.Wait()
}
