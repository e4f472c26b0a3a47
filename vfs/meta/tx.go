package meta

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// Tx is valid inside View or Update only, and is used by one goroutine. What
// it returns belongs to the caller and stays valid.
//
// Within Update, reads see what the same function wrote so far and what
// members of its group wrote before.
type Tx struct {
	db       *store
	snap     *snapshot
	head     head
	group    *overlay // of the members before; nil in View
	own      *overlay // nil in View
	instant  int64
	detached map[Inode]struct{} // directories unlinked or replaced with entries in them: must be linked again

	dbkey, plain []byte // scratch
}

// Instant is this transaction's time in ns since 1970: max(now, last+1 ns),
// strictly increasing over transactions of one volume. In View it is the
// instant that an Update would have had.
func (tx *Tx) Instant() int64 { return tx.instant }

// Keys are those that the records of this transaction are under. What they
// wrap belongs into the same transaction: the next one may be under another version.
func (tx *Tx) Keys() *record.AccountKeys { return tx.db.keys }

// pending finds what this transaction has changed; nil = nothing.
func (tx *Tx) pending(kind record.Domain, key []byte) *pending {
	if tx.own == nil {
		return nil
	}
	tx.dbkey = append(append(tx.dbkey[:0], byte(kind)), key...)
	if p := tx.own.records[string(tx.dbkey)]; p != nil {
		return p
	}
	return tx.group.records[string(tx.dbkey)]
}

// load returns the plaintext of a record, which is valid until the next load;
// nil if there is none.
func (tx *Tx) load(kind record.Domain, key []byte) ([]byte, error) {
	if p := tx.pending(kind, key); p != nil {
		return p.plain, nil
	}
	sealed := tx.snap.get(kind, key)
	if sealed == nil {
		return nil, nil
	}
	return tx.open(kind, key, sealed)
}

func (tx *Tx) open(kind record.Domain, key, sealed []byte) ([]byte, error) {
	tx.dbkey = append(append(tx.dbkey[:0], byte(kind)), key...)
	tx.snap.inside = true // sealed lies in bbolt's memory map
	plain, err := tx.db.keys.Box().Open(tx.plain[:0], kind, tx.dbkey, sealed)
	tx.snap.inside = false
	if err != nil {
		return nil, broken(kind, err)
	}
	tx.plain = plain
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}

// exists tells whether there is a record, without opening it.
func (tx *Tx) exists(kind record.Domain, key []byte) bool {
	if p := tx.pending(kind, key); p != nil {
		return p.plain != nil
	}
	return tx.snap.get(kind, key) != nil
}

func (tx *Tx) put(kind record.Domain, key, plain []byte, obj any) {
	if tx.own == nil {
		panic("meta: internal error: a write outside Update")
	}
	if plain == nil {
		plain = []byte{}
	}
	tx.own.put(kind, key, &pending{plain: plain, obj: obj})
}

func (tx *Tx) remove(kind record.Domain, key []byte) {
	if tx.own == nil {
		panic("meta: internal error: a write outside Update")
	}
	tx.own.put(kind, key, &pending{})
}

// found is a record met by scan. The key and what open returns are valid until the next step.
type found struct {
	key    []byte
	sealed []byte
	change *pending
}

// openFound returns the plaintext.
func (tx *Tx) openFound(kind record.Domain, f found) ([]byte, error) {
	if f.change != nil {
		return f.change.plain, nil
	}
	return tx.open(kind, f.key, f.sealed)
}

// scan walks the records of one kind whose keys have the prefix, in the order
// of their keys, from the key from on (nil = from the prefix on). Changes
// that are made meanwhile may be seen or not.
func (tx *Tx) scan(kind record.Domain, prefix, from []byte) iter.Seq[found] {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	return func(yield func(found) bool) {
		var changed []string
		if tx.own != nil {
			changed = tx.group.appendKeys(tx.own.appendKeys(nil, kind, prefix, from), kind, prefix, from)
			slices.Sort(changed)
			changed = slices.Compact(changed)
		}
		var c *bbolt.Cursor
		var k, v, kept []byte // k is copied: it is read where no fault is expected
		step := func() {
			tx.snap.inside = true
			if c == nil {
				c = tx.snap.bucket(kind).Cursor()
				k, v = c.Seek(from)
			} else {
				k, v = c.Next()
			}
			if k != nil && bytes.HasPrefix(k, prefix) {
				kept = append(kept[:0], k...)
				k = kept
			} else {
				k = nil
			}
			tx.snap.inside = false
		}
		step()
		for k != nil || len(changed) > 0 {
			if len(changed) == 0 || k != nil && string(k) < changed[0][1:] {
				if !yield(found{key: k, sealed: v}) {
					return
				}
				step()
				continue
			}
			key := []byte(changed[0][1:])
			changed = changed[1:]
			if bytes.Equal(key, k) {
				step() // superseded by the change
			}
			if p := tx.pending(kind, key); p.plain != nil && !yield(found{key: key, change: p}) {
				return
			}
		}
	}
}

// broken is the error of a record that does not authenticate or is malformed.
func broken(kind record.Domain, err error) error {
	return fmt.Errorf("%w: %s record: %w", ErrIntegrity, kindName(kind), err)
}

// dangling is the error of a reference to a record that does not exist.
func dangling(kind record.Domain) error {
	return fmt.Errorf("%w: a record refers to a missing %s record", ErrIntegrity, kindName(kind))
}

func absent(what string) error { return fmt.Errorf("meta: %s: %w", what, fs.ErrNotExist) }

func invalid(what string) error { return fmt.Errorf("meta: %s: %w", what, fs.ErrInvalid) }

func kindName(kind record.Domain) string {
	return [kinds]string{"?", "entry", "past", "inode", "version", "extents", "blobkey", "when", "outbox", "doomed", "head", "fold"}[kind]
}
