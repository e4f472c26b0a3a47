package meta

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"sallyport/crypto/record"
)

// A listing that was begun under an earlier key of the account goes on in the
// order of that key's tokens, so that each entry still comes exactly once. No index has
// that order, so every call reads the whole directory and sorts what is left of it.

// Moved says whether the listing that cursor belongs to was begun under an
// earlier key. Then it is cheaper to take all that is left in one go.
func (tx *Tx) Moved(cursor []byte) bool {
	return len(cursor) >= 4 && binary.BigEndian.Uint32(cursor) != tx.db.keys.Version()
}

// listingOf takes a cursor of List apart. names is nil if its tokens are those of today.
func (tx *Tx) listingOf(cursor []byte) (names *record.Names, after []byte, err error) {
	if len(cursor) == 0 {
		return nil, nil, nil
	}
	if len(cursor) != 4+tokenSize {
		return nil, nil, invalid("cursor")
	}
	if tx.Moved(cursor) {
		if names = tx.db.before[binary.BigEndian.Uint32(cursor)]; names == nil {
			return nil, nil, invalid("cursor")
		}
	}
	return names, cursor[4:], nil
}

// eachMoved is eachLive in the order of earlier tokens, which its cursors hold.
func (tx *Tx) eachMoved(names *record.Names) func(Inode, []byte, func(*Entry) (bool, error)) ([]byte, error) {
	return func(dir Inode, after []byte, fn func(*Entry) (bool, error)) ([]byte, error) {
		var rest []movedEntry
		_, err := tx.eachLive(dir, nil, func(en *Entry) (bool, error) {
			if tok := names.NameToken(uint64(dir), en.Name); bytes.Compare(tok[:], after) > 0 {
				rest = append(rest, movedEntry{en, tok})
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(rest, movedEntry.compare)
		for _, m := range rest {
			more, err := fn(m.Entry)
			if err != nil {
				return nil, err
			}
			if !more {
				return m.tok[:], nil
			}
		}
		return nil, nil
	}
}

// movedEntry is an entry with its token under an earlier key.
type movedEntry struct {
	*Entry
	tok token
}

// compare: live entries first, as eachLive has them, then past ones as the time index does.
func (m movedEntry) compare(o movedEntry) int {
	return cmp.Or(cmp.Compare(m.Until, o.Until), bytes.Compare(m.tok[:], o.tok[:]))
}

// listAtMoved is ListAt for a cursor of an earlier key.
func (tx *Tx) listAtMoved(dir Inode, at int64, c *listCursor, fn func(Entry, Inode) bool) (next []byte, err error) {
	names := tx.db.before[c.version]
	if names == nil {
		return nil, invalid("cursor")
	}
	rest, err := tx.restAt(dir, at, c, names)
	if err != nil {
		return nil, err
	}
	for _, m := range rest {
		if m.Until != 0 && !c.past {
			c.walked(nil, tx.head.last)
			c.past = true
		}
		if fn(*m.Entry, m.Inode) {
			continue
		}
		if m.Until == 0 {
			c.walked(m.tok[:], tx.head.last)
		} else {
			c.from = append(appendU64(nil, uint64(m.Until)), m.tok[:]...)
		}
		return c.encode(), nil
	}
	return nil, nil
}

// restAt is what a listing as of an instant has not delivered yet, in the order of the cursor's tokens.
func (tx *Tx) restAt(dir Inode, at int64, c *listCursor, names *record.Names) ([]movedEntry, error) {
	var rest []movedEntry
	_, err := tx.eachLive(dir, nil, func(en *Entry) (bool, error) {
		tok := names.NameToken(uint64(dir), en.Name)
		if en.Since <= at && bytes.Compare(tok[:], c.token()) > 0 {
			rest = append(rest, movedEntry{en, tok})
		}
		return true, nil
	})
	if err != nil || at == math.MaxInt64 {
		slices.SortFunc(rest, movedEntry.compare)
		return rest, err
	}
	_, err = tx.listPast(dir, at, &listCursor{}, func(en Entry, _ Inode) bool {
		tok := names.NameToken(uint64(dir), en.Name)
		place := append(appendU64(nil, uint64(en.Until)), tok[:]...)
		if !c.delivered(tok, en.Until) && (c.from == nil || bytes.Compare(place, c.from) > 0) {
			rest = append(rest, movedEntry{&en, tok})
		}
		return true
	})
	slices.SortFunc(rest, movedEntry.compare)
	return rest, err
}
