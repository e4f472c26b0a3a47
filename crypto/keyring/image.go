package keyring

import (
	"fmt"
	"slices"
)

// Image is seal.json and keyring as of one instant, for a copy of the state elsewhere. Neither is of use without the seal.
type Image struct {
	Seal, Ring []byte
	Epoch      uint32 // of the root that wraps Ring and that Seal holds
	Accounts   []ImageAccount
}

// ImageAccount is an account of an Image, whose lists are in ascending order of id.
type ImageAccount struct {
	ID      AccountID
	Version uint32 // of its key, which names its database
}

// Image takes an Image and reads it back with the root in force. It waits for a rotation of the root that is going on, so
// the seal of the image holds the root in force and no other: opening it destroys none.
func (k *Keyring) Image() (*Image, error) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	k.write.Lock()
	defer k.write.Unlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	if err := k.settle(); err != nil { // the copy must be what a start would find
		return nil, err
	}
	i := slices.IndexFunc(k.sealed.Roots, func(r sealedRoot) bool { return r.Epoch == k.root.epoch })
	if i < 0 {
		return nil, fmt.Errorf("keyring: internal error: the root in force is not in %s", sealName)
	}
	one := k.sealed.withRoots(k.sealed.Roots[i])
	var err error
	if one.Former != nil { // a copy must destroy nothing
		if one, err = one.withoutFormer(k.root); err != nil {
			return nil, err
		}
	}
	out := &Image{Seal: one.encode(), Epoch: k.root.epoch}
	if out.Ring, err = k.ring.encode(k.root); err != nil {
		return nil, err
	}
	if _, err := decodeSeal(out.Seal); err != nil {
		return nil, fmt.Errorf("reading a copy back: %w", err)
	}
	again, err := decodeRing(out.Ring, k.root)
	if err != nil {
		return nil, fmt.Errorf("reading a copy back: %w", err)
	}
	for i := range again.accounts {
		out.Accounts = append(out.Accounts, ImageAccount{again.accounts[i].id, again.accounts[i].version})
	}
	return out, nil
}
