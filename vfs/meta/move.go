package meta

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// mover says what a record becomes under the next key of its account: the
// tokens in its key change, wrapped keys are wrapped anew, all else stays.
// Used by one goroutine.
type mover struct {
	from, to *record.AccountKeys

	dir    Inode // whose token is known; 0 = none
	dirTok token
}

// movedRecord is a record under the new key that is to be put, or removed.
type movedRecord struct {
	dbkey []byte // kind ‖ key
	plain []byte
	gone  bool
}

// move calls emit with the new database key (kind ‖ key) and plaintext of every
// record that stands for this one; both are valid during the call. gone: the record goes, and only the keys matter.
//
// A past name brings its two records of the time index with it, because these
// hold nothing but tokens; on their own they become nothing.
func (m *mover) move(kind record.Domain, key, plain []byte, gone bool, emit func(dbkey, plain []byte) error) error {
	put := func(kind record.Domain, key, plain []byte) error {
		return emit(append([]byte{byte(kind)}, key...), plain)
	}
	switch kind {
	case record.DomainEntry:
		en, err := decodeEntry(plain, 0)
		if err != nil {
			return broken(kind, err)
		}
		dir, name := m.tokens(en.Dir, en.Name)
		return put(kind, entryKey(dir, name), plain)
	case record.DomainPast:
		return m.movePast(key, plain, put)
	case record.DomainFold:
		dir, name, err := decodeFold(plain)
		if err != nil || len(key) != 3*tokenSize+1 {
			return broken(kind, errMalformed)
		}
		dirTok, nameTok := m.tokens(dir, name)
		return put(kind, foldKey(dirTok, m.to.FoldToken(uint64(dir), norm.NFC.String(name)), key[2*tokenSize], nameTok), plain)
	case record.DomainWhen:
		if _, err := decodeWhen(key, plain); err != nil {
			return broken(kind, err)
		}
		if key[0] != whenAll || key[9] != whenVersion {
			return nil
		}
	case record.DomainBlobKey:
		if !gone {
			return m.moveBlob(key, plain, put)
		}
	}
	return put(kind, key, plain)
}

func (m *mover) tokens(dir Inode, name string) (dirTok, nameTok token) {
	if m.dir != dir || m.dir == 0 {
		m.dir, m.dirTok = dir, m.to.DirToken(uint64(dir))
	}
	return m.dirTok, m.to.NameToken(uint64(dir), name)
}

func (m *mover) movePast(key, plain []byte, put func(record.Domain, []byte, []byte) error) error {
	if len(key) != 2*tokenSize+8 {
		return broken(record.DomainPast, errMalformed)
	}
	until := int64(be64(key[2*tokenSize:]))
	en, err := decodeEntry(plain, until)
	if err != nil {
		return broken(record.DomainPast, err)
	}
	dir, name := m.tokens(en.Dir, en.Name)
	if err := put(record.DomainPast, pastKey(dir, name, until), plain); err != nil {
		return err
	}
	if err := put(record.DomainWhen, whenDirKey(dir, until, name), encodeSince(en.Since)); err != nil {
		return err
	}
	return put(record.DomainWhen, whenNameKey(until, dir, name), []byte{})
}

func (m *mover) moveBlob(key, plain []byte, put func(record.Domain, []byte, []byte) error) error {
	if len(key) != 16 {
		return broken(record.DomainBlobKey, errMalformed)
	}
	b, err := decodeBlobKey([16]byte(key), plain)
	if err != nil {
		return broken(record.DomainBlobKey, err)
	}
	data, err := m.from.DataKey(b.ID, b.Wrapped)
	if err != nil {
		return broken(record.DomainBlobKey, err)
	}
	b.Wrapped = m.to.WrapDataKey(b.ID, data)
	clear(data[:])
	return put(record.DomainBlobKey, key, b.encode())
}

// notesLimit is how many bytes of changes wait in memory for a copy, and noteCost what each takes beside its key and value.
const notesLimit, noteCost = 64 << 20, 80

// changes are what was committed since the copy was begun, as it is to be in the copy.
type changes struct {
	mover *mover // the leader's

	mu    sync.Mutex // guards what follows
	list  []movedRecord
	size  int // bytes
	limit int // of size
	lost  bool
}

// add notes more. Where it would become too much, memory is worth more than the copy: from then on nothing is noted.
func (c *changes) add(list []movedRecord) {
	if c == nil || len(list) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range list {
		c.size += len(list[i].dbkey) + len(list[i].plain) + noteCost
	}
	if c.lost = c.lost || c.size > c.limit; c.lost {
		c.list = nil
		return
	}
	c.list = append(c.list, list...)
}

// take returns what was noted since the last time. ErrOutrun if that was too much.
func (c *changes) take() ([]movedRecord, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list, c.size = nil, 0
	if c.lost {
		return nil, ErrOutrun
	}
	return list, nil
}

// follow notes a change of the group for the copy under the next key. old is
// the sealed record that is there, or nil; plain what it becomes, or nil. Runs inside.
func (g *group) follow(kind record.Domain, dbkey, old, plain []byte) error {
	if g.copies == nil || old == nil && plain == nil {
		return nil
	}
	gone := plain == nil
	if gone { // its key in the copy follows from what it held
		var err error
		if plain, err = g.db.keys.Box().Open(nil, kind, dbkey, old); err != nil {
			return broken(kind, err)
		}
	}
	err := g.copies.mover.move(kind, dbkey[1:], plain, gone, func(dbkey, plain []byte) error {
		g.moved = append(g.moved, movedRecord{bytes.Clone(dbkey), bytes.Clone(plain), gone})
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting a change for the copy under a new key: %w", err)
	}
	return nil
}
