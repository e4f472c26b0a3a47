package keyring

import (
	"context"
	"encoding/hex"
	"time"
)

// KeyAge is the version of a key and when it was made.
type KeyAge struct {
	Version uint32
	Created time.Time // zero = not known: the keyring is older than these times
}

// Status is what an operator wants to know of the keys. It holds no secret.
type Status struct {
	Seal          string // kind
	Set           string // of shares, hexadecimal
	Epoch         uint32 // of the root; 0 after Close
	Created       time.Time
	Policy, Audit KeyAge
	Accounts      map[AccountID]KeyAge
	// Destroys: the seal can make an old root useless.
	Destroys bool
	// Owed is how many keys of accounts were forgotten under this root: who has
	// an older keyring and this root finds them. A new root settles it.
	Owed int
	// OldRoot is the epoch of another root that seal.json still has; 0 = none.
	OldRoot uint32
	// OldRootError is why it is still there.
	OldRootError error
	// Former is the seal that another took the place of and that has not destroyed yet what it wrapped; "" = none.
	Former, FormerLabel string
	FormerError         error // why
	// Changing: root or seal are being changed at this moment.
	Changing bool
}

// shown is immutable.
type shown struct {
	sealed            *sealFile
	oldErr, formerErr error
}

// Pending tells whether something waits for being destroyed at a seal: an old root, or what a former seal wrapped. It waits for nobody.
func (k *Keyring) Pending() bool {
	now := k.shown.Load().sealed
	return len(now.Roots) > 1 || now.Former != nil
}

// show puts what there is of seal.json where Status sees it. Called with rotating held, or by the only owner.
func (k *Keyring) show() { k.shown.Store(&shown{k.sealed, k.oldErr, k.formerErr}) }

// Status waits for nobody: a change of the root or of the seal may be waiting for
// a key service.
func (k *Keyring) Status() Status {
	now := k.shown.Load()
	st := Status{Seal: now.sealed.Kind, OldRootError: now.oldErr}
	if f := now.sealed.Former; f != nil {
		st.Former, st.FormerLabel, st.FormerError = f.Kind, f.Label, now.formerErr
	}
	if info, err := now.sealed.info(); err == nil && info.Kind == KindShares {
		st.Set = hex.EncodeToString(info.Set[:])
	}
	if k.rotating.TryLock() {
		k.rotating.Unlock()
	} else {
		st.Changing = true
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, st.Destroys = k.seal.(Destroyer)
	if k.root == nil {
		return st
	}
	st.Epoch, st.Created = k.root.epoch, when(k.ring.created)
	st.Owed = int(k.ring.owed)
	st.Policy, st.Audit = k.ring.policy.age(), k.ring.audit.age()
	st.Accounts = make(map[AccountID]KeyAge, len(k.ring.accounts))
	for i := range k.ring.accounts {
		st.Accounts[k.ring.accounts[i].id] = k.ring.accounts[i].age()
	}
	for _, r := range now.sealed.Roots {
		if r.Epoch != st.Epoch {
			st.OldRoot = r.Epoch
		}
	}
	return st
}

// Age is the version and age of one account's key; ErrNoAccount if there is none.
func (k *Keyring) Age(id AccountID) (KeyAge, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return KeyAge{}, ErrSealed
	}
	i, found := k.ring.find(id)
	if !found {
		return KeyAge{}, ErrNoAccount
	}
	return k.ring.accounts[i].age(), nil
}

func (k *siteKey) age() KeyAge { return KeyAge{k.version, when(k.created)} }

func when(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Remote is a Seal whose key is kept by somebody else.
type Remote interface {
	// Reachable asks whether the key is there and may be used. It changes nothing.
	Reachable(ctx context.Context) error
}

// Reachable asks a Remote seal; known is false for a seal that asks nobody.
func (k *Keyring) Reachable(ctx context.Context) (known bool, err error) {
	r, ok := k.sealNow().(Remote)
	if !ok {
		return false, nil
	}
	return true, r.Reachable(ctx)
}
