package record

import (
	"crypto/aes"
	"runtime"

	"sallyport/crypto/locked"
)

// MessageKey opens one record of one nonce, and nothing else: what is given to somebody who may read this record and
// must not have the key of the Box. The record stays bound to its domain and database key.
type MessageKey [2 * aes.BlockSize]byte

// Disclose returns the key of a sealed record. It does not look whether the record is authentic: Open does.
func (b *Box) Disclose(sealed []byte) (MessageKey, error) {
	var k MessageKey
	if len(sealed) < headerSize+xaesOverhead {
		return k, ErrAuth
	}
	aead, err := b.xaes.derive(sealed[headerSize:headerSize+subkeyNonce], (*subkeyBuf)(&k))
	runtime.KeepAlive(b)
	if err == nil {
		locked.GCM(aead)
	}
	return k, err
}

// Open is Box.Open with the key of this one record. account and d are those of the Box.
func (k *MessageKey) Open(dst []byte, account AccountID, d Domain, dbkey, sealed []byte) ([]byte, error) {
	if !shaped(dbkey, sealed) || sealed[0] != version {
		return nil, ErrAuth
	}
	aead, err := newGCM(k[:])
	if err != nil {
		return nil, err
	}
	defer locked.GCM(aead)
	out, err := aead.Open(dst, nil, sealed[headerSize+subkeyNonce:], appendAAD(nil, account, d, dbkey))
	if err != nil {
		return nil, ErrAuth
	}
	return unpad(out, len(dst))
}
