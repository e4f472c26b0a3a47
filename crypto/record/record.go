package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
)

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
	DomainAccounts // accounts and their credentials in policy.db
	DomainAudit
	DomainKeyring  // head of the keyring file
	DomainSealKey  // private half of a seal that people open, wrapped by their secret
	DomainNames    // names and ids of accounts in policy.db
	DomainIdentity // host keys and certificate of the server, in a copy of the state
	DomainPending  // what waits, encrypted to the audit log's public key, until a server is unsealed
	DomainLastCopy // when the state was last copied
	DomainClock    // the last known time
)

const (
	version    = 1
	headerSize = 1 + 4 // version u8 ‖ key epoch u32
	lengthSize = 4     // before the plaintext, inside the encryption
	padStep    = 64
	aadLabel   = "sallyport.rec.v1\x00"

	// keepScratch bounds the buffers that are kept for the next record, so
	// that one giant policy document does not stay in memory for ever.
	keepScratch = 128 << 10
)

// SealedSize is the number of bytes that plain bytes take when sealed.
func SealedSize(plain int) int { return headerSize + xaesOverhead + padded(plain) }

// padded is the size of the padded plaintext: length ‖ plain ‖ zeroes.
func padded(plain int) int { return (lengthSize + plain + padStep - 1) / padStep * padStep }

// Box seals and opens records under one key. Safe for concurrent use.
type Box struct {
	xaes    *xaes
	account AccountID
	epoch   uint32
	pool    sync.Pool // of *scratch
}

// scratch is what one Seal or Open needs beside its arguments.
type scratch struct {
	subkey subkeyBuf
	aad    []byte
	plain  []byte
}

// NewBox makes the Box of one account (or of the zero account for site-wide
// stores) under key at the given key epoch. A record of another epoch does not
// open.
func NewBox(key *Key, account AccountID, epoch uint32) (*Box, error) {
	x, err := newXAES(key)
	if err != nil {
		return nil, fmt.Errorf("record: preparing a key: %w", err)
	}
	b := &Box{xaes: x, account: account, epoch: epoch}
	runtime.AddCleanup(b, (*xaes).wipe, x)
	return b, nil
}

// Seal appends the sealed form of plain, bound to domain and database key, to
// dst. The room that dst has, if any, must not overlap plain. It panics if
// dbkey is longer than 65,535 bytes or plain than 4 GiB less 4 bytes.
func (b *Box) Seal(dst []byte, d Domain, dbkey, plain []byte) []byte {
	return b.seal(dst, b.account, d, dbkey, plain)
}

// Open appends the plaintext to dst or returns ErrAuth. The room that dst has
// must not overlap sealed; Open wants up to 64 bytes more of it than the
// plaintext is long.
func (b *Box) Open(dst []byte, d Domain, dbkey, sealed []byte) ([]byte, error) {
	return b.open(dst, b.account, d, dbkey, sealed)
}

func (b *Box) seal(dst []byte, account AccountID, d Domain, dbkey, plain []byte) []byte {
	if uint64(len(plain)) > math.MaxUint32-lengthSize {
		panic(fmt.Sprintf("record: internal error: sealing %d bytes", len(plain)))
	}
	s := b.scratch()
	defer b.release(s)
	s.aad = appendAAD(s.aad[:0], account, d, dbkey)
	s.plain = slices.Grow(s.plain[:0], padded(len(plain))) // at once: what append outgrows keeps its bytes
	s.plain = binary.BigEndian.AppendUint32(s.plain, uint32(len(plain)))
	s.plain = append(s.plain, plain...)
	s.plain = append(s.plain, zeroes[:padded(len(plain))-len(s.plain)]...)

	dst = slices.Grow(dst, SealedSize(len(plain)))
	dst = append(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, b.epoch)
	dst, err := b.xaes.seal(dst, s.plain, s.aad, &s.subkey)
	if err != nil {
		panic("record: internal error: " + err.Error()) // the same construction worked in NewBox
	}
	return dst
}

func (b *Box) open(dst []byte, account AccountID, d Domain, dbkey, sealed []byte) ([]byte, error) {
	if !shaped(dbkey, sealed) {
		return nil, ErrAuth
	}
	if sealed[0] != version {
		return nil, fmt.Errorf("%w: record version %d is unknown to this program (or the byte is damaged)", ErrAuth, sealed[0])
	}
	if binary.BigEndian.Uint32(sealed[1:]) != b.epoch {
		return nil, ErrAuth
	}
	s := b.scratch()
	defer b.release(s)
	s.aad = appendAAD(s.aad[:0], account, d, dbkey)
	out, err := b.xaes.open(dst, sealed[headerSize:], s.aad, &s.subkey)
	if err != nil {
		return nil, err
	}
	return unpad(out, len(dst))
}

// shaped says whether something can be a record at all, of whatever version.
func shaped(dbkey, sealed []byte) bool {
	body := len(sealed) - headerSize - xaesOverhead
	return body >= padStep && body%padStep == 0 && len(dbkey) <= math.MaxUint16
}

// unpad takes length and padding off what was opened behind out[:start].
func unpad(out []byte, start int) ([]byte, error) {
	plain := out[start:]
	body := len(plain)
	n := uint64(binary.BigEndian.Uint32(plain))
	if n > uint64(body-lengthSize) || padded(int(n)) != body {
		return nil, ErrAuth
	}
	for _, c := range plain[lengthSize+n:] {
		if c != 0 {
			return nil, ErrAuth
		}
	}
	copy(plain, plain[lengthSize:lengthSize+n])
	return out[:start+int(n)], nil
}

// zeroes is what records are padded with.
var zeroes [padStep]byte

// appendAAD appends label ‖ domain ‖ account ‖ length u16 ‖ database key.
func appendAAD(dst []byte, account AccountID, d Domain, dbkey []byte) []byte {
	if len(dbkey) > math.MaxUint16 {
		panic(fmt.Sprintf("record: internal error: database key of %d bytes", len(dbkey)))
	}
	dst = append(dst, aadLabel...)
	dst = append(dst, byte(d))
	dst = append(dst, account[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(dbkey)))
	return append(dst, dbkey...)
}

func (b *Box) scratch() *scratch {
	if s, ok := b.pool.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}

// release wipes what is secret and keeps the rest for the next record. It keeps b in use until then: its key is overwritten
// when b is collected.
func (b *Box) release(s *scratch) {
	clear(s.subkey[:])
	clear(s.plain)
	if cap(s.plain) <= keepScratch {
		b.pool.Put(s)
	}
}
