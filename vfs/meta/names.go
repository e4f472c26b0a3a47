package meta

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"

	"go.etcd.io/bbolt"
	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// NamesCursor is how far a listing of all names that a directory had has come. The zero value is its beginning.
type NamesCursor struct {
	legs []leg
}

// leg says that the names whose token under the key of that version is not above last are told. Each new key of the account begins a
// leg: names have another order then, and a name that an earlier leg told is known by its token of then.
type leg struct {
	version uint32
	last    token
}

// NamesIn calls fn with the names that dir had at some time after an instant and before another one (until; MaxInt64 for all that are
// there), each once, with the entry that had it last of those and the inode as it is now (nil if that is purged), until fn returns
// false or so many names were looked at; it says whether there may be more, for the cursor, and how many it has looked at. Names that
// come or go between two calls change nothing for others. In View only.
//
// A name costs the same however often it was made and removed. It is the order of the tokens, in which live and past entries lie alike.
func (tx *Tx) NamesIn(dir Inode, after, until int64, c *NamesCursor, most int, fn func(Entry, *Node) bool) (more bool, looked int, err error) {
	w, err := tx.namesWalk(dir, c)
	if err != nil {
		return false, 0, err
	}
	for ; ; looked++ {
		tok, ok := w.next()
		if !ok || looked >= most {
			return ok, looked, nil
		}
		e, err := w.had.last(tok, after, until)
		if err != nil {
			return false, 0, err
		}
		told := false
		if e != nil {
			told = w.told(e.Name)
		}
		w.c.legs[len(w.c.legs)-1].last = tok
		if e == nil || told {
			continue
		}
		n, err := tx.nodePassing(e.Inode)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, 0, err
		}
		if !fn(*e, n) {
			return true, looked + 1, nil
		}
	}
}

// HadName tells whether dir had exactly that name at some time after an instant and before another one. In View only.
func (tx *Tx) HadName(dir Inode, name string, after, until int64) (bool, error) {
	found := false
	err := tx.NameBack(dir, name, after, until, func(Entry) bool { found = true; return false })
	return found, err
}

// NameBack calls fn with the entries of exactly that name that were there at some time after an instant and before another one, the
// newest first, until fn returns false. In View only.
func (tx *Tx) NameBack(dir Inode, name string, after, until int64, fn func(Entry) bool) error {
	if !validName(name) {
		return nil
	}
	h, err := tx.had(dir)
	if err != nil {
		return err
	}
	return h.back(tx.db.keys.NameToken(uint64(dir), name), after, until, func(e *Entry) bool { return fn(*e) })
}

// Spellings are other names with the same NFC form that dir has or had: that form itself, and of those that are in no such form
// at most so many of each kind, live and past.
func (tx *Tx) Spellings(dir Inode, name string, most int) (names []string, err error) {
	if !validName(name) {
		return nil, nil
	}
	folded := norm.NFC.String(name)
	if folded != name && validName(folded) {
		names = append(names, folded)
	}
	if tx.head.folds == 0 {
		return names, nil
	}
	dirTok, foldTok := tx.dirToken(dir), tx.db.keys.FoldToken(uint64(dir), folded)
	for _, state := range []byte{foldLive, foldPast} {
		looked := 0
		for f := range tx.scan(record.DomainFold, foldPrefix(dirTok, foldTok, state), nil) {
			plain, err := tx.openFound(record.DomainFold, f)
			if err != nil {
				return nil, err
			}
			_, other, err := decodeFold(plain)
			if err != nil {
				return nil, broken(record.DomainFold, err)
			}
			if other != name && !slices.Contains(names, other) {
				names = append(names, other)
			}
			if looked++; looked == most {
				break
			}
		}
	}
	return names, nil
}

// namesWalk walks the tokens of the names of one directory.
type namesWalk struct {
	tx   *Tx
	dir  Inode
	had  *had
	c    *NamesCursor
	live *reader
	past *reader
}

func (tx *Tx) namesWalk(dir Inode, c *NamesCursor) (*namesWalk, error) {
	h, err := tx.had(dir)
	if err != nil {
		return nil, err
	}
	for _, l := range c.legs {
		if l.version != tx.db.keys.Version() && tx.db.before[l.version] == nil {
			return nil, invalid("cursor")
		}
	}
	w := &namesWalk{tx: tx, dir: dir, had: h, c: c, live: tx.reader(record.DomainEntry), past: tx.reader(record.DomainPast)}
	from := h.dir[:]
	if n := len(c.legs); n > 0 && c.legs[n-1].version == tx.db.keys.Version() {
		from = afterToken(h.dir, c.legs[n-1].last)
	} else {
		c.legs = append(c.legs, leg{version: tx.db.keys.Version()})
	}
	w.live.seek(from, h.dir[:])
	w.past.seek(from, h.dir[:])
	return w, nil
}

// afterToken is the first key behind all that begin with the two tokens.
func afterToken(dir, name token) []byte {
	return append(append(append(make([]byte, 0, 2*tokenSize+9), dir[:]...), name[:]...), 255, 255, 255, 255, 255, 255, 255, 255, 255)
}

// next is the token of the next name, of what is there or was.
func (w *namesWalk) next() (tok token, ok bool) {
	l, p := w.live.key, w.past.key
	switch {
	case len(l) < 2*tokenSize && len(p) < 2*tokenSize:
		return tok, false
	case len(p) < 2*tokenSize || len(l) >= 2*tokenSize && bytes.Compare(l[:2*tokenSize], p[:2*tokenSize]) <= 0:
		tok = token(l[tokenSize:])
	default:
		tok = token(p[tokenSize:])
	}
	if len(l) >= 2*tokenSize && token(l[tokenSize:]) == tok {
		w.live.step(w.had.dir[:])
	}
	if len(p) >= 2*tokenSize && token(p[tokenSize:]) == tok {
		w.past.seek(afterToken(w.had.dir, tok), w.had.dir[:])
	}
	return tok, true
}

// told tells whether an earlier leg of the listing told the name.
func (w *namesWalk) told(name string) bool {
	for _, l := range w.c.legs[:len(w.c.legs)-1] {
		tok := w.tx.db.before[l.version].NameToken(uint64(w.dir), name)
		if bytes.Compare(tok[:], l.last[:]) <= 0 {
			return true
		}
	}
	return false
}

// had looks for what had names in one directory.
type had struct {
	tx   *Tx
	dir  token
	past *reader
}

func (tx *Tx) had(dir Inode) (*had, error) {
	if tx.own != nil {
		return nil, invalid("names of the past within a change")
	}
	return &had{tx, tx.dirToken(dir), tx.reader(record.DomainPast)}, nil
}

// last is the entry that had a name last after an instant and before another one; nil if none had.
func (h *had) last(name token, after, until int64) (e *Entry, err error) {
	err = h.back(name, after, until, func(en *Entry) bool { e = en; return false })
	return e, err
}

// back walks the entries of a name backwards. Those of no duration, which only transactions saw that made them, are passed over.
func (h *had) back(name token, after, until int64, fn func(*Entry) bool) error {
	key := entryKey(h.dir, name)
	if sealed := h.tx.snap.get(record.DomainEntry, key); sealed != nil {
		en, ok := h.tx.db.entries.get([2 * tokenSize]byte(key), h.tx.snap.seen)
		if !ok {
			var err error
			if en, err = h.tx.decodeSealedEntry(key, sealed); err != nil {
				return err
			}
		}
		if en.Since < until && !fn(en) {
			return nil
		}
	}
	// At most one entry ends at or after until and was there before it.
	ok := h.past.seek(pastKey(h.dir, name, until), key)
	if !ok {
		ok = h.past.back(key)
	}
	for ; ok; ok = h.past.back(key) {
		en, err := h.tx.openPast(found{key: h.past.key, sealed: h.past.sealed})
		if err != nil {
			return err
		}
		if en.Until <= after {
			return nil
		}
		if en.Since < until && en.Since < en.Until && !fn(en) {
			return nil
		}
	}
	return nil
}

// reader is a cursor of bbolt over the records of one kind as they are stored.
type reader struct {
	snap   *snapshot
	kind   record.Domain
	c      *bbolt.Cursor
	key    []byte // a copy, empty if there is none with the prefix; valid until the next call
	sealed []byte // in bbolt's memory
	beyond bool   // seek found nothing at all
}

func (tx *Tx) reader(kind record.Domain) *reader { return &reader{snap: tx.snap, kind: kind} }

// seek goes to the first key from one on, and says whether it has the prefix.
func (r *reader) seek(from, prefix []byte) bool {
	return r.move(prefix, func() (k, v []byte) {
		if r.c == nil {
			r.c = r.snap.bucket(r.kind).Cursor()
		}
		k, v = r.c.Seek(from)
		r.beyond = k == nil
		return k, v
	})
}

// step goes to the next key. Only after a seek that found one.
func (r *reader) step(prefix []byte) bool {
	return r.move(prefix, func() (k, v []byte) { return r.c.Next() })
}

// back goes to the key before. Only after a seek.
func (r *reader) back(prefix []byte) bool {
	return r.move(prefix, func() (k, v []byte) {
		if r.beyond {
			r.beyond = false
			return r.c.Last()
		}
		return r.c.Prev()
	})
}

func (r *reader) move(prefix []byte, to func() (k, v []byte)) bool {
	r.snap.inside = true
	k, v := to()
	r.key, r.sealed = r.key[:0], nil
	if bytes.HasPrefix(k, prefix) {
		r.key, r.sealed = append(r.key, k...), v
	}
	r.snap.inside = false
	return len(r.key) > 0
}
