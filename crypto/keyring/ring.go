package keyring

import (
	"bytes"
	"encoding/binary"
	"slices"

	"sallyport/crypto/record"
)

const (
	ringMagic   = "SPKEYR2\n"
	ringFixed   = len(ringMagic) + 4 + 4 + 2*siteKeySize // magic ‖ epoch ‖ count ‖ policy ‖ audit
	siteKeySize = 4 + 8 + record.WrappedSize             // version ‖ created ‖ wrapped key
	entrySize   = len(AccountID{}) + siteKeySize
	headPlain   = 4 + len(record.Sum{}) + 8 + 4 // count ‖ set hash ‖ when the root was made ‖ owed

	// Format 1 knew no times; it is read, and never written.
	ringMagic1 = "SPKEYR1\n"
)

// ring is the content of the keyring file: wrapped keys, and a keyed hash over
// the set of them, so that none is exchanged, dropped or put back. That hash is
// kept up to date entry by entry: a change costs the same cryptography in a
// ring of ten and of 100,000 accounts. A ring is never changed once made.
type ring struct {
	policy, audit siteKey
	accounts      []entry // in ascending order of id
	sum           record.Sum
	created       int64 // when the root was made, ns since 1970; 0 = not known
	// owed counts the account keys that were forgotten under this root: older
	// keyrings have them, and open with it, until it is replaced and destroyed.
	owed uint32
}

// siteKey is a wrapped key, its version, and when it was made.
type siteKey struct {
	version uint32
	created int64 // ns since 1970; 0 = not known
	wrapped [record.WrappedSize]byte
}

// entry is the key of one account.
type entry struct {
	id AccountID
	siteKey
}

// newRing makes a ring of fresh keys and no accounts.
func newRing(root *root, now int64) (*ring, error) {
	kek, err := root.kek()
	if err != nil {
		return nil, err
	}
	r := &ring{created: now}
	for _, s := range []struct {
		key    *siteKey
		domain record.Domain
	}{{&r.policy, record.DomainPolicyKey}, {&r.audit, record.DomainAuditKey}} {
		key := record.NewKey()
		s.key.version, s.key.created = siteVersion, now
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
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.created))
	return append(dst, k.wrapped[:]...)
}

// parseSiteKey reads siteKeySize bytes.
func parseSiteKey(b []byte) siteKey {
	return siteKey{binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:])), [record.WrappedSize]byte(b[12:siteKeySize])}
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
	next.owed++
	return &next
}

// clone is a ring that nobody else has.
func (r *ring) clone() *ring {
	next := *r
	next.accounts = slices.Clone(r.accounts)
	return &next
}

// exchange puts e in the place of account i; only of a ring that nobody else has yet.
func (r *ring) exchange(i int, e entry, root *root) {
	set := root.set()
	dbkey, value := r.accounts[i].element()
	set.Remove(&r.sum, dbkey, value)
	dbkey, value = e.element()
	set.Add(&r.sum, dbkey, value)
	r.accounts[i] = e
	r.owed++
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
	return box.Seal(b, record.DomainKeyring, []byte(keyringName), r.head(n)), nil
}

// head is the plaintext of the record that authenticates the rest.
func (r *ring) head(n uint32) []byte {
	head := append(binary.BigEndian.AppendUint32(nil, n), r.sum[:]...)
	head = binary.BigEndian.AppendUint64(head, uint64(r.created))
	return binary.BigEndian.AppendUint32(head, r.owed)
}
