package record

import "errors"

// AccountID is the random 128-bit identity of one account. It alone appears
// on disk, in audit records and in metrics; names live in a sealed table.
type AccountID [16]byte

// Key is 32 secret random bytes. It never prints.
type Key [32]byte

// ErrAuth is returned when a sealed value does not authenticate: wrong key,
// wrong place, damage, swap or replay.
var ErrAuth = errors.New("record: authentication failed")

// Domain separates kinds of record; a value sealed for one kind never opens as another.
type Domain uint8

// One number per kind of record, for ever (docs/FORMAT.md).
const (
	DomainEntry Domain = 1 + iota
	DomainPast
	DomainInode
	DomainVersion
	DomainExtents
	DomainBlobKey
	DomainWhen
	DomainOutbox
	DomainDoomed
	DomainHead
	DomainFold
)

// Domains outside the volume.
const (
	DomainRootKey    Domain = 32 + iota // ROOT wrapped by a seal (key file)
	DomainAccountKey                    // ACCOUNT key wrapped by ROOT
	DomainPolicyKey
	DomainAuditKey
	DomainDataKey  // data key of a blob wrapped by ACCOUNT
	DomainPolicy   // values of policy.db
	DomainAccounts // name <-> id map and credentials in policy.db
	DomainAudit
)

// Box seals and opens records under one key. Safe for concurrent use.
type Box struct{}

// NewBox makes the Box of one account (or of the zero account for site-wide
// stores) under key at the given key epoch.
func NewBox(key *Key, account AccountID, epoch uint32) (*Box, error) {
	return nil, errors.ErrUnsupported
}

// Seal appends the sealed form of plain, bound to domain and database key, to dst.
func (b *Box) Seal(dst []byte, d Domain, dbkey, plain []byte) []byte { panic("skeleton") }

// Open appends the plaintext to dst or returns ErrAuth.
func (b *Box) Open(dst []byte, d Domain, dbkey, sealed []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Sum is a keyed multiset hash (MSet-Add-HMAC): order does not matter, each record counts once.
type Sum [32]byte

// Set adds and removes records of one account to and from a Sum.
type Set struct{}

// Add and Remove take the database key (bucket name included) and the sealed value.
func (s *Set) Add(sum *Sum, dbkey, value []byte)    { panic("skeleton") }
func (s *Set) Remove(sum *Sum, dbkey, value []byte) { panic("skeleton") }

// AccountKeys are everything derived from one ACCOUNT key at one version.
// Safe for concurrent use.
type AccountKeys struct{}

// Derive expands an ACCOUNT key (HKDF-Expand-SHA-384/256, see docs/FORMAT.md).
func Derive(key *Key, id AccountID, version uint32) (*AccountKeys, error) {
	return nil, errors.ErrUnsupported
}

func (k *AccountKeys) ID() AccountID   { panic("skeleton") }
func (k *AccountKeys) Version() uint32 { panic("skeleton") }
func (k *AccountKeys) Box() *Box       { panic("skeleton") }
func (k *AccountKeys) Set() *Set       { panic("skeleton") }

// DirToken and NameToken hide names in database keys (HMAC-SHA256, 16 bytes).
func (k *AccountKeys) DirToken(inode uint64) [16]byte               { panic("skeleton") }
func (k *AccountKeys) NameToken(inode uint64, name string) [16]byte { panic("skeleton") }

// FoldToken is the token of the NFC form of a name.
func (k *AccountKeys) FoldToken(inode uint64, nfc string) [16]byte { panic("skeleton") }

// NewDataKey makes the random data key of a blob and its wrapped form (commit ‖ sealed record).
func (k *AccountKeys) NewDataKey(blob [16]byte) (*Key, []byte, error) {
	return nil, nil, errors.ErrUnsupported
}

// DataKey unwraps; the commitment is checked first. ErrAuth on any mismatch.
func (k *AccountKeys) DataKey(blob [16]byte, wrapped []byte) (*Key, error) {
	return nil, errors.ErrUnsupported
}
