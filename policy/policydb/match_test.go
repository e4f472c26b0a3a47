package policydb

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

var here = netip.MustParseAddr("192.0.2.7")

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func certDB(t *testing.T) *DB {
	t.Helper()
	now := noon
	return passwordDB(t, &now, "")
}

// certify makes an SSH certificate that is good for alice, changed by change.
func certify(t *testing.T, ca ssh.Signer, change func(*ssh.Certificate)) []byte {
	t.Helper()
	c := &ssh.Certificate{Key: signer(t).PublicKey(), Serial: 7, CertType: ssh.UserCert, KeyId: "alice@laptop", ValidPrincipals: []string{"alice"},
		ValidAfter: uint64(noon.Add(-time.Hour).Unix()), ValidBefore: uint64(noon.Add(time.Hour).Unix())}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return c.Marshal()
}

func TestSSHCertificates(t *testing.T) {
	t.Parallel()
	db := certDB(t)
	ca, stranger := signer(t), signer(t)
	err := db.AddAuthority(t.Context(), Authority{Kind: "ssh", Blob: ca.PublicKey().Marshal()}, "test")
	if err != nil {
		t.Fatal(err)
	}
	a := account(t, db)
	critical := func(k, v string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{k: v} }
	}
	for _, c := range []struct {
		what   string
		ca     ssh.Signer
		change func(*ssh.Certificate)
		good   bool
	}{
		{"good", ca, nil, true},
		{"of a stranger", stranger, nil, false},
		{"for bob", ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }, false},
		{"for bob and alice", ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob", "alice"} }, true},
		{"for nobody in particular", ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, false},
		{"of a host", ca, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, false},
		{"ended", ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(noon.Unix()) }, false},
		{"not yet begun", ca, func(c *ssh.Certificate) { c.ValidAfter = uint64(noon.Add(time.Second).Unix()) }, false},
		{"without end", ca, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, true},
		{"from here", ca, critical("source-address", "198.51.100.0/24,192.0.2.0/28"), true},
		{"from elsewhere", ca, critical("source-address", "198.51.100.0/24"), false},
		{"from what cannot be read", ca, critical("source-address", "*.example.com"), false},
		{"with a forced command", ca, critical("force-command", "internal-sftp"), false},
		{"with an extension", ca, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": ""} }, true},
	} {
		blob := certify(t, c.ca, c.change)
		if m := db.MatchKey(a, blob, here, noon); (m != nil) != c.good || m != nil && m.Method != "certificate" {
			t.Errorf("%s: %+v", c.what, m)
		}
	}
	blob := certify(t, ca, nil)
	blob[len(blob)-1] ^= 1
	if db.MatchKey(a, blob, here, noon) != nil {
		t.Error("a forged signature is good")
	}
	// An authority is no key.
	if db.MatchKey(a, ca.PublicKey().Marshal(), here, noon) != nil {
		t.Error("the authority itself logs in")
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	db := certDB(t)
	ca, key := signer(t), signer(t)
	if err := db.AddAuthority(t.Context(), Authority{Kind: "ssh", Blob: ca.PublicKey().Marshal()}, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddKey(t.Context(), "alice", PublicKey{Blob: key.PublicKey().Marshal()}, "test"); err != nil {
		t.Fatal(err)
	}
	inner := signer(t)
	blob := certify(t, ca, func(c *ssh.Certificate) { c.Key = inner.PublicKey() })
	told := 0
	db.OnTrust(func() { told++ })
	for _, c := range []struct {
		what      string
		cert, key bool // good while it is revoked
	}{
		{"serial:7", false, true}, {"serial:0x7", false, true}, {"serial:8", true, true}, {"id:alice@laptop", false, true}, {"id:alice", true, true},
		{ssh.FingerprintSHA256(inner.PublicKey()), false, true}, {ssh.FingerprintSHA256(ca.PublicKey()), false, true}, {ssh.FingerprintSHA256(key.PublicKey()), true, false},
	} {
		if err := db.Revoke(t.Context(), c.what, "test"); err != nil {
			t.Fatal(err)
		}
		a := account(t, db)
		if got := db.MatchKey(a, blob, here, noon) != nil; got != c.cert {
			t.Errorf("%s revoked: certificate good %v", c.what, got)
		}
		if got := db.MatchKey(a, key.PublicKey().Marshal(), here, noon) != nil; got != c.key {
			t.Errorf("%s revoked: key good %v", c.what, got)
		}
		if err := db.Unrevoke(t.Context(), db.Trust().Revoked[0].What); err != nil {
			t.Fatal(err)
		}
	}
	if told != 16 {
		t.Errorf("told %d times of 16 changes", told)
	}
	for _, bad := range []string{"", "serial:", "serial:x", "serial:-1", "id:", "alice", "MD5:aa"} {
		if err := db.Revoke(t.Context(), bad, "test"); !errors.Is(err, ErrBadRevocation) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := db.RemoveAuthority(t.Context(), ssh.FingerprintSHA256(ca.PublicKey())); err != nil || db.MatchKey(account(t, db), blob, here, noon) != nil {
		t.Errorf("after its authority was removed: %v", err)
	}
}

// The trust of the site is there again after a restart, and part of what is verified.
func TestTrustSurvivesARestart(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	ca := signer(t)
	if err := db.AddAuthority(t.Context(), Authority{Kind: "ssh", Blob: ca.PublicKey().Marshal(), Comment: "canary-authority"}, "test"); err != nil {
		t.Fatal(err)
	}
	if err := db.Revoke(t.Context(), "serial:9", "test"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if tr := open(t, o).Trust(); len(tr.Authorities) != 1 || len(tr.Revoked) != 1 || tr.Authorities[0].Fingerprint() != ssh.FingerprintSHA256(ca.PublicKey()) {
		t.Errorf("%+v", tr)
	}
}

func TestKeyOptions(t *testing.T) {
	t.Parallel()
	db := certDB(t)
	key := signer(t).PublicKey()
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " a comment"
	day := noon.Format("20060102")
	for _, c := range []struct {
		options string
		from    string
		at      time.Time
		good    bool
	}{
		{"", "192.0.2.7", noon, true},
		{`from="192.0.2.0/24,2001:db8::/32" `, "192.0.2.7", noon, true},
		{`from="192.0.2.0/24,2001:db8::/32" `, "::ffff:192.0.2.7", noon, true},
		{`from="192.0.2.0/24,2001:db8::/32" `, "2001:db8::9", noon, true},
		{`from="192.0.2.0/24,2001:db8::/32" `, "198.51.100.1", noon, false},
		{`from="198.51.100.1" `, "198.51.100.1", noon, true},
		{`expiry-time="` + day + `1201" `, "192.0.2.7", noon, true},
		{`expiry-time="` + day + `1200Z" `, "192.0.2.7", noon, false},
		{`expiry-time="` + day + `" `, "192.0.2.7", noon, false},
		{`restrict,from="192.0.2.7",expiry-time="20991231" `, "192.0.2.7", noon, true},
		{`cert-authority `, "192.0.2.7", noon, false},
	} {
		k, err := ParseKey(c.options + line)
		if err != nil || k.Comment != "a comment" {
			t.Fatalf("%s: %v", c.options, err)
		}
		if _, err := db.AddKey(t.Context(), "alice", k, "test"); err != nil {
			t.Fatal(err)
		}
		if got := db.MatchKey(account(t, db), key.Marshal(), netip.MustParseAddr(c.from), c.at) != nil; got != c.good {
			t.Errorf("%sfrom %s: good %v", c.options, c.from, got)
		}
	}
	for _, bad := range []string{`command="x" `, `from="*.example.com" `, `from="!192.0.2.1" `, `from="" `, `expiry-time="soon" `, `principals="a" `, `verify-required `, `cert-authority="x" `} {
		if _, err := ParseKey(bad + line); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// An authority of one account opens that account only, to the principals that its line names.
func TestAuthorityOfAnAccount(t *testing.T) {
	t.Parallel()
	db := certDB(t)
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "bob", ID: [16]byte{2}, Who: "test"}); err != nil {
		t.Fatal(err)
	}
	ca := signer(t)
	k, err := ParseKey(`cert-authority,principals="deploy,ci",from="192.0.2.0/24" ` + string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddKey(t.Context(), "alice", k, "test"); err != nil {
		t.Fatal(err)
	}
	bob, err := db.Account("bob")
	if err != nil {
		t.Fatal(err)
	}
	ci := certify(t, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ci"} })
	alice := certify(t, ca, nil)
	forBob := certify(t, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob", "ci"} })
	elsewhere := netip.MustParseAddr("198.51.100.1")
	for _, c := range []struct {
		what string
		got  *Match
		good bool
	}{
		{"ci to alice", db.MatchKey(account(t, db), ci, here, noon), true},
		{"ci to alice, from elsewhere", db.MatchKey(account(t, db), ci, elsewhere, noon), false},
		{"alice to alice", db.MatchKey(account(t, db), alice, here, noon), false},
		{"to bob", db.MatchKey(bob, forBob, here, noon), false},
	} {
		if (c.got != nil) != c.good {
			t.Errorf("%s: %+v", c.what, c.got)
		}
	}
}

// tlsCA makes an authority and a function that certifies with it.
func tlsCA(t *testing.T) (ca *x509.Certificate, issue func(func(*x509.Certificate)) [][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca, func(change func(*x509.Certificate)) [][]byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: "alice"}, NotBefore: noon.Add(-time.Minute), NotAfter: noon.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if change != nil {
			change(c)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{der}
	}
}

func TestTLSClientCertificates(t *testing.T) {
	t.Parallel()
	db := certDB(t)
	ca, issue := tlsCA(t)
	_, stranger := tlsCA(t)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	authority, err := ParseAuthority(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.AddAuthority(t.Context(), authority, "test"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		chain [][]byte
		good  bool
	}{
		{"good", issue(nil), true},
		{"of a stranger", stranger(nil), false},
		{"of bob", issue(func(c *x509.Certificate) { c.Subject.CommonName = "bob" }), false},
		{"alternative name", issue(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "x", []string{"alice"} }), true},
		{"of a server", issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		{"ended", issue(func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }), false},
		{"not yet begun", issue(func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) }), false},
		{"none", nil, false}, {"garbage", [][]byte{{1, 2, 3}}, false},
	} {
		if m := db.MatchTLS(account(t, db), c.chain, here, noon); (m != nil) != c.good {
			t.Errorf("%s: %+v", c.what, m)
		}
	}
	for _, revoke := range []string{"serial:42", fingerprint(issue(nil)[0])} {
		chain := issue(nil)
		if strings.HasPrefix(revoke, "SHA256") {
			revoke = fingerprint(chain[0])
		}
		if err := db.Revoke(t.Context(), revoke, "test"); err != nil {
			t.Fatal(err)
		}
		if db.MatchTLS(account(t, db), chain, here, noon) != nil {
			t.Errorf("%s is revoked and good", revoke)
		}
		if err := db.Unrevoke(t.Context(), revoke); err != nil {
			t.Fatal(err)
		}
	}
	// Pinned to an account, it needs neither authority nor name.
	pinned := stranger(func(c *x509.Certificate) { c.Subject.CommonName = "scanner 7" })
	k, err := ParseKey(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pinned[0]})))
	if err != nil {
		t.Fatal(err)
	}
	if db.MatchTLS(account(t, db), pinned, here, noon) != nil {
		t.Error("not pinned yet, and good")
	}
	added, err := db.AddKey(t.Context(), "alice", k, "test")
	if err != nil {
		t.Fatal(err)
	}
	if db.MatchTLS(account(t, db), pinned, here, noon) == nil {
		t.Error("a pinned certificate is not good")
	}
	if err := db.RemoveKey(t.Context(), "alice", added.Fingerprint(), "test"); err != nil || db.MatchTLS(account(t, db), pinned, here, noon) != nil {
		t.Errorf("no longer pinned, and good (%v)", err)
	}
	if _, err := ParseAuthority(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pinned[0]}))); !errors.Is(err, ErrBadKey) {
		t.Errorf("a certificate that is no authority: %v", err)
	}
}
