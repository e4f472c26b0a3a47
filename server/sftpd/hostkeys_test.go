package sftpd

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The modern profile serves no ECDSA host key beside others, and no RSA key below 2,048 bits; what is the only key there is is served.
func TestHostKeysOfProfiles(t *testing.T) {
	t.Parallel()
	signer := func(key any, err error) ssh.Signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ed25519Key := signer(ed, err)
	nist := signer(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaKey := signer(rsa.GenerateKey(rand.Reader, 2048))
	for _, tt := range []struct {
		name string
		p    profile
		keys []ssh.Signer
		want []string
	}{
		{"modern", modern(), []ssh.Signer{nist, ed25519Key, rsaKey}, []string{ssh.KeyAlgoED25519, ssh.KeyAlgoRSA}},
		{"compatible", compatible(), []ssh.Signer{nist, ed25519Key, rsaKey}, []string{ssh.KeyAlgoED25519, ssh.KeyAlgoRSA, ssh.KeyAlgoECDSA256}},
		{"modern with ECDSA alone", modern(), []ssh.Signer{nist}, []string{ssh.KeyAlgoECDSA256}},
		{"none", modern(), nil, nil},
	} {
		got, err := tt.p.servable(tt.keys)
		var types []string
		for _, k := range got {
			types = append(types, k.PublicKey().Type())
		}
		if !slices.Equal(types, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%s: got %v (%v), want %v", tt.name, types, err, tt.want)
		}
	}
}
