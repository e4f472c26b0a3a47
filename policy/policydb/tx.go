package policydb

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// tx is one transaction as get, put, remove and scan over sealed records, so that another store can stand behind it.
// Values it returns are copies.
type tx struct {
	db    *DB
	b     *bbolt.Bucket
	names *bbolt.Bucket // nil in a file of the old format
	h     *head         // of a writing transaction
}

// newSet derives the key of the set hash from tokens, which are MACs under the keyring's policy key.
func newSet(token func(kind, name string) [16]byte) *record.Set {
	var key record.Key
	for i, half := range []string{"left", "right"} {
		t := token("policydb set key", half)
		copy(key[16*i:], t[:])
	}
	return record.NewSet(&key)
}

// domain of the record at a key.
func domain(key []byte) record.Domain {
	switch {
	case isName(key):
		return record.DomainNames
	case key[0] == 'a', key[0] == 'l':
		return record.DomainAccounts
	default:
		return record.DomainPolicy
	}
}

// isName says whether a key belongs into the table of names. No letter is used in both tables, so that the set hash needs
// no more than the key to tell them apart.
func isName(key []byte) bool { return key[0] == 'n' || key[0] == 'i' }

func (t *tx) bucket(key []byte) *bbolt.Bucket {
	if isName(key) {
		return t.names
	}
	return t.b
}

func (o *Options) box(key []byte) *record.Box {
	if isName(key) {
		return o.Names
	}
	return o.Box
}

func (t *tx) open(key, sealed []byte) ([]byte, error) {
	plain, err := t.db.o.box(key).Open(nil, domain(key), key, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: a record does not open: %w", ErrDamaged, err)
	}
	return plain, nil
}

// get returns nil if there is no record.
func (t *tx) get(key []byte) ([]byte, error) {
	sealed := t.bucket(key).Get(key)
	if sealed == nil {
		return nil, nil
	}
	return t.open(key, sealed)
}

func (t *tx) put(key, plain []byte) error {
	if err := t.remove(key); err != nil {
		return err
	}
	sealed := t.db.o.box(key).Seal(nil, domain(key), key, plain)
	t.db.set.Add(&t.h.Sum, key, sealed)
	t.h.Count++
	return t.bucket(key).Put(key, sealed)
}

func (t *tx) remove(key []byte) error {
	b := t.bucket(key)
	old := b.Get(key)
	if old == nil {
		return nil
	}
	t.db.set.Remove(&t.h.Sum, key, old)
	t.h.Count--
	return b.Delete(key)
}

// scan calls fn with every key of a bucket that begins with prefix, in order, and its sealed value; both are valid in fn only.
func scan(b *bbolt.Bucket, prefix []byte, fn func(key, sealed []byte) error) error {
	c := b.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if len(k) == 0 {
			return fmt.Errorf("%w: an empty key", ErrDamaged)
		}
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) head() (*head, error) {
	plain, err := t.get([]byte("h"))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, fmt.Errorf("%w: no head", ErrDamaged)
	}
	return decode[head](plain)
}

func (db *DB) view(fn func(*tx) error) error {
	return db.viewAny(func(t *tx) error {
		if t.names == nil {
			return fmt.Errorf("%w: no table of names", ErrDamaged)
		}
		return fn(t)
	})
}

// viewAny is view also of a file of the old format.
func (db *DB) viewAny(fn func(*tx) error) error {
	return db.bolt.View(func(b *bbolt.Tx) error {
		t := &tx{db: db, b: b.Bucket(bucket), names: b.Bucket(namesBucket)}
		if t.b == nil {
			return fmt.Errorf("%w: no records", ErrDamaged)
		}
		return fn(t)
	})
}

// change is update with the lock and the checks of every writing call; done runs after the commit, still under the lock,
// to make the change visible in the order of commits.
func (db *DB) change(ctx context.Context, fn func(*tx) error, done func()) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.update(fn); err != nil {
		return err
	}
	done()
	return nil
}

// update runs fn in one transaction, rewrites the head, and commits. An error of fn changes nothing.
func (db *DB) update(fn func(*tx) error) error {
	if db.broken.Load() {
		return ErrReadOnly
	}
	b, err := db.bolt.Begin(true)
	if err != nil {
		return db.fail(err)
	}
	defer b.Rollback()
	bkt, err := b.CreateBucketIfNotExists(bucket)
	if err != nil {
		return db.fail(err)
	}
	names, err := b.CreateBucketIfNotExists(namesBucket)
	if err != nil {
		return db.fail(err)
	}
	t := &tx{db: db, b: bkt, names: names}
	if bkt.Get([]byte("h")) == nil && db.current.Load().N == 0 {
		t.h = &head{Format: format}
	} else if t.h, err = t.head(); err != nil {
		return err
	}
	if err := fn(t); err != nil {
		return err
	}
	key := []byte("h")
	if err := bkt.Put(key, db.o.Box.Seal(nil, domain(key), key, encode(t.h))); err != nil {
		return db.fail(err)
	}
	if db.testOnlyCommit != nil {
		err = db.testOnlyCommit(b)
	} else {
		err = b.Commit()
	}
	if err != nil {
		return db.fail(err)
	}
	return nil
}

// fail: whether the change is on disk is not known, and a second fsync would not tell (it may report success for pages
// that the first one lost). So nothing more is written.
func (db *DB) fail(err error) error {
	db.broken.Store(true)
	return fmt.Errorf("%w: %w", ErrReadOnly, err)
}
