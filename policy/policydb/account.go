package policydb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/crypto/record"
	"sallyport/policy"
)

// Account is a snapshot of one account. Immutable.
type Account struct {
	Name      string
	ID        record.AccountID
	Enabled   bool
	Created   time.Time
	CreatedBy string
	Changed   time.Time
	ChangedBy string
	Keys      []PublicKey
	// PasswordAt is when the password was set; zero = there is none.
	PasswordAt time.Time
	// PasswordVersion grows with every change of the password.
	PasswordVersion uint64
	// MustChange: the password may be used only to choose another one.
	MustChange bool
	// Second is the second factor; nil = none.
	Second *Second
	// Certified are the authorities by whose certificates the account came in lately.
	Certified []Certified
	// Removed is set in what OnAccount tells of a removed account.
	Removed bool

	hash          string
	earlier       []string // hashes of passwords before, the newest first
	secondVersion uint64   // of the last enrolment
}

// accountRecord has no name: that stands in the table of names.
type accountRecord struct {
	ID              record.AccountID `json:"id"`
	Enabled         bool             `json:"enabled"`
	Created         time.Time        `json:"created"`
	CreatedBy       string           `json:"created_by"`
	Changed         time.Time        `json:"changed"`
	ChangedBy       string           `json:"changed_by"`
	Keys            []PublicKey      `json:"keys,omitempty"`
	PasswordAt      time.Time        `json:"password_at,omitzero"`
	PasswordVersion uint64           `json:"password_version,omitempty"`
	Hash            string           `json:"hash,omitempty"`
	Earlier         []string         `json:"earlier,omitempty"`
	MustChange      bool             `json:"must_change,omitempty"`
	Second          *Second          `json:"second,omitempty"`
	SecondVersion   uint64           `json:"second_version,omitempty"`
	Certified       []Certified      `json:"certified,omitempty"`
}

func (a *Account) encode() []byte {
	return encode(accountRecord{ID: a.ID, Enabled: a.Enabled, Created: a.Created, CreatedBy: a.CreatedBy, Changed: a.Changed,
		ChangedBy: a.ChangedBy, Keys: a.Keys, PasswordAt: a.PasswordAt, PasswordVersion: a.PasswordVersion, Hash: a.hash, Earlier: a.earlier,
		MustChange: a.MustChange, Second: a.Second, SecondVersion: a.secondVersion, Certified: a.Certified})
}

func decodeAccount(name string, plain []byte) (*Account, error) {
	r, err := decode[accountRecord](plain)
	if err != nil {
		return nil, err
	}
	return r.account(name), nil
}

func (r *accountRecord) account(name string) *Account {
	return &Account{Name: name, ID: r.ID, Enabled: r.Enabled, Created: r.Created, CreatedBy: r.CreatedBy, Changed: r.Changed, ChangedBy: r.ChangedBy,
		Keys: r.Keys, PasswordAt: r.PasswordAt, PasswordVersion: r.PasswordVersion, hash: r.Hash, earlier: r.Earlier, MustChange: r.MustChange,
		Second: r.Second, secondVersion: r.SecondVersion, Certified: r.Certified}
}

func (db *DB) accountKey(id record.AccountID) []byte {
	t := db.o.Token("account record", id.String())
	return append([]byte{'a'}, t[:]...)
}

func (t *tx) account(name string) (*Account, error) {
	id, err := t.id(name)
	if err != nil {
		return nil, err
	}
	return t.accountOf(id, name)
}

func (t *tx) accountOf(id record.AccountID, name string) (*Account, error) {
	plain, err := t.get(t.db.accountKey(id))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, fmt.Errorf("%w: a name without an account", ErrDamaged)
	}
	a, err := decodeAccount(name, plain)
	if err == nil && a.ID != id {
		err = fmt.Errorf("%w: an account in the place of another", ErrDamaged)
	}
	return a, err
}

func (t *tx) putAccount(a *Account) error { return t.put(t.db.accountKey(a.ID), a.encode()) }

// Account finds an account by name; ErrNoAccount if there is none, after the time that it takes to find one.
func (db *DB) Account(name string) (a *Account, err error) {
	err = db.view(func(t *tx) error { a, err = t.account(name); return err })
	if errors.Is(err, ErrNoAccount) {
		db.decoy.look(&db.o)
	}
	return a, err
}

// AccountByID finds an account by its id, for showing the audit log with names.
func (db *DB) AccountByID(id record.AccountID) (a *Account, err error) {
	err = db.view(func(t *tx) error {
		name, err := t.name(id)
		if err != nil {
			return err
		}
		a, err = t.accountOf(id, name)
		return err
	})
	return a, err
}

// Accounts are all accounts by name.
func (db *DB) Accounts() ([]*Account, error) {
	var list []*Account
	err := db.view(func(t *tx) error {
		return t.scanNames(func(name string, id record.AccountID) error {
			a, err := t.accountOf(id, name)
			list = append(list, a)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *Account) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// NewAccount is what the creator gives; the account has nothing else.
type NewAccount struct {
	Name     string
	ID       record.AccountID // of the keyring
	Who, Why string
	Groups   []string          // which must exist in the policy
	Grants   map[string]string // setting -> value in YAML ("protocols": "[sftp]")
	// Adopt takes over rules that the policy already has for the name; otherwise they are ErrHasPolicy, because a
	// forgotten section must not give rights to somebody new.
	Adopt bool
}

// CreateAccount makes an account, enabled, without credentials, and writes its groups and grants into the policy, in one
// transaction.
func (db *DB) CreateAccount(ctx context.Context, n NewAccount) (*Account, error) {
	if !policy.ValidName(n.Name) {
		return nil, ErrBadName
	}
	now := db.o.Now().UTC().Round(0)
	a := &Account{Name: n.Name, ID: n.ID, Enabled: true, Created: now, CreatedBy: n.Who, Changed: now, ChangedBy: n.Who}
	var r *policy.Revision
	err := db.change(ctx, func(t *tx) error {
		if t.known(n.Name, n.ID) {
			return ErrExists
		}
		doc, err := db.granted(n)
		if err != nil {
			return err
		}
		if doc != nil {
			if r, err = t.putRevision(doc, n.Who, cmpOr(n.Why, "account "+n.Name+" added")); err != nil {
				return err
			}
		}
		if err := t.putName(n.Name, n.ID); err != nil {
			return err
		}
		return t.putAccount(a)
	}, func() { db.storeRevision(r) })
	if err != nil {
		return nil, err
	}
	if r != nil {
		db.tellChange(r)
	}
	db.tellAccount(a)
	return a, nil
}

// granted is the policy with the grants of a new account; nil = as it is.
func (db *DB) granted(n NewAccount) (*policy.Document, error) {
	doc := db.Current().Document
	if doc.Mentions(n.Name) && !n.Adopt {
		return nil, ErrHasPolicy
	}
	if len(n.Groups) == 0 && len(n.Grants) == 0 {
		return nil, nil
	}
	target := policy.AccountTarget(n.Name)
	var edits []policy.Edit
	if len(n.Groups) > 0 {
		edits = append(edits, policy.Edit{Target: target, Path: "groups", Value: "[" + strings.Join(n.Groups, ", ") + "]"})
	}
	for _, path := range slices.Sorted(maps.Keys(n.Grants)) {
		edits = append(edits, policy.Edit{Target: target, Path: path, Value: n.Grants[path]})
	}
	return doc.Edit(edits...)
}

func (db *DB) storeRevision(r *policy.Revision) {
	if r != nil {
		db.current.Store(r)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// RemoveAccount removes an account, its credentials and everything the policy says of it, in one transaction, so that a
// later account of that name inherits nothing. Its volume and keys are the caller's to destroy, after this. ErrHeld while anything of
// it is on hold.
func (db *DB) RemoveAccount(ctx context.Context, name, who string) (*Account, error) {
	var a *Account
	var r *policy.Revision
	err := db.change(ctx, func(t *tx) (err error) {
		if a, err = t.account(name); err != nil {
			return err
		}
		held, err := t.holds(a.ID)
		if err != nil {
			return err
		}
		if len(held.Holds) > 0 {
			return ErrHeld
		}
		if err := t.remove(db.holdKey(a.ID)); err != nil {
			return err
		}
		if doc := db.Current().Document; doc.Mentions(name) {
			if doc, err = doc.Without(name); err != nil {
				return err
			}
			if r, err = t.putRevision(doc, who, "account "+name+" removed"); err != nil {
				return err
			}
		}
		if err := t.removeName(name, a.ID); err != nil {
			return err
		}
		return t.remove(db.accountKey(a.ID))
	}, func() { db.storeRevision(r) })
	if err != nil {
		return nil, err
	}
	gone := *a
	gone.Enabled, gone.Removed = false, true
	if r != nil {
		db.tellChange(r)
	}
	db.tellAccount(&gone)
	return &gone, nil
}

// SetEnabled lets an account log in or not; live sessions of a disabled account end.
func (db *DB) SetEnabled(ctx context.Context, name string, enabled bool, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error { a.Enabled = enabled; return nil })
}

// edit changes one account. fn gets a copy whose slices it must replace, not change.
func (db *DB) edit(ctx context.Context, name, who string, fn func(*Account) error) error {
	var a *Account
	err := db.change(ctx, func(t *tx) (err error) {
		if a, err = t.account(name); err != nil {
			return err
		}
		if err := fn(a); err != nil {
			return err
		}
		a.Changed, a.ChangedBy = db.o.Now().UTC().Round(0), who
		return t.putAccount(a)
	}, func() {})
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	db.tellAccount(a)
	return nil
}
