package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/server/admin"
)

// CertSet serves TLS certificates from files and takes over changed files
// without a restart. A bad file keeps the certificate in use and is logged
// once per change. Safe for concurrent use.
type CertSet struct {
	pairs  []CertificatePair
	log    *slog.Logger
	mu     sync.Mutex // guards seen; one reload at a time
	seen   []fileStamp
	loaded atomic.Pointer[[]*tls.Certificate]
}

// fileStamp changes when a pair's files do.
type fileStamp struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

// OpenCerts loads every pair; weak keys are ErrWeakKey.
func OpenCerts(pairs []CertificatePair, log *slog.Logger) (*CertSet, error) {
	c := &CertSet{pairs: pairs, log: log, seen: make([]fileStamp, len(pairs))}
	certs := make([]*tls.Certificate, len(pairs))
	for i, p := range pairs {
		c.seen[i], _ = stamp(p)
		cert, err := loadPair(p)
		if err != nil {
			return nil, err
		}
		certs[i] = cert
	}
	c.loaded.Store(&certs)
	return c, nil
}

func stamp(p CertificatePair) (fileStamp, error) {
	cert, err := os.Stat(p.Certificate)
	if err != nil {
		return fileStamp{}, err
	}
	key, err := os.Stat(p.Key)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func loadPair(p CertificatePair) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return nil, &StateError{p.Certificate, fmt.Errorf("loading the certificate: %w", err),
			"put a PEM certificate there and its key at " + p.Key + "; in place of its own self-signed one the server makes another when both files are gone"}
	}
	if _, err := checkStrength(cert.Leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", p.Certificate, err)
	}
	return &cert, nil
}

// Reload takes over files that changed since they were last looked at. Pairs
// that do not load keep what is in use; their errors are returned together.
func (c *CertSet) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	certs := append([]*tls.Certificate(nil), *c.loaded.Load()...)
	var errs []error
	for i, p := range c.pairs {
		now, err := stamp(p)
		if err == nil && now == c.seen[i] {
			continue
		}
		if err != nil && c.seen[i] == (fileStamp{}) {
			continue // still missing, said before
		}
		c.seen[i] = now
		var cert *tls.Certificate
		if err == nil {
			cert, err = loadPair(p)
		}
		if err != nil {
			c.log.Error("certificate not reloaded, the old one stays in use", "file", p.Certificate, "error", err)
			errs = append(errs, err)
			continue
		}
		c.log.Info("certificate reloaded", "file", p.Certificate, "not_after", cert.Leaf.NotAfter)
		certs[i] = cert
	}
	c.loaded.Store(&certs)
	return errors.Join(errs...)
}

// Get is for tls.Config.GetCertificate: the first certificate that suits the
// client's name and algorithms, else the first.
func (c *CertSet) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := *c.loaded.Load()
	for _, cert := range certs {
		if hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return certs[0], nil
}

// List tells the certificates in use.
func (c *CertSet) List() []admin.Cert {
	var out []admin.Cert
	for i, cert := range *c.loaded.Load() {
		out = append(out, describeCert(c.pairs[i].Certificate, cert.Leaf))
	}
	return out
}

func describeCert(file string, leaf *x509.Certificate) admin.Cert {
	sum := sha256.Sum256(leaf.Raw)
	kind, _ := checkStrength(leaf.PublicKey)
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return admin.Cert{
		File: file, Subject: leaf.Subject.String(), Names: names, Key: kind,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Fingerprint: hex.EncodeToString(sum[:]),
		SelfSigned: bytes.Equal(leaf.RawIssuer, leaf.RawSubject),
	}
}
