package keyring

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"sallyport/crypto/locked"
	"sallyport/crypto/record"
)

// PendingOverhead is how much longer what SealPending returns is than a sealed record.
const PendingOverhead = pointSize

const pendingLabel = "sallyport.pending.v1\x00"

// derivePending makes the key pair of what waits while the server is sealed. A
// scalar that is none of P-256 (one in 2^32) has the next name tried.
func (s *site) derivePending(audit *record.Key, version uint32) error {
	for name := "pending"; len(name) < 16; name += "'" {
		s.pending = expand(audit[:], siteLabel, name, version)
		if private, err := s.pendingKey(); err == nil {
			s.pendingPublic = private.PublicKey().Bytes()
			locked.Private(private)
			return nil
		}
	}
	return fmt.Errorf("%w: no key for what waits while sealed", ErrDamaged)
}

// pendingKey is for one use, and overwritten by the caller.
func (s *site) pendingKey() (private *ecdh.PrivateKey, err error) {
	s.pending.Use(func(b []byte) { private, err = ecdh.P256().NewPrivateKey(b) })
	return private, err
}

// PendingPublic is the public key that SealPending encrypts to, an uncompressed
// point of P-256: the audit log's, for what happens while nobody has its key.
func (k *Keyring) PendingPublic() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	return bytes.Clone(k.site.pendingPublic), nil
}

// SealPending encrypts plain to a public key, bound to its place. It needs no
// secret, so whoever has the public key can make one: it is confidential and not
// authenticated.
func SealPending(public, place, plain []byte) ([]byte, error) {
	to, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: not a public key", ErrDamaged)
	}
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an ephemeral key: %w", err)
	}
	defer locked.Private(ephemeral)
	point := ephemeral.PublicKey().Bytes()
	secret, err := agree(ephemeral, to, pendingLabel, point, public)
	if err != nil {
		return nil, err
	}
	box, err := agreedBox(secret)
	if err != nil {
		return nil, err
	}
	return box.Seal(point, record.DomainPending, place, plain), nil
}

// OpenPending is the inverse of SealPending. ErrDamaged if it was encrypted to
// another key, for another place, or is not what was encrypted.
func (k *Keyring) OpenPending(place, sealed []byte) ([]byte, error) {
	damaged := fmt.Errorf("%w: what waited while sealed does not open", ErrDamaged)
	if len(sealed) < pointSize {
		return nil, damaged
	}
	ephemeral, err := ecdh.P256().NewPublicKey(sealed[:pointSize])
	if err != nil {
		return nil, damaged
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	private, err := k.site.pendingKey()
	if err != nil {
		return nil, err
	}
	defer locked.Private(private)
	secret, err := agree(private, ephemeral, pendingLabel, sealed[:pointSize], k.site.pendingPublic)
	if err != nil {
		return nil, err
	}
	box, err := agreedBox(secret)
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(nil, record.DomainPending, place, sealed[pointSize:])
	if err != nil {
		return nil, damaged
	}
	return plain, nil
}

// agreedBox uses the key up.
func agreedBox(secret *locked.Secret) (box *record.Box, err error) {
	defer secret.Wipe()
	secret.Use(func(b []byte) { box, err = record.NewBox((*record.Key)(b), AccountID{}, 0) })
	return box, err
}
