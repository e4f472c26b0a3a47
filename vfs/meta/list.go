package meta

import (
	"encoding/binary"
	"math"

	"sallyport/crypto/record"
)

// List calls fn with the live entries of dir and their nodes, from cursor
// (nil = start), until fn returns false; it returns the cursor to go on from
// in a later transaction (nil = end). Order is that of the tokens, so names that are added or
// removed between two calls disturb no other: each that is there all the time comes exactly once.
//
// A listing goes on when the account gets a new key in between: see Moved.
func (tx *Tx) List(dir Inode, cursor []byte, fn func(Entry, *Node) bool) (next []byte, err error) {
	names, after, err := tx.listingOf(cursor)
	if err != nil {
		return nil, err
	}
	each := tx.eachLive
	if names != nil {
		each = tx.eachMoved(names)
	}
	node := tx.Node
	if tx.passing(dir) {
		node = tx.nodePassing
	}
	last, err := each(dir, after, func(en *Entry) (bool, error) {
		n, err := node(en.Inode)
		if err != nil {
			return false, dangling(record.DomainInode)
		}
		return fn(*en, n), nil
	})
	if err != nil || last == nil {
		return nil, err
	}
	if len(cursor) == 0 {
		cursor = binary.BigEndian.AppendUint32(nil, tx.db.keys.Version())
	}
	return append(append([]byte(nil), cursor[:4]...), last...), nil
}

// passing tells whether a directory has more entries than the caches hold. What a listing of it remembered would be forgotten
// before the next one comes to it, and with it what others use.
func (tx *Tx) passing(dir Inode) bool {
	d, err := tx.node(dir)
	return err == nil && d.Children > 2*cacheLimit
}

// eachLive walks the shared live entries of dir after the name token cursor.
func (tx *Tx) eachLive(dir Inode, cursor []byte, fn func(*Entry) (bool, error)) (next []byte, err error) {
	if len(cursor) != 0 && len(cursor) != tokenSize {
		return nil, invalid("cursor")
	}
	dirTok, passing := tx.dirToken(dir), tx.passing(dir)
	from := append([]byte(nil), dirTok[:]...)
	if len(cursor) != 0 {
		from = append(append(from, cursor...), 0) // the first key after the token's
	}
	for f := range tx.scan(record.DomainEntry, dirTok[:], from) {
		en, err := tx.foundEntry(f, passing)
		if err != nil {
			return nil, err
		}
		more, err := fn(en)
		if err != nil {
			return nil, err
		}
		if !more {
			return append([]byte(nil), f.key[tokenSize:]...), nil
		}
	}
	return nil, nil
}

// foundEntry returns the shared entry that scan met, and remembers it unless it is met in passing.
func (tx *Tx) foundEntry(f found, passing bool) (*Entry, error) {
	if f.change != nil {
		return f.change.obj.(*Entry), nil
	}
	if len(f.key) != 2*tokenSize {
		return nil, broken(record.DomainEntry, errMalformed)
	}
	key := [2 * tokenSize]byte(f.key)
	if en, ok := tx.db.entries.get(key, tx.snap.seen); ok {
		return en, nil
	}
	if passing {
		return tx.decodeSealedEntry(key[:], f.sealed)
	}
	return tx.openEntry(key, f.sealed)
}

// ListAt is List as of an instant. Its cost is that of the live entries and of
// those superseded since the instant, never of the directory's whole history.
//
// It first walks the live entries, then the time index from the instant on. A
// name that is superseded between two calls moves from the first to the
// second; the cursor remembers which tokens were walked before that happened, so that it still comes exactly once.
func (tx *Tx) ListAt(dir Inode, at int64, cursor []byte, fn func(Entry, Inode) bool) (next []byte, err error) {
	c, err := decodeListCursor(cursor)
	if err != nil {
		return nil, err
	}
	if at < 0 {
		return nil, nil
	}
	if c.version != 0 && c.version != tx.db.keys.Version() {
		return tx.listAtMoved(dir, at, c, fn)
	}
	c.version = tx.db.keys.Version()
	if !c.past {
		stop := false
		last, err := tx.eachLive(dir, c.token(), func(en *Entry) (bool, error) {
			stop = en.Since <= at && !fn(*en, en.Inode)
			return !stop, nil
		})
		if err != nil {
			return nil, err
		}
		c.walked(last, tx.head.last)
		if stop {
			return c.encode(), nil
		}
		c.past = true
	}
	if at == math.MaxInt64 {
		return nil, nil
	}
	return tx.listPast(dir, at, c, fn)
}

func (tx *Tx) listPast(dir Inode, at int64, c *listCursor, fn func(Entry, Inode) bool) (next []byte, err error) {
	dirTok, passing := tx.dirToken(dir), tx.passing(dir)
	prefix := whenDirPrefix(dirTok)
	from := appendU64(append([]byte(nil), prefix...), uint64(at)+1)
	if c.from != nil {
		from = append(append(append([]byte(nil), prefix...), c.from...), 0)
	}
	for f := range tx.scan(record.DomainWhen, prefix, from) {
		if len(f.key) != len(prefix)+8+tokenSize {
			return nil, broken(record.DomainWhen, errMalformed)
		}
		place := f.key[len(prefix):]
		until, nameTok := int64(be64(place)), token(place[8:])
		en, err := tx.pastFound(f, dirTok, nameTok, until, at, passing)
		if err != nil {
			return nil, err
		}
		if en == nil || c.delivered(nameTok, until) {
			continue
		}
		if !fn(*en, en.Inode) {
			c.from = append([]byte(nil), place...)
			return c.encode(), nil
		}
	}
	return nil, nil
}

// listCursor is where a ListAt goes on.
type listCursor struct {
	version uint32 // of the key whose tokens these are

	past   bool   // the live entries are done
	from   []byte // until ‖ nameTok of the last past entry seen, or nil
	passes []pass // over the live entries, in order of their tokens
}

// pass says that the live entries up to a token, after those of the pass
// before, were walked when the given instant was the volume's last.
type pass struct {
	last    token
	instant int64
}

// token of the live entry to go on after, nil = the start.
func (c *listCursor) token() []byte {
	if len(c.passes) == 0 {
		return nil
	}
	return c.passes[len(c.passes)-1].last[:]
}

// walked notes a pass up to the token last, nil = to the end.
func (c *listCursor) walked(last []byte, instant int64) {
	p := pass{instant: instant}
	if last == nil {
		for i := range p.last {
			p.last[i] = 0xff
		}
	} else {
		p.last = token(last)
	}
	if n := len(c.passes); n > 0 && c.passes[n-1].instant == instant {
		c.passes = c.passes[:n-1] // nothing was committed in between: one pass
	}
	c.passes = append(c.passes, p)
}

// delivered tells whether the entry was still live when its token was walked.
func (c *listCursor) delivered(nameTok token, until int64) bool {
	for _, p := range c.passes {
		if string(nameTok[:]) <= string(p.last[:]) {
			return until > p.instant
		}
	}
	return false
}

func (c *listCursor) encode() []byte {
	var e encoder
	e.u32(c.version)
	e.bool(c.past)
	e.bytes(c.from)
	e.u32(uint32(len(c.passes)))
	for _, p := range c.passes {
		e.raw(p.last[:])
		e.i64(p.instant)
	}
	return e.b
}

func decodeListCursor(b []byte) (*listCursor, error) {
	c := &listCursor{}
	if len(b) == 0 {
		return c, nil
	}
	d := decoder{b: b}
	c.version = d.u32()
	c.past = d.bool()
	c.from = d.bytes(8 + tokenSize)
	for range d.count(tokenSize + 8) {
		var p pass
		copy(p.last[:], d.take(tokenSize))
		p.instant = d.instant()
		c.passes = append(c.passes, p)
	}
	if d.end() != nil || c.from != nil && (len(c.from) != 8+tokenSize || !c.past) {
		return nil, invalid("cursor")
	}
	return c, nil
}
