package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// inputs are the local files that clients send.
type inputs struct {
	dir   string
	big   string
	small []string
}

func makeInputs(c config) (*inputs, error) {
	dir, err := filepath.Abs(filepath.Join(c.dir, "inputs"))
	if err != nil {
		return nil, err
	}
	in := &inputs{dir: dir, big: filepath.Join(dir, "big")}
	if err := os.MkdirAll(filepath.Join(dir, "small"), 0o755); err != nil {
		return nil, err
	}
	// Random, so that no layer can compress or deduplicate it.
	src := rand.NewChaCha8([32]byte{1})
	f, err := os.Create(in.big)
	if err != nil {
		return nil, err
	}
	chunk := make([]byte, 1<<20)
	for range c.sizeMiB {
		_, _ = src.Read(chunk)
		if _, err := f.Write(chunk); err != nil {
			return nil, err
		}
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	for i := range c.files {
		_, _ = src.Read(chunk[:4096])
		name := filepath.Join(dir, "small", fmt.Sprintf("f%05d", i))
		if err := os.WriteFile(name, chunk[:4096], 0o644); err != nil {
			return nil, err
		}
		in.small = append(in.small, name)
	}
	return in, nil
}

func writePEM(path string) error {
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key}); err != nil {
		return err
	}
	if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}
