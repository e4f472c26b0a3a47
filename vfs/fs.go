package vfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/blob"
	"sallyport/vfs/content"
	"sallyport/vfs/meta"
)

// Options of Open. Zero values mean defaults.
type Options struct {
	Dir          string // <state>/accounts; made if absent
	Keyring      *keyring.Keyring
	Now          func() time.Time
	WindowBudget int64         // bytes of dirty data in all volumes; 0 = 256 MiB
	IdleClose    time.Duration // how long an unused volume stays open; 0 = 5 minutes, negative = for ever
	// Recovered turns what recovery did to an upload that a crash cut off into an audit event, which rides in the
	// transaction that recovers it; nil, or a nil result, = no event.
	Recovered func(keyring.AccountID, Change) []byte

	// Holds tells which paths of an account are on hold, "/" for all of it: no purge takes what is there, and nothing that was
	// there once; Destroy refuses the account. It is asked whenever something is about to be destroyed, in the transaction that
	// does it, so it must be quick and must not call the FS. nil = nothing is.
	Holds func(keyring.AccountID) ([]string, error)

	testOnlyBlobs func(blob.Store) blob.Store // wraps the store of every volume
}

// FS is all volumes of one state directory. Safe for concurrent use.
type FS struct {
	o        Options
	budget   *content.Budget
	drafts   drafts // who shares the budget
	onOutbox atomic.Pointer[func(*Volume)]
	notes    sync.WaitGroup // outbox notifiers
	damaged  atomic.Uint64  // reads and opens that met ErrIntegrity

	jobs    sync.WaitGroup // rotations
	closing chan struct{}  // closed by Close

	purging sync.RWMutex // held for reading by who destroys, for one transaction; see Settle

	folded, repacked, swept, copied, purged atomic.Uint64 // see Totals

	mu      sync.Mutex // guards what is below; never held over I/O
	volumes map[keyring.AccountID]*Volume
	closed  bool
}

const (
	unfinished = ".new"  // suffix of a volume under creation
	destroyed  = ".gone" // suffix of a volume under destruction
)

// Open prepares the directory of volumes and finishes creations and destructions that a crash interrupted. It opens no volume.
func Open(ctx context.Context, o Options) (*FS, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.WindowBudget == 0 {
		o.WindowBudget = defaultBudget
	}
	if o.IdleClose == 0 {
		o.IdleClose = defaultIdle
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("vfs: preparing the directory of volumes: %w", err)
	}
	if err := syncDir(filepath.Dir(o.Dir)); err != nil { // it may have been made just now
		return nil, fmt.Errorf("vfs: preparing the directory of volumes: %w", err)
	}
	f := &FS{o: o, budget: content.NewBudget(o.WindowBudget), volumes: map[keyring.AccountID]*Volume{}, closing: make(chan struct{})}
	return f, f.sweep(ctx)
}

// sweep removes what a crash left of creations, destructions and rotations.
func (f *FS) sweep(ctx context.Context) error {
	left, err := os.ReadDir(f.o.Dir)
	if err != nil {
		return fmt.Errorf("vfs: reading the directory of volumes: %w", err)
	}
	for _, d := range left {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasSuffix(d.Name(), unfinished) || strings.HasSuffix(d.Name(), destroyed) {
			if err := os.RemoveAll(filepath.Join(f.o.Dir, d.Name())); err != nil {
				return fmt.Errorf("vfs: removing an unfinished volume: %w", err)
			}
			continue
		}
		if err := f.removeOldTrees(d.Name()); err != nil {
			return fmt.Errorf("vfs: removing an unfinished or old database of %s: %w", d.Name(), err)
		}
	}
	return nil
}

// Create makes the empty volume of an account whose key is in the keyring. It is durable on return; fs.ErrExist if there is one.
func (f *FS) Create(ctx context.Context, id keyring.AccountID) error {
	keys, err := f.o.Keyring.Account(id)
	if err != nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, err)
	}
	dir := f.dir(id)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, fs.ErrExist)
	}
	tmp := dir + unfinished
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, err)
	}
	if err := os.MkdirAll(filepath.Join(tmp, "blobs"), 0o700); err != nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, err)
	}
	db, err := meta.Open(ctx, filepath.Join(tmp, treeName(keys.Version())), keys, meta.Options{Now: f.o.Now, Create: true})
	if err != nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, err)
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("vfs: creating volume %s: %w", id, err)
	}
	for _, step := range []func() error{
		func() error { return syncDir(filepath.Join(tmp, "blobs")) },
		func() error { return syncDir(tmp) },
		func() error { return os.Rename(tmp, dir) },
		func() error { return syncDir(f.o.Dir) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("vfs: creating volume %s: %w", id, err)
		}
	}
	return nil
}

// Destroy removes an account's volume from disk; ErrHeld if something of it is on hold. Its views must be closed, and its events drained if
// somebody does (OnOutbox); ErrBusy otherwise. The account's key is the caller's to destroy, and that comes first: without it the bytes are noise already.
func (f *FS) Destroy(ctx context.Context, id keyring.AccountID) error {
	if held, err := f.heldPaths(id); err != nil || len(held) > 0 {
		return errors.Join(fmt.Errorf("vfs: destroying volume %s: %w", id, ErrHeld), err)
	}
	f.mu.Lock()
	v := f.volumes[id]
	f.mu.Unlock()
	if v != nil {
		if err := v.retire(f.onOutbox.Load() != nil); err != nil {
			return fmt.Errorf("vfs: destroying volume %s: %w", id, err)
		}
		f.mu.Lock()
		delete(f.volumes, id)
		f.mu.Unlock()
	}
	dir := f.dir(id)
	if err := os.Rename(dir, dir+destroyed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("vfs: destroying volume %s: %w", id, err)
	}
	if err := syncDir(f.o.Dir); err != nil {
		return fmt.Errorf("vfs: destroying volume %s: %w", id, err)
	}
	if err := os.RemoveAll(dir + destroyed); err != nil {
		return fmt.Errorf("vfs: destroying volume %s: %w", id, err)
	}
	return ctx.Err()
}

// Volume returns the volume of an account, opened and verified. A damaged one is ErrIntegrity, with a text for the
// operator; other accounts are not concerned.
func (f *FS) Volume(ctx context.Context, id keyring.AccountID) (*Volume, error) {
	v, err := f.volume(id)
	if err != nil {
		return nil, err
	}
	c, err := v.acquire(ctx)
	if err != nil {
		return nil, err
	}
	v.release(c)
	return v, nil
}

// volume returns the volume as it is, open or not.
func (f *FS) volume(id keyring.AccountID) (*Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("vfs: volume %s: %w", id, fs.ErrClosed)
	}
	v := f.volumes[id]
	if v == nil {
		v = newVolume(f, id)
		f.volumes[id] = v
	}
	return v, nil
}

// Close ends every view (what is open in them ends as interrupted) and closes every volume.
func (f *FS) Close() error {
	f.mu.Lock()
	if !f.closed {
		close(f.closing)
	}
	f.closed = true
	all := make([]*Volume, 0, len(f.volumes))
	for _, v := range f.volumes {
		all = append(all, v)
	}
	f.mu.Unlock()
	f.jobs.Wait()
	var errs []error
	for _, v := range all {
		errs = append(errs, v.shut())
	}
	f.notes.Wait()
	for _, v := range all {
		errs = append(errs, v.retire(false))
	}
	return errors.Join(errs...)
}

// OnOutbox is called (not concurrently per volume, never under a lock) when a volume has audit events to drain. Set it
// before the first volume is opened.
func (f *FS) OnOutbox(fn func(v *Volume)) { f.onOutbox.Store(&fn) }

func (f *FS) dir(id keyring.AccountID) string {
	return filepath.Join(f.o.Dir, hex.EncodeToString(id[:]))
}

// treeName is the file name of the metadata database under one version of the account key.
func treeName(version uint32) string { return fmt.Sprintf("tree-%d.db", version) }

// syncDir makes the entries of a directory survive power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
