package policydb

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Match says by what a key or certificate may come in.
type Match struct {
	Method  string    // publickey, certificate
	Expires time.Time // zero = never
	Detail  string    // for the audit log
	// Authority that signed the certificate; "" for a key, or a certificate that is pinned.
	Authority string
}

// MatchKey says whether an SSH key or certificate (wire form) may log in as the account from an address; nil if not. That the
// client holds it is for the caller to know.
func (db *DB) MatchKey(a *Account, blob []byte, from netip.Addr, now time.Time) *Match {
	parsed, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil
	}
	if c, ok := parsed.(*ssh.Certificate); ok {
		return db.matchCertificate(a, c, from, now)
	}
	k := a.findKey(blob, from, now)
	if k == nil || k.Authority || k.Type == x509Type || db.Trust().revoked(k.Fingerprint()) {
		return nil
	}
	return &Match{Method: "publickey", Expires: k.Expires, Detail: k.Fingerprint()}
}

func (a *Account) findKey(blob []byte, from netip.Addr, now time.Time) *PublicKey {
	for i := range a.Keys {
		if k := &a.Keys[i]; bytes.Equal(k.Blob, blob) && k.Valid(now) && k.allows(from) {
			return k
		}
	}
	return nil
}

// allows: an empty list is any.
func (k *PublicKey) allows(from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return len(k.From) == 0 || slices.ContainsFunc(k.From, func(p netip.Prefix) bool { return p.Contains(from) })
}

// matchCertificate: the authority is the site's, and the certificate names the account; or it is the account's (cert-authority), and
// the certificate names the account or one of its principals. A certificate without principals is for nobody: what an
// authority signs without saying for whom would open every account.
func (db *DB) matchCertificate(a *Account, c *ssh.Certificate, from netip.Addr, now time.Time) *Match {
	trust := db.Trust()
	authority := c.SignatureKey.Marshal()
	principals := []string{a.Name}
	expires := time.Time{}
	if trust.authorityOf(c) == nil {
		own := a.findKey(authority, from, now)
		if own == nil || !own.Authority {
			return nil
		}
		expires = own.Expires
		if len(own.Principals) > 0 {
			principals = own.Principals
		}
	}
	fine := ssh.FingerprintSHA256(c.Key)
	if a.Name == "" || len(c.ValidPrincipals) == 0 || c.CertType != ssh.UserCert || checkKey(c.Key) != nil || checkKey(c.SignatureKey) != nil ||
		c.Signature == nil || c.Signature.Format == ssh.KeyAlgoRSA || // RSA with SHA-1
		trust.revoked("serial:"+strconv.FormatUint(c.Serial, 10), "id:"+c.KeyId, fine, ssh.FingerprintSHA256(c.SignatureKey)) {
		return nil
	}
	checker := ssh.CertChecker{Clock: func() time.Time { return now }, SupportedCriticalOptions: []string{"source-address"}}
	if !slices.ContainsFunc(principals, func(p string) bool { return checker.CheckCert(p, c) == nil }) {
		return nil
	}
	if list, ok := c.CriticalOptions["source-address"]; ok && !sourceAllows(list, from) {
		return nil
	}
	if end := c.ValidBefore; end != ssh.CertTimeInfinity {
		if t := time.Unix(int64(min(end, 1<<62)), 0).UTC(); expires.IsZero() || t.Before(expires) {
			expires = t
		}
	}
	return &Match{Method: "certificate", Expires: expires, Detail: "certificate " + strconv.FormatUint(c.Serial, 10) + " " + c.KeyId, Authority: ssh.FingerprintSHA256(c.SignatureKey)}
}

// sourceAllows reads the critical option source-address (OpenSSH PROTOCOL.certkeys); what cannot be read allows nothing.
func sourceAllows(list string, from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	for _, s := range strings.Split(list, ",") {
		p, err := parseFrom(strings.TrimSpace(s))
		if err != nil {
			return false
		}
		if p.Contains(from) {
			return true
		}
	}
	return false
}
