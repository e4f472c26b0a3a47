package keyring

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"sallyport/crypto/locked"
	"sallyport/crypto/record"
)

// Seals that people open wrap each root to the public half of a P-256 key, so
// that a new root needs nobody. Their secret unlocks the private half, which is
// in seal.json. ECDH with an ephemeral key, HKDF-SHA-256, and the seal of
// records: all of it standard library and allowed under fips140=only, which
// crypto/hpke is not with every module version (docs/FORMAT.md "Public-key
// wrapping").
const (
	pointSize      = 65 // uncompressed
	publicWrapSize = pointSize + record.WrappedSize
	publicLabel    = "sallyport.publicwrap.v1\x00"
)

// wrapToPublic is ephemeral point ‖ root wrapped under the agreed key.
func wrapToPublic(public *ecdh.PublicKey, root []byte) ([]byte, error) {
	if len(root) != keySize {
		return nil, fmt.Errorf("keyring: internal error: a root key of %d bytes", len(root))
	}
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an ephemeral key: %w", err)
	}
	point := ephemeral.PublicKey().Bytes()
	defer locked.Private(ephemeral)
	secret, err := agree(ephemeral, public, publicLabel, point, public.Bytes())
	if err != nil {
		return nil, err
	}
	kek, err := agreedKEK(secret)
	if err != nil {
		return nil, err
	}
	key := record.Key(root)
	defer clear(key[:])
	return append(point, kek.Wrap(AccountID{}, record.DomainRootKey, []byte(keyFilePlace), &key)...), nil
}

// unwrapWithPrivate is the inverse of wrapToPublic. ErrWrongKey if it was
// wrapped to another key, ErrDamaged if it is not what was wrapped.
func unwrapWithPrivate(private *ecdh.PrivateKey, wrapped []byte) ([]byte, error) {
	damaged := damagedSeal("the wrapped root key does not authenticate")
	if len(wrapped) != publicWrapSize {
		return nil, damaged
	}
	point := wrapped[:pointSize]
	ephemeral, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, damaged
	}
	secret, err := agree(private, ephemeral, publicLabel, point, private.PublicKey().Bytes())
	if err != nil {
		return nil, err
	}
	kek, err := agreedKEK(secret)
	if err != nil {
		return nil, err
	}
	key, err := kek.Unwrap(AccountID{}, record.DomainRootKey, []byte(keyFilePlace), wrapped[pointSize:])
	switch {
	case errors.Is(err, record.ErrWrongKey):
		return nil, fmt.Errorf("%w: the root key was wrapped to another public key", ErrWrongKey)
	case err != nil:
		return nil, damaged
	}
	return key[:], nil
}

// agree derives the key between two P-256 keys; both points go into it.
func agree(private *ecdh.PrivateKey, public *ecdh.PublicKey, label string, ephemeral, recipient []byte) (*locked.Secret, error) {
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("agreeing on a key: %w", err)
	}
	defer clear(shared)
	return locked.HKDF(sha256.New, shared, []byte(label+string(ephemeral)+string(recipient)), keySize), nil
}

// agreedKEK uses the key up.
func agreedKEK(secret *locked.Secret) (kek *record.KEK, err error) {
	defer secret.Wipe()
	secret.Use(func(b []byte) { kek, err = record.NewKEK((*record.Key)(b), 0) })
	return kek, err
}

// keyPair is the part of the parameters that all seals for people share.
type keyPair struct {
	Public  []byte `json:"public"`  // uncompressed point
	Private []byte `json:"private"` // wrapped by the secret
}

// newKeyPair makes a P-256 key whose private half secret wraps for that kind.
func newKeyPair(kind string, secret *record.Key) (keyPair, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("making a key pair: %w", err)
	}
	defer locked.Private(private)
	kek, err := record.NewKEK(secret, 0)
	if err != nil {
		return keyPair{}, err
	}
	scalar := private.Bytes()
	defer clear(scalar)
	key := record.Key(scalar)
	defer clear(key[:])
	return keyPair{private.PublicKey().Bytes(), kek.Wrap(AccountID{}, record.DomainSealKey, []byte(kind), &key)}, nil
}

func (p *keyPair) valid() error {
	if _, err := ecdh.P256().NewPublicKey(p.Public); err != nil || len(p.Public) != pointSize {
		return errors.New("the public key is not a point of P-256")
	}
	if len(p.Private) != record.WrappedSize {
		return errors.New("the private key has the wrong length")
	}
	return nil
}

// open unwraps the private half, which the caller overwrites. wrong says what to
// tell whoever gave the secret.
func (p *keyPair) open(kind string, secret *record.Key, wrong string) (*ecdh.PrivateKey, error) {
	kek, err := record.NewKEK(secret, 0)
	if err != nil {
		return nil, err
	}
	key, err := kek.Unwrap(AccountID{}, record.DomainSealKey, []byte(kind), p.Private)
	switch {
	case errors.Is(err, record.ErrWrongKey):
		return nil, fmt.Errorf("%w: %s", ErrWrongKey, wrong)
	case err != nil:
		return nil, damagedSeal("the wrapped private key does not authenticate")
	}
	defer clear(key[:])
	private, err := ecdh.P256().NewPrivateKey(key[:])
	if err != nil || !bytes.Equal(private.PublicKey().Bytes(), p.Public) {
		return nil, damagedSeal("its public key is not that of its private key")
	}
	return private, nil
}

// peopleSeal is a seal whose secret people hold: a passphrase or shares.
type peopleSeal struct {
	kind  string
	raw   json.RawMessage // parameters, compact
	pair  keyPair
	wrong string // what to say when the secret is another one

	mu sync.Mutex // guards what follows
	// secret derives the key of the private half from locked memory. It is nil
	// after Forget.
	secret func(ctx context.Context) (*record.Key, error)
	forget func()
}

var _ Seal = (*peopleSeal)(nil)

// Format keeps secrets out of logs.
func (s *peopleSeal) Format(f fmt.State, _ rune) { io.WriteString(f, "seal "+s.kind+" [redacted]") }

func (s *peopleSeal) Kind() string { return s.kind }

// Wrap needs no secret.
func (s *peopleSeal) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	public, err := ecdh.P256().NewPublicKey(s.pair.Public)
	if err != nil {
		return nil, fmt.Errorf("keyring: internal error: %w", err) // was valid when it was made
	}
	return wrapToPublic(public, root)
}

func (s *peopleSeal) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.secret == nil {
		return nil, fmt.Errorf("%w: the secret was forgotten after its use; it must be given again", ErrSealed)
	}
	secret, err := s.secret(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(secret[:])
	private, err := s.pair.open(s.kind, secret, s.wrong)
	if err != nil {
		return nil, err
	}
	defer locked.Private(private)
	return unwrapWithPrivate(private, wrapped)
}

// Forget overwrites the secret. Wrap goes on working.
func (s *peopleSeal) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret != nil {
		s.forget()
		s.secret = nil
	}
}

// Forgetter is a seal that holds a secret of people. Open, Create and Reseal
// forget it as soon as the root is unwrapped, or has failed to be; whoever makes
// such a seal and does not use it must call Forget.
type Forgetter interface{ Forget() }

// forget makes the seal forget what people told it.
func forget(s Seal) {
	if f, ok := s.(Forgetter); ok {
		f.Forget()
	}
}

// lockedSecret keeps bytes in locked memory until free.
func lockedSecret(secret []byte) (memory []byte, free func(), err error) {
	pages, err := locked.Pages(len(secret))
	if err != nil {
		return nil, nil, fmt.Errorf("getting memory for a secret: %w", err)
	}
	copy(pages, secret)
	return pages[:len(secret)], func() { locked.Free(pages) }, nil
}
