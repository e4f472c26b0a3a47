// Package keyring holds the root key and everything wrapped under it: the
// policy key, the audit key and one key per account (docs/FORMAT.md "Keys").
//
// On disk it owns two files of the state directory:
//
//	seal.json  the root key, wrapped by a Seal, and a commitment to it
//	keyring    the other keys, wrapped by the root key; rewritten whole
//
// Both are replaced atomically and durably, and every byte of both is checked
// when they are opened. Neither is of use without the seal. What is not
// detected is that both, or the keyring alone, are put back as they were at an
// earlier time (docs/THREATMODEL.md).
//
// One process owns a state directory; LockState enforces it.
package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// AccountID names an account in keys, on disk and in audit records.
type AccountID = record.AccountID

var (
	// ErrSealed means that the root key is not available.
	ErrSealed = errors.New("keyring: sealed")
	// ErrNoAccount means that the keyring holds no key of that account.
	ErrNoAccount = errors.New("keyring: no such account")
	// ErrDamaged means that the keyring or seal.json does not authenticate.
	ErrDamaged = errors.New("keyring: damaged")
	// ErrUnsure means that a change failed, and that the disk may hold it or
	// not: the next change, Settle or Open finds out. What is in force in memory did not change.
	ErrUnsure = errors.New("keyring: whether a change is on the disk is not known")
	// ErrWrongKey means that seal.json is whole, and that the seal's key is not
	// the one it was made with.
	ErrWrongKey = errors.New("keyring: wrong key for this state directory")
)

// Seal wraps and unwraps the root key. Implementations: KeyFile, NewPassphrase,
// NewShares here, packages crypto/transit and crypto/sealhelper.
//
// Wrap must bind what it returns to the seal's own key and detect every change
// to it. Unwrap returns ErrWrongKey if it can tell that it has another key than
// Wrap had, and ErrDamaged if it can tell that only the wrapped form is wrong.
// The caller keeps the result of Wrap for as long as the root lives, and
// overwrites the result of Unwrap. Neither keeps or returns its argument.
//
// Wrap must need nobody at the keyboard: it is called for every new root, which
// may be daily. A seal that people open wraps with a public key.
type Seal interface {
	Kind() string
	Wrap(ctx context.Context, root []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// Keyring is safe for concurrent use. Every change is durable on return; a
// change that fails is not applied.
type Keyring struct {
	dir  string
	seal Seal
	now  func() time.Time
	// replace is durable.WriteFile, or fails in tests.
	replace func(path string, data []byte, perm fs.FileMode) error

	// rotating serialises what writes seal.json; it is taken before write.
	rotating sync.Mutex
	sealed   *sealFile // what seal.json holds; guarded by rotating
	oldErr   error     // why the old root is still in it; guarded by rotating
	// formerErr is why a former seal is still in it, find finds that; guarded by rotating.
	formerErr error
	find      Finder
	tell      func(context.Context, Finished) error // nil = nobody; guarded by rotating
	service   string                                // identity of the service that has the key in force, as far as it was told; guarded by rotating
	// shown is what of them Status reads, which must not wait for a key service that a change is waiting for.
	shown atomic.Pointer[shown]

	// write serialises changes of the keyring file, so that lookups wait for
	// memory only and not for the disk. It is taken before mu.
	write sync.Mutex
	// unsure: a write of the keyring file failed so late that the disk may hold
	// the old or the new one. The next change writes what is in force first.
	unsure atomic.Bool // set under write

	mu   sync.RWMutex // guards what follows
	root *root        // nil after Close
	ring *ring        // immutable, replaced by each change
	site site

	cache accountCache
	sweep sweeper
}

const (
	sealName    = "seal.json"
	keyringName = "keyring"
	fileMode    = 0o600
	siteVersion = 1 // of a new policy or audit key
)

// Format keeps keys out of logs.
func (*Keyring) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Create makes seal.json and keyring in a state directory that has neither; it
// makes the directory, with mode 0700, if it does not exist.
func Create(ctx context.Context, stateDir string, s Seal) (*Keyring, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("making a state directory: %w", err)
	}
	defer forget(s)
	if err := checkOutside(s, stateDir); err != nil {
		return nil, err
	}
	for _, name := range []string{sealName, keyringName} {
		if _, err := os.Lstat(filepath.Join(stateDir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("making a keyring: %w", errors.Join(err, &fs.PathError{Op: "create", Path: filepath.Join(stateDir, name), Err: fs.ErrExist}))
		}
	}
	root, err := randomRoot(1)
	if err != nil {
		return nil, err
	}
	k, err := create(ctx, stateDir, s, root)
	if err != nil {
		root.destroy()
		return nil, err
	}
	return k, nil
}

func create(ctx context.Context, stateDir string, s Seal, root *root) (*Keyring, error) {
	sealed, err := sealRoot(ctx, s, root)
	if err != nil {
		return nil, err
	}
	ring, err := newRing(root, time.Now().UnixNano())
	if err != nil {
		return nil, err
	}
	k, err := newKeyring(stateDir, s, sealed, root, ring)
	if err != nil {
		return nil, err
	}
	if err = sealed.write(stateDir); err == nil {
		err = k.store(root, ring)
	}
	if err != nil { // nothing depends on them yet
		os.Remove(filepath.Join(stateDir, sealName))
		os.Remove(filepath.Join(stateDir, keyringName))
		return nil, err
	}
	return k, nil
}

func newID() (id AccountID) {
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

func newKeyring(dir string, s Seal, sealed *sealFile, root *root, ring *ring) (*Keyring, error) {
	site, err := openSite(root, ring)
	if err != nil {
		return nil, err
	}
	k := &Keyring{dir: dir, seal: s, sealed: sealed, root: root, ring: ring, site: site, now: time.Now, replace: durable.WriteFile}
	k.show()
	return k, nil
}

// store writes the ring to the disk. On error the disk holds the ring that was
// there, or unsure is set. Called with write held, or by the only owner.
func (k *Keyring) store(root *root, r *ring) error {
	data, err := r.encode(root)
	if err != nil {
		return err
	}
	err = k.replace(filepath.Join(k.dir, keyringName), data, fileMode)
	if errors.Is(err, durable.ErrUncertain) {
		k.unsure.Store(true)
	}
	return err
}

// Settle makes sure that the disk holds what is in force. It costs nothing
// unless a write has failed.
func (k *Keyring) Settle() error {
	if !k.unsure.Load() {
		return nil
	}
	k.write.Lock()
	defer k.write.Unlock()
	return k.settle()
}

// settle is Settle with write held.
func (k *Keyring) settle() error {
	if !k.unsure.Load() {
		return nil
	}
	if k.root == nil {
		return ErrSealed
	}
	if err := k.store(k.root, k.ring); err != nil {
		return fmt.Errorf("writing the keyring again after a failed write: %w", err)
	}
	k.unsure.Store(false)
	return nil
}

// NewAccount makes an account: a random id and a random key, version 1.
func (k *Keyring) NewAccount(ctx context.Context) (AccountID, error) {
	id := newID()
	return id, k.change(ctx, func(root *root, r *ring) (*ring, error) {
		kek, err := root.kek()
		if err != nil {
			return nil, err
		}
		e := entry{id: id, siteKey: siteKey{version: 1, created: k.now().UnixNano()}}
		key := record.NewKey()
		defer clear(key[:])
		copy(e.wrapped[:], kek.Wrap(id, record.DomainAccountKey, versionKey(e.version), key))
		return r.with(e, root), nil
	})
}

// RemoveAccount forgets the key of an account; ErrNoAccount if there is none.
// AccountKeys that are in use go on working until they are dropped: end the
// account's sessions first. Those that nobody uses are overwritten within seconds.
func (k *Keyring) RemoveAccount(ctx context.Context, id AccountID) error {
	err := k.change(ctx, func(root *root, r *ring) (*ring, error) {
		i, found := r.find(id)
		if !found {
			return nil, ErrNoAccount
		}
		return r.without(i, root), nil
	})
	if err == nil {
		k.Sweep() // keys of a volume that was only made, say, are nobody's to let go of
	}
	return err
}

// change makes the ring what fn makes of it, on disk first. The lock on mu is
// not held while the disk is written; root cannot go away because Close takes
// write, too.
func (k *Keyring) change(ctx context.Context, fn func(*root, *ring) (*ring, error)) error {
	k.write.Lock()
	defer k.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.root == nil {
		return ErrSealed
	}
	if err := k.settle(); err != nil {
		return err
	}
	next, err := fn(k.root, k.ring)
	if err != nil {
		return err
	}
	if err := k.commit(k.root, next); err != nil {
		return err
	}
	k.mu.Lock()
	k.ring = next
	k.mu.Unlock()
	return nil
}

// commit writes a new ring, or makes sure that the disk has the old one;
// ErrUnsure if it could do neither. Called with write held.
func (k *Keyring) commit(root *root, next *ring) error {
	err := k.store(root, next)
	if err == nil {
		return nil
	}
	if again := k.settle(); again != nil {
		return fmt.Errorf("%w: %w", ErrUnsure, errors.Join(err, again))
	}
	return err
}

// Accounts are the ids of all accounts in ascending order; none after Close.
func (k *Keyring) Accounts() []AccountID {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil
	}
	ids := make([]AccountID, len(k.ring.accounts))
	for i, e := range k.ring.accounts {
		ids[i] = e.id
	}
	return ids
}

// Account returns the derived keys of an account. All callers get the same
// ones for as long as any caller uses them. AccountKeys.Version is the version
// of the account's key and names its tree database.
func (k *Keyring) Account(id AccountID) (*record.AccountKeys, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	i, found := k.ring.find(id)
	if !found {
		return nil, ErrNoAccount
	}
	e := &k.ring.accounts[i]
	return k.cache.get(e, func() (*record.AccountKeys, error) {
		kek, err := k.root.kek()
		if err != nil {
			return nil, err
		}
		key, err := kek.Unwrap(id, record.DomainAccountKey, versionKey(e.version), e.wrapped[:])
		if err != nil {
			return nil, fmt.Errorf("%w: key of account %v: %w", ErrDamaged, id, err)
		}
		defer clear(key[:])
		return record.Derive(key, id, e.version)
	})
}

// Epoch is the root key's epoch; 0 after Close.
func (k *Keyring) Epoch() uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return 0
	}
	return k.root.epoch
}

// Close forgets every key as far as software can: the root and the bytes of
// other keys are overwritten, and expanded keys when the garbage collector finds
// that nobody uses them any more. It always returns nil.
func (k *Keyring) Close() error {
	k.write.Lock()
	defer k.write.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.root != nil {
		k.root.destroy()
		k.site.wipe()
	}
	k.root, k.ring, k.site = nil, nil, site{}
	k.cache.clear()
	k.sweep.stop()
	return nil
}
