package keyring

import (
	"context"
	"errors"
)

// KeyFileInForce is the path of the key file that seals the root; "" under a seal of another kind.
func (k *Keyring) KeyFileInForce() string {
	if s, ok := k.sealNow().(*KeyFile); ok {
		return s.Path
	}
	return ""
}

// SealedBy tells whether a seal of the kind in force opens what is sealed now: to change to it would replace no secret. It is
// false where that cannot be told, and waits for nobody but to.
func (k *Keyring) SealedBy(ctx context.Context, to Seal) (bool, error) {
	now := k.shown.Load().sealed
	if now.Kind != to.Kind() {
		return false, nil
	}
	root, err := to.Unwrap(ctx, now.Roots[len(now.Roots)-1].Wrapped)
	clear(root)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrWrongKey), errors.Is(err, ErrDamaged):
		return false, nil
	}
	return false, err
}

// Kits are the recovery kits that open the root in force, the oldest first. Like Status it waits for nobody.
func (k *Keyring) Kits() []RecoveryKit {
	kits := []RecoveryKit{}
	for _, x := range k.shown.Load().sealed.Recovery {
		kits = append(kits, x.public())
	}
	return kits
}
