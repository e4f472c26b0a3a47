package keyring

import (
	"context"
	"errors"
	"fmt"
	"math"

	"sallyport/crypto/locked"
	"sallyport/crypto/record"
)

// ErrMoved means that an account's key is no longer the one that a NextKey
// was to follow.
var ErrMoved = errors.New("keyring: the account has another key by now")

// NextKey is the key that an account will have: random, of the next version.
// It is in memory only until Switch. Used by one goroutine.
type NextKey struct {
	id   AccountID
	keys *record.AccountKeys
	key  *locked.Secret
}

// Keys are derived from the next key.
func (n *NextKey) Keys() *record.AccountKeys { return n.keys }

// Discard forgets a key that was not switched to. It may be called after Switch.
func (n *NextKey) Discard() { n.key.Wipe() }

// NextKey draws the next key of an account; ErrNoAccount if there is none.
func (k *Keyring) NextKey(id AccountID) (*NextKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	i, found := k.ring.find(id)
	if !found {
		return nil, ErrNoAccount
	}
	version := k.ring.accounts[i].version
	if version == math.MaxUint32 {
		return nil, fmt.Errorf("keyring: no key versions are left for account %v", id)
	}
	key := locked.Random(keySize)
	var keys *record.AccountKeys
	var err error
	key.Use(func(b []byte) { keys, err = record.Derive((*record.Key)(b), id, version+1) })
	if err != nil {
		return nil, err
	}
	return &NextKey{id: id, keys: keys, key: key}, nil
}

// Switch puts next keys in force, all of them or none, with one rewrite of the
// keyring: from its rename on the keyring names their versions, and the old keys are gone
// from it. ErrMoved if one of the accounts was switched meanwhile, ErrNoAccount if it is gone.
//
// After ErrUnsure the disk may name the old or the new versions: both trees
// must be kept, and neither written to, until Settle succeeds, which decides for the old ones.
func (k *Keyring) Switch(ctx context.Context, next ...*NextKey) error {
	err := k.change(ctx, func(root *root, r *ring) (*ring, error) {
		kek, err := root.kek()
		if err != nil {
			return nil, err
		}
		changed := r.clone()
		for _, n := range next {
			i, found := r.find(n.id)
			if !found {
				return nil, ErrNoAccount
			}
			e := entry{id: n.id, siteKey: siteKey{version: n.keys.Version(), created: k.now().UnixNano()}}
			if changed.accounts[i].version != e.version-1 {
				return nil, ErrMoved
			}
			n.key.Use(func(b []byte) {
				copy(e.wrapped[:], kek.Wrap(n.id, record.DomainAccountKey, versionKey(e.version), (*record.Key)(b)))
			})
			changed.exchange(i, e, root)
		}
		return changed, nil
	})
	if err != nil {
		return err
	}
	for _, n := range next {
		k.cache.put(n.id, n.keys)
		n.Discard()
	}
	k.Sweep()
	return nil
}
