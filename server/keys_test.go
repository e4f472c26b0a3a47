package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostKeysAreMadeOnceAndRotated(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "hostkeys")
	h, err := OpenHostKeys(dir)
	check(t, err)
	first := h.List()
	want := []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"}
	for i, k := range first {
		if k.Algorithm != want[i] {
			t.Errorf("key %d is %s, want %s", i, k.Algorithm, want[i])
		}
	}
	rsaKey := h.Signers()[2].PublicKey().(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey)
	if rsaKey.N.BitLen() != 3072 {
		t.Errorf("RSA of %d bits, want 3072", rsaKey.N.BitLen())
	}
	for _, kind := range hostKeyKinds {
		fi, err := os.Stat(h.path(kind))
		check(t, err)
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", kind, fi.Mode().Perm())
		}
	}
	again, err := OpenHostKeys(dir)
	check(t, err)
	if !slices.Equal(again.List(), first) {
		t.Error("the keys changed from one start to the next")
	}
	check(t, h.Rotate("ed25519"))
	now := h.List()
	if now[0].Fingerprint == first[0].Fingerprint || now[1] != first[1] || now[2] != first[2] {
		t.Error("rotation of ed25519 changed something else, or nothing")
	}
	if err := h.Rotate("dsa"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("rotating dsa: %v", err)
	}
	check(t, os.WriteFile(h.path("rsa"), []byte("garbage"), 0o600))
	if err := h.Reload(); err == nil {
		t.Error("a bad file was taken")
	}
	if !slices.Equal(h.List(), now) {
		t.Error("a bad file changed the keys in use")
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	t.Parallel()
	n, ok := new(big.Int).SetString(strings.Repeat("f", 1024/4), 16)
	if !ok {
		t.Fatal("no number")
	}
	for _, pub := range []any{&rsa.PublicKey{N: n, E: 65537}, &ecdsa.PublicKey{Curve: elliptic.P224()}, "text"} {
		if _, err := checkStrength(pub); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%T: error %v, want ErrWeakKey", pub, err)
		}
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	if kind, err := checkStrength(&p256.PublicKey); err != nil || kind != "ECDSA P-256" {
		t.Errorf("P-256: %q, %v", kind, err)
	}
}

// TestWeakCertificateIsRefused uses a P-224 key: crypto/rsa no longer makes short RSA keys.
func TestWeakCertificateIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	check(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	check(t, err)
	priv, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	p := CertificatePair{filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")}
	check(t, os.WriteFile(p.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv}), 0o600))
	if _, err := OpenCerts([]CertificatePair{p}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrWeakKey) {
		t.Errorf("error %v, want ErrWeakKey", err)
	}
}

func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := CertificatePair{filepath.Join(dir, "tls", "c.crt"), filepath.Join(dir, "tls", "c.key")}
	check(t, SelfSign(p, []string{"files.example.org", "192.0.2.7"}, time.Now()))
	var log bytes.Buffer
	c, err := OpenCerts([]CertificatePair{p}, slog.New(slog.NewTextHandler(&log, nil)))
	check(t, err)
	first := c.List()[0]
	if first.Key != "ECDSA P-256" || !first.SelfSigned || !slices.Equal(first.Names, []string{"localhost", "files.example.org", "127.0.0.1", "::1", "192.0.2.7"}) {
		t.Errorf("certificate is %+v", first)
	}
	if valid := first.NotAfter.Sub(first.NotBefore); valid > 825*24*time.Hour {
		t.Errorf("valid for %v: clients refuse more than 825 days", valid)
	}
	served := func() string {
		cert, err := c.Get(&tls.ClientHelloInfo{})
		check(t, err)
		return describeCert("", cert.Leaf).Fingerprint
	}
	check(t, c.Reload())
	if log.Len() > 0 || served() != first.Fingerprint {
		t.Errorf("an unchanged file was reloaded: %s", log.String())
	}
	good, err := os.ReadFile(p.Certificate)
	check(t, err)
	check(t, os.WriteFile(p.Certificate, []byte("half a fi"), 0o600))
	if err := c.Reload(); err == nil {
		t.Error("a bad file is no error")
	}
	said := log.String()
	if served() != first.Fingerprint || !strings.Contains(said, "the old one stays in use") {
		t.Errorf("after a bad file: log %s", said)
	}
	check(t, c.Reload())
	if log.String() != said {
		t.Error("the same bad file is said twice")
	}
	check(t, os.WriteFile(p.Certificate, good, 0o600))
	check(t, c.Reload())
	check(t, SelfSign(p, nil, time.Now()))
	check(t, c.Reload())
	if served() == first.Fingerprint {
		t.Error("the new certificate is not served")
	}
}

func TestCertificateByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var pairs []CertificatePair
	for _, name := range []string{"a.example", "b.example"} {
		p := CertificatePair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
		check(t, SelfSign(p, []string{name}, time.Now()))
		pairs = append(pairs, p)
	}
	c, err := OpenCerts(pairs, slog.New(slog.DiscardHandler))
	check(t, err)
	for asked, want := range map[string]string{"a.example": "a.example", "b.example": "b.example", "c.example": "a.example"} {
		client, srv := net.Pipe()
		done := make(chan error, 1)
		go func() {
			conn := tls.Server(srv, &tls.Config{GetCertificate: c.Get})
			err := conn.Handshake()
			done <- err
		}()
		conn := tls.Client(client, &tls.Config{ServerName: asked, InsecureSkipVerify: true}) // names are what is tested
		check(t, conn.Handshake())
		check(t, <-done)
		if names := conn.ConnectionState().PeerCertificates[0].DNSNames; !slices.Contains(names, want) {
			t.Errorf("asked for %s, got %v", asked, names)
		}
		client.Close()
		srv.Close()
	}
}

func TestSelfSignedVerifiesForItsNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := CertificatePair{filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")}
	check(t, SelfSign(p, nil, time.Now()))
	data, err := os.ReadFile(p.Certificate)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	cert, err := loadPair(p)
	check(t, err)
	for name, good := range map[string]bool{"127.0.0.1": true, "::1": true, "localhost": true, "192.0.2.1": false} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
