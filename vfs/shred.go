package vfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/meta"
)

// ShredOptions of Shred.
type ShredOptions struct {
	// Accounts that get a new key whether something awaits shredding in them or not. nil = those in which something does.
	Accounts []keyring.AccountID
	// Repack moves what is live out of the blobs of which a part was purged, so that the rest goes with their
	// keys: the function Repack, or one that does more. nil = such blobs stay readable to who has their account's key. An error keeps
	// the account for another time.
	Repack func(context.Context, *Volume) error
	// Epoch gives the keyring a new root even if nothing is owed.
	Epoch bool
}

// Shredded is the receipt of Shred.
type Shredded struct {
	Accounts []Rotated // those that got a new key, and those that could not
	Bytes    uint64    // logical sizes of the versions that awaited shredding in accounts that got a new key
	Epoch    uint32    // of the root in force
	// NewRoot: the root is a new one. Destroyed: the seal has destroyed the old one; a seal that cannot leaves it
	// unwrappable to who has its secret and an old copy of seal.json.
	NewRoot, Destroyed bool
	At                 time.Time
}

// Shred is the shred epoch: it makes what was purged unreadable to whoever has the keys in force and every byte that
// the disk ever held. First the accounts get new keys and compact databases (Rotate), then the keyring a new root, then the seal destroys
// the old one where it can (docs/THREATMODEL.md says what each kind of seal can promise).
//
// It can be cut off at any point and called again: what awaits shredding is counted in each database, and what the root owes
// in the keyring. The receipt is good for what was done, also beside an error.
func (f *FS) Shred(ctx context.Context, o ShredOptions) (Shredded, error) {
	out := Shredded{}
	bytes := map[keyring.AccountID]uint64{}
	ids, failed, err := f.toShred(ctx, o, bytes)
	if err != nil {
		return out, fmt.Errorf("vfs: shredding: %w", err)
	}
	out.Accounts = failed
	err = f.Rotate(ctx, ids, func(r Rotated) {
		out.Accounts = append(out.Accounts, r)
		if r.Err == nil {
			out.Bytes += bytes[r.ID]
		}
	})
	if err != nil {
		return out, err
	}
	slices.SortFunc(out.Accounts, func(a, b Rotated) int { return slices.Compare(a.ID[:], b.ID[:]) })
	err = f.endEpoch(ctx, o.Epoch, &out)
	out.At = f.o.Now()
	return out, err
}

// toShred are the accounts to rotate, re-packed, and those that cannot be.
func (f *FS) toShred(ctx context.Context, o ShredOptions, bytes map[keyring.AccountID]uint64) (ids []keyring.AccountID, failed []Rotated, err error) {
	all := o.Accounts
	if all == nil {
		all = f.o.Keyring.Accounts()
	}
	for _, id := range all {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, err := f.readyToShred(ctx, id, o)
		bytes[id] = n
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err != nil:
			failed = append(failed, f.rotated(id, err))
		case n > 0 || o.Accounts != nil:
			ids = append(ids, id)
		}
	}
	return ids, failed, nil
}

// readyToShred says how much awaits shredding in an account, and re-packs it.
func (f *FS) readyToShred(ctx context.Context, id keyring.AccountID, o ShredOptions) (uint64, error) {
	v, err := f.Volume(ctx, id)
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	err = v.do(ctx, func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { n = tx.Stats().AwaitingShred; return nil })
	})
	if err != nil || o.Repack == nil || n == 0 && o.Accounts == nil {
		return n, err
	}
	err = o.Repack(ctx, v)
	if n == 0 && (errors.Is(err, ErrBusy) || errors.Is(err, ErrIntegrity)) {
		err = nil // nothing was promised to be gone: the new key is what was asked for
	}
	return n, err
}

// endEpoch gives the keyring a new root if it owes anything, and finishes what an earlier epoch left.
func (f *FS) endEpoch(ctx context.Context, always bool, out *Shredded) error {
	ring := f.o.Keyring
	before := ring.Status()
	err := ring.DestroyOldRoot(ctx)
	if err == nil && (always || before.Owed > 0) {
		err = ring.RotateRoot(ctx)
	}
	after := ring.Status()
	out.Epoch, out.NewRoot = after.Epoch, after.Epoch != before.Epoch
	out.Destroyed = after.Destroys && after.OldRoot == 0 && (out.NewRoot || before.OldRoot != 0)
	if err != nil && !errors.Is(err, keyring.ErrOldRoot) {
		return fmt.Errorf("vfs: shredding: %w", err)
	}
	return err
}

// Repack is a ShredOptions.Repack that is done with all or with nothing: a
// file that is being written, or that cannot be read, may hold a part that was
// purged under a key that lives on, so its account waits for another time, and the receipt says why.
func Repack(ctx context.Context, v *Volume) error {
	r, err := v.RepackAll(ctx)
	switch {
	case err != nil:
		return err
	case r.Busy > 0:
		return fmt.Errorf("%d files are being written, and hold what was purged: %w", r.Busy, ErrBusy)
	case r.Damaged > 0:
		return fmt.Errorf("%d files that cannot be read may hold what was purged: %w", r.Damaged, ErrIntegrity)
	}
	return nil
}
