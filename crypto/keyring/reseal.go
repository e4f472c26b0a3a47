package keyring

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Reseal seals the root in force by another seal, or by the same kind with
// another secret; data are not touched. What seal.json will say is tried by
// unwrapping it before the old file is replaced, which is durable on return.
// Recovery kits stay. If the old seal is a Destroyer it destroys what it had
// wrapped: seal.json says so until it is done, and Finish tries again, after a crash, too. ErrOldRoot if it failed
// after the new seal came into force; also ErrNeeded if it never will, and only another root helps.
// ErrPending if something older is to be destroyed first, and nothing was changed. After
// ErrUnsure the next start may need either seal: keep the secrets of both, and
// call it again.
//
// Whoever has an old copy of seal.json and the old secret can still unwrap the
// root in force: rotate the root afterwards, unless the old seal destroyed it.
func (k *Keyring) Reseal(ctx context.Context, to Seal) error {
	defer forget(to)
	if err := checkOutside(to, k.dir); err != nil {
		return err
	}
	if _, ok := to.(*recoverySeal); ok {
		return errors.New("a recovery kit is not a seal to change to")
	}
	k.rotating.Lock()
	defer k.rotating.Unlock()
	before := k.sealNow()
	if err := k.readyToReseal(ctx, before); err != nil {
		return err
	}
	former := k.formerOf(before)
	err := k.changeSeal(ctx, func(f *sealFile, root *root) (*sealFile, error) {
		replaced := *f
		replaced.Former = former
		next, err := replaced.resealed(ctx, to, root)
		if err != nil {
			return nil, err
		}
		again, err := next.unseal(ctx, to, root.epoch)
		if err != nil {
			return nil, fmt.Errorf("trying the new seal: %w", err)
		}
		defer again.destroy()
		if subtle.ConstantTimeCompare(again.key(), root.key()) != 1 {
			return nil, fmt.Errorf("trying the new seal: %w", ErrWrongKey)
		}
		return next, nil
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.seal = to
	k.mu.Unlock()
	k.service = ""
	if err := k.dropFormer(context.WithoutCancel(ctx), before); err != nil {
		return fmt.Errorf("%w: the new seal is in force: %w", ErrOldRoot, err)
	}
	return nil
}

// readyToReseal finishes what seal.json has no room for beside a former seal. Where a recovery kit stands in for a seal that is
// lost, that seal can destroy no old root either: it becomes a former seal with it. Called with rotating held.
func (k *Keyring) readyToReseal(ctx context.Context, before Seal) error {
	err := k.ready(ctx)
	if _, recovered := before.(*recoverySeal); recovered && err != nil && ctx.Err() == nil {
		err = k.Settle()
	}
	if err != nil {
		return err
	}
	if err := k.dropFormer(ctx, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	return nil
}

// changeSeal replaces seal.json by what fn makes of it. Called with rotating
// held. fn may ask another machine: it works on a copy of the root, so that no
// lock that others want is held.
func (k *Keyring) changeSeal(ctx context.Context, fn func(*sealFile, *root) (*sealFile, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := k.copyRoot()
	if err != nil {
		return err
	}
	defer root.destroy()
	next, err := fn(k.sealed, root)
	if err != nil {
		return err
	}
	return k.replaceSeal(next)
}

// copyRoot is the root in force in memory of its own.
func (k *Keyring) copyRoot() (*root, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	copied, err := randomRoot(k.root.epoch)
	if err == nil {
		copy(copied.page, k.root.key())
	}
	return copied, err
}

// SealInfo is what ReadSeal says, authenticated. It waits for a rotation of the
// root that is going on.
func (k *Keyring) SealInfo() (*SealInfo, error) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	return k.sealed.info()
}
