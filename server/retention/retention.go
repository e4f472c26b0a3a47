// Package retention destroys what accounts replaced and deleted when policy lets it go: retention and grace are over, backup.purge
// is not never, and nothing is on hold.
//
// It knows of each account the instant of the oldest thing that could go, so that it opens a volume only when something in it is
// due, or when something may have been superseded in one that had nothing. A change of the policy makes it look at all of
// them again, without opening any. The server's own time alone decides (package clock: not
// every clock is believed); what clients say of times plays no part.
//
// A purge is cut into slices, and accounts take turns, so that one with a million versions does not keep others waiting. Each
// transaction carries its audit event. A crash or a stop leaves a rest that is still due at the next start.
package retention

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/clock"
	"sallyport/vfs"
)

// Options of Start. Zero values mean defaults.
type Options struct {
	Policy  *policydb.DB
	Volumes *vfs.FS
	Log     *slog.Logger  // nil = nowhere
	Clock   *clock.Clock  // nil = the system's
	Every   time.Duration // between two rounds; 0 = 10 s
	Rate    int           // items per second, all accounts together; 0 = no limit
	Workers int           // accounts at once; 0 = 4
	Slice   uint64        // items of one account before it is another's turn; 0 = 50,000: a purge puts so many in order at once
	// Looks is how many accounts of which nothing is known yet are looked into in one round, to spread what a start costs; 0 = 1000.
	// All of them are when the policy has changed.
	Looks int
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.Slice == 0 {
		o.Slice = 50_000
	}
	if o.Looks == 0 {
		o.Looks = 1000
	}
}

// Keeper owns the goroutine that purges. Safe for concurrent use.
type Keeper struct {
	o     Options
	wake  chan struct{} // capacity 1
	stop  context.CancelFunc
	done  chan struct{}
	limit limiter

	mu       sync.Mutex // guards all below; never held over I/O
	accounts map[keyring.AccountID]*account
	listed   bool // accounts are those of Policy
	revision *policy.Revision
	hurry    bool // the policy has changed: no account waits to be looked at
	stats    Stats
}

// account is what is known of one. Whoever works on it has busy set; the others leave it alone.
type account struct {
	id     keyring.AccountID
	name   string
	backup policy.Backup
	busy   bool

	known   bool      // what follows is
	oldest  time.Time // of what could go; zero = there is nothing
	changes uint64    // of the volume when that was found
	stale   bool      // somebody has changed the holds meanwhile

	retry time.Time // not before
	fails int       // in a row
}

// Stats are for metrics.
type Stats struct {
	Accounts  int           // that are watched
	Unknown   int           // of them, not looked into yet
	Due       int           // in which something could go and has not yet
	Overdue   time.Duration // of what has been due for the longest
	Purged    uint64        // names and versions since the start
	Bytes     uint64        // of them
	Busy      uint64        // items that had to wait because somebody was writing the file
	Failures  uint64
	LastRound time.Time
}

// Start starts the goroutine; Close ends it.
func Start(o Options) *Keeper {
	o.defaults()
	ctx, cancel := context.WithCancel(context.Background())
	k := &Keeper{o: o, wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{}), limit: limiter{rate: o.Rate}, accounts: map[keyring.AccountID]*account{}}
	o.Policy.OnChange(func(*policy.Revision) { k.nudge(func() { k.hurry = true }) })
	o.Policy.OnAccount(k.told)
	go k.run(ctx)
	return k
}

// Close cuts off what is under way; the next start goes on.
func (k *Keeper) Close() error {
	k.stop()
	<-k.done
	return nil
}

// told is policydb's OnAccount. It also comes with every change of a credential.
func (k *Keeper) told(p *policydb.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.Removed {
		delete(k.accounts, p.ID)
	} else if k.accounts[p.ID] == nil {
		k.accounts[p.ID] = &account{id: p.ID, name: p.Name, backup: k.o.Policy.Current().Resolve(p.Name).Backup}
	}
}

// HoldsChanged has an account looked into again: a release may let something go that was passed over.
func (k *Keeper) HoldsChanged(id keyring.AccountID) {
	k.nudge(func() {
		if a := k.accounts[id]; a != nil {
			a.known, a.stale, a.retry = false, true, time.Time{}
		}
	})
}

// Stats is a snapshot.
func (k *Keeper) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Accounts = len(k.accounts)
	now := k.o.Clock.Now()
	for _, a := range k.accounts {
		if !a.known {
			s.Unknown++
		} else if due, ok := k.due(a); ok && !now.Before(due) {
			s.Due++
			s.Overdue = max(s.Overdue, now.Sub(due))
		}
	}
	return s
}

func (k *Keeper) nudge(fn func()) {
	k.mu.Lock()
	fn()
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	tick := time.NewTicker(k.o.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		k.round(ctx)
		select {
		case <-tick.C:
		case <-k.wake:
		case <-ctx.Done():
		}
	}
}

// due is when the oldest thing of the account must go; false if nothing ever does, or there is nothing.
func (k *Keeper) due(a *account) (time.Time, bool) {
	if a.oldest.IsZero() {
		return time.Time{}, false
	}
	return a.backup.Expiry(k.o.Clock.Settled(a.oldest))
}
