package policydb

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// minRSA is the shortest RSA key that is taken, bits.
const minRSA = 2048

// PublicKey of an account.
type PublicKey struct {
	Type    string    `json:"type"` // "ssh-ed25519"
	Blob    []byte    `json:"blob"` // SSH wire format, RFC 4253 section 6.6
	Comment string    `json:"comment,omitempty"`
	Added   time.Time `json:"added"`
	AddedBy string    `json:"added_by,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // zero = never
	// From are networks that it may be used from; none = any.
	From []netip.Prefix `json:"from,omitempty"`
	// Authority: not the key itself logs in but certificates that it signed, for the account or for Principals.
	Authority  bool     `json:"cert_authority,omitempty"`
	Principals []string `json:"principals,omitempty"`
}

// Fingerprint is SHA256:…, as ssh-keygen -l shows it.
func (k *PublicKey) Fingerprint() string {
	if k.Type == x509Type {
		return "SHA256:" + base64.RawStdEncoding.EncodeToString(k.Blob)
	}
	p, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(p)
}

// Valid says whether the key has not expired.
func (k *PublicKey) Valid(now time.Time) bool { return k.Expires.IsZero() || now.Before(k.Expires) }

// Certifies says whether it lets somebody in by a certificate, of SSH or of TLS, and not by itself.
func (k *PublicKey) Certifies() bool { return k.Authority || k.Type == x509Type }

// AddKey adds a key; Type, Added and AddedBy are filled in. A key that is listed already gets the new comment and expiry.
func (db *DB) AddKey(ctx context.Context, name string, k PublicKey, who string) (*PublicKey, error) {
	k.Blob = bytes.Clone(k.Blob)
	if k.Type != x509Type {
		parsed, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrBadKey, err)
		}
		if err := checkKey(parsed); err != nil {
			return nil, err
		}
		k.Type = parsed.Type()
	}
	k.Added, k.AddedBy = db.o.Now().UTC().Round(0), who
	if len(k.Comment) > 256 {
		k.Comment = k.Comment[:256]
	}
	err := db.edit(ctx, name, who, func(a *Account) error {
		a.Keys = append(without(a.Keys, k.Fingerprint()), k)
		return nil
	})
	return &k, err
}

// checkKey refuses kinds that are too weak today.
func checkKey(p ssh.PublicKey) error {
	if _, ok := p.(*ssh.Certificate); ok {
		return fmt.Errorf("%w: it is a certificate; add the key that it certifies", ErrBadKey)
	}
	if p.Type() == "ssh-dss" {
		return fmt.Errorf("%w: DSA is no longer safe", ErrBadKey)
	}
	c, ok := p.(ssh.CryptoPublicKey)
	if !ok {
		return nil // sk-* keys
	}
	if key, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return fmt.Errorf("%w: RSA of %d bits; at least %d are needed", ErrBadKey, key.N.BitLen(), minRSA)
	}
	return nil
}

func without(keys []PublicKey, fingerprint string) []PublicKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k PublicKey) bool { return k.Fingerprint() == fingerprint })
}

// RemoveKey removes the key with a fingerprint (SHA256:…); ErrNoKey if it is not listed. Sessions that logged in with it end.
func (db *DB) RemoveKey(ctx context.Context, name, fingerprint, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error {
		left := without(a.Keys, fingerprint)
		if len(left) == len(a.Keys) {
			return ErrNoKey
		}
		a.Keys = left
		return nil
	})
}

// Keys of an account, in the order they were added.
func (db *DB) Keys(name string) ([]PublicKey, error) {
	a, err := db.Account(name)
	if err != nil {
		return nil, err
	}
	return a.Keys, nil
}
