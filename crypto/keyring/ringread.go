package keyring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"sallyport/crypto/record"
)

// ringEpoch reads the root epoch, to be authenticated by decodeRing.
func ringEpoch(data []byte) (uint32, error) {
	if len(data) < len(ringMagic)+8 || string(data[:len(ringMagic)]) != ringMagic && string(data[:len(ringMagic)]) != ringMagic1 {
		return 0, fmt.Errorf("%w: %s is not a keyring of a format that this version knows", ErrDamaged, keyringName)
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
	first := string(data[:len(ringMagic)]) == ringMagic1
	keySize, parse := siteKeySize, parseSiteKey
	if first {
		keySize, parse = 4+record.WrappedSize, parseSiteKey1
	}
	idSize := len(AccountID{})
	n := binary.BigEndian.Uint32(data[len(ringMagic)+4:])
	if want := uint64(len(ringMagic)+8+2*keySize) + uint64(n)*uint64(idSize+keySize) + uint64(record.SealedSize(headPlain)); epoch != root.epoch || uint64(len(data)) != want {
		return nil, fmt.Errorf("%d bytes for %d accounts", len(data), n)
	}
	rest := data[len(ringMagic)+8:]
	r := &ring{policy: parse(rest), audit: parse(rest[keySize:])}
	rest = rest[2*keySize:]
	r.accounts = make([]entry, n)
	for i := range r.accounts {
		e := &r.accounts[i]
		e.id, e.siteKey = AccountID(rest[:idSize]), parse(rest[idSize:])
		if i > 0 && bytes.Compare(r.accounts[i-1].id[:], e.id[:]) >= 0 {
			return nil, errors.New("accounts out of order")
		}
		rest = rest[idSize+keySize:]
	}
	return r, r.authenticate(root, n, rest, first)
}

// parseSiteKey1 reads a key of format 1, which has no time.
func parseSiteKey1(b []byte) siteKey {
	return siteKey{version: binary.BigEndian.Uint32(b), wrapped: [record.WrappedSize]byte(b[4:])}
}

// authenticate compares the head of the file with what was read. The head of
// each format has its own length, so none passes for the other.
func (r *ring) authenticate(root *root, n uint32, sealed []byte, first bool) error {
	box, err := root.head()
	if err != nil {
		return err
	}
	head, err := box.Open(nil, record.DomainKeyring, []byte(keyringName), sealed)
	if err != nil {
		return err
	}
	var want []byte
	r.sum = r.compute(root)
	switch {
	case first:
		sum := r.compute1(root)
		want = append(binary.BigEndian.AppendUint32(nil, n), sum[:]...)
	case len(head) == headPlain-4: // before owed
		r.created = int64(binary.BigEndian.Uint64(head[headPlain-12:]))
		want = r.head(n)[:headPlain-4]
	case len(head) == headPlain:
		r.created, r.owed = int64(binary.BigEndian.Uint64(head[headPlain-12:])), binary.BigEndian.Uint32(head[headPlain-4:])
		want = r.head(n)
	}
	if !bytes.Equal(head, want) {
		return errors.New("keys were exchanged, dropped or put back")
	}
	return nil
}

// compute1 is the set hash as format 1 had it.
func (r *ring) compute1(root *root) (sum record.Sum) {
	set := root.set()
	add := func(place string, k *siteKey) {
		set.Add(&sum, []byte(place), append(versionKey(k.version), k.wrapped[:]...))
	}
	add("policy", &r.policy)
	add("audit", &r.audit)
	for i := range r.accounts {
		add("account"+string(r.accounts[i].id[:]), &r.accounts[i].siteKey)
	}
	return sum
}
