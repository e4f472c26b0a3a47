package policydb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signedBy makes a certificate with a key of its own.
func signedBy(t *testing.T, parent *x509.Certificate, key *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "alice"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(c)
	}
	if parent == nil {
		parent, key = c, mine
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, mine.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, mine
}

// asCA is a template of an authority: as many are made, without extended key usages, so that it may sign for all.
func asCA(name string, change func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid = name, true, true
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
		if change != nil {
			change(c)
		}
	}
}

func trusting(t *testing.T, root *x509.Certificate) *DB {
	t.Helper()
	db := certDB(t)
	a, err := ParseAuthority(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.AddAuthority(t.Context(), a, "test"); err != nil {
		t.Fatal(err)
	}
	return db
}

// Who runs an authority below one that is trusted may sign for accounts, but is not the account that it is called like.
func TestAuthorityCalledLikeAnAccountIsNotTheAccount(t *testing.T) {
	t.Parallel()
	root, rootKey := signedBy(t, nil, nil, asCA("alice", nil))
	sub, subKey := signedBy(t, root, rootKey, asCA("alice", nil))
	leaf, _ := signedBy(t, sub, subKey, nil)
	noSigning, _ := signedBy(t, root, rootKey, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	db := trusting(t, root)
	for _, c := range []struct {
		what  string
		chain [][]byte
		good  bool
	}{
		{"a certificate of the sub-authority", [][]byte{leaf.Raw, sub.Raw}, true},
		{"the same without the sub-authority", [][]byte{leaf.Raw}, false},
		{"the sub-authority itself", [][]byte{sub.Raw}, false},
		{"the authority itself", [][]byte{root.Raw}, false},
		{"a key that may not sign", [][]byte{noSigning.Raw}, false},
	} {
		m := db.MatchTLS(account(t, db), c.chain, here, noon)
		if (m != nil) != c.good {
			t.Errorf("%s: %+v", c.what, m)
		}
		if m != nil && m.Authority != fingerprint(root.Raw) {
			t.Errorf("%s: authority %s", c.what, m.Authority)
		}
	}
}

// Name constraints hold for alternative names; a common name is not among what crypto/x509 checks.
func TestConstrainedAuthorityCannotUseTheCommonName(t *testing.T) {
	t.Parallel()
	root, rootKey := signedBy(t, nil, nil, asCA("root", nil))
	sub, subKey := signedBy(t, root, rootKey, asCA("partner", func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"partner.example"}, true
	}))
	byName, _ := signedBy(t, sub, subKey, nil)
	byMail, _ := signedBy(t, sub, subKey, func(c *x509.Certificate) {
		c.Subject.CommonName, c.EmailAddresses = "x", []string{"bob@partner.example"}
	})
	foreign, _ := signedBy(t, sub, subKey, func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@other.example"} })
	db := trusting(t, root)
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "bob@partner.example", ID: [16]byte{2}, Who: "test"}); err != nil {
		t.Fatal(err)
	}
	bob, err := db.Account("bob@partner.example")
	if err != nil {
		t.Fatal(err)
	}
	if m := db.MatchTLS(account(t, db), [][]byte{byName.Raw, sub.Raw}, here, noon); m != nil {
		t.Errorf("by common name: %+v", m)
	}
	if m := db.MatchTLS(account(t, db), [][]byte{foreign.Raw, sub.Raw}, here, noon); m != nil {
		t.Errorf("by common name, with an alternative name outside: %+v", m)
	}
	if db.MatchTLS(bob, [][]byte{byMail.Raw, sub.Raw}, here, noon) == nil {
		t.Error("by an alternative name inside of the constraint: refused")
	}
}

// A session does not outlive any certificate of the chain that let it in.
func TestCertificateEndsWithItsAuthority(t *testing.T) {
	t.Parallel()
	root, rootKey := signedBy(t, nil, nil, asCA("root", nil))
	sub, subKey := signedBy(t, root, rootKey, asCA("sub", func(c *x509.Certificate) { c.NotAfter = noon.Add(time.Minute) }))
	leaf, _ := signedBy(t, sub, subKey, nil)
	db := trusting(t, root)
	if m := db.MatchTLS(account(t, db), [][]byte{leaf.Raw, sub.Raw}, here, noon); m == nil || !m.Expires.Equal(sub.NotAfter) {
		t.Errorf("got %+v, want an end at %s", m, sub.NotAfter)
	}
}

// Serials of X.509 have up to 20 bytes, and people write them as their tools show them.
func TestRevokingLongSerials(t *testing.T) {
	t.Parallel()
	long, ok := new(big.Int).SetString("7a0102030405060708090a0b0c0d0e0f10111213", 16)
	if !ok {
		t.Fatal("bad test")
	}
	root, rootKey := signedBy(t, nil, nil, asCA("root", nil))
	sub, subKey := signedBy(t, root, rootKey, asCA("sub", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(99) }))
	leaf, _ := signedBy(t, sub, subKey, func(c *x509.Certificate) { c.SerialNumber = long })
	db := trusting(t, root)
	good := func() bool { return db.MatchTLS(account(t, db), [][]byte{leaf.Raw, sub.Raw}, here, noon) != nil }
	if !good() {
		t.Fatal("refused before anything is revoked")
	}
	for _, what := range []string{"serial:" + long.String(), "serial:0x7a0102030405060708090A0B0C0D0E0F10111213",
		"serial:7A:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13", "serial:99", "serial:0x63"} {
		if err := db.Revoke(t.Context(), what, "test"); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if good() {
			t.Errorf("%s is revoked and good", what)
		}
		if err := db.Unrevoke(t.Context(), what); err != nil || !good() {
			t.Errorf("%s taken back: %v, good %v", what, err, good())
		}
	}
	for _, bad := range []string{"serial:", "serial:-1", "serial:0x", "serial:012", "serial:7a", "serial:1_0", "serial:7a::01", "serial:0x" + strings.Repeat("f", 129)} {
		if err := db.Revoke(t.Context(), bad, "test"); !errors.Is(err, ErrBadRevocation) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
