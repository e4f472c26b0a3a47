package policydb

import (
	"bytes"
	"encoding/pem"
	"net/netip"
	"testing"

	"golang.org/x/crypto/ssh"
)

// FuzzKeyLine reads lines of authorized_keys and certificates in PEM: what is taken has a key that can be shown and compared, and an authority
// that is taken is one.
func FuzzKeyLine(f *testing.F) {
	line := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFEAjb9c5vVHxN5pKQ6M+rsU0Glo8WmVBQ3BUpFwcRqB"
	for _, s := range []string{line + " a comment", `from="192.0.2.0/24,!10.0.0.1",expiry-time="20300101" ` + line, `cert-authority,principals="a,b" ` + line,
		`command="x" ` + line, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", "ssh-rsa AAAA", `from="\"" ` + line} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil {
			if len(k.Blob) == 0 || k.Fingerprint() == "" {
				t.Errorf("%q is taken as %+v", s, k)
			}
			k.Valid(noon)
			k.Certifies()
		}
		if a, err := ParseAuthority(s); err == nil && (a.Kind != "ssh" && a.Kind != "x509" || a.Fingerprint() == "") {
			t.Errorf("%q is taken as %+v", s, a)
		}
	})
}

// FuzzMatch is a client that shows any key, certificate or chain: it comes in with what the account has or an authority signed, and with nothing else.
func FuzzMatch(f *testing.F) {
	db := open(f, options(f))
	fill(f, db)
	a, err := db.Account("alice-canary")
	if err != nil {
		f.Fatal(err)
	}
	known := a.Keys[0].Blob
	f.Add(known)
	f.Add(sshKey(f))
	if s, err := ssh.ParsePublicKey(sshKey(f)); err == nil {
		c := &ssh.Certificate{Key: s, SignatureKey: s, CertType: ssh.UserCert, ValidPrincipals: []string{"alice-canary"}, Signature: &ssh.Signature{Format: "ssh-ed25519", Blob: make([]byte, 64)}}
		f.Add(c.Marshal())
	}
	if b, _ := pem.Decode([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----")); b != nil {
		f.Add(b.Bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := db.MatchKey(a, b, netip.Addr{}, noon); m != nil && !bytes.Equal(b, known) {
			t.Errorf("%x comes in by %+v", b, m)
		}
		if m := db.MatchTLS(a, [][]byte{b, known}, netip.Addr{}, noon); m != nil {
			t.Errorf("the certificate %x comes in by %+v", b, m)
		}
	})
}
