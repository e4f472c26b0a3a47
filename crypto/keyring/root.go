package keyring

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

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
func newRoot(key *record.Key, epoch uint32) (*root, error) {
	page, err := lockedPage()
	if err != nil {
		return nil, fmt.Errorf("getting memory for the root key: %w", err)
	}
	copy(page, key[:])
	clear(key[:])
	return &root{epoch, page}, nil
}

func (r *root) key() []byte { return r.page[:keySize] }

// destroy overwrites the key and gives the memory back; r must not be used again.
func (r *root) destroy() {
	clear(r.page)
	freePage(r.page)
	r.page = nil
}

// Format keeps the key out of logs.
func (*root) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// commitment tells whether a key is this root, and nothing else.
func (r *root) commitment() []byte { return expand(r.key(), rootLabel, "commit", r.epoch)[:] }

// kek wraps the keys of the keyring.
func (r *root) kek() (*record.KEK, error) {
	return record.NewKEK(expand(r.key(), rootLabel, "wrap", r.epoch), r.epoch)
}

// head is the box of the keyring's head.
func (r *root) head() (*record.Box, error) {
	return record.NewBox(expand(r.key(), rootLabel, "head", r.epoch), AccountID{}, r.epoch)
}

// set hashes the entries of the keyring.
func (r *root) set() *record.Set {
	return record.NewSet(expand(r.key(), rootLabel, "set", r.epoch))
}

// expand is HKDF-Expand-SHA-256 with info = label ‖ purpose ‖ 0 ‖ epoch u32.
func expand(key []byte, label, purpose string, epoch uint32) *record.Key {
	info := append([]byte(label), purpose...)
	info = append(info, 0)
	info = binary.BigEndian.AppendUint32(info, epoch)
	out, err := hkdf.Expand(sha256.New, key, string(info), keySize)
	if err != nil {
		panic("keyring: internal error: " + err.Error()) // key and output have fixed, allowed sizes
	}
	return (*record.Key)(out)
}
