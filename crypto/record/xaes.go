package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"

	"sallyport/crypto/locked"
)

const (
	nonceSize    = 24
	subkeyNonce  = 12 // the half of the nonce that goes into the subkey
	tagSize      = 16
	xaesOverhead = nonceSize + tagSize
)

// xaes is XAES-256-GCM (https://c2sp.org/XAES-256-GCM) with random nonces,
// written before the ciphertext. The half that AES-GCM sees is drawn by
// NewGCMWithRandomNonce, which is the one way to AES-GCM that
// GODEBUG=fips140=only allows.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // CMAC subkey, NIST SP 800-38B, section 6.1
}

// subkeyBuf is scratch space for a derivation. It is handed in because what
// goes through an interface would otherwise be allocated for every message.
type subkeyBuf [2 * aes.BlockSize]byte

func newXAES(key *Key) (*xaes, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte // shift left by one bit, reduce if a bit fell out
	for i := len(x.k1) - 1; i >= 0; i-- {
		carry, x.k1[i] = x.k1[i]>>7, x.k1[i]<<1|carry
	}
	x.k1[len(x.k1)-1] ^= carry * 0x87
	return x, nil
}

// wipe overwrites the expanded key.
func (x *xaes) wipe() {
	locked.Block(x.block)
	clear(x.k1[:])
}

// derive returns the AES-256-GCM of all nonces that begin with half; the caller
// overwrites it (locked.GCM).
func (x *xaes) derive(half []byte, k *subkeyBuf) (cipher.AEAD, error) {
	m1, m2 := k[:aes.BlockSize], k[aes.BlockSize:]
	copy(m1, "\x00\x01X\x00")
	copy(m2, "\x00\x02X\x00")
	copy(m1[4:], half)
	copy(m2[4:], half)
	subtle.XORBytes(m1, m1, x.k1[:])
	subtle.XORBytes(m2, m2, x.k1[:])
	x.block.Encrypt(m1, m1)
	x.block.Encrypt(m2, m2)
	return newGCM(k[:])
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	defer locked.Block(block) // the GCM has its own
	return cipher.NewGCMWithRandomNonce(block)
}

// seal appends nonce ‖ ciphertext ‖ tag to dst, whose free room must not overlap plain.
func (x *xaes) seal(dst, plain, aad []byte, k *subkeyBuf) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, subkeyNonce)...)
	rand.Read(dst[start:]) // never fails
	aead, err := x.derive(dst[start:], k)
	if err != nil {
		return nil, err
	}
	defer locked.GCM(aead)
	return aead.Seal(dst, nil, plain, aad), nil
}

// open appends the plaintext of nonce ‖ ciphertext ‖ tag to dst.
func (x *xaes) open(dst, sealed, aad []byte, k *subkeyBuf) ([]byte, error) {
	if len(sealed) < xaesOverhead {
		return nil, ErrAuth
	}
	aead, err := x.derive(sealed[:subkeyNonce], k)
	if err != nil {
		return nil, err
	}
	defer locked.GCM(aead)
	plain, err := aead.Open(dst, nil, sealed[subkeyNonce:], aad)
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}
