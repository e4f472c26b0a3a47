package meta

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"slices"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// nearVersions is how many versions back from the current one are looked at one by one before a binary search: what is
// asked for is mostly the last one or the one before.
const nearVersions = 3

// NodeAt is an inode as of an instant: its kind and target, and the attributes and number of the version that was current.
// fs.ErrNotExist if there was none, or it is purged. Where it had its name then is not part of it.
func (tx *Tx) NodeAt(id Inode, at int64) (*Node, error) { return tx.nodeAt(id, at, tx.Node) }

// nodeAt reads the node with one of the two ways to do that, both of which return a copy.
func (tx *Tx) nodeAt(id Inode, at int64, node func(Inode) (*Node, error)) (*Node, error) {
	n, err := node(id)
	if err != nil {
		return nil, err
	}
	if n.Changed <= at {
		return n, nil
	}
	n.Interrupted = false // of later; what it was then is not kept
	s, err := tx.current(n, at)
	if err != nil {
		return nil, err
	}
	n.Version, n.Attr = s.n, s.attr
	return n, nil
}

// ListNodesAt is ListAt with the nodes as of the instant; nil for one whose version of then is purged.
func (tx *Tx) ListNodesAt(dir Inode, at int64, cursor []byte, fn func(Entry, *Node) bool) (next []byte, err error) {
	node := tx.Node
	if tx.passing(dir) {
		node = tx.nodePassing
	}
	var failed error
	next, err = tx.ListAt(dir, at, cursor, func(en Entry, id Inode) bool {
		n, err := tx.nodeAt(id, at, node)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
			return false
		}
		return fn(en, n)
	})
	return next, errors.Join(failed, err)
}

// shape is what is asked of a version when directories are listed as they were: all but what it is made of. It was current in
// [at, until); until is MaxInt64 for one that still is. Immutable.
type shape struct {
	n         uint64
	at, until int64
	attr      Attr
}

// current is the version of n that was current at the instant.
func (tx *Tx) current(n *Node, at int64) (*shape, error) {
	if tx.own == nil {
		if s, ok := tx.db.shapes.get(n.ID, tx.snap.seen); ok && s.at <= at && at < s.until {
			return s, nil
		}
	}
	number, until := n.Version, int64(math.MaxInt64)
	for range nearVersions {
		if number == 0 {
			return nil, absent("version of that time")
		}
		v, err := tx.stored(n.ID, number)
		if errors.Is(err, fs.ErrNotExist) {
			break // purged: which one was current before it, the others may know
		}
		if err != nil {
			return nil, err
		}
		if v.At > at {
			number, until = v.prev, v.At
			continue
		}
		s := &shape{v.N, v.At, until, v.Attr}
		if tx.own == nil {
			tx.db.shapes.add(n.ID, s, tx.snap.seen)
		}
		return s, nil
	}
	return tx.searchCurrent(n, at)
}

// searchCurrent is a binary search: numbers and instants rise together.
func (tx *Tx) searchCurrent(n *Node, at int64) (*shape, error) {
	var best *storedVersion
	after := n.Versions + 1
	for lo, hi := uint64(1), n.Versions+1; lo < hi; {
		mid := lo + (hi-lo)/2
		s, err := tx.storedAt(n.ID, mid)
		if err != nil {
			return nil, err
		}
		if s == nil || s.At > at {
			hi, after = mid, mid
		} else {
			best, lo = s, s.N+1
		}
	}
	if best == nil {
		return nil, absent("version of that time")
	}
	current := best.N
	if best.State == Interrupted { // never was current: what was then still was
		current = best.prev
	}
	// What a purge took between this version and the next may have been current at the instant: nobody knows any more.
	if next, err := tx.storedAt(n.ID, after); err != nil {
		return nil, err
	} else if current == 0 || next != nil && next.prev != current && at != best.At {
		return nil, absent("version of that time")
	}
	v, err := tx.stored(n.ID, current)
	if err != nil {
		return nil, err
	}
	return &shape{v.N, v.At, at + 1, v.Attr}, nil
}

// pastName names a past entry.
type pastName struct {
	dir, name token
	until     int64
}

// pastNameOf takes the key of a past entry apart.
func pastNameOf(key []byte) pastName {
	return pastName{token(key[:tokenSize]), token(key[tokenSize : 2*tokenSize]), int64(be64(key[2*tokenSize:]))}
}

// pastFound is the past entry that a record of the index by directory refers to; nil if it did not exist at the instant, or is
// known not to have: then nothing but the index is opened.
func (tx *Tx) pastFound(f found, dir, name token, until, at int64, passing bool) (*Entry, error) {
	key := pastName{dir, name, until}
	if tx.own == nil {
		if en, ok := tx.db.pasts.get(key, tx.snap.seen); ok {
			if en.Since > at {
				return nil, nil
			}
			return en, nil
		}
	}
	plain, err := tx.openFound(record.DomainWhen, f)
	if err != nil {
		return nil, err
	}
	since, err := decodeWhen(f.key, plain)
	if err != nil {
		return nil, broken(record.DomainWhen, err)
	}
	if since > at {
		return nil, nil
	}
	en, err := tx.pastEntry(dir, name, until)
	if err == nil && tx.own == nil && !passing {
		tx.db.pasts.add(key, en, tx.snap.seen)
	}
	return en, err
}

// NameHistory calls fn with the entries of exactly that name that ended after an instant, oldest first, and then with the
// live one, until fn returns false.
func (tx *Tx) NameHistory(dir Inode, name string, after int64, fn func(Entry) bool) error {
	if !validName(name) {
		return nil
	}
	if after < math.MaxInt64 {
		dirTok, nameTok := tx.tokens(dir, name)
		key := pastKey(dirTok, nameTok, max(after, 0)+1)
		for f := range tx.scan(record.DomainPast, key[:2*tokenSize], key) {
			en, err := tx.openPast(f)
			if err != nil {
				return err
			}
			if !fn(*en) {
				return nil
			}
		}
	}
	en, err := tx.liveEntry(dir, name)
	if err == nil && en != nil {
		fn(*en)
	}
	return err
}

// VersionsAfter calls fn with the versions of an inode that were made after an instant, oldest first, interrupted ones
// included, and before them with the one that was current at it; without the extents that lie in pages. alike says that it took the place of
// the last one before it that was current, and has the same bytes: only attributes differ. It ends when fn returns false.
func (tx *Tx) VersionsAfter(n *Node, after int64, fn func(v *Version, alike bool) bool) error {
	from := uint64(0)
	if s, err := tx.current(n, after); err == nil {
		from = s.n
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var last *storedVersion
	for f := range tx.scan(record.DomainVersion, inodeKey(n.ID), versionKey(n.ID, from)) {
		s, err := tx.openVersion(f)
		if err != nil {
			return err
		}
		if s.N != from && s.At <= after { // interrupted between, or left by a purge
			continue
		}
		alike := last != nil && s.alike(last)
		if s.State != Interrupted {
			last = s
		}
		if !fn(&s.Version, alike) {
			return nil
		}
	}
	return nil
}

// alike tells whether a version took the place of another one and has the same bytes. Where its extents lie in pages it is as if they did
// not: a page that was written anew for it has another place and the same hash.
func (s *storedVersion) alike(was *storedVersion) bool {
	return s.prev == was.N && s.State == was.State && s.Layout.Size == was.Layout.Size &&
		slices.Equal(s.Layout.Blobs, was.Layout.Blobs) && slices.Equal(s.Layout.Extents, was.Layout.Extents) && bytes.Equal(s.Layout.Inline, was.Layout.Inline) &&
		slices.EqualFunc(s.pages, was.pages, func(a, b pageRef) bool { return a.count == b.count && a.hash == b.hash })
}

// alikeMost is how many changes of attributes ReplacedAt passes over.
const alikeMost = 64

// ReplacedAt is when other bytes took the place of a version that was current, MaxInt64 if none have: by searches that do not read what
// broke off in between. Of what is purged it knows the next that is left. After very many changes of attributes alone it gives up, and says
// MaxInt64, too.
func (tx *Tx) ReplacedAt(n *Node, version uint64) (int64, error) {
	was, err := tx.stored(n.ID, version)
	if err != nil {
		return 0, err
	}
	for range alikeMost {
		if n.Version == was.N {
			return math.MaxInt64, nil
		}
		next, err := tx.replacedBy(n, was.N)
		if err != nil {
			return 0, err
		}
		if !next.alike(was) {
			return next.At, nil
		}
		was = next
	}
	return math.MaxInt64, nil
}

// replacedBy is the version that took the place of one that was current and is not any more.
func (tx *Tx) replacedBy(n *Node, version uint64) (*storedVersion, error) {
	next := n.Version
	for lo, hi := version+1, n.Versions+1; lo < hi; {
		mid := lo + (hi-lo)/2
		s, err := tx.storedAt(n.ID, mid)
		switch {
		case err != nil:
			return nil, err
		case s == nil:
			hi = mid
		case s.prev > version: // of those that were made after it was replaced, the first says by which
			hi, next = mid, s.prev
		default:
			lo = s.N + 1
		}
	}
	s, err := tx.storedAt(n.ID, next)
	if err == nil && s == nil {
		err = dangling(record.DomainVersion)
	}
	return s, err
}

// Ended calls fn in order of time with what was superseded from an instant on, until fn returns false: a version, or, with id 0, a name.
// It reads keys only and opens nothing: which names they were is not known here.
func (tx *Tx) Ended(from int64, fn func(at int64, id Inode, version uint64) bool) error {
	for f := range tx.scan(record.DomainWhen, []byte{whenAll}, whenAllKey(max(from, 0), 0)) {
		var id Inode
		var version uint64
		switch {
		case len(f.key) == 10+2*tokenSize && f.key[9] == whenName:
		case len(f.key) == 10+16 && f.key[9] == whenVersion:
			id, version = Inode(be64(f.key[10:])), be64(f.key[18:])
		default:
			return broken(record.DomainWhen, errMalformed)
		}
		if !fn(int64(be64(f.key[1:])), id, version) {
			return nil
		}
	}
	return nil
}

// overwrittenPages is how many pages of extents Overwritten compares.
const overwrittenPages = 64

// Overwritten tells whether the version that took the place of another one lacks some of its bytes: not after an append, nor where only
// attributes changed. False if it is not known any more, or if there were none. Where bytes were copied to another blob meanwhile, they count as lacking.
// Of files in very many pieces it tells an append by the size alone, so that its cost is bounded.
func (tx *Tx) Overwritten(id Inode, version uint64) (bool, error) {
	was, err := tx.stored(id, version)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || was.State == Interrupted || len(was.Layout.Blobs)+len(was.Layout.Inline) == 0 {
		return false, err
	}
	next := version
	for range nearVersions + 1 { // broken ones may lie between
		s, err := tx.storedAt(id, next+1)
		if err != nil || s == nil || s.prev != version {
			return false, err
		}
		if next = s.N; s.State != Interrupted {
			return tx.lacks(was, s)
		}
	}
	return false, nil
}

// lacks tells whether a version has not all bytes of another one of its file.
func (tx *Tx) lacks(was, is *storedVersion) (bool, error) {
	if is.Layout.Size < was.Layout.Size {
		return true, nil
	}
	if is.alike(was) {
		return false, nil
	}
	if !bytes.HasPrefix(is.Layout.Inline, was.Layout.Inline) {
		return true, nil
	}
	if len(was.Layout.Blobs) == 0 {
		return false, nil
	}
	for _, b := range was.Layout.Blobs {
		if !slices.ContainsFunc(is.Layout.Blobs, func(o extent.BlobRef) bool { return o.ID == b.ID }) {
			return true, nil
		}
	}
	if len(was.pages)+len(is.pages) > overwrittenPages {
		return is.Layout.Size == was.Layout.Size, nil
	}
	before, err := tx.Version(was.Inode, was.N)
	if err != nil {
		return false, err
	}
	after, err := tx.Version(is.Inode, is.N)
	if err != nil {
		return false, err
	}
	for i, b := range before.Layout.Blobs {
		k := slices.IndexFunc(after.Layout.Blobs, func(o extent.BlobRef) bool { return o.ID == b.ID })
		if k < 0 || after.Layout.Used(k) < before.Layout.Used(i) {
			return true, nil
		}
	}
	return false, nil
}
