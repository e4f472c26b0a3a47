package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport/crypto/durable"
)

// selfSignedFor is how long a self-signed certificate is valid from now: with
// the hour before, just below what common clients accept (825 days, Apple HT210176).
const selfSignedFor = 824 * 24 * time.Hour

// SelfSign makes a self-signed ECDSA P-256 certificate for names (DNS names
// and addresses) and writes it with its key (0600). localhost, 127.0.0.1 and
// ::1 are always among the names. The key is written first: a crash between
// the two leaves no certificate without its key.
func SelfSign(p CertificatePair, names []string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	id := sha256.Sum256(spki)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sallyport"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, SubjectKeyId: id[:20], AuthorityKeyId: id[:20],
	}
	addNames(template, append([]string{"localhost", "127.0.0.1", "::1"}, names...))
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, file := range []string{p.Certificate, p.Key} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		return fmt.Errorf("writing the certificate's key: %w", err)
	}
	if err := durable.WriteFile(p.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	return nil
}

func addNames(c *x509.Certificate, names []string) {
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || seen[n] {
			continue
		}
		seen[n] = true
		if ip, err := netip.ParseAddr(n); err == nil {
			c.IPAddresses = append(c.IPAddresses, net.IP(ip.Unmap().AsSlice()))
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
}

// certNames are the names that a self-signed certificate of this host should
// carry: the host's name, the listeners' addresses and what passive mode tells.
func (c *Config) certNames() []string {
	var names []string
	if h, err := os.Hostname(); err == nil {
		names = append(names, h)
	}
	add := func(addr string) {
		if ip, err := netip.ParseAddr(addr); err == nil && !ip.IsUnspecified() && !slices.Contains(names, addr) {
			names = append(names, addr)
		}
	}
	for _, l := range c.Listeners {
		if host, _, err := net.SplitHostPort(l.Address); err == nil {
			add(host)
		}
	}
	add(c.Passive.PublicAddress)
	return names
}
