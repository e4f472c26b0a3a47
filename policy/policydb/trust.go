package policydb

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

var (
	// ErrNoAuthority: no such authority is trusted.
	ErrNoAuthority = errors.New("policydb: no such authority")
	// ErrBadRevocation: not something that can be revoked.
	ErrBadRevocation = errors.New("policydb: not a revocation: serial:NUMBER, id:KEYID or SHA256:FINGERPRINT")
)

// Trust is whose certificates the site accepts, and which of them it does not. Immutable.
type Trust struct {
	Authorities []Authority `json:"authorities,omitempty"`
	Revoked     []Revoked   `json:"revoked,omitempty"`
}

// Authority signs certificates of users: SSH certificates that name the account as a principal, or TLS client certificates that
// name it as the common name or as an alternative name.
type Authority struct {
	Kind    string    `json:"kind"` // ssh, x509
	Blob    []byte    `json:"blob"` // SSH wire form of the key, or DER
	Comment string    `json:"comment,omitempty"`
	Added   time.Time `json:"added"`
	AddedBy string    `json:"added_by,omitempty"`
}

// Revoked is one entry: "serial:42", "id:alice@laptop" (SSH), or "SHA256:…" of a key, a certificate or an authority. Serials
// count whichever authority gave them.
type Revoked struct {
	What  string    `json:"what"`
	Added time.Time `json:"added"`
	By    string    `json:"by,omitempty"`
}

// Fingerprint is SHA256:… of the key (ssh) or of the certificate (x509).
func (a *Authority) Fingerprint() string {
	if a.Kind == x509Type {
		return fingerprint(a.Blob)
	}
	p, err := ssh.ParsePublicKey(a.Blob)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(p)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func (t *Trust) revoked(what ...string) bool {
	return slices.ContainsFunc(t.Revoked, func(r Revoked) bool { return slices.Contains(what, r.What) })
}

var trustKey = []byte("t")

func (t *tx) trust() (*Trust, error) {
	plain, err := t.get(trustKey)
	if err != nil || plain == nil {
		return &Trust{}, err
	}
	return decode[Trust](plain)
}

// Trust in force.
func (db *DB) Trust() *Trust { return db.trust.Load() }

// OnTrust has fn called after each change of Trust, outside all locks.
func (db *DB) OnTrust(fn func()) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.onTrust = append(db.onTrust, fn)
}

func (db *DB) editTrust(ctx context.Context, fn func(*Trust) error) error {
	var next *Trust
	err := db.change(ctx, func(t *tx) error {
		now, err := t.trust()
		if err != nil {
			return err
		}
		next = &Trust{slices.Clone(now.Authorities), slices.Clone(now.Revoked)}
		if err := fn(next); err != nil {
			return err
		}
		return t.put(trustKey, encode(next))
	}, func() { db.trust.Store(next) })
	if err != nil {
		return err
	}
	db.mu.Lock()
	fns := db.onTrust
	db.mu.Unlock()
	for _, fn := range fns {
		fn()
	}
	return nil
}

// ParseAuthority reads a public key (authorized_keys form) or a certificate (PEM).
func ParseAuthority(text string) (Authority, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return Authority{}, fmt.Errorf("%w: the certificate cannot be read", ErrBadKey)
		}
		if !c.IsCA {
			return Authority{}, fmt.Errorf("%w: the certificate is not one of an authority (basic constraints); pin it to an account with `account keys add`", ErrBadKey)
		}
		if err := strongX509(c); err != nil {
			return Authority{}, err
		}
		return Authority{Kind: x509Type, Blob: c.Raw, Comment: c.Subject.String()}, nil
	}
	k, err := ParseKey(text)
	if err != nil {
		return Authority{}, err
	}
	if len(k.From) > 0 || len(k.Principals) > 0 || !k.Expires.IsZero() {
		return Authority{}, fmt.Errorf("%w: an authority of the site has no options", ErrBadKey)
	}
	p, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return Authority{}, fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	return Authority{Kind: "ssh", Blob: k.Blob, Comment: k.Comment}, checkKey(p)
}

func strongX509(c *x509.Certificate) error {
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return fmt.Errorf("%w: RSA of %d bits; at least %d are needed", ErrBadKey, key.N.BitLen(), minRSA)
	}
	return nil
}

// AddAuthority trusts another one; which accounts may come in with its certificates is policy (auth.sftp, auth.ftps).
func (db *DB) AddAuthority(ctx context.Context, a Authority, who string) error {
	a.Added, a.AddedBy = db.o.Now().UTC().Round(0), who
	return db.editTrust(ctx, func(t *Trust) error {
		t.Authorities = slices.DeleteFunc(t.Authorities, func(o Authority) bool { return bytes.Equal(o.Blob, a.Blob) })
		t.Authorities = append(t.Authorities, a)
		return nil
	})
}

// RemoveAuthority trusts it no longer; sessions that came in with its certificates end.
func (db *DB) RemoveAuthority(ctx context.Context, fingerprint string) error {
	return db.editTrust(ctx, func(t *Trust) error {
		n := len(t.Authorities)
		t.Authorities = slices.DeleteFunc(t.Authorities, func(o Authority) bool { return o.Fingerprint() == fingerprint })
		if len(t.Authorities) == n {
			return ErrNoAuthority
		}
		return nil
	})
}

// Revoke takes certificates or keys out of use, everywhere; sessions that came in with them end.
func (db *DB) Revoke(ctx context.Context, what, who string) error {
	kind, value, _ := strings.Cut(what, ":")
	switch {
	case kind == "serial":
		n, ok := parseSerial(value)
		if !ok {
			return ErrBadRevocation
		}
		what = "serial:" + n
	case (kind == "id" || kind == "SHA256") && value != "" && len(value) <= 256:
	default:
		return ErrBadRevocation
	}
	return db.editTrust(ctx, func(t *Trust) error {
		if !t.revoked(what) {
			t.Revoked = append(t.Revoked, Revoked{What: what, Added: db.o.Now().UTC().Round(0), By: who})
		}
		return nil
	})
}

// maxSerial is how long a serial may be: 20 bytes (RFC 5280, section 4.1.2.2), and more where authorities do not care.
const maxSerial = 512 // bits

// parseSerial reads a number in decimal, or in hexadecimal as 0x7a01 or as openssl shows it (7a:01), and returns it in decimal.
// Zeros before a decimal number are refused: it is hexadecimal without its mark, and another serial would be revoked.
func parseSerial(text string) (string, bool) {
	n, ok := new(big.Int), false
	digits, marked := strings.CutPrefix(strings.ToLower(text), "0x")
	switch {
	case marked:
		n, ok = n.SetString(digits, 16)
	case strings.Contains(text, ":") && !strings.Contains(text, "::"):
		n, ok = n.SetString(strings.ReplaceAll(text, ":", ""), 16)
	case text == "0" || !strings.HasPrefix(text, "0"):
		n, ok = n.SetString(text, 10)
	}
	if !ok || n.Sign() < 0 || n.BitLen() > maxSerial {
		return "", false
	}
	return n.String(), true
}

// Unrevoke takes an entry back.
func (db *DB) Unrevoke(ctx context.Context, what string) error {
	if value, is := strings.CutPrefix(what, "serial:"); is {
		if n, ok := parseSerial(value); ok { // as Revoke wrote it
			what = "serial:" + n
		}
	}
	return db.editTrust(ctx, func(t *Trust) error {
		n := len(t.Revoked)
		t.Revoked = slices.DeleteFunc(t.Revoked, func(r Revoked) bool { return r.What == what })
		if len(t.Revoked) == n {
			return ErrNoAuthority
		}
		return nil
	})
}
