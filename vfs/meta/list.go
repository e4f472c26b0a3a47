package meta

import (
	"math"

	"sallyport/crypto/record"
)

// listLooked is about how many entries one call of a listing looks at, whether it tells them or not: what is behind them is for the next
// transaction, because one that reads for long keeps the pages of all that is changed meanwhile.
const listLooked = 8192

// List calls fn with the live entries of dir and their nodes, from cursor
// (nil = start), until fn returns false or it has looked at many; it returns the cursor to go on from
// in a later transaction (nil = end). Order is that of the tokens, so names that are added or
// removed between two calls disturb no other: each that is there all the time comes exactly once.
// That holds when the account gets a new key in between, too: then it begins anew in the order of the new tokens, and passes over what
// it has told, which it knows by the tokens of then.
func (tx *Tx) List(dir Inode, cursor []byte, fn func(Entry, *Node) bool) (next []byte, err error) {
	c, err := decodeListCursor(cursor)
	if err != nil || c.past {
		return nil, invalid("cursor")
	}
	l, err := tx.legOf(c)
	if err != nil {
		return nil, err
	}
	node := tx.Node
	if tx.passing(dir) {
		node = tx.nodePassing
	}
	looked := 0
	last, err := tx.eachLive(dir, l.token(), func(en *Entry) (bool, error) {
		looked++
		if tx.walkedBefore(c, en) {
			return looked < listLooked, nil
		}
		n, err := node(en.Inode)
		if err != nil {
			return false, dangling(record.DomainInode)
		}
		return fn(*en, n) && looked < listLooked, nil
	})
	if err != nil || last == nil {
		return nil, err
	}
	l.walked(last, 0)
	return c.encode(), nil
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
	if err := tx.known(c); err != nil {
		return nil, err
	}
	if !c.past {
		l, err := tx.legOf(c)
		if err != nil {
			return nil, err
		}
		looked := 0
		last, err := tx.eachLive(dir, l.token(), func(en *Entry) (bool, error) {
			looked++
			return (en.Since > at || tx.walkedBefore(c, en) || fn(*en, en.Inode)) && looked < listLooked, nil
		})
		if err != nil {
			return nil, err
		}
		l.walked(last, tx.head.last)
		if last != nil {
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
	if n := len(c.marks); n > 0 {
		from = appendU64(append([]byte(nil), prefix...), uint64(c.until))
		if m := &c.marks[n-1]; m.version == tx.db.keys.Version() {
			from = append(append(from, m.last[:]...), 0)
		}
	}
	looked := 0
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
		looked++
		tell := en != nil && !tx.delivered(c, en, nameTok)
		if tell && !fn(*en, en.Inode) || looked >= listLooked {
			c.mark(tx.db.keys.Version(), until, nameTok)
			return c.encode(), nil
		}
	}
	return nil, nil
}

// delivered tells whether a past entry was still live when its token was walked, or was told among those that ended at its instant.
func (tx *Tx) delivered(c *listCursor, en *Entry, nameTok token) bool {
	if en.Until == c.until {
		for _, m := range c.marks {
			if m.version != tx.db.keys.Version() && tx.tokenUnder(m.version, en) <= string(m.last[:]) {
				return true
			}
		}
	}
	for i := range c.legs {
		tok := string(nameTok[:])
		if v := c.legs[i].version; v != tx.db.keys.Version() {
			tok = tx.tokenUnder(v, en)
		}
		if p := c.legs[i].passOver(tok); p != nil {
			return en.Until > p.instant
		}
	}
	return false
}

// walkedBefore tells whether a live entry was walked under an earlier key.
func (tx *Tx) walkedBefore(c *listCursor, en *Entry) bool {
	for i := range c.legs[:len(c.legs)-1] {
		if l := &c.legs[i]; l.passOver(tx.tokenUnder(l.version, en)) != nil {
			return true
		}
	}
	return false
}

// tokenUnder is the token of a name under an earlier key.
func (tx *Tx) tokenUnder(version uint32, en *Entry) string {
	tok := tx.db.before[version].NameToken(uint64(en.Dir), en.Name)
	return string(tok[:])
}

// known says whether the earlier keys of a cursor are.
func (tx *Tx) known(c *listCursor) error {
	ok := func(version uint32) bool { return version == tx.db.keys.Version() || tx.db.before[version] != nil }
	for i := range c.legs {
		if !ok(c.legs[i].version) {
			return invalid("cursor")
		}
	}
	for i := range c.marks {
		if !ok(c.marks[i].version) {
			return invalid("cursor")
		}
	}
	return nil
}

// legOf is the walk over the live entries that is under way, under the key of today.
func (tx *Tx) legOf(c *listCursor) (*listLeg, error) {
	if err := tx.known(c); err != nil {
		return nil, err
	}
	if n := len(c.legs); n == 0 || c.legs[n-1].version != tx.db.keys.Version() {
		c.legs = append(c.legs, listLeg{version: tx.db.keys.Version()})
	}
	return &c.legs[len(c.legs)-1], nil
}
