// Package copier is the server's side of a copy of the whole state: it hands out databases, keys and blobs of a running
// server so that they fit together, and signs what it handed out (docs/FORMAT.md "State copy", package statecopy).
//
// One copy is made at a time, under a lease whose owner is the connection that began it: with that, with the server, or when
// nothing was asked for too long, it ends. It holds off nothing but the removal of the blobs of the one account that is
// being copied. Keys may be rotated and accounts come and go: Next says what has to be copied again, until the
// databases that were handed out are exactly those that the keyring of one instant names.
package copier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

var (
	// ErrRunning: another copy is being made.
	ErrRunning = errors.New("copier: a copy is being made already")
	// ErrNoLease: there is no such copy under way; it ended or took too long.
	ErrNoLease = errors.New("copier: no such copy is under way")
	// ErrUnsteady: keys were rotated so often that no copy fits together.
	ErrUnsteady = errors.New("copier: keys were rotated so often that the copy never fitted together")
)

// DefaultIdle is how long a lease lives when nothing is asked for.
const DefaultIdle = 10 * time.Minute

// Options of New.
type Options struct {
	Keyring *keyring.Keyring
	Policy  *policydb.DB
	Volumes *vfs.FS
	Audit   *audit.Log
	// Identity is what says who the server is (host keys, its own certificate), in clear, by name; it is sealed here.
	Identity func() (map[string][]byte, error)
	// Pending is the file of what was noted while the server was sealed and is not in the audit log yet; nil = there is none.
	Pending func() ([]byte, error)
	// Clock is the record of the server's time; nil = there is none.
	Clock   func() []byte
	Dir     string // for files without a name: the state directory
	Program string // version of the server
	Now     func() time.Time
	Idle    time.Duration // 0 = DefaultIdle
	Log     *slog.Logger
}

// Copier is safe for concurrent use.
type Copier struct {
	o Options

	mu    sync.Mutex // guards what follows; held while last is written
	lease *Lease
	last  Last
}

// tempName begins the names that files of a copy have for a moment.
const tempName = "statecopy"

// New makes a Copier, and removes what a crash left of a copy in Dir.
func New(o Options) (*Copier, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if err := durable.RemoveTemp(filepath.Join(o.Dir, tempName)); err != nil {
		return nil, err
	}
	c := &Copier{o: o}
	if err := c.readLast(); err != nil {
		o.Log.Error("when the state was last copied is not known", "error", err)
	}
	return c, nil
}

// Begin begins a copy for who, and records that before anything is handed out. The caller ends the lease with End; ctx is its
// life.
func (c *Copier) Begin(ctx context.Context, who, reason string) (*Lease, error) {
	l := &Lease{
		c: c, who: who, reason: reason, Token: rand.Text(), copied: map[keyring.AccountID]*part{}, damage: map[keyring.AccountID][]string{},
		retained: map[keyring.AccountID]statecopy.Holding{}, began: c.o.Now(),
	}
	var id [16]byte
	rand.Read(id[:])
	l.id = hex.EncodeToString(id[:])
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.timer = time.AfterFunc(c.o.Idle, func() { l.cancel(fmt.Errorf("%w: nothing was asked for %v", ErrNoLease, c.o.Idle)) })
	c.mu.Lock()
	if c.lease != nil {
		c.mu.Unlock()
		l.timer.Stop()
		l.cancel(ErrRunning)
		return nil, ErrRunning
	}
	c.lease = l
	c.mu.Unlock()
	e := audit.Event{Action: audit.StateCopy, Who: who, Result: "begun", Detail: join("copy "+l.id, reason)}
	if err := c.o.Audit.Append(context.WithoutCancel(ctx), e); err != nil {
		return nil, errors.Join(fmt.Errorf("recording that a copy begins: %w", err), l.release())
	}
	return l, nil
}

// Lease finds the copy under way by its token.
func (c *Copier) Lease(token string) (*Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease == nil || c.lease.Token != token || c.lease.ctx.Err() != nil {
		return nil, ErrNoLease
	}
	return c.lease, nil
}

// Close ends the copy under way, and waits for its calls.
func (c *Copier) Close() error {
	c.mu.Lock()
	l := c.lease
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.End()
}

func join(parts ...string) (text string) {
	for _, p := range parts {
		if p != "" && text != "" {
			text += ": "
		}
		text += p
	}
	return text
}

// part is what was handed out of one account.
type part struct {
	tree, list statecopy.Entry
	version    uint32
	commit     [32]byte // of the database
	blobs      uint64
	bytes      uint64
	// broken: its database cannot be copied.
	broken bool
	// absent: the keyring has a key, and nobody has such an account: a removal that a crash cut short, or an account that is
	// being made.
	absent bool
}
