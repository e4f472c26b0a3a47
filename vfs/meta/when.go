package meta

import (
	"sallyport/crypto/record"
)

// The time index holds, for every past name, one record by directory and time (ListAt reads it) and one by time
// alone, and for every superseded version one by time alone (retention reads those). The records by directory carry
// since, so that names that came and went after the asked instant are passed over without opening their entry; the
// others are empty: what they say is in their key.

func (tx *Tx) indexPast(dirTok, nameTok token, past *Entry) {
	tx.put(record.DomainWhen, whenDirKey(dirTok, past.Until, nameTok), encodeSince(past.Since), nil)
	tx.put(record.DomainWhen, whenNameKey(past.Until, dirTok, nameTok), nil, nil)
}

func (tx *Tx) indexVersion(at int64, id Inode, n uint64) {
	tx.put(record.DomainWhen, whenVersionKey(at, id, n), nil, nil)
}

func encodeSince(since int64) []byte {
	var e encoder
	e.i64(since)
	return e.b
}

// decodeWhen checks the value of an index record against its key; since is of those by directory only.
func decodeWhen(key, b []byte) (since int64, err error) {
	d := decoder{b: b}
	switch {
	case len(key) == 1+2*tokenSize+8 && key[0] == whenDir:
		since = d.instant()
	case len(key) == 10+2*tokenSize && key[0] == whenAll && key[9] == whenName:
	case len(key) == 10+16 && key[0] == whenAll && key[9] == whenVersion:
	default:
		return 0, errMalformed
	}
	return since, d.end()
}

// Superseded is a name or a version that something took the place of, or that was never current.
type Superseded struct {
	At      int64  // instant
	Entry   *Entry // a past name, or nil
	Inode   Inode  // of the version, or of the name
	Version uint64 // 0 = a past name
}

// Superseded calls fn in order of time with every past name and superseded (or interrupted) version of the instants
// from ≤ At < until, until fn returns false. It reads an index: its cost is what it delivers. The versions of an inode that has
// no name left are superseded with its last name, and only those before its last one are listed on their own. To go on in a
// later transaction, begin with the instant of the first item that was not taken: the order within an instant is not that of an earlier key.
func (tx *Tx) Superseded(from, until int64, fn func(Superseded) bool) error {
	for f := range tx.scan(record.DomainWhen, []byte{whenAll}, whenAllKey(max(from, 0), 0)) {
		plain, err := tx.openFound(record.DomainWhen, f)
		if err == nil {
			_, err = decodeWhen(f.key, plain)
		}
		if err != nil {
			return broken(record.DomainWhen, err)
		}
		s := Superseded{At: int64(be64(f.key[1:]))}
		if s.At >= until {
			return nil
		}
		if ref := f.key[10:]; f.key[9] == whenVersion {
			s.Inode, s.Version = Inode(be64(ref)), be64(ref[8:])
		} else {
			if s.Entry, err = tx.pastEntry(token(ref[:tokenSize]), token(ref[tokenSize:]), s.At); err != nil {
				return err
			}
			s.Inode = s.Entry.Inode
		}
		if !fn(s) {
			return nil
		}
	}
	return nil
}

// pastEntry reads the past entry that an index record refers to.
func (tx *Tx) pastEntry(dirTok, nameTok token, until int64) (*Entry, error) {
	key := pastKey(dirTok, nameTok, until)
	plain, err := tx.load(record.DomainPast, key)
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, dangling(record.DomainPast)
	}
	en, err := decodeEntry(plain, until)
	if err != nil {
		return nil, broken(record.DomainPast, err)
	}
	return en, nil
}
