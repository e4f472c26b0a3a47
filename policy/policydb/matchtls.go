package policydb

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"time"
)

// MatchTLS says whether a client certificate (the chain as the client sent it, DER) may log in as the account; nil if not. It is
// pinned to the account, or an authority of the site signed it, perhaps through others, and it names the account.
//
// What an authority signed for another authority is for nobody: who runs a sub-authority that happens to be called like an account
// is not that account. Neither is a common name that name constraints (RFC 5280, section 4.2.1.10) do not reach.
func (db *DB) MatchTLS(a *Account, chain [][]byte, from netip.Addr, now time.Time) *Match {
	if len(chain) == 0 || a.Name == "" {
		return nil
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || strongX509(leaf) != nil || now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil
	}
	trust := db.Trust()
	if trust.revokedX509(leaf) {
		return nil
	}
	print := fingerprint(leaf.Raw)
	match := &Match{Method: "certificate", Expires: leaf.NotAfter, Detail: "client certificate " + print}
	for i := range a.Keys {
		if k := &a.Keys[i]; k.Type == x509Type && k.Fingerprint() == print && k.Valid(now) && k.allows(from) {
			return match
		}
	}
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || !names(leaf, a.Name, true) {
		return nil
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: trust.roots(), Intermediates: trust.intermediates(chain), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil
	}
	for _, c := range chains {
		if names(leaf, a.Name, !slices.ContainsFunc(c[1:], constrained)) {
			for _, signer := range c {
				if signer.NotAfter.Before(match.Expires) {
					match.Expires = signer.NotAfter
				}
			}
			match.Authority = fingerprint(c[len(c)-1].Raw)
			return match
		}
	}
	return nil
}

// maxChain bounds how many certificates of a client are looked at.
const maxChain = 8

// names says whether a certificate is for an account: by alternative name of DNS or mail, or by common name if that counts.
func names(c *x509.Certificate, account string, common bool) bool {
	return common && c.Subject.CommonName == account || slices.Contains(c.DNSNames, account) || slices.Contains(c.EmailAddresses, account)
}

// constrained says whether an authority may sign for some names only. crypto/x509 holds alternative names against that, and the common
// name against nothing.
func constrained(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+
		len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// revokedX509 looks for a certificate, whoever signed it, and for its serial, whichever authority gave it.
func (t *Trust) revokedX509(c *x509.Certificate) bool {
	what := []string{fingerprint(c.Raw)}
	if c.SerialNumber != nil {
		what = append(what, "serial:"+c.SerialNumber.String())
	}
	return t.revoked(what...)
}

func (t *Trust) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for i := range t.Authorities {
		if o := &t.Authorities[i]; o.Kind == x509Type && !t.revoked(o.Fingerprint()) {
			if c, err := x509.ParseCertificate(o.Blob); err == nil {
				pool.AddCert(c)
			}
		}
	}
	return pool
}

// intermediates that a client sent and that may be used.
func (t *Trust) intermediates(chain [][]byte) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range chain[1:min(len(chain), maxChain)] {
		if c, err := x509.ParseCertificate(der); err == nil && strongX509(c) == nil && !t.revokedX509(c) {
			pool.AddCert(c)
		}
	}
	return pool
}
