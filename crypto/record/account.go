package record

import (
	"crypto/sha256"
	"encoding/binary"

	"sallyport/crypto/locked"
)

// What the keys derived from an ACCOUNT key are for; "journal" is reserved.
const (
	purposeName   = "name"
	purposeDir    = "dir"
	purposeRecord = "record"
	purposeSet    = "set"
	purposeWrap   = "wrap"

	accountLabel = "sallyport.account.v1\x00"

	// foldPrefix separates the tokens of folded names from those of names.
	// It could be confused with an inode above 2^62 only.
	foldPrefix = "nfc"
)

// AccountKeys are everything derived from one ACCOUNT key at one version: bytes
// in locked memory, and expanded keys and hash states of the standard library on
// the heap. All of it is overwritten when the garbage collector finds that
// nobody has the AccountKeys any more. Safe for concurrent use.
type AccountKeys struct {
	id        AccountID
	version   uint32
	box       *Box
	wrap      *KEK
	set       Set
	name, dir macs
}

// Derive expands an ACCOUNT key with HKDF-Expand-SHA-256 (docs/FORMAT.md
// "Keys"). The version is the key epoch of the account's records and the number
// in the file name of its tree database.
func Derive(key *Key, id AccountID, version uint32) (*AccountKeys, error) {
	k := &AccountKeys{id: id, version: version}
	k.name.key = expand(key, purposeName, id, version)
	k.dir.key = expand(key, purposeDir, id, version)
	k.set.macs.key = expand(key, purposeSet, id, version)
	record, wrap := expand(key, purposeRecord, id, version), expand(key, purposeWrap, id, version)
	defer record.Wipe()
	defer wrap.Wipe()
	var err error
	record.Use(func(b []byte) { k.box, err = NewBox((*Key)(b), id, version) })
	if err != nil {
		return nil, err
	}
	wrap.Use(func(b []byte) { k.wrap, err = NewKEK((*Key)(b), version) })
	if err != nil {
		return nil, err
	}
	return k, nil
}

// expand derives with info = label ‖ purpose ‖ 0 ‖ account id ‖ version u32.
func expand(key *Key, purpose string, id AccountID, version uint32) *locked.Secret {
	info := append([]byte(accountLabel), purpose...)
	info = append(info, 0)
	info = append(info, id[:]...)
	info = binary.BigEndian.AppendUint32(info, version)
	return locked.Expand(sha256.New, key[:], info, len(key))
}

// ID is the account's.
func (k *AccountKeys) ID() AccountID { return k.id }

// Version is the version of the ACCOUNT key.
func (k *AccountKeys) Version() uint32 { return k.version }

// Box seals the account's records.
func (k *AccountKeys) Box() *Box { return k.box }

// Set hashes the set of the account's records.
func (k *AccountKeys) Set() *Set { return &k.set }

// DirToken hides a directory's inode number in database keys:
// HMAC(k_dir, inode)[:16].
func (k *AccountKeys) DirToken(inode uint64) [16]byte {
	return k.dir.token("", inode, "")
}

// NameToken hides a name and its length in database keys:
// HMAC(k_name, inode ‖ name)[:16] over the exact bytes of the name.
func (k *AccountKeys) NameToken(inode uint64, name string) [16]byte {
	return k.name.token("", inode, name)
}

// Names makes the tokens of names of one version of an account's key, and opens
// nothing. It orders a listing that was begun under that version.
type Names struct{ name macs }

// Names is kept longer than the keys themselves.
func (k *AccountKeys) Names() *Names { return &Names{macs{key: k.name.key}} }

// NameToken is that of the key's version.
func (n *Names) NameToken(inode uint64, name string) [16]byte { return n.name.token("", inode, name) }

// FoldToken is the token of the NFC form of a name:
// HMAC(k_name, "nfc" ‖ inode ‖ NFC(name))[:16].
func (k *AccountKeys) FoldToken(inode uint64, nfc string) [16]byte {
	return k.name.token(foldPrefix, inode, nfc)
}

func (m *macs) token(prefix string, inode uint64, name string) [16]byte {
	s := m.get()
	defer m.put(s)
	s.in = append(s.in, prefix...)
	s.in = binary.BigEndian.AppendUint64(s.in, inode)
	s.in = append(s.in, name...)
	return [16]byte(s.sum(nil)[:16])
}

// NewDataKey makes the random data key of a blob and its wrapped form
// (WrappedSize bytes: commitment ‖ sealed record). The caller overwrites the key
// as soon as it has made of it what it needs.
func (k *AccountKeys) NewDataKey(blob [16]byte) (*Key, []byte, error) {
	key := NewKey()
	return key, k.WrapDataKey(blob, key), nil
}

// WrapDataKey wraps an existing data key anew, as account rotation does.
func (k *AccountKeys) WrapDataKey(blob [16]byte, key *Key) []byte {
	return k.wrap.Wrap(k.id, DomainDataKey, blob[:], key)
}

// DataKey unwraps; the commitment is checked first. ErrAuth on any mismatch. The
// caller overwrites the key.
func (k *AccountKeys) DataKey(blob [16]byte, wrapped []byte) (*Key, error) {
	return k.wrap.Unwrap(k.id, DomainDataKey, blob[:], wrapped)
}
