package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/server/shred"
	"sallyport/vfs"
)

// SealStatus is what there is to know of the keys of an unsealed server.
type SealStatus struct {
	Kind     string    `json:"kind"`
	Set      string    `json:"set,omitempty"` // of shares
	Epoch    uint32    `json:"epoch"`         // of the root
	Created  time.Time `json:"created,omitzero"`
	Destroys bool      `json:"destroys"` // the seal can destroy an old root
	// Service is whether a key service answers: "reachable", or "not reachable: " and why; "" where there is none.
	Service  string `json:"service,omitempty"`
	Token    string `json:"token,omitempty"`    // what is known of the token for it: a sentence without its subject
	Changing bool   `json:"changing,omitempty"` // root or seal are being changed at this moment
	// Owed are keys of accounts that were replaced or removed under this root.
	Owed         int    `json:"owed"`
	OldRoot      uint32 `json:"old_root,omitempty"`       // epoch of a root that the seal has not destroyed yet
	OldRootError string `json:"old_root_error,omitempty"` // why
	// Former is a seal (kind and label) that another took the place of, and that has not destroyed yet what it wrapped.
	Former      string    `json:"former,omitempty"`
	FormerError string    `json:"former_error,omitempty"` // why
	NextTry     time.Time `json:"next_try,omitzero"`      // when the server tries again to destroy what waits
	Policy      KeyState  `json:"policy"`
	Audit       KeyState  `json:"audit"`
	// Kits open the root whatever becomes of the seal: one that nobody knows of is a reason to revoke it.
	Kits     []KitState     `json:"kits"`
	Accounts []KeyedAccount `json:"accounts"`
}

// KitState is what is known of a recovery kit without it.
type KitState struct {
	ID string `json:"id"`
	// Recipient is the beginning of the SHA-256 of whom it was made for: seal.json does not say who that is.
	Recipient string    `json:"recipient"`
	Created   time.Time `json:"created"`
}

// KeyState is the version of a key and when it was made; no time = not known.
type KeyState struct {
	Version uint32    `json:"version"`
	Created time.Time `json:"created,omitzero"`
}

// KeyedAccount is an account with its key.
type KeyedAccount struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	KeyState
	AwaitingShred uint64 `json:"awaiting_shred"` // bytes purged since
}

// SealRotate asks for a new root, and for new keys of all accounts or of some.
type SealRotate struct {
	Change
	Accounts bool     `json:"accounts,omitempty"` // of all accounts, too
	Only     []string `json:"only,omitempty"`     // of these accounts, and no new root
}

// ShredAsk asks for a shred epoch: of one account, or of all in which something awaits it.
type ShredAsk struct {
	Change
	Account string `json:"account,omitempty"`
}

// KeysRotated says what has a new key.
type KeysRotated struct {
	Epoch     uint32           `json:"epoch"`
	NewRoot   bool             `json:"new_root"`
	Destroyed bool             `json:"destroyed"` // the seal has destroyed the old root
	Bytes     uint64           `json:"bytes"`     // that were purged, and are shredded now
	Accounts  []RotatedAccount `json:"accounts"`
	Audit     uint64           `json:"audit,omitempty"` // number of the record
	At        time.Time        `json:"at,omitzero"`
	Pending   string           `json:"pending,omitempty"` // why the old root is still there
}

// RotatedAccount is one account of KeysRotated.
type RotatedAccount struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	Version uint32 `json:"version"` // in force
	Error   string `json:"error,omitempty"`
}

// Destroyed is the receipt of a destroyed account; it is in the audit log.
type Destroyed struct {
	ID      string `json:"id"`
	Version uint32 `json:"version"` // of the key that is gone
	Epoch   uint32 `json:"epoch"`   // of the root, which never wrapped it
	// OldRoot says whether the seal has destroyed the root that wrapped it. Where it has not, old copies of seal.json and keyring
	// open the account to whoever has the seal's secret.
	OldRoot bool      `json:"old_root_destroyed"`
	Audit   uint64    `json:"audit"` // number of the record
	At      time.Time `json:"at"`
	Pending string    `json:"pending,omitempty"` // why the old root is still there
}

// serviceTime is how long a status waits for a key service.
const serviceTime = 3 * time.Second

func (s *Server) service(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, serviceTime)
	defer cancel()
	known, err := s.o.Keyring.Reachable(ctx)
	switch {
	case !known:
		return ""
	case err != nil:
		return "not reachable: " + err.Error()
	}
	return "reachable"
}

func (s *Server) sealStatus(ctx context.Context, _ Peer, _ Empty) (SealStatus, error) {
	st := s.o.Keyring.Status()
	out := SealStatus{
		Kind: st.Seal, Set: st.Set, Epoch: st.Epoch, Created: st.Created, Destroys: st.Destroys, Owed: st.Owed, OldRoot: st.OldRoot,
		Policy: KeyState(st.Policy), Audit: KeyState(st.Audit), Accounts: []KeyedAccount{}, Changing: st.Changing, Service: s.service(ctx),
	}
	if st.OldRootError != nil {
		out.OldRootError = st.OldRootError.Error()
	}
	if st.Former != "" {
		out.Former = st.Former + " " + st.FormerLabel
	}
	if st.FormerError != nil {
		out.FormerError = st.FormerError.Error()
	}
	if s.o.Token != nil && st.Seal == keyring.KindTransit {
		out.Token = s.o.Token()
	}
	if s.o.Finish != nil {
		out.NextTry = s.o.Finish.Next()
	}
	out.Kits = make([]KitState, 0)
	for _, kit := range s.o.Keyring.Kits() {
		out.Kits = append(out.Kits, KitState{kit.ID, kit.Recipient, kit.Created})
	}
	names, err := s.accountNames()
	if err != nil {
		return SealStatus{}, err
	}
	for id, age := range st.Accounts {
		if err := ctx.Err(); err != nil {
			return SealStatus{}, err
		}
		a := KeyedAccount{Account: names[id], ID: id.String(), KeyState: KeyState(age)}
		if v, err := s.o.Volumes.Volume(ctx, id); err == nil {
			a.AwaitingShred = v.Stats().AwaitingShred
		}
		out.Accounts = append(out.Accounts, a)
	}
	slices.SortFunc(out.Accounts, func(a, b KeyedAccount) int { return strings.Compare(a.Account+a.ID, b.Account+b.ID) })
	return out, nil
}

func (s *Server) accountNames() (map[keyring.AccountID]string, error) {
	accounts, err := s.o.Policy.Accounts()
	names := make(map[keyring.AccountID]string, len(accounts))
	for _, a := range accounts {
		names[a.ID] = a.Name
	}
	return names, err
}

// sealRotate gives the root a new epoch, and accounts new keys.
func (s *Server) sealRotate(ctx context.Context, who Peer, r SealRotate) (KeysRotated, error) {
	var ids []keyring.AccountID
	for _, name := range r.Only {
		a, err := s.o.Policy.Account(name)
		if err != nil {
			return KeysRotated{}, err
		}
		ids = append(ids, a.ID)
	}
	switch {
	case len(ids) > 0:
		return s.compact(ctx, who, r.Reason, ids)
	case r.Accounts:
		return s.shred(ctx, who, r.Reason, vfs.ShredOptions{Accounts: s.o.Keyring.Accounts(), Epoch: true})
	}
	err := s.o.Keyring.RotateRoot(ctx)
	if err != nil && !errors.Is(err, keyring.ErrOldRoot) {
		return KeysRotated{}, s.sealError("rotating the root key", err)
	}
	st := s.o.Keyring.Status()
	out := KeysRotated{Epoch: st.Epoch, NewRoot: true, Destroyed: st.Destroys && err == nil, Accounts: []RotatedAccount{}, At: time.Now()}
	if err != nil {
		out.Pending = err.Error()
		s.left()
	}
	var recErr error
	out.Audit, recErr = s.recordSeq(ctx, who, audit.Event{Action: audit.RootRotate, Version: uint64(st.Epoch), Detail: r.Reason})
	return out, recErr
}

// volumeCompact gives accounts new keys and compact databases; the root stays.
func (s *Server) volumeCompact(ctx context.Context, who Peer, r ShredAsk) (KeysRotated, error) {
	ids, err := s.idsOf(r.Account)
	if err != nil {
		return KeysRotated{}, err
	}
	return s.compact(ctx, who, r.Reason, ids)
}

func (s *Server) idsOf(account string) ([]keyring.AccountID, error) {
	if account == "" {
		return s.o.Keyring.Accounts(), nil
	}
	a, err := s.o.Policy.Account(account)
	if err != nil {
		return nil, err
	}
	return []keyring.AccountID{a.ID}, nil
}

func (s *Server) compact(ctx context.Context, who Peer, reason string, ids []keyring.AccountID) (KeysRotated, error) {
	var all []vfs.Rotated
	err := s.o.Volumes.Rotate(ctx, ids, func(r vfs.Rotated) { all = append(all, r) })
	for _, r := range all {
		if r.Err != nil {
			s.o.Log.Error("an account could not get a new key", "account", r.ID, "error", r.Err)
			continue
		}
		e := audit.Event{Action: audit.AccountRekey, Account: audit.ID(r.ID), Version: uint64(r.Version), Detail: reason}
		err = errors.Join(err, s.record(ctx, who, e))
	}
	if err != nil {
		return KeysRotated{}, err
	}
	out := KeysRotated{Epoch: s.o.Keyring.Epoch(), At: time.Now()}
	out.Accounts, err = s.rotatedAccounts(all)
	return out, err
}

func (s *Server) rotatedAccounts(all []vfs.Rotated) ([]RotatedAccount, error) {
	names, err := s.accountNames()
	out := []RotatedAccount{}
	for _, r := range all {
		a := RotatedAccount{Account: names[r.ID], ID: r.ID.String(), Version: r.Version}
		if r.Err != nil {
			a.Error = r.Err.Error()
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b RotatedAccount) int { return strings.Compare(a.Account+a.ID, b.Account+b.ID) })
	return out, err
}

// backupPurge shreds now what was purged.
func (s *Server) backupPurge(ctx context.Context, who Peer, r ShredAsk) (KeysRotated, error) {
	o := vfs.ShredOptions{}
	if r.Account != "" {
		ids, err := s.idsOf(r.Account)
		if err != nil {
			return KeysRotated{}, err
		}
		o.Accounts, o.Epoch = ids, true
	}
	return s.shred(ctx, who, r.Reason, o)
}

func (s *Server) shred(ctx context.Context, who Peer, reason string, o vfs.ShredOptions) (KeysRotated, error) {
	got, err := s.o.Shred(ctx, who.String(), reason, o)
	if err != nil && !shred.Pending(err) {
		return KeysRotated{}, s.sealError("the shred epoch is not complete", err)
	}
	out := KeysRotated{Epoch: got.Epoch, NewRoot: got.NewRoot, Destroyed: got.Destroyed, Bytes: got.Bytes, Audit: got.Seq, At: got.At}
	if err != nil {
		out.Pending = err.Error()
	}
	out.Accounts, err = s.rotatedAccounts(got.Accounts)
	return out, err
}

// accountDestroy removes an account so that it is gone for good: its key is in
// no keyring that the root in force opens.
func (s *Server) accountDestroy(ctx context.Context, who Peer, r AccountRef) (Destroyed, error) {
	id, err := s.toRemove(r.Name)
	if err != nil {
		return Destroyed{}, err
	}
	age, err := s.o.Keyring.Age(id)
	if err != nil {
		return Destroyed{}, fmt.Errorf("finding the account's key: %w", err)
	}
	if id, err = s.removeName(ctx, who, r.Name, id); err != nil {
		return Destroyed{}, err
	}
	ctx = context.WithoutCancel(ctx) // half a removal helps nobody
	err = s.o.Keyring.DestroyAccount(ctx, id)
	waits := ""
	if err != nil && !errors.Is(err, keyring.ErrOldRoot) {
		// The seal is away, or an older root is in the way. Nobody could name the account any more to try again: its key
		// goes now, and the root that older keyrings open with goes with the next epoch, which the keyring owes.
		if again := s.o.Keyring.RemoveAccount(ctx, id); again == nil || errors.Is(again, keyring.ErrNoAccount) {
			waits, err = "the root key is not replaced yet: "+err.Error(), nil
		}
	}
	out := Destroyed{ID: id.String(), Version: age.Version, Epoch: s.o.Keyring.Epoch(), At: time.Now(), Pending: waits}
	switch {
	case errors.Is(err, keyring.ErrOldRoot):
		out.Pending = err.Error()
		s.left()
	case err != nil:
		return out, fmt.Errorf("destroying the account's key: %w", err)
	}
	out.OldRoot = out.Pending == "" && s.o.Keyring.Status().Destroys
	removed := s.removeVolume(ctx, id)
	detail := "root epoch " + fmt.Sprint(out.Epoch)
	if waits != "" {
		detail += ", root not replaced yet"
	} else if out.Pending != "" {
		detail += ", old root still at the seal"
	}
	out.Audit, err = s.recordSeq(ctx, who, audit.Event{
		Action: audit.AccountDestroy, Account: audit.ID(id), Version: uint64(age.Version), Time: out.At, Detail: join(detail, r.Reason),
	})
	return out, errors.Join(removed, err)
}

// recordSeq is record that tells the number.
func (s *Server) recordSeq(ctx context.Context, who Peer, e audit.Event) (seq uint64, err error) {
	return seq, s.recorded(ctx, who, e, func(ctx context.Context, e audit.Event) error {
		seq, err = s.o.RecordSeq(ctx, e)
		return err
	})
}
