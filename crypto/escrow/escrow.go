// Package escrow encrypts small secrets (shares, recovery kits) to the keys of
// people: age recipients (https://age-encryption.org/v1) and SSH public keys.
// It knows the age library so that nobody else has to.
package escrow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"sallyport/crypto/approved"
)

// ErrNotFIPS means that an operation needs an algorithm that the process may
// not use, because it runs with GODEBUG=fips140=only (docs/FIPS.md).
var ErrNotFIPS = approved.ErrNotFIPS

var (
	// ErrRecipient means that something is not the public key of a person.
	ErrRecipient = errors.New("not a recipient")
	// ErrIdentity means that something is not a private key that can be used here.
	ErrIdentity = errors.New("not a usable identity")
	// ErrNoMatch means that something was encrypted to other keys.
	ErrNoMatch = errors.New("encrypted to another key")
	// ErrDamaged means that the text is not what was encrypted.
	ErrDamaged = errors.New("damaged")
)

// maxSize bounds what is decrypted, bytes: shares and kits are far smaller.
const maxSize = 64 << 10

// RefuseNotFIPS returns ErrNotFIPS, with what is refused and why, if the
// process must use approved algorithms only.
func RefuseNotFIPS(what string) error { return approved.Refuse(what) }

// Recipient is somebody's public key.
type Recipient struct {
	text string
	key  age.Recipient
}

// String is the public key as it was given, without a comment.
func (r *Recipient) String() string { return r.text }

// ParseRecipient reads "age1…", or an ssh-ed25519 or ssh-rsa line of an
// authorized_keys file. Errors are ErrRecipient or ErrNotFIPS.
func ParseRecipient(s string) (*Recipient, error) {
	if err := RefuseNotFIPS("encryption to age and SSH recipients"); err != nil {
		return nil, err
	}
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "ssh-") {
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecipient, err)
		}
		fields := strings.Fields(s)
		return &Recipient{strings.Join(fields[:min(2, len(fields))], " "), r}, nil
	}
	if !strings.HasPrefix(s, "age1") {
		return nil, fmt.Errorf("%w: it begins neither with age1 nor with ssh-", ErrRecipient)
	}
	list, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("%w: not an age public key", ErrRecipient)
	}
	return &Recipient{s, list[0]}, nil
}

// Encrypt encrypts to the recipient, as ASCII armour.
func Encrypt(r *Recipient, plain []byte) ([]byte, error) {
	if err := RefuseNotFIPS("encryption to age and SSH recipients"); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, r.key)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = a.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting to %s: %w", r, err)
	}
	return out.Bytes(), nil
}

// Encrypted tells whether text looks like what Encrypt made.
func Encrypted(text []byte) bool {
	text = bytes.TrimSpace(text)
	return bytes.HasPrefix(text, []byte(armor.Header)) || bytes.HasPrefix(text, []byte("age-encryption.org/"))
}

// Decrypt opens what Encrypt made, armoured or not, with an identity: the text
// of an age identity file, or an SSH private key that has no passphrase. The
// caller overwrites the result. Errors: ErrIdentity, ErrNoMatch, ErrDamaged,
// ErrNotFIPS. They quote neither.
func Decrypt(text, identity []byte) ([]byte, error) {
	if err := RefuseNotFIPS("decryption with age and SSH keys"); err != nil {
		return nil, err
	}
	ids, err := parseIdentity(identity)
	if err != nil {
		return nil, err
	}
	if len(text) > 2*maxSize {
		return nil, fmt.Errorf("%w: too long", ErrDamaged)
	}
	var r io.Reader = bytes.NewReader(text)
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte(armor.Header)) {
		r = armor.NewReader(r)
	}
	if r, err = age.Decrypt(r, ids...); err != nil {
		if none := new(age.NoIdentityMatchError); errors.As(err, &none) {
			return nil, ErrNoMatch
		}
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil || len(plain) > maxSize {
		clear(plain)
		return nil, fmt.Errorf("%w: the content does not authenticate, or is too long", ErrDamaged)
	}
	return plain, nil
}

func parseIdentity(text []byte) ([]age.Identity, error) {
	if bytes.Contains(text, []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("%w: an SSH private key must be ed25519 or RSA and have no passphrase; decrypt with `age -d` instead", ErrIdentity)
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		// The library's text quotes nothing but line numbers; ours not even these.
		return nil, fmt.Errorf("%w: neither an age identity file nor an SSH private key", ErrIdentity)
	}
	return ids, nil
}
