package policydb

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/policy"
)

// Certified: the account came in by a certificate of an authority. That one is trusted does not say that it signs for everybody.
type Certified struct {
	Authority string    `json:"authority"` // fingerprint
	At        time.Time `json:"at"`        // the last time, to the day
}

const (
	// certifiedFor is how long an authority counts as one that signs for an account after the account came in by it.
	certifiedFor = 30 * 24 * time.Hour
	// certifiedEvery is how often that is written down: a login must not cost a transaction each.
	certifiedEvery = 24 * time.Hour
)

// NoteCertificate writes down that the account came in by a certificate of an authority (Match.Authority), once a day.
func (db *DB) NoteCertificate(ctx context.Context, a *Account, authority string) error {
	now := db.o.Now().UTC().Round(0)
	fresh := func(a *Account) bool {
		return slices.ContainsFunc(a.Certified, func(c Certified) bool { return c.Authority == authority && now.Sub(c.At) < certifiedEvery })
	}
	if fresh(a) {
		return nil
	}
	return db.change(ctx, func(t *tx) error {
		current, err := t.account(a.Name)
		if err != nil || current.ID != a.ID || fresh(current) {
			return err
		}
		current.Certified = append(slices.DeleteFunc(slices.Clone(current.Certified), func(c Certified) bool {
			return c.Authority == authority || now.Sub(c.At) >= certifiedFor
		}), Certified{authority, now})
		return t.putAccount(current)
	}, func() {})
}

// Means of an account at a time: what it can prove itself with, by the rules of MatchKey and MatchTLS. What has ended or is revoked
// is none, or a guard against locking out would take an account for safe that is not.
func (db *DB) Means(a *Account, now time.Time) policy.Means {
	m := policy.Means{SecondFactor: a.Second != nil}
	password := a.PasswordUsable() == nil
	if password {
		m.Doors = append(m.Doors, policy.Door{Method: "password"})
	}
	// certificate is a door, and beside a password over TLS another one.
	certificate := func(d policy.Door) {
		d.Method = "certificate"
		m.Doors = append(m.Doors, d)
		if password && d.Over == policy.OverTLS {
			d.Method, d.TwoFactor = "password", true
			m.Doors = append(m.Doors, d)
		}
	}
	trust := db.Trust()
	for i := range a.Keys {
		switch k := &a.Keys[i]; {
		case !k.Valid(now) || trust.revoked(k.Fingerprint()):
		case k.Type == x509Type:
			certificate(policy.Door{Over: policy.OverTLS, From: k.From})
		case k.Authority:
			certificate(policy.Door{Over: policy.OverSSH, From: k.From, Possible: !a.certifiedBy(k.Fingerprint(), now)})
		default:
			m.Doors = append(m.Doors, policy.Door{Method: "publickey", Over: policy.OverSSH, From: k.From})
		}
	}
	for i := range trust.Authorities {
		if o := &trust.Authorities[i]; trust.signs(o, now) {
			over := policy.OverSSH
			if o.Kind == x509Type {
				over = policy.OverTLS
			}
			certificate(policy.Door{Over: over, Possible: !a.certifiedBy(o.Fingerprint(), now)})
		}
	}
	return m
}

func (a *Account) certifiedBy(authority string, now time.Time) bool {
	return slices.ContainsFunc(a.Certified, func(c Certified) bool { return c.Authority == authority && now.Sub(c.At) < certifiedFor })
}

// signs says whether certificates of an authority can let anybody in at a time.
func (t *Trust) signs(o *Authority, now time.Time) bool {
	if t.revoked(o.Fingerprint()) {
		return false
	}
	if o.Kind != x509Type {
		return true
	}
	c, err := x509.ParseCertificate(o.Blob)
	return err == nil && !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// authorityOf an SSH certificate among those of the site.
func (t *Trust) authorityOf(c *ssh.Certificate) *Authority {
	blob := c.SignatureKey.Marshal()
	for i := range t.Authorities {
		if o := &t.Authorities[i]; o.Kind == "ssh" && bytes.Equal(o.Blob, blob) {
			return o
		}
	}
	return nil
}
