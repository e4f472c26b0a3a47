package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// ErrOldRoot means that a rotation is in force and that the old root has not
// been destroyed yet: seal.json still holds it. RotateRoot and Open try again.
var ErrOldRoot = errors.New("keyring: the old root key is not destroyed yet")

// ErrPending means that nothing was changed, because an earlier rotation left a
// root that cannot be destroyed now. It is never ErrOldRoot, after which the
// change that was asked for is in force.
var ErrPending = errors.New("keyring: nothing was changed, because an older root key is not destroyed yet")

// Destroyer is a Seal that can make useless for ever what it wrapped earlier,
// also for whoever has its present secret and a copy of the old wrapped root.
type Destroyer interface {
	// DestroyOld makes wrapped impossible to unwrap. What Wrap returned later
	// must still unwrap. It may be called again for what it destroyed before.
	//
	// keep wraps the root in force. wrapped is from seal.json, where nothing
	// authenticates it after a crash: whoever can write there could name a key
	// that is in use, and have it destroyed for every backup, too. So what
	// cannot be destroyed without harm to keep must be refused. nil = another
	// seal has the root in force.
	DestroyOld(ctx context.Context, wrapped, keep []byte) error
}

// RotateRoot puts a new root key in force, under the next epoch, and rewraps
// every key of the keyring under it. seal.json holds both roots while keyring
// is rewritten; its rename is the commit point, and Open finishes or rolls back what a crash
// cut off. Then the seal destroys the old root if it is a Destroyer, and it leaves
// seal.json; ErrOldRoot if that failed after the new root came into force,
// ErrPending if an older one is in the way.
//
// Lookups go on meanwhile; NewAccount and RemoveAccount wait for the rewrite,
// about 0.5 s per 100,000 accounts (docs/PERFORMANCE.md).
func (k *Keyring) RotateRoot(ctx context.Context) error { return k.rotateRoot(ctx, k.sealNow()) }

// RotateRootTo is RotateRoot with another seal of the same kind, such as a new
// key file, which wraps the new root and those after it. The old seal must be
// kept until it returns without an error, and destroyed then.
func (k *Keyring) RotateRootTo(ctx context.Context, s Seal) error { return k.rotateRoot(ctx, s) }

// DestroyAccount is RotateRoot without the account, in one commit: no keyring
// that opens with the root in force ever had its key. ErrNoAccount if there is
// none; ErrOldRoot if the account is gone and the old root is not; ErrPending
// if the account is still there, because an older root is in the way.
func (k *Keyring) DestroyAccount(ctx context.Context, id AccountID) error {
	return k.rotateRoot(ctx, k.sealNow(), id)
}

// errLeft is why an old root is still there when a keyring was opened.
var errLeft = errors.New("the process that replaced it ended before that was done")

// DestroyOldRoot finishes a rotation whose old root could not be destroyed;
// nil if there is none. ErrOldRoot if it still cannot.
func (k *Keyring) DestroyOldRoot(ctx context.Context) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	return oldRoot(k.dropRoots(ctx))
}

// oldRoot says that a change is in force and the old root is still there.
func oldRoot(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrOldRoot, err)
}

// ready finishes an earlier rotation before seal.json is changed again, for it
// has room for one old root. Called with rotating held.
func (k *Keyring) ready(ctx context.Context) error {
	if err := k.dropRoots(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	return nil
}

func (k *Keyring) rotateRoot(ctx context.Context, s Seal, without ...AccountID) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	if err := checkOutside(s, k.dir); err != nil {
		return err
	}
	if err := k.ready(ctx); err != nil {
		return err
	}
	epoch := k.Epoch()
	switch {
	case epoch == 0:
		return ErrSealed
	case epoch == math.MaxUint32:
		return errors.New("keyring: no root epochs are left")
	case s.Kind() != k.sealed.Kind:
		return fmt.Errorf("keyring: a seal of kind %q in the place of %q: %w", s.Kind(), k.sealed.Kind, errors.ErrUnsupported)
	case !k.sealed.sameParams(s):
		return fmt.Errorf("keyring: a seal of other parameters, which Reseal changes: %w", errors.ErrUnsupported)
	}
	next, err := randomRoot(epoch + 1)
	if err != nil {
		return err
	}
	fresh, err := k.sealed.wrap(ctx, s, next) // may ask another machine: no lock that others want is held
	if err == nil {
		err = k.writeSeal(append([]sealedRoot{}, k.sealed.Roots[0], fresh))
	}
	if err == nil {
		err = k.rewrap(ctx, next, without)
	}
	if err != nil {
		next.destroy()
		if len(k.sealed.Roots) > 1 && !errors.Is(err, ErrUnsure) {
			err = errors.Join(err, k.dropRoots(context.WithoutCancel(ctx)))
		}
		return err
	}
	k.mu.Lock()
	k.seal = s
	k.mu.Unlock()
	return oldRoot(k.dropRoots(context.WithoutCancel(ctx)))
}

func (k *Keyring) sealNow() Seal {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.seal
}

// rewrap rewrites the keyring under the new root and puts that in force.
func (k *Keyring) rewrap(ctx context.Context, next *root, without []AccountID) error {
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
	kept := k.ring
	for _, id := range without {
		i, found := kept.find(id)
		if !found {
			return ErrNoAccount
		}
		kept = kept.without(i, k.root)
	}
	ring, err := kept.rewrap(k.root, next)
	if err != nil {
		return err
	}
	ring.created = k.now().UnixNano()
	if err := k.commit(next, ring); err != nil {
		return err
	}
	k.mu.Lock()
	old := k.root
	k.root, k.ring = next, ring
	k.mu.Unlock()
	old.destroy() // whoever looked something up with it held mu
	k.Sweep()     // what was expanded from it, and keys of the accounts that went
	return nil
}

// rewrap makes the same ring under another root.
func (r *ring) rewrap(from, to *root) (*ring, error) {
	old, err := from.kek()
	if err != nil {
		return nil, err
	}
	kek, err := to.kek()
	if err != nil {
		return nil, err
	}
	one := func(id AccountID, d record.Domain, s siteKey) (siteKey, error) {
		key, err := old.Unwrap(id, d, versionKey(s.version), s.wrapped[:])
		if err != nil {
			return s, fmt.Errorf("%w: rewrapping a key: %w", ErrDamaged, err)
		}
		copy(s.wrapped[:], kek.Wrap(id, d, versionKey(s.version), key))
		clear(key[:])
		return s, nil
	}
	next := &ring{accounts: make([]entry, len(r.accounts)), created: r.created}
	if next.policy, err = one(AccountID{}, record.DomainPolicyKey, r.policy); err != nil {
		return nil, err
	}
	if next.audit, err = one(AccountID{}, record.DomainAuditKey, r.audit); err != nil {
		return nil, err
	}
	for i, e := range r.accounts {
		next.accounts[i].id = e.id
		if next.accounts[i].siteKey, err = one(e.id, record.DomainAccountKey, e.siteKey); err != nil {
			return nil, err
		}
	}
	next.sum = next.compute(to)
	return next, nil
}

// writeSeal replaces seal.json. Called with rotating held.
func (k *Keyring) writeSeal(roots []sealedRoot) error {
	return k.replaceSeal(k.sealed.withRoots(roots...))
}

// replaceSeal makes f the seal.json. On error the disk holds the one that was
// there, or ErrUnsure: it may need the secret of either, and the caller must
// throw neither away. Called with rotating held.
func (k *Keyring) replaceSeal(f *sealFile) error {
	path := filepath.Join(k.dir, sealName)
	err := k.replace(path, f.encode(), fileMode)
	if errors.Is(err, durable.ErrUncertain) { // f is there now, and nobody knows for how long
		if again := k.replace(path, k.sealed.encode(), fileMode); again != nil {
			err = fmt.Errorf("%w: %w", ErrUnsure, errors.Join(err, again))
		}
	}
	if err != nil {
		return err
	}
	k.sealed = f
	k.show()
	return nil
}

// dropRoots takes out of seal.json every root but the one in force: an old one
// after the seal destroyed it, and one that never came into force. Called with rotating held.
func (k *Keyring) dropRoots(ctx context.Context) (err error) {
	if len(k.sealed.Roots) < 2 {
		return nil
	}
	defer func() {
		k.oldErr = oldRoot(err)
		k.show()
	}()
	if err := k.Settle(); err != nil { // the disk may name the other root
		return err
	}
	epoch := k.Epoch()
	if epoch == 0 {
		return ErrSealed
	}
	i := slices.IndexFunc(k.sealed.Roots, func(r sealedRoot) bool { return r.Epoch == epoch })
	if i < 0 {
		return fmt.Errorf("keyring: internal error: the root in force is not in %s", sealName)
	}
	inForce := k.sealed.Roots[i]
	for _, r := range k.sealed.Roots {
		// A root that never came into force wraps nothing; to destroy it could
		// take the older one, which is in force, with it.
		if r.Epoch >= epoch || bytes.Equal(r.Wrapped, inForce.Wrapped) {
			continue
		}
		d, err := k.destroyerNow(ctx)
		if err == nil && d != nil {
			if err = d.DestroyOld(ctx, r.Wrapped, inForce.Wrapped); err == nil {
				err = k.told(ctx, Finished{OldRoot: r.Epoch})
			}
		}
		if err != nil {
			return fmt.Errorf("epoch %d: %w", r.Epoch, err)
		}
	}
	return k.writeSeal([]sealedRoot{inForce})
}

// recoverRotation finishes or rolls back a rotation that a crash cut off. What a seal has to destroy stays for Finish, because nobody
// could be told yet, and Status shows it: the keys work either way.
func (k *Keyring) recoverRotation(ctx context.Context) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	if len(k.sealed.Roots) < 2 {
		return nil
	}
	if _, destroys := k.sealNow().(Destroyer); destroys && k.olderRoot() != 0 {
		k.oldErr = oldRoot(errLeft)
		k.show()
		return nil
	}
	_ = k.dropRoots(ctx) // oldErr has it
	return ctx.Err()
}

// destroyerNow is what destroys old roots; nil if the seal cannot.
func (k *Keyring) destroyerNow(ctx context.Context) (Destroyer, error) {
	seal := k.sealNow()
	if _, recovered := seal.(*recoverySeal); recovered && k.sealed.Kind != KindKeyFile {
		info, err := k.sealed.info()
		if err != nil || info.Label == "" { // people open it
			return nil, err
		}
		// The kit opens what that seal wrapped and cannot destroy it: forgetting about it would leave it there for ever.
		d, _, err := k.destroyer(ctx, info.Kind, info.Label)
		if errors.Is(err, errKept) {
			err = nil
		}
		return d, err
	}
	d, _ := seal.(Destroyer)
	return d, nil
}
