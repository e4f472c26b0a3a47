package policydb

import (
	"fmt"

	"sallyport/crypto/record"
)

// namesBucket is the table of names: which name has which id. It is sealed under keys of its own, so that accounts,
// credentials and their history can be handed to a program, or moved to another store, without any name.
var namesBucket = []byte("names1")

func (db *DB) nameKey(name string) []byte {
	t := db.o.NameToken("name", name)
	return append([]byte{'n'}, t[:]...)
}

func (db *DB) idKey(id record.AccountID) []byte {
	t := db.o.NameToken("id", id.String())
	return append([]byte{'i'}, t[:]...)
}

// id of a name; ErrNoAccount.
func (t *tx) id(name string) (record.AccountID, error) {
	plain, err := t.get(t.db.nameKey(name))
	if err != nil {
		return record.AccountID{}, err
	}
	if plain == nil {
		return record.AccountID{}, ErrNoAccount
	}
	return readID(plain)
}

func readID(plain []byte) (id record.AccountID, err error) {
	if copy(id[:], plain) != len(plain) || len(plain) != len(id) {
		return id, fmt.Errorf("%w: an id of %d bytes", ErrDamaged, len(plain))
	}
	return id, nil
}

// name of an id; ErrNoAccount.
func (t *tx) name(id record.AccountID) (string, error) {
	plain, err := t.get(t.db.idKey(id))
	if err != nil {
		return "", err
	}
	if plain == nil {
		return "", ErrNoAccount
	}
	return string(plain), nil
}

// known says whether the name or the id is taken.
func (t *tx) known(name string, id record.AccountID) bool {
	return t.names.Get(t.db.nameKey(name)) != nil || t.names.Get(t.db.idKey(id)) != nil
}

func (t *tx) putName(name string, id record.AccountID) error {
	if err := t.put(t.db.nameKey(name), id[:]); err != nil {
		return err
	}
	return t.put(t.db.idKey(id), []byte(name))
}

func (t *tx) removeName(name string, id record.AccountID) error {
	if err := t.remove(t.db.nameKey(name)); err != nil {
		return err
	}
	return t.remove(t.db.idKey(id))
}

// scanNames calls fn with every account, in the order of nothing.
func (t *tx) scanNames(fn func(name string, id record.AccountID) error) error {
	return scan(t.names, []byte{'n'}, func(key, sealed []byte) error {
		plain, err := t.open(key, sealed)
		if err != nil {
			return err
		}
		id, err := readID(plain)
		if err != nil {
			return err
		}
		name, err := t.name(id)
		if err != nil {
			return fmt.Errorf("%w: an id without a name", ErrDamaged)
		}
		return fn(name, id)
	})
}
