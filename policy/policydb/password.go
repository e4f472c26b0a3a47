package policydb

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sallyport/policy"
)

// DefaultPasswordCost is bcrypt's cost: 2^12 rounds, about a quarter of a second (OWASP Password Storage Cheat Sheet asks
// for at least 10).
const DefaultPasswordCost = 12

// prehash makes 64 characters of any password, so that bcrypt's limit of 72 bytes loses nothing and NUL is safe. The
// label keeps a plain SHA-384 of the password that leaked elsewhere from being tried as it is.
func prehash(secret string) []byte {
	m := hmac.New(sha512.New384, []byte("sallyport.password.v1"))
	m.Write([]byte(secret))
	sum := m.Sum(nil)
	return base64.RawStdEncoding.AppendEncode(nil, sum)
}

// hashPassword gives the form $2b$cost$…: Go names its bcrypt $2a$, which is the same function as $2b$ in others.
func hashPassword(secret string, cost int) (string, error) {
	h, err := bcrypt.GenerateFromPassword(prehash(secret), cost)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return "$2b$" + strings.TrimPrefix(string(h), "$2a$"), nil
}

// SetPassword sets the password if the policy of the account allows it (*policy.WeakPasswordError otherwise). Sessions that
// logged in with the old one end.
func (db *DB) SetPassword(ctx context.Context, name, secret, who string) error {
	if _, err := db.Account(name); err != nil {
		return err
	}
	if err := policy.CheckPassword(db.Current().Resolve(name), secret); err != nil {
		return err
	}
	hash, err := hashPassword(secret, db.o.PasswordCost)
	if err != nil {
		return err
	}
	return db.edit(ctx, name, who, func(a *Account) error {
		a.hash, a.PasswordAt = hash, db.o.Now().UTC().Round(0)
		a.PasswordVersion++
		return nil
	})
}

// ClearPassword leaves the account without a password.
func (db *DB) ClearPassword(ctx context.Context, name, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error {
		a.hash, a.PasswordAt = "", time.Time{}
		a.PasswordVersion++
		return nil
	})
}

// HasPassword says whether the account can log in with a password at all.
func (a *Account) HasPassword() bool { return a.hash != "" }

// CheckPassword verifies a password; it takes a quarter of a second of one core.
func (a *Account) CheckPassword(secret string) bool {
	return a.hash != "" && bcrypt.CompareHashAndPassword([]byte(a.hash), prehash(secret)) == nil
}

// Decoy is an account that exists for nobody: checking a password against it takes as long as against a real one.
func (db *DB) Decoy() (*Account, error) {
	hash, err := hashPassword(rand.Text(), db.o.PasswordCost)
	if err != nil {
		return nil, err
	}
	return &Account{hash: hash}, nil
}
