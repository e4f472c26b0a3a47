package keyring

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"sallyport/crypto/locked"
	"sallyport/crypto/record"
)

const (
	rootLabel = "sallyport.root.v1\x00"
	siteLabel = "sallyport.site.v1\x00"
	keySize   = len(record.Key{})
)

// root is the root key of one epoch, in memory of its own that is neither
// swapped out nor dumped. Everything else is derived from it when needed.
type root struct {
	epoch uint32
	page  []byte // the key is in the first keySize bytes
}

// newRoot moves key into locked memory and overwrites it.
func newRoot(key []byte, epoch uint32) (*root, error) {
	defer clear(key)
	r, err := randomRoot(epoch)
	if err == nil {
		copy(r.page, key)
	}
	return r, err
}

// randomRoot draws a root where it will stay.
func randomRoot(epoch uint32) (*root, error) {
	page, err := locked.Pages(keySize)
	if err != nil {
		return nil, fmt.Errorf("getting memory for the root key: %w", err)
	}
	rand.Read(page[:keySize]) // never fails: crypto/rand ends the process instead
	return &root{epoch, page}, nil
}

func (r *root) key() []byte { return r.page[:keySize] }

// destroy overwrites the key and gives the memory back; r must not be used again.
func (r *root) destroy() {
	locked.Free(r.page)
	r.page = nil
}

// Format keeps the key out of logs.
func (*root) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// commitment tells whether a key is this root, and nothing else.
func (r *root) commitment() (out []byte) {
	expand(r.key(), rootLabel, "commit", r.epoch).Use(func(b []byte) { out = append(out, b...) })
	return out
}

// kek wraps the keys of the keyring.
func (r *root) kek() (kek *record.KEK, err error) {
	key := expand(r.key(), rootLabel, "wrap", r.epoch)
	defer key.Wipe()
	key.Use(func(b []byte) { kek, err = record.NewKEK((*record.Key)(b), r.epoch) })
	return kek, err
}

// head is the box of the keyring's head.
func (r *root) head() (*record.Box, error) { return expandBox(r.key(), rootLabel, "head", r.epoch) }

// set hashes the entries of the keyring.
func (r *root) set() (set *record.Set) {
	key := expand(r.key(), rootLabel, "set", r.epoch)
	defer key.Wipe()
	key.Use(func(b []byte) { set = record.NewSet((*record.Key)(b)) })
	return set
}

// expandBox is the box of a key that expand makes.
func expandBox(key []byte, label, purpose string, epoch uint32) (box *record.Box, err error) {
	secret := expand(key, label, purpose, epoch)
	defer secret.Wipe()
	secret.Use(func(b []byte) { box, err = record.NewBox((*record.Key)(b), AccountID{}, epoch) })
	return box, err
}

// expand is HKDF-Expand-SHA-256 with info = label ‖ purpose ‖ 0 ‖ epoch u32.
func expand(key []byte, label, purpose string, epoch uint32) *locked.Secret {
	info := append([]byte(label), purpose...)
	info = append(info, 0)
	info = binary.BigEndian.AppendUint32(info, epoch)
	return locked.Expand(sha256.New, key, info, keySize)
}
