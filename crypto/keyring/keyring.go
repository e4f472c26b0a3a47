// Package keyring holds the root key and everything wrapped under it: the
// policy key, the audit key and one key per account, in one file that is
// rewritten whole and renamed (docs/FORMAT.md "Keys").
package keyring

import (
	"context"
	"errors"

	"sallyport/crypto/record"
)

// AccountID names an account in keys, on disk and in audit records.
type AccountID = record.AccountID

var (
	// ErrSealed means that the root key is not available.
	ErrSealed = errors.New("keyring: sealed")
	// ErrNoAccount means that the keyring holds no key of that account.
	ErrNoAccount = errors.New("keyring: no such account")
	// ErrDamaged means that the keyring or seal.json does not authenticate.
	ErrDamaged = errors.New("keyring: damaged or not for this seal")
)

// Seal wraps and unwraps the root key. Implementations: key file now;
// passphrase, shares, transit and helper later.
type Seal interface {
	Kind() string
	Wrap(ctx context.Context, root []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// Keyring is safe for concurrent use. Every change is durable on return.
type Keyring struct{}

// Create makes seal.json and keyring in an empty state directory.
func Create(ctx context.Context, stateDir string, s Seal) (*Keyring, error) {
	return nil, errors.ErrUnsupported
}

// Open unwraps the root with s and authenticates the whole keyring.
func Open(ctx context.Context, stateDir string, s Seal) (*Keyring, error) {
	return nil, errors.ErrUnsupported
}

func (k *Keyring) NewAccount(ctx context.Context) (AccountID, error) {
	return AccountID{}, errors.ErrUnsupported
}
func (k *Keyring) RemoveAccount(ctx context.Context, id AccountID) error {
	return errors.ErrUnsupported
}
func (k *Keyring) Accounts() []AccountID { panic("skeleton") }

// Account returns the derived keys of an account (cached while in use).
func (k *Keyring) Account(id AccountID) (*record.AccountKeys, error) {
	return nil, errors.ErrUnsupported
}

// Policy and Audit are the boxes of policy.db and of the audit log. MAC keys
// for name tokens of policy.db come from PolicyToken.
func (k *Keyring) Policy() (*record.Box, error) { return nil, errors.ErrUnsupported }
func (k *Keyring) Audit() (*record.Box, error)  { return nil, errors.ErrUnsupported }

// PolicyToken hides an account or group name in a database key of policy.db.
func (k *Keyring) PolicyToken(kind, name string) [16]byte { panic("skeleton") }

// Epoch is the root key's epoch; Close forgets every key.
func (k *Keyring) Epoch() uint32 { panic("skeleton") }
func (k *Keyring) Close() error  { panic("skeleton") }

// KeyFile is the key-file seal: 32 random bytes, hex, mode 0600, outside the state directory.
type KeyFile struct{ Path string }

// NewKeyFile generates the file (fails if it exists).
func NewKeyFile(path string) (*KeyFile, error) { return nil, errors.ErrUnsupported }

func (s *KeyFile) Kind() string { return "keyfile" }
func (s *KeyFile) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
func (s *KeyFile) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
