package policydb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/breached"
)

// PasswordChange is a new password of an account.
type PasswordChange struct {
	Account, Who string
	Secret       string
	// Hash, instead of Secret, is one that another system made (bcrypt or argon2id). Its password cannot be judged; it is
	// stored anew when it logs in.
	Hash string
	// MustChange: it may be used only to choose another one.
	MustChange bool
	// Other: it must be another one than now, whatever password.history says.
	Other bool
	// Proven is the account whose password the one who changes it proved to know; nil = an operator, who need not. ErrOutrun if
	// somebody has changed the password or disabled the account since: an owner's change must not undo that.
	Proven *Account
}

// SetPassword sets the password if the policy of the account allows it (*policy.WeakPasswordError otherwise). Sessions that
// logged in with the old one end.
func (db *DB) SetPassword(ctx context.Context, name, secret, who string) error {
	return db.ChangePassword(ctx, PasswordChange{Account: name, Secret: secret, Who: who})
}

// ChangePassword is SetPassword with all that can be said. ErrBadHash if Hash is not one that can be checked; approved.ErrNotFIPS if it may
// not be.
func (db *DB) ChangePassword(ctx context.Context, c PasswordChange) error {
	a, err := db.Account(c.Account)
	if err != nil {
		return err
	}
	p := db.Current().Resolve(c.Account)
	stored := ""
	if c.Hash != "" {
		if stored, err = importHash(c.Hash); err != nil {
			return err
		}
	} else {
		if err := CheckPassword(p, c.Secret); err != nil {
			return err
		}
		if err := a.usedBefore(p, c); err != nil {
			return err
		}
		if stored, err = db.hash(p.Password.Hash, c.Secret); err != nil {
			return err
		}
	}
	return db.edit(ctx, c.Account, c.Who, func(a *Account) error {
		if p := c.Proven; p != nil && (a.ID != p.ID || a.PasswordVersion != p.PasswordVersion || !a.Enabled) {
			return ErrOutrun
		}
		if a.hash != "" {
			a.earlier = append([]string{a.hash}, a.earlier...)
		}
		a.earlier = a.earlier[:min(len(a.earlier), max(p.Password.History-1, 0))]
		a.hash, a.PasswordAt, a.MustChange = stored, db.o.Now().UTC().Round(0), c.MustChange
		a.PasswordVersion++
		return nil
	})
}

// CheckPassword judges a new password by everything but the ones that the account had before.
func CheckPassword(p *policy.Effective, secret string) error {
	if err := policy.CheckPassword(p, secret); err != nil {
		return err
	}
	if !p.Password.CheckBreached {
		return nil
	}
	named := len(p.Account) >= 4 && strings.Contains(strings.ToLower(secret), strings.ToLower(p.Account)) && len(secret)-len(p.Account) <= 6
	if named || breached.Contains(secret) {
		return weak(p, "password.check_breached", "it is one of those that are tried first, or the account's name, with little around it")
	}
	return nil
}

func weak(p *policy.Effective, path, why string) error {
	text, origin := p.Value(path)
	return &policy.WeakPasswordError{Rule: path + " = " + text, Origin: origin.String(), Why: why}
}

// usedBefore compares with the password of now and those before; each costs a hash. Those that may not be verified (checkable) are
// passed over, or nobody could choose another password under fips140=only.
func (a *Account) usedBefore(p *policy.Effective, c PasswordChange) error {
	most := p.Password.History
	if c.Other {
		most = max(most, 1)
	}
	if most == 0 || a.hash == "" && len(a.earlier) == 0 {
		return nil
	}
	list := append([]string{a.hash}, a.earlier...)
	for _, h := range list[:min(len(list), most)] {
		if h != "" && matches(h, c.Secret) {
			return weak(p, "password.history", "it was used before")
		}
	}
	return nil
}

// RequireChange has the owner of an account choose another password at the next login with the present one. Logins with keys are not
// concerned.
func (db *DB) RequireChange(ctx context.Context, name, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error {
		if a.hash == "" {
			return ErrNoPassword
		}
		a.MustChange = true
		return nil
	})
}

// ClearPassword leaves the account without a password.
func (db *DB) ClearPassword(ctx context.Context, name, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error {
		a.hash, a.PasswordAt, a.earlier, a.MustChange = "", time.Time{}, nil, false
		a.PasswordVersion++
		return nil
	})
}

// HasPassword says whether the account can log in with a password at all.
func (a *Account) HasPassword() bool { return a.hash != "" }

// PasswordExpired says whether the password may only be used to choose another one.
func (a *Account) PasswordExpired(p *policy.Effective, now time.Time) bool {
	if a.hash == "" {
		return false
	}
	days := p.Password.MaxAgeDays
	return a.MustChange || days > 0 && !now.Before(a.PasswordAt.AddDate(0, 0, days))
}

// PasswordUsable returns approved.ErrNotFIPS if the hash of the password is of a kind that may not be verified: the password must be set
// anew.
func (a *Account) PasswordUsable() error {
	if a.hash == "" {
		return ErrNoPassword
	}
	return checkable(a.hash)
}

// CheckPassword verifies a password; it takes a quarter of a second of one core.
func (a *Account) CheckPassword(secret string) bool { return a.hash != "" && matches(a.hash, secret) }

// Upgrade stores a password that was just verified anew, if its hash is not of the kind and cost that the policy asks for. The
// password stays the same one: nothing ends, nothing is told.
func (db *DB) Upgrade(ctx context.Context, checked *Account, secret string) error {
	kind := db.Current().Resolve(checked.Name).Password.Hash
	if db.fresh(kind, checked.hash) {
		return nil
	}
	stored, err := db.hash(kind, secret)
	if err != nil {
		return err
	}
	return db.change(ctx, func(t *tx) error {
		a, err := t.account(checked.Name)
		if err != nil || a.PasswordVersion != checked.PasswordVersion || a.ID != checked.ID {
			return err
		}
		a.hash = stored
		return t.putAccount(a)
	}, func() {})
}

// Decoy is an account that exists for nobody: checking a password against it takes as long as against a real one whose hash is of
// that kind. It is random in the form of such a hash and of no password, so that making it costs nothing: a server is open sooner, and
// there is no time in which the decoys are not there yet.
func (db *DB) Decoy(kind string) *Account { return &Account{hash: db.randomHash(kind)} }

var (
	// ErrBadHash: not a hash that can be checked.
	ErrBadHash = errors.New("policydb: not a bcrypt or argon2id hash, or one of unreasonable cost")
	// ErrOutrun: the password is not the one any more that was proven.
	ErrOutrun = errors.New("policydb: the password was changed meanwhile")
	// ErrNoPassword: the account has no password.
	ErrNoPassword = errors.New("policydb: the account has no password")
)

func badHash(why string) error { return fmt.Errorf("%w: %s", ErrBadHash, why) }
