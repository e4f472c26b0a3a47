package record

import (
	"crypto/subtle"
	"fmt"

	"sallyport/crypto/locked"
)

const (
	commitSize  = 32
	commitLabel = "sallyport.commit.v1"

	// WrappedSize is the number of bytes of a wrapped key: commitment ‖ sealed record.
	WrappedSize = commitSize + headerSize + xaesOverhead + padStep
)

// ErrWrongKey is an ErrAuth: the value was not wrapped under this key, for this
// account, as this kind and at this place; or its commitment is damaged.
var ErrWrongKey = fmt.Errorf("%w: wrapped under another key, or damaged", ErrAuth)

// KEK wraps keys under a key. AES-GCM alone does not commit to its key, so a
// wrapped key begins with a commitment to the KEK and to where the key belongs,
// which is checked first. Safe for concurrent use.
type KEK struct {
	box    *Box
	commit macs
}

// NewKEK makes the KEK of a key at an epoch.
func NewKEK(key *Key, epoch uint32) (*KEK, error) {
	box, err := NewBox(key, AccountID{}, epoch)
	if err != nil {
		return nil, err
	}
	return &KEK{box: box, commit: macs{key: locked.Copy(key[:])}}, nil
}

// Wrap returns the WrappedSize bytes of key, bound to account, domain and database key.
func (k *KEK) Wrap(account AccountID, d Domain, dbkey []byte, key *Key) []byte {
	wrapped := make([]byte, commitSize, WrappedSize)
	k.commitment((*[commitSize]byte)(wrapped), account, d, dbkey)
	return k.box.seal(wrapped, account, d, dbkey, key[:])
}

// Unwrap is the inverse of Wrap. It returns ErrWrongKey if the commitment does
// not match, and ErrAuth if it does and the rest does not authenticate. The caller
// overwrites the key.
func (k *KEK) Unwrap(account AccountID, d Domain, dbkey, wrapped []byte) (*Key, error) {
	if len(wrapped) != WrappedSize {
		return nil, ErrAuth
	}
	var want [commitSize]byte
	k.commitment(&want, account, d, dbkey)
	if subtle.ConstantTimeCompare(want[:], wrapped[:commitSize]) != 1 {
		return nil, ErrWrongKey
	}
	var room [padStep]byte
	defer clear(room[:])
	plain, err := k.box.open(room[:0], account, d, dbkey, wrapped[commitSize:])
	if err != nil {
		return nil, err
	}
	if len(plain) != len(Key{}) {
		return nil, ErrAuth
	}
	key := new(Key)
	copy(key[:], plain)
	return key, nil
}

// commitment is HKDF-Expand-SHA-256(KEK, label ‖ AAD, 32). Of so short an
// output HKDF-Expand is one HMAC over info ‖ 1 (RFC 5869, section 2.3).
func (k *KEK) commitment(out *[commitSize]byte, account AccountID, d Domain, dbkey []byte) {
	m := k.commit.get()
	defer k.commit.put(m)
	m.in = append(m.in, commitLabel...)
	m.in = appendAAD(m.in, account, d, dbkey)
	m.in = append(m.in, 1)
	*out = *m.sum(nil)
}
