package sftpd

import (
	"crypto/rsa"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
)

// minRSA is the smallest RSA key accepted from a client, in bits, and the
// smallest host key served.
const minRSA = 2048

// profile is a named set of algorithms, in the server's order. The client's
// order decides (RFC 4253, section 7.1), but see kexpeek.go for ciphers.
// Strict key exchange against CVE-2023-48795 is x/crypto's and always on.
type profile struct {
	keyExchanges []string
	ciphers      []string
	macs         []string
	nistHostKeys bool // ECDSA host keys are served even when others are there
	sha1         bool // RSA signatures over SHA-1, of the host key and of clients
}

// modern is what ssh-audit has nothing to say about, as of November 2026.
// dh-group-exchange is absent because x/crypto always picks a 2048-bit group,
// NIST curves because clients that have nothing else are in compatible.
func modern() profile {
	return profile{
		keyExchanges: []string{
			ssh.KeyExchangeMLKEM768X25519,
			ssh.KeyExchangeCurve25519,
			ssh.KeyExchangeDH16SHA512,
		},
		ciphers: []string{
			ssh.CipherAES128GCM,
			ssh.CipherAES256GCM,
			ssh.CipherChaCha20Poly1305,
			ssh.CipherAES128CTR,
			ssh.CipherAES192CTR,
			ssh.CipherAES256CTR,
		},
		macs: []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
	}
}

// compatible adds what clients of the last ten years need, still without SHA-1,
// CBC, DSA or RSA signatures over SHA-1.
func compatible() profile {
	p := modern()
	p.nistHostKeys = true
	p.keyExchanges = append(p.keyExchanges,
		ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
		ssh.KeyExchangeDHGEXSHA256, ssh.KeyExchangeDH14SHA256)
	p.macs = append(p.macs, ssh.HMACSHA256, ssh.HMACSHA512)
	return p
}

// allowed is what remains of a profile where the process may use only what FIPS 140-3 approves. x/crypto leaves out by itself what its
// FIPS mode has not, but offers two things that then fail in the handshake under fips140=only, which would leave a client without a
// reason: AES-GCM (its counted nonces are refused by crypto/cipher) and mlkem768x25519. ECDH over NIST curves is all that is left to
// exchange keys, so it belongs to every profile there.
func (p profile) allowed() profile {
	if !approved.Only() {
		return p
	}
	return profile{
		keyExchanges: []string{ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521},
		ciphers:      []string{ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR},
		macs:         p.macs,
		nistHostKeys: p.nistHostKeys,
	}
}

// legacyInsecure adds what only devices that nobody updates need: SHA-1 and CBC. Left out is what can be broken within reach
// of a purse today (RC4, MACs of 96 bits, DSA, the 1,024-bit group1): those devices are better served by a gateway.
func legacyInsecure() profile {
	p := compatible()
	p.sha1 = true
	p.keyExchanges = append(p.keyExchanges, ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDHGEXSHA1)
	p.ciphers = append(p.ciphers, ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC)
	if !approved.Only() { // nothing of it is left there: see allowed
		p.macs = append(p.macs, ssh.HMACSHA1)
	}
	return p
}

// judged names the strictest profile that has everything that a connection agreed on.
func judged(a ssh.NegotiatedAlgorithms) string {
	switch {
	case modern().allowed().has(a):
		return "modern"
	case compatible().allowed().has(a):
		return "compatible"
	}
	return legacyName
}

// has tells whether everything that a connection agreed on is in the profile.
func (p profile) has(a ssh.NegotiatedAlgorithms) bool {
	one := func(d ssh.DirectionAlgorithms) bool {
		return slices.Contains(p.ciphers, d.Cipher) && (d.MAC == "" || slices.Contains(p.macs, d.MAC))
	}
	return slices.Contains(p.keyExchanges, a.KeyExchange) && one(a.Read) && one(a.Write) && (p.sha1 || a.HostKey != ssh.KeyAlgoRSA)
}

// legacyName is the profile that is offered until a date only.
const legacyName = "legacy-insecure"

func profileNamed(name string) (profile, error) {
	switch name {
	case "", "modern":
		return modern().allowed(), nil
	case "compatible":
		return compatible().allowed(), nil
	case legacyName:
		return legacyInsecure().allowed(), nil
	}
	return profile{}, fmt.Errorf("sftpd: unknown algorithm profile %q: modern, compatible or legacy-insecure", name)
}

// signatures are those accepted from clients.
func (p profile) signatures() []string {
	if p.sha1 {
		return append(userKeyAlgorithms(), ssh.KeyAlgoRSA)
	}
	return userKeyAlgorithms()
}

// userKeyAlgorithms are the signatures accepted from clients by every profile.
func userKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
	}
}

// servable are the host keys that the profile serves; at least one must remain. ECDSA keys are left out where Ed25519 or RSA
// can take their place and the profile avoids NIST curves.
func (p profile) servable(keys []ssh.Signer) ([]ssh.Signer, error) {
	var usable, nist []ssh.Signer
	for _, k := range keys {
		switch k.PublicKey().Type() {
		case ssh.KeyAlgoED25519:
			usable = append(usable, k)
		case ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
			nist = append(nist, k)
		case ssh.KeyAlgoRSA:
			k, err := p.signer(k)
			if err != nil {
				return nil, err
			}
			if k != nil {
				usable = append(usable, k)
			}
		}
	}
	if p.nistHostKeys || len(usable) == 0 {
		usable = append(usable, nist...)
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("sftpd: no usable host key among %d", len(keys))
	}
	return usable, nil
}

// signer restricts an RSA key to signatures with SHA-2, where the profile has no others; nil if it is too short to be
// served at all.
func (p profile) signer(k ssh.Signer) (ssh.Signer, error) {
	signer, ok := k.(ssh.AlgorithmSigner)
	if !ok || rsaBits(k.PublicKey()) < minRSA {
		return nil, nil
	}
	hashes := []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	if p.sha1 {
		hashes = append(hashes, ssh.KeyAlgoRSA)
	}
	limited, err := ssh.NewSignerWithAlgorithms(signer, hashes)
	if err != nil {
		return nil, fmt.Errorf("sftpd: host key: %w", err)
	}
	return limited, nil
}

// rsaBits is 0 for a key that is not RSA.
func rsaBits(k ssh.PublicKey) int {
	ck, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return 0
	}
	key, ok := ck.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return 0
	}
	return key.N.BitLen()
}

// acceptable tells whether a key of this kind may log in at all, or a certificate of one.
func acceptable(k ssh.PublicKey) bool {
	if c, ok := k.(*ssh.Certificate); ok {
		k = c.Key
	}
	if k.Type() == ssh.KeyAlgoRSA {
		return rsaBits(k) >= minRSA
	}
	return slices.Contains(userKeyAlgorithms(), k.Type())
}
