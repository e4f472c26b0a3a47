package retention

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/vfs"
)

// Loss is what another policy would destroy of one account that the one in force keeps.
type Loss struct {
	Account        string
	Names          uint64
	Versions       uint64
	Bytes          uint64    // sizes of the versions
	Stored         uint64    // bytes that would not be stored any more
	Least          bool      // so many of a part of it alone
	Oldest, Newest time.Time // when it was replaced or deleted
	Unknown        bool      // there was no time to count, or the volume did not open: the numbers are 0
}

// WouldPurge tells what r would destroy, account by account. Accounts of which it is known that nothing reaches so far back are not
// opened. What there is no time for before ctx ends is listed as unknown, not left out.
func (k *Keeper) WouldPurge(ctx context.Context, r *policy.Revision) ([]Loss, error) {
	accounts, err := k.o.Policy.Accounts()
	if err != nil {
		return nil, err
	}
	current := k.o.Policy.Current()
	var list []Loss
	for _, a := range accounts {
		was, is := current.Resolve(a.Name).Backup, r.Resolve(a.Name).Backup
		if is.Kept() >= was.Kept() || k.nothingBefore(a.ID, k.o.Clock.Before(is.Kept())) {
			continue
		}
		loss := k.count(ctx, a.Name, a.ID, was, is)
		if loss.Unknown || loss.Names+loss.Versions > 0 {
			list = append(list, loss)
		}
	}
	slices.SortStableFunc(list, func(x, y Loss) int { return cmp.Compare(y.Bytes, x.Bytes) })
	return list, nil
}

// nothingBefore tells whether it is known that an account has nothing that was superseded before an instant.
func (k *Keeper) nothingBefore(id keyring.AccountID, at time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.accounts[id]
	if known == nil || !known.known {
		return false
	}
	if !known.oldest.IsZero() {
		return known.oldest.After(at)
	}
	n, _ := k.o.Volumes.Peek(id)
	return n == known.changes
}

func (k *Keeper) count(ctx context.Context, name string, id keyring.AccountID, was, is policy.Backup) Loss {
	loss := Loss{Account: name}
	_, open := k.o.Volumes.Peek(id)
	v, err := k.o.Volumes.Volume(ctx, id)
	if err != nil {
		loss.Unknown = true
		return loss
	}
	if !open {
		defer v.Rest()
	}
	var goesAnyway time.Time // what was superseded before this is not lost by the change
	if was.Kept() != policy.Forever {
		goesAnyway = k.o.Clock.Before(was.Kept())
	}
	plan, err := v.PlanPurgeBefore(ctx, k.o.Clock.Before(is.Kept()).Add(1), func(s vfs.Superseded) bool { return s.At.After(goesAnyway) })
	if err != nil {
		loss.Unknown = true
		return loss
	}
	loss.Names, loss.Versions, loss.Bytes, loss.Oldest, loss.Newest = plan.Names, plan.Versions, plan.Bytes, plan.Oldest, plan.Newest
	loss.Stored, loss.Least = plan.Stored, plan.Least
	return loss
}
