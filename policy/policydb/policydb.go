// Package policydb keeps what the operator decides: policy revisions, accounts and their credentials, and which name an
// account has.
//
// On disk it is one bbolt file. Every value is a sealed record and every key a number or a token, so that a copied disk
// shows neither names nor networks nor password hashes. The head holds a keyed hash over all other records: a record
// that was put back, exchanged, dropped or injected while the file was closed is found when it is opened
// (ErrDamaged). The file as a whole put back to an earlier state is not found; see docs/THREATMODEL.md.
//
// Every change is durable on return. After a failed commit nothing is known of the state of the disk, so nothing more
// is written until the file is closed, reopened and verified (ErrReadOnly).
//
// Two buckets, with keys and domains of their own (docs/FORMAT.md). "policy1":
//
//	h                          head: format, last revision, record count, set hash      DomainPolicy
//	t                          trust: certificate authorities, revocations              DomainPolicy
//	r ‖ u64 revision           revision: who, when, why, the whole document             DomainPolicy
//	c                          the change that waits for its confirmation               DomainPolicy
//	a ‖ token(account id)      account: id, enabled, password hash, public keys         DomainAccounts
//	l ‖ token(account id)      holds: account id, path, reason, who, when               DomainAccounts
//
// and "names1", the only place but the documents where a name stands:
//
//	n ‖ token(account name)    account id                                               DomainNames
//	i ‖ token(account id)      account name                                             DomainNames
package policydb

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
	"sallyport/policy"
	"sallyport/vfs/pagecheck"
)

var (
	// ErrConflict: the policy has changed since the revision that the change was made from.
	ErrConflict = errors.New("policydb: the policy was changed meanwhile")
	// ErrDamaged: a record, or the set of records, does not authenticate.
	ErrDamaged = errors.New("policydb: damaged, or not of this keyring")
	// ErrReadOnly: a commit failed; nothing is written until the file is reopened.
	ErrReadOnly = errors.New("policydb: takes no writes until reopened after a failed commit")
	// ErrBusy: another process holds the file.
	ErrBusy = errors.New("policydb: in use by another process")

	ErrNoAccount  = errors.New("policydb: no such account")
	ErrNoRevision = errors.New("policydb: no such revision")
	ErrExists     = errors.New("policydb: the account exists")
	// ErrHasPolicy: the policy speaks of a name before there is an account; NewAccount.Adopt takes it over.
	ErrHasPolicy = errors.New("policydb: the policy already has rules for this name")
	ErrBadName   = errors.New("policydb: not an account name (1 to 64 of a-z A-Z 0-9 . _ @ -)")
	ErrNoKey     = errors.New("policydb: no such public key")
	ErrBadKey    = errors.New("policydb: not a usable public key")
)

var bucket = []byte("policy1")

// format of the head; another one is refused, but oldFormat, which Open makes into it.
const (
	format    = 2
	oldFormat = 1
)

// Options of Open.
type Options struct {
	Path string // of the file; made if absent
	// Box seals every value; Token hides names in keys. Both come from the keyring.
	Box   *record.Box
	Token func(kind, name string) [16]byte
	// Names and NameToken are the same for the table of names, under keys of their own.
	Names     *record.Box
	NameToken func(kind, name string) [16]byte
	Now       func() time.Time // nil = time.Now
	// PasswordCost is bcrypt's; 0 = 12. Lower ones are for tests.
	PasswordCost int
	// LockTimeout is how long to wait for another process to let the file go; 0 = 1 s.
	LockTimeout time.Duration
}

// DB is safe for concurrent use.
type DB struct {
	o       Options
	bolt    *bbolt.DB
	set     *record.Set
	decoy   *decoy
	current atomic.Pointer[policy.Revision]
	trust   atomic.Pointer[Trust]
	broken  atomic.Bool

	writing sync.Mutex // one change at a time, from reading what it rests on to its commit

	mu         sync.Mutex // guards the callbacks and the timer
	onChange   []func(*policy.Revision)
	onAccount  []func(*Account)
	onTrust    []func()
	onRollback []func(*policy.Revision)
	missed     *policy.Revision // an automatic rollback that nobody was told of yet
	timer      *time.Timer      // of the change that waits for its confirmation
	disarmed   bool             // by Close
	timing     sync.WaitGroup   // what the timer started

	testOnlyCommit func(*bbolt.Tx) error // nil = tx.Commit
}

// head is the record at key h; it is not part of its own sum.
type head struct {
	Format   int        `json:"format"`
	Revision uint64     `json:"revision"`
	Count    uint64     `json:"count"`
	Sum      record.Sum `json:"sum"`
}

// Open opens the file, or makes it, and verifies every record of it.
func Open(ctx context.Context, o Options) (db *DB, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PasswordCost == 0 {
		o.PasswordCost = DefaultPasswordCost
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db = &DB{o: o, set: newSet(o.Token), decoy: newDecoy(&o)}
	// The pages are checked before bbolt sees them; what changes in the file after that can still make it panic or follow a
	// pointer out of the mapping.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if db.bolt != nil {
				db.bolt.Close()
			}
			db, err = nil, fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	if err := db.open(); err != nil {
		return nil, err
	}
	if err := db.resume(); err != nil {
		db.bolt.Close()
		return nil, err
	}
	return db, nil
}

// resume goes on waiting for a confirmation, or takes the change back before anybody is served under it.
func (db *DB) resume() error {
	p, err := db.Pending()
	if err != nil || p == nil {
		return err
	}
	r, err := db.expire()
	if errors.Is(err, errEarly) {
		db.arm(p)
		return nil
	}
	db.missed = r
	return err
}

func (db *DB) open() error {
	if _, err := os.Stat(db.o.Path); errors.Is(err, os.ErrNotExist) {
		return db.create()
	}
	if err := db.openBolt(db.o.Path, false); err != nil {
		return err
	}
	err := db.load()
	if errors.Is(err, errOldFormat) {
		if err = db.migrate(); err == nil {
			err = db.load()
		}
	}
	if err != nil {
		db.bolt.Close()
	}
	return err
}

// openBolt opens the file; bbolt sees it only after its pages have been checked.
func (db *DB) openBolt(path string, isNew bool) error {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: db.o.LockTimeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, NoStatistics: true, PageSize: pagecheck.Size,
		InitialMmapSize: 1 << 30, // of address space; a long read would otherwise stall a write that grows the file
		OpenFile: func(path string, _ int, mode os.FileMode) (*os.File, error) {
			return pagecheck.Open(path, mode, isNew, db.o.LockTimeout)
		}})
	switch {
	case errors.Is(err, pagecheck.ErrLocked), errors.Is(err, bolterrors.ErrTimeout):
		return ErrBusy
	case errors.Is(err, pagecheck.ErrDamaged), errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return fmt.Errorf("opening the database: %w", err)
	}
	db.bolt = b
	return nil
}

// create makes the file under another name and renames it when its first transaction is durable, so that a crash leaves a
// database or none.
func (db *DB) create() (err error) {
	making := db.o.Path + ".new"
	if err := os.Remove(making); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("making the policy database: %w", err)
	}
	if err := db.openBolt(making, true); err != nil {
		return err
	}
	db.current.Store(&policy.Revision{Document: policy.Default()})
	db.trust.Store(&Trust{})
	if err = db.update(func(*tx) error { return nil }); err == nil {
		err = os.Rename(making, db.o.Path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(db.o.Path))
	}
	if err != nil {
		db.bolt.Close()
	}
	return err
}

// load verifies the whole file against the head and reads the current revision.
func (db *DB) load() error {
	return db.viewAny(func(t *tx) error {
		h, err := t.head()
		if err != nil {
			return err
		}
		if h.Format != format && h.Format != oldFormat { // it is authentic: a newer program wrote it
			return fmt.Errorf("format %d of the policy database is unknown to this program: %w", h.Format, errors.ErrUnsupported)
		}
		if err := t.verify(h); err != nil {
			return err
		}
		if h.Format == oldFormat {
			return errOldFormat
		}
		r, err := t.revision(h.Revision)
		if err != nil {
			return err
		}
		db.current.Store(r)
		trust, err := t.trust()
		db.trust.Store(trust)
		return err
	})
}

// Close lets the file go. Calls under way finish first.
func (db *DB) Close() error {
	db.disarm()
	db.writing.Lock()
	defer db.writing.Unlock()
	db.broken.Store(true)
	return db.bolt.Close()
}

// OnChange has fn called after each change of the policy, outside all locks, with an immutable snapshot. Concurrent
// changes may be told out of order; the greater revision counts.
func (db *DB) OnChange(fn func(*policy.Revision)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.onChange = append(db.onChange, fn)
}

// OnAccount has fn called after each change of an account or its credentials, outside all locks. A removed account is
// told with Removed set.
func (db *DB) OnAccount(fn func(*Account)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.onAccount = append(db.onAccount, fn)
}

func (db *DB) tellChange(r *policy.Revision) {
	db.mu.Lock()
	fns := db.onChange
	db.mu.Unlock()
	for _, fn := range fns {
		fn(r)
	}
}

func (db *DB) tellAccount(a *Account) {
	db.mu.Lock()
	fns := db.onAccount
	db.mu.Unlock()
	for _, fn := range fns {
		fn(a)
	}
}

func revisionKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'r'}, n) }

func decode[T any](plain []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(plain, v); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return v, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("policydb: internal error: " + err.Error())
	}
	return b
}
