package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"

	"sallyport/crypto/locked"
	"sallyport/crypto/record"
)

// site are the keys of what belongs to no account.
type site struct {
	policy, audit *record.Box
	token         *locked.Secret
	names         *record.Box // of the table of names
	nameToken     *locked.Secret
	sign          *locked.Secret // seed of the Ed25519 key that signs checkpoints of the audit log
	signVersion   uint32
	pending       *locked.Secret // scalar of the P-256 key that SealPending encrypts to
	pendingPublic []byte
}

// wipe overwrites what is at hand; the boxes are overwritten when nobody uses them.
func (s *site) wipe() {
	for _, secret := range []*locked.Secret{s.token, s.nameToken, s.sign, s.pending} {
		secret.Wipe()
	}
}

// openSite unwraps the keys of the site and derives from them what is used.
func openSite(root *root, ring *ring) (site, error) {
	out := site{signVersion: ring.audit.version}
	kek, err := root.kek()
	if err != nil {
		return site{}, err
	}
	for _, s := range []struct {
		domain record.Domain
		key    siteKey
		box    **record.Box
		label  string // of the other key that comes from it
		other  **locked.Secret
	}{{record.DomainPolicyKey, ring.policy, &out.policy, "token", &out.token}, {record.DomainAuditKey, ring.audit, &out.audit, "checkpoint", &out.sign}} {
		key, err := kek.Unwrap(AccountID{}, s.domain, versionKey(s.key.version), s.key.wrapped[:])
		if err != nil {
			return site{}, fmt.Errorf("%w: site key: %w", ErrDamaged, err)
		}
		*s.other = expand(key[:], siteLabel, s.label, s.key.version)
		if s.domain == record.DomainPolicyKey {
			err = out.deriveNames(key, s.key.version)
		}
		if err == nil {
			*s.box, err = expandBox(key[:], siteLabel, "record", s.key.version)
		}
		if err == nil && s.domain == record.DomainAuditKey {
			err = out.derivePending(key, s.key.version)
		}
		clear(key[:])
		if err != nil {
			return site{}, err
		}
	}
	return out, nil
}

// deriveNames makes the keys of the table of names, which are others than those of accounts and policy: who is given that
// table learns names, and who is given the rest learns none.
func (s *site) deriveNames(policy *record.Key, version uint32) (err error) {
	s.nameToken = expand(policy[:], siteLabel, "nametoken", version)
	s.names, err = expandBox(policy[:], siteLabel, "names", version)
	return err
}

// Policy is the box of policy.db.
func (k *Keyring) Policy() (*record.Box, error) {
	return k.siteBox(func(s *site) *record.Box { return s.policy })
}

// Names is the box of the table of account names in policy.db.
func (k *Keyring) Names() (*record.Box, error) {
	return k.siteBox(func(s *site) *record.Box { return s.names })
}

// Audit is the box of the audit log.
func (k *Keyring) Audit() (*record.Box, error) {
	return k.siteBox(func(s *site) *record.Box { return s.audit })
}

// AuditSigner signs checkpoints of the audit log (Ed25519, RFC 8032), and tells
// the version of its key, which never changes while the audit key has that
// version. Ed25519 is allowed under fips140=only. After Close it returns ErrSealed.
func (k *Keyring) AuditSigner() (crypto.Signer, uint32, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, 0, ErrSealed
	}
	s := &signer{k: k}
	k.site.sign.Use(func(seed []byte) {
		private := ed25519.NewKeyFromSeed(seed)
		s.public = bytes.Clone(private[ed25519.SeedSize:])
		clear(private)
	})
	return s, k.site.signVersion, nil
}

// signer has the seed of its key in locked memory only; a signature is made once
// a minute at most, so that the key can be made anew for each.
type signer struct {
	k      *Keyring
	public ed25519.PublicKey
}

func (s *signer) Public() crypto.PublicKey { return s.public }

func (s *signer) Sign(rand io.Reader, message []byte, o crypto.SignerOpts) (signature []byte, err error) {
	s.k.mu.RLock()
	defer s.k.mu.RUnlock()
	if s.k.root == nil {
		return nil, ErrSealed
	}
	s.k.site.sign.Use(func(seed []byte) {
		private := ed25519.NewKeyFromSeed(seed)
		defer clear(private)
		signature, err = private.Sign(rand, message, o)
	})
	return signature, err
}

func (k *Keyring) siteBox(of func(*site) *record.Box) (*record.Box, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		return nil, ErrSealed
	}
	return of(&k.site), nil
}

// PolicyToken hides an account or group name in a database key of policy.db:
// HMAC(k_token, length of kind u8 ‖ kind ‖ name)[:16]. kind is a constant of the
// caller, of at most 255 bytes. PolicyToken panics after Close, because any
// answer would make a record that is never found again.
func (k *Keyring) PolicyToken(kind, name string) [16]byte {
	return k.siteToken(func(s *site) *locked.Secret { return s.token }, kind, name)
}

// NameToken is PolicyToken under the key of the table of account names.
func (k *Keyring) NameToken(kind, name string) [16]byte {
	return k.siteToken(func(s *site) *locked.Secret { return s.nameToken }, kind, name)
}

func (k *Keyring) siteToken(of func(*site) *locked.Secret, kind, name string) [16]byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.root == nil {
		panic("keyring: internal error: token asked for after Close")
	}
	var token [16]byte
	of(&k.site).Use(func(key []byte) {
		mac := hmac.New(sha256.New, key)
		defer locked.Hash(mac)
		mac.Write([]byte{uint8(len(kind))})
		mac.Write([]byte(kind))
		mac.Write([]byte(name))
		token = [16]byte(mac.Sum(nil))
	})
	return token
}
