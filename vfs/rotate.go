package vfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/crypto/keyring"
	"sallyport/vfs/meta"
)

// rotateBatch is how many accounts get their new keys with one rewrite of the keyring. They are all frozen for that
// moment, and open.
const rotateBatch = 32

// Rotated is what became of one account's rotation.
type Rotated struct {
	ID      keyring.AccountID
	Version uint32 // of the key in force afterwards; 0 if it is not known
	Err     error  // nil = the account has a new key
}

// Rotate gives each account a new key and a compact database under it, which has what the old one had and nothing that
// was deleted from it: rotation, compaction and half of shredding are one operation. No file data is rewritten.
//
// Accounts stay in use; writes of metadata wait while the keyring is rewritten, and what is open stays open. The old
// database is unlinked. A crash leaves each account with either key, and the file of the other one is removed at the next Open.
// report is called for each account. The error is that of the whole: ctx's, or fs.ErrClosed.
func (f *FS) Rotate(ctx context.Context, ids []keyring.AccountID, report func(Rotated)) error {
	ctx, done, err := f.job(ctx)
	if err != nil {
		return fmt.Errorf("vfs: rotating keys: %w", err)
	}
	defer done()
	for len(ids) > 0 {
		n := min(rotateBatch, len(ids))
		f.rotate(ctx, ids[:n], report)
		ids = ids[n:]
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("vfs: rotating keys: %w", err)
		}
	}
	return nil
}

// job begins something that Close ends and waits for.
func (f *FS) job(ctx context.Context) (_ context.Context, done func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, nil, fs.ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f.jobs.Add(1)
	stopped := make(chan struct{})
	// Owner: the job, which ends it with done.
	go func() {
		select {
		case <-f.closing:
			cancel(fs.ErrClosed)
		case <-stopped:
		}
	}()
	return ctx, func() { close(stopped); cancel(nil); f.jobs.Done() }, nil
}

// rotation is one account on the way to its next key.
type rotation struct {
	v    *Volume
	c    *core
	next *keyring.NextKey
	copy *meta.Rekeyed
}

// rotate rotates up to a batch of accounts.
func (f *FS) rotate(ctx context.Context, ids []keyring.AccountID, report func(Rotated)) {
	var ready []*rotation
	fail := func(r *rotation, err error) {
		err = errors.Join(err, r.copy.Abort())
		r.end()
		report(f.rotated(r.v.id, err))
	}
	for _, id := range ids {
		ready = slices.DeleteFunc(ready, func(r *rotation) bool { // the last of a batch may be long in coming
			err := r.copy.Follow()
			if err != nil {
				fail(r, err)
			}
			return err != nil
		})
		r, err := f.prepare(ctx, id)
		if err == nil {
			ready = append(ready, r)
			continue
		}
		report(f.rotated(id, err))
	}
	frozen := ready[:0]
	for _, r := range ready {
		if err := r.copy.Freeze(ctx); err != nil {
			fail(r, err)
			continue
		}
		frozen = append(frozen, r)
	}
	err := f.switchAll(ctx, frozen)
	alone := len(frozen) > 1 && (errors.Is(err, keyring.ErrNoAccount) || errors.Is(err, keyring.ErrMoved))
	for _, r := range frozen {
		one := err
		if alone { // one that was removed meanwhile must not keep the others
			one = f.switchAll(ctx, []*rotation{r})
		}
		report(f.rotated(r.v.id, r.settle(one)))
	}
}

// rotated describes the end of one account's rotation.
func (f *FS) rotated(id keyring.AccountID, err error) Rotated {
	r := Rotated{ID: id, Err: err}
	if err != nil {
		r.Err = fmt.Errorf("vfs: rotating the key of %s: %w", id, err)
	}
	if age, err := f.o.Keyring.Age(id); err == nil {
		r.Version = age.Version
	}
	return r
}

// prepare opens the volume and copies its database under the next key.
func (f *FS) prepare(ctx context.Context, id keyring.AccountID) (_ *rotation, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := f.volume(id)
	if err != nil {
		return nil, err
	}
	r := &rotation{v: v}
	if r.c, err = v.acquire(ctx); err != nil {
		return nil, err
	}
	if r.next, err = f.o.Keyring.NextKey(id); err == nil {
		r.copy, err = r.c.db.Rekey(ctx, filepath.Join(f.dir(id), treeName(r.next.Keys().Version())), r.next.Keys())
	}
	if err != nil {
		r.end()
		return nil, r.c.damage(err)
	}
	return r, nil
}

func (f *FS) switchAll(ctx context.Context, frozen []*rotation) error {
	if len(frozen) == 0 {
		return nil
	}
	next := make([]*keyring.NextKey, len(frozen))
	for i, r := range frozen {
		next[i] = r.next
	}
	return f.o.Keyring.Switch(ctx, next...)
}

// settle moves the volume over, or back. err is the keyring's.
func (r *rotation) settle(err error) error {
	defer r.end()
	switch {
	case err == nil:
		// What fails here is the removal of the old file, which is tried again at the next Open.
		return r.copy.Adopt()
	case errors.Is(err, keyring.ErrUnsure):
		// Either database may be the one that the next start opens: what would be written to one now could be lost.
		r.c.failed.Store(true)
		return errors.Join(err, r.copy.Suspend(err))
	default:
		return errors.Join(err, r.copy.Abort())
	}
}

func (r *rotation) end() {
	if r.next != nil {
		r.next.Discard()
	}
	r.v.release(r.c)
}

// removeOldTrees removes from an account's directory the databases that the keyring does not name. If the one that it names is not
// there, the keyring may be an old one that was put back by mistake, and nothing is removed.
func (f *FS) removeOldTrees(name string) error {
	var id keyring.AccountID
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != len(id) {
		return nil
	}
	copy(id[:], raw)
	age, err := f.o.Keyring.Age(id)
	if errors.Is(err, keyring.ErrNoAccount) {
		return nil
	} else if err != nil {
		return err
	}
	dir := f.dir(id)
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	named := treeName(age.Version)
	if _, err := os.Lstat(filepath.Join(dir, named)); err != nil {
		return nil
	}
	removed := false
	for _, d := range left {
		if !d.IsDir() && strings.HasPrefix(d.Name(), "tree-") && d.Name() != named && !strings.Contains(d.Name(), damagedMark) { // what a repair put aside is the operator's
			if err := os.Remove(filepath.Join(dir, d.Name())); err != nil {
				return err
			}
			removed = true
		}
	}
	if removed {
		return syncDir(dir)
	}
	return nil
}
