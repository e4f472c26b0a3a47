package keyring

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"sallyport/crypto/escrow"
	"sallyport/crypto/locked"
)

// ErrNoKit means that there is no recovery kit of that id.
var ErrNoKit = errors.New("keyring: no such recovery kit")

const (
	maxKits   = 16
	kitFormat = "sallyport recovery kit 1"
)

// kit is the public part of a recovery kit, in seal.json.
type kit struct {
	ID      string `json:"id"`      // 16 hexadecimal digits, random
	For     string `json:"for"`     // 16 hexadecimal digits: SHA-256 of the recipient
	Created string `json:"created"` // RFC 3339, UTC
	Public  []byte `json:"public"`  // P-256, uncompressed point
}

// RecoveryKit is what is known of a kit without it. Recipient is a fingerprint
// (RecipientFingerprint), because seal.json need not say who holds a kit.
type RecoveryKit struct {
	ID, Recipient string
	Created       time.Time
}

// kitSecret is what is encrypted to the recipient.
type kitSecret struct {
	Format  string `json:"format"`
	ID      string `json:"id"`
	Private []byte `json:"private"` // P-256 scalar
}

// RecipientFingerprint is 16 hexadecimal digits that tell recipients apart.
func RecipientFingerprint(r *escrow.Recipient) string {
	sum := sha256.Sum256([]byte(r.String()))
	return hex.EncodeToString(sum[:8])
}

func (k kit) public() RecoveryKit {
	at, _ := time.Parse(time.RFC3339, k.Created) // was valid when it was read
	return RecoveryKit{k.ID, k.For, at}
}

func (k *kit) valid() error {
	for _, digits := range []string{k.ID, k.For} {
		if raw, err := hex.DecodeString(digits); err != nil || len(raw) != 8 || hex.EncodeToString(raw) != digits {
			return damagedSeal("a recovery kit is not named as it should be")
		}
	}
	if at, err := time.Parse(time.RFC3339, k.Created); err != nil || at.UTC().Format(time.RFC3339) != k.Created {
		return damagedSeal("recovery kit %s: not a time", k.ID)
	}
	if _, err := ecdh.P256().NewPublicKey(k.Public); err != nil || len(k.Public) != pointSize {
		return damagedSeal("recovery kit %s: not a point of P-256", k.ID)
	}
	return nil
}

func (k *kit) wrap(root []byte) ([]byte, error) {
	public, err := ecdh.P256().NewPublicKey(k.Public)
	if err != nil {
		return nil, err
	}
	return wrapToPublic(public, root)
}

// ExportRecovery makes a recovery kit: with it and the recipient's private key
// the root can be unwrapped whatever becomes of the seal, now and after every
// rotation until the kit is revoked. The public half is durable in seal.json
// before the kit is returned; a kit that gets lost on the way should be revoked.
// Errors: escrow.ErrRecipient, ErrNotFIPS, ErrSealed.
func (k *Keyring) ExportRecovery(ctx context.Context, recipient string, now time.Time) (id string, armoured []byte, err error) {
	r, err := escrow.ParseRecipient(recipient)
	if err != nil {
		return "", nil, err
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, fmt.Errorf("making a recovery key: %w", err)
	}
	var raw [8]byte
	rand.Read(raw[:])
	entry := kit{hex.EncodeToString(raw[:]), RecipientFingerprint(r), now.UTC().Format(time.RFC3339), private.PublicKey().Bytes()}
	secret := kitSecret{kitFormat, entry.ID, private.Bytes()}
	defer clear(secret.Private)
	locked.Private(private)
	text, err := json.Marshal(secret)
	if err != nil {
		return "", nil, fmt.Errorf("keyring: internal error: %w", err)
	}
	defer clear(text)
	if armoured, err = escrow.Encrypt(r, text); err != nil {
		return "", nil, err
	}
	k.rotating.Lock()
	defer k.rotating.Unlock()
	err = k.changeSeal(ctx, func(f *sealFile, root *root) (*sealFile, error) {
		if len(f.Recovery) >= maxKits {
			return nil, fmt.Errorf("there are %d recovery kits, which is the most; revoke one", maxKits)
		}
		return f.withKits(append(slices.Clone(f.Recovery), entry), root)
	})
	if err != nil {
		return "", nil, err
	}
	return entry.ID, armoured, nil
}

// RevokeRecovery takes a kit out of seal.json: roots from now on are not
// wrapped to it. The kit still opens the root in force together with an older
// copy of seal.json: rotate the root afterwards.
func (k *Keyring) RevokeRecovery(ctx context.Context, id string) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	return k.changeSeal(ctx, func(f *sealFile, root *root) (*sealFile, error) {
		i := slices.IndexFunc(f.Recovery, func(e kit) bool { return e.ID == id })
		if i < 0 {
			return nil, ErrNoKit
		}
		return f.withKits(slices.Delete(slices.Clone(f.Recovery), i, i+1), root)
	})
}

// withKits is f with these kits.
func (f *sealFile) withKits(kits []kit, root *root) (*sealFile, error) {
	if len(f.Roots) > 1 {
		// The other root's kits could not be made: it is not at hand.
		return nil, ErrPending
	}
	next := *f
	next.Recovery = kits
	i := slices.IndexFunc(f.Roots, func(r sealedRoot) bool { return r.Epoch == root.epoch })
	if i < 0 {
		return nil, errors.New("keyring: internal error: the root in force is not in " + sealName)
	}
	r, err := next.completed(f.Roots[i], root)
	if err != nil {
		return nil, err
	}
	return next.withRoots(r), nil
}

// Recovery is a seal that unwraps with a recovery kit of this seal.json: the
// encrypted kit and the recipient's private key (see escrow.Decrypt), or the
// kit as `age -d` printed it and no identity. The caller overwrites both.
// A keyring that was opened with it should be re-sealed: it can wrap new roots
// only where the kind of seal is one that people open.
func (i *SealInfo) Recovery(armoured, identity []byte) (Seal, error) {
	text := armoured
	if escrow.Encrypted(armoured) {
		var err error
		if text, err = escrow.Decrypt(armoured, identity); err != nil {
			return nil, fmt.Errorf("opening the recovery kit: %w", err)
		}
		defer clear(text)
	}
	private, err := parseKit(text)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(i.file.Recovery, func(k kit) bool { return bytes.Equal(k.Public, private.PublicKey().Bytes()) })
	if at < 0 {
		return nil, fmt.Errorf("%w: this recovery kit is not of this state directory, or was revoked", ErrWrongKey)
	}
	s := &recoverySeal{kind: i.Kind, kit: i.file.Recovery[at], private: private}
	if pair, err := i.file.keyPair(); err != nil {
		return nil, err
	} else if pair != nil {
		s.public = pair.Public
	}
	return s, nil
}

func parseKit(text []byte) (*ecdh.PrivateKey, error) {
	var secret kitSecret
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(&secret)
	defer clear(secret.Private)
	if err != nil || secret.Format != kitFormat {
		return nil, fmt.Errorf("%w: this is not a recovery kit of this format", ErrWrongKey)
	}
	private, err := ecdh.P256().NewPrivateKey(secret.Private)
	if err != nil {
		return nil, fmt.Errorf("%w: the recovery kit holds no key", ErrWrongKey)
	}
	return private, nil
}

// keyPair is that of a seal which people open; nil for other kinds.
func (f *sealFile) keyPair() (*keyPair, error) {
	p, err := newParams(f.Kind)
	if err != nil || p == nil {
		return nil, err
	}
	if err := decodeParams(f.Kind, f.Params, p); err != nil {
		return nil, err
	}
	switch p := p.(type) {
	case *passphraseParams:
		return &p.keyPair, nil
	case *sharesParams:
		return &p.keyPair, nil
	}
	return nil, nil
}

// recoverySeal unwraps with a kit. Its kind is that of the seal it stands in for.
type recoverySeal struct {
	kind   string
	kit    kit
	public []byte // of the seal, if it wraps to a public key

	mu      sync.Mutex
	private *ecdh.PrivateKey // nil after Forget
}

var _ Seal = (*recoverySeal)(nil)

func (s *recoverySeal) Kind() string { return s.kind }

// Format keeps the key out of logs.
func (s *recoverySeal) Format(f fmt.State, _ rune) {
	io.WriteString(f, "recovery kit "+s.kit.ID+" [redacted]")
}

func (s *recoverySeal) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	if s.public == nil {
		return nil, fmt.Errorf("%w: a recovery kit cannot wrap a new root for a seal of kind %q; re-seal first", ErrSealed, s.kind)
	}
	public, err := ecdh.P256().NewPublicKey(s.public)
	if err != nil {
		return nil, err
	}
	return wrapToPublic(public, root)
}

func (s *recoverySeal) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.private == nil {
		return nil, fmt.Errorf("%w: the recovery kit was forgotten after its use; it must be given again", ErrSealed)
	}
	return unwrapWithPrivate(s.private, wrapped)
}

// Forget overwrites the private key.
func (s *recoverySeal) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	locked.Private(s.private)
	s.private = nil
}
