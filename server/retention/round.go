package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

const (
	// retryBusy is when a file that somebody was writing is tried again; retryMost bounds the wait after failures in a row.
	retryBusy, retryMost = 20 * time.Second, time.Hour
)

// round does everything that is due, in slices.
func (k *Keeper) round(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		if err := k.refresh(); err != nil { // each time: a round may take hours, and the policy may have changed
			k.o.Log.Error("retention: reading the accounts", "error", err)
			return
		}
		list := k.choose(first)
		if len(list) == 0 {
			break
		}
		work := make(chan *account)
		var wg sync.WaitGroup
		for range min(k.o.Workers, len(list)) {
			wg.Go(func() {
				for a := range work {
					k.visit(ctx, a)
				}
			})
		}
		for _, a := range list {
			work <- a
		}
		close(work)
		wg.Wait()
	}
	k.mu.Lock()
	k.stats.LastRound = k.o.Clock.Now()
	k.mu.Unlock()
}

// refresh brings accounts and policy up to date.
func (k *Keeper) refresh() error {
	k.mu.Lock()
	listed := k.listed
	k.listed = true
	k.mu.Unlock()
	if !listed {
		if err := k.list(); err != nil {
			k.mu.Lock()
			k.listed = false
			k.mu.Unlock()
			return err
		}
	}
	r := k.o.Policy.Current()
	k.mu.Lock()
	defer k.mu.Unlock()
	if listed && k.revision == r {
		return nil
	}
	k.revision = r
	for _, a := range k.accounts {
		a.backup = r.Resolve(a.name).Backup
	}
	return nil
}

func (k *Keeper) list() error {
	list, err := k.o.Policy.Accounts()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	there := make(map[keyring.AccountID]bool, len(list))
	for _, p := range list {
		there[p.ID] = true
		if a := k.accounts[p.ID]; a != nil {
			a.name = p.Name
		} else {
			k.accounts[p.ID] = &account{id: p.ID, name: p.Name}
		}
	}
	for id := range k.accounts {
		if !there[id] {
			delete(k.accounts, id)
		}
	}
	return nil
}

// choose takes the accounts that have something to do now, those that waited longest first.
func (k *Keeper) choose(first bool) []*account {
	now := k.o.Clock.Now()
	type candidate struct {
		a   *account
		due time.Time
	}
	var list []candidate
	k.mu.Lock()
	defer k.mu.Unlock()
	looks := 0
	for _, a := range k.accounts {
		if a.busy || now.Before(a.retry) || a.backup.Kept() == policy.Forever {
			continue
		}
		if a.known && a.oldest.IsZero() {
			// Once a round: a volume that is written all the time would be looked into all the time.
			if n, _ := k.o.Volumes.Peek(a.id); first && n != a.changes {
				a.known = false // there may be something now
				list = append(list, candidate{a, now})
			}
			continue
		}
		if !a.known {
			if a.stale || k.hurry || first && looks < k.o.Looks {
				looks++
				list = append(list, candidate{a, now})
			}
			continue
		}
		if due, ok := k.due(a); ok && !now.Before(due) {
			list = append(list, candidate{a, due})
		}
	}
	if first {
		k.hurry = false
	}
	slices.SortFunc(list, func(x, y candidate) int {
		return cmp.Or(x.due.Compare(y.due), slices.Compare(x.a.id[:], y.a.id[:]))
	})
	out := make([]*account, 0, len(list))
	for _, c := range list {
		c.a.busy = true
		out = append(out, c.a)
	}
	return out
}

// visit looks into one account and takes a slice of what is due.
func (k *Keeper) visit(ctx context.Context, a *account) {
	k.mu.Lock()
	name, backup, rev := a.name, a.backup, k.revision
	a.stale = false
	k.mu.Unlock()
	found, err := k.work(ctx, a.id, name, backup, rev)

	k.mu.Lock()
	defer k.mu.Unlock()
	a.busy = false
	k.stats.Purged += found.receipt.Names + found.receipt.Versions
	k.stats.Bytes += found.receipt.Bytes
	k.stats.Busy += found.receipt.Busy
	now := k.o.Clock.Now()
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, keyring.ErrNoAccount):
		a.known, a.oldest, a.changes = true, time.Time{}, 0 // just made, or about to go
		return
	case errors.Is(err, vfs.ErrBusy): // the holds were changed
		a.known = false
		return
	case errors.Is(err, ErrKeepsMore):
		return
	case err != nil:
		a.fails++
		a.retry = now.Add(min(k.o.Every<<min(a.fails, 10), retryMost))
		k.stats.Failures++
		k.o.Log.Warn("retention: an account is tried again later", "account", a.id.String(), "at", a.retry, "error", err)
		return
	}
	a.fails = 0
	if !a.stale {
		a.known, a.oldest, a.changes = true, found.oldest, found.changes
	}
	if due, ok := k.due(a); ok && !now.Before(due) && found.tried && found.receipt.Names+found.receipt.Versions == 0 {
		a.retry = now.Add(retryBusy) // being written, or a directory that something is left in
	}
}

// finding is what a visit learned and did.
type finding struct {
	oldest  time.Time
	changes uint64
	tried   bool
	receipt vfs.PurgeReceipt
}

func (k *Keeper) work(ctx context.Context, id keyring.AccountID, name string, b policy.Backup, rev *policy.Revision) (f finding, err error) {
	_, open := k.o.Volumes.Peek(id)
	v, err := k.o.Volumes.Volume(ctx, id)
	if err != nil {
		return f, err
	}
	if !open {
		defer v.Rest()
	}
	if err := k.look(ctx, v, &f); err != nil {
		return f, err
	}
	now := k.o.Clock.Now()
	due, ok := b.Expiry(k.o.Clock.Settled(f.oldest))
	if f.oldest.IsZero() || !ok || now.Before(due) {
		return f, nil
	}
	f.tried = true
	f.receipt, err = v.Purge(ctx, vfs.PurgeOptions{
		Before: k.o.Clock.Before(b.Kept()).Add(1), // what is exactly as old goes, too
		Most:   k.o.Slice, Pace: k.limit.pace, Still: Still(k.o.Policy, name, rev),
		Emit: func(r vfs.PurgeReceipt) []byte {
			detail := fmt.Sprintf("superseded from %s to %s", stamp(r.Oldest), stamp(r.Newest))
			return Event(id, r, "", detail, rev.N).Encode()
		},
	})
	if err != nil {
		return f, err
	}
	return f, k.look(ctx, v, &f)
}

// ErrKeepsMore ends a purge when the policy has come to keep longer what it destroys.
var ErrKeepsMore = errors.New("retention: the policy keeps more than when the purge began")

// Still is for vfs.PurgeOptions: what a purge was allowed under a revision must be so in each of its transactions. A change of the
// policy that was answered before one of them begins is in force for it.
func Still(db *policydb.DB, account string, was *policy.Revision) func() error {
	kept := was.Resolve(account).Backup.Kept()
	return func() error {
		now := db.Current()
		if now == was {
			return nil
		}
		if now.Resolve(account).Backup.Kept() > kept {
			return ErrKeepsMore
		}
		was = now
		return nil
	}
}

// look finds what is oldest. The number of changes is read before: one that is made meanwhile is seen at the next round.
func (k *Keeper) look(ctx context.Context, v *vfs.Volume, f *finding) (err error) {
	f.changes, _ = k.o.Volumes.Peek(v.ID())
	f.oldest, err = v.Oldest(ctx)
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// limiter spreads items over time: those of all accounts together.
type limiter struct {
	rate int // items per second; 0 = no limit

	mu   sync.Mutex
	next time.Time // when the next item may go; real time, not the injected clock
}

func (l *limiter) pace(ctx context.Context, items int) error {
	if l.rate <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	l.next = l.next.Add(time.Duration(items) * time.Second / time.Duration(l.rate))
	wait := time.NewTimer(l.next.Sub(now))
	l.mu.Unlock()
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Event is the audit record of one transaction of a purge.
func Event(id keyring.AccountID, r vfs.PurgeReceipt, who, detail string, revision uint64) audit.Event {
	return audit.Event{Time: r.At, Action: audit.Purge, Account: audit.ID(id), Who: who, Count: r.Names + r.Versions, Bytes: r.Bytes, Revision: revision, Detail: detail,
		Origin: fmt.Sprintf("purge:%x:%d", id[:], r.At.UnixNano())}
}
