package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
)

// ErrWeakKey means that a TLS or SSH host key is below what is accepted: RSA
// of 2048 bits, ECDSA P-256, or Ed25519.
var ErrWeakKey = errors.New("key is too weak")

// checkStrength refuses weak public keys and tells kind and size in words.
func checkStrength(pub crypto.PublicKey) (string, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		kind := fmt.Sprintf("RSA-%d", k.N.BitLen())
		if k.N.BitLen() < 2048 {
			return kind, fmt.Errorf("%s: %w: RSA needs 2048 bits or more", kind, ErrWeakKey)
		}
		return kind, nil
	case *ecdsa.PublicKey:
		kind := "ECDSA " + k.Curve.Params().Name
		if k.Curve.Params().BitSize < 256 {
			return kind, fmt.Errorf("%s: %w: ECDSA needs P-256 or larger", kind, ErrWeakKey)
		}
		return kind, nil
	case ed25519.PublicKey, *ed25519.PublicKey:
		return "Ed25519", nil
	default:
		return fmt.Sprintf("%T", pub), fmt.Errorf("%T: %w: use RSA, ECDSA or Ed25519", pub, ErrWeakKey)
	}
}
