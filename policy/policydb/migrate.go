package policydb

import (
	"bytes"
	"errors"
	"fmt"

	"sallyport/crypto/record"
)

// errOldFormat: the file is whole, and of the format that Open makes into today's.
var errOldFormat = errors.New("policydb: of the format before")

// verify holds every record of both tables against the head.
func (t *tx) verify(h *head) error {
	if isOld := h.Format == oldFormat; isOld != (t.names == nil) {
		return fmt.Errorf("%w: the table of names is not as the format says", ErrDamaged)
	}
	var sum record.Sum
	var count uint64
	check := func(names, old bool) func(key, sealed []byte) error {
		return func(key, sealed []byte) error {
			if len(key) == 1 && key[0] == 'h' && !names {
				return nil
			}
			t.db.set.Add(&sum, key, sealed)
			count++
			var err error
			switch {
			case old:
				_, err = t.openOld(key, sealed)
			case isName(key) != names:
				err = fmt.Errorf("%w: a record in the wrong table", ErrDamaged)
			default:
				_, err = t.open(key, sealed)
			}
			return err
		}
	}
	if err := scan(t.b, nil, check(false, h.Format == oldFormat)); err != nil {
		return err
	}
	if t.names != nil {
		if err := scan(t.names, nil, check(true, false)); err != nil {
			return err
		}
	}
	if sum != h.Sum || count != h.Count {
		return fmt.Errorf("%w: the set of records is not the one that was written", ErrDamaged)
	}
	return nil
}

// openOld opens a record of format 1: accounts under the token of their name, and names under the token of the id, all in
// one table under one key.
func (t *tx) openOld(key, sealed []byte) ([]byte, error) {
	d := record.DomainPolicy
	if key[0] == 'a' || key[0] == 'i' {
		d = record.DomainAccounts
	}
	plain, err := t.db.o.Box.Open(nil, d, key, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: a record does not open: %w", ErrDamaged, err)
	}
	return plain, nil
}

type oldAccountRecord struct {
	Name string `json:"name"`
	accountRecord
}

// migrate makes format 1 into today's, in one transaction: a crash leaves the one or the other. The file was verified.
func (db *DB) migrate() error {
	return db.update(func(t *tx) error {
		old, accounts, err := t.oldAccounts()
		if err != nil {
			return err
		}
		for _, r := range old {
			db.set.Remove(&t.h.Sum, r.key, r.sealed)
			t.h.Count--
			if err := t.b.Delete(r.key); err != nil {
				return err
			}
		}
		for _, a := range accounts {
			if t.known(a.Name, a.ID) {
				return fmt.Errorf("%w: two accounts of one name or id", ErrDamaged)
			}
			if err := errors.Join(t.putName(a.Name, a.ID), t.putAccount(a)); err != nil {
				return err
			}
		}
		t.h.Format = format
		return nil
	})
}

type oldRecord struct{ key, sealed []byte }

// oldAccounts are the records of format 1 that go, and what they say.
func (t *tx) oldAccounts() (old []oldRecord, accounts []*Account, err error) {
	for _, letter := range []byte{'a', 'i'} {
		err := scan(t.b, []byte{letter}, func(key, sealed []byte) error {
			old = append(old, oldRecord{bytes.Clone(key), bytes.Clone(sealed)})
			if letter == 'i' {
				return nil
			}
			plain, err := t.openOld(key, sealed)
			if err != nil {
				return err
			}
			r, err := decode[oldAccountRecord](plain)
			if err == nil {
				accounts = append(accounts, r.account(r.Name))
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return old, accounts, nil
}
