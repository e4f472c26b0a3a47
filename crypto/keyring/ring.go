package keyring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sallyport/crypto/record"
)

const (
	ringMagic   = "SPKEYR1\n"
	ringFixed   = len(ringMagic) + 4 + 4 + 2*siteKeySize // magic ‖ epoch ‖ count ‖ policy ‖ audit
	siteKeySize = 4 + record.WrappedSize                 // version ‖ wrapped key
	entrySize   = len(AccountID{}) + siteKeySize
	headPlain   = 4 + len(record.Sum{}) // count ‖ set hash
)

// ring is the content of the keyring file: wrapped keys, and a keyed hash over
// the set of them, so that none is exchanged, dropped or put back. That hash is
// kept up to date entry by entry: a change costs the same cryptography in a
// ring of ten and of 100,000 accounts. A ring is never changed once made.
type ring struct {
	policy, audit siteKey
	accounts      []entry // in ascending order of id
	sum           record.Sum
}

// siteKey is a wrapped key and its version.
type siteKey struct {
	version uint32
	wrapped [record.WrappedSize]byte
}

// entry is the key of one account.
type entry struct {
	id AccountID
	siteKey
}

// newRing makes a ring of fresh keys and no accounts.
func newRing(root *root) (*ring, error) {
	kek, err := root.kek()
	if err != nil {
		return nil, err
	}
	r := &ring{}
	for _, s := range []struct {
		key    *siteKey
		domain record.Domain
	}{{&r.policy, record.DomainPolicyKey}, {&r.audit, record.DomainAuditKey}} {
		key := record.NewKey()
		s.key.version = siteVersion
		copy(s.key.wrapped[:], kek.Wrap(AccountID{}, s.domain, versionKey(siteVersion), key))
		clear(key[:])
	}
	r.sum = r.compute(root)
	return r, nil
}

// versionKey is the place that a wrapped key is bound to.
func versionKey(version uint32) []byte { return binary.BigEndian.AppendUint32(nil, version) }

func (k *siteKey) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, k.version)
	return append(dst, k.wrapped[:]...)
}

// parseSiteKey reads siteKeySize bytes.
func parseSiteKey(b []byte) siteKey {
	return siteKey{binary.BigEndian.Uint32(b), [record.WrappedSize]byte(b[4:siteKeySize])}
}

// element is what the set hash counts of a key.
func (e *entry) element() (dbkey, value []byte) {
	return append([]byte("account"), e.id[:]...), e.siteKey.append(nil)
}

// compute is the set hash of the whole ring.
func (r *ring) compute(root *root) (sum record.Sum) {
	set := root.set()
	set.Add(&sum, []byte("policy"), r.policy.append(nil))
	set.Add(&sum, []byte("audit"), r.audit.append(nil))
	for i := range r.accounts {
		dbkey, value := r.accounts[i].element()
		set.Add(&sum, dbkey, value)
	}
	return sum
}

// find returns where the account is, or where it would be.
func (r *ring) find(id AccountID) (int, bool) {
	return slices.BinarySearchFunc(r.accounts, id, func(e entry, id AccountID) int { return bytes.Compare(e.id[:], id[:]) })
}

// with returns a ring that also has e.
func (r *ring) with(e entry, root *root) *ring {
	next := *r
	i, found := r.find(e.id)
	if found {
		panic("keyring: internal error: two accounts of one random id")
	}
	next.accounts = slices.Concat(r.accounts[:i], []entry{e}, r.accounts[i:])
	dbkey, value := e.element()
	root.set().Add(&next.sum, dbkey, value)
	return &next
}

// without returns a ring that does not have account i.
func (r *ring) without(i int, root *root) *ring {
	next := *r
	next.accounts = slices.Concat(r.accounts[:i], r.accounts[i+1:])
	dbkey, value := r.accounts[i].element()
	root.set().Remove(&next.sum, dbkey, value)
	return &next
}

// encode is the content of the file.
func (r *ring) encode(root *root) ([]byte, error) {
	box, err := root.head()
	if err != nil {
		return nil, err
	}
	n := uint32(len(r.accounts))
	b := make([]byte, 0, ringFixed+len(r.accounts)*entrySize+record.SealedSize(headPlain))
	b = append(b, ringMagic...)
	b = binary.BigEndian.AppendUint32(b, root.epoch)
	b = binary.BigEndian.AppendUint32(b, n)
	b = r.policy.append(b)
	b = r.audit.append(b)
	for i := range r.accounts {
		b = append(b, r.accounts[i].id[:]...)
		b = r.accounts[i].append(b)
	}
	head := append(binary.BigEndian.AppendUint32(nil, n), r.sum[:]...)
	return box.Seal(b, record.DomainKeyring, []byte(keyringName), head), nil
}

// ringEpoch reads the root epoch, to be authenticated by decodeRing.
func ringEpoch(data []byte) (uint32, error) {
	if len(data) < ringFixed || string(data[:len(ringMagic)]) != ringMagic {
		return 0, fmt.Errorf("%w: %s is not a keyring of this format", ErrDamaged, keyringName)
	}
	return binary.BigEndian.Uint32(data[len(ringMagic):]), nil
}

// decodeRing authenticates the whole file under root, whose epoch is ringEpoch's.
func decodeRing(data []byte, root *root) (*ring, error) {
	r, err := decodeAuthentic(data, root)
	if err != nil && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %s: %w", ErrDamaged, keyringName, err)
	}
	return r, err
}

func decodeAuthentic(data []byte, root *root) (*ring, error) {
	epoch, err := ringEpoch(data)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(data[len(ringMagic)+4:])
	if epoch != root.epoch || uint64(len(data)) != uint64(ringFixed)+uint64(n)*uint64(entrySize)+uint64(record.SealedSize(headPlain)) {
		return nil, fmt.Errorf("%d bytes for %d accounts", len(data), n)
	}
	box, err := root.head()
	if err != nil {
		return nil, err
	}
	rest := data[len(ringMagic)+8:]
	r := &ring{policy: parseSiteKey(rest), audit: parseSiteKey(rest[siteKeySize:])}
	rest = rest[2*siteKeySize:]
	r.accounts = make([]entry, n)
	for i := range r.accounts {
		e := &r.accounts[i]
		e.id, e.siteKey = AccountID(rest[:len(e.id)]), parseSiteKey(rest[len(e.id):])
		if i > 0 && bytes.Compare(r.accounts[i-1].id[:], e.id[:]) >= 0 {
			return nil, errors.New("accounts out of order")
		}
		rest = rest[entrySize:]
	}
	r.sum = r.compute(root)
	head, err := box.Open(nil, record.DomainKeyring, []byte(keyringName), rest)
	if err != nil {
		return nil, err
	}
	if want := append(binary.BigEndian.AppendUint32(nil, n), r.sum[:]...); !bytes.Equal(head, want) {
		return nil, errors.New("keys were exchanged, dropped or put back")
	}
	return r, nil
}
