package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
	"sallyport/vfs/pagecheck"
)

// Salvage is what can be saved of a damaged database, made consistent, in memory: about three times the size of the file. It changes
// nothing until Write. Not safe for concurrent use.
type Salvage struct {
	m *mender

	// Damage says what is wrong with the file; empty if every page and record is right and the set is whole. No names.
	Damage []string
	// Suspicious is what authenticates and yet cannot be right as a whole. No names.
	Suspicious []string
	// Losses is what cannot be brought back; see Loss.
	Losses []Loss
}

// SalvagedFile is a file with its versions, oldest first.
type SalvagedFile struct {
	Inode    Inode
	Path     string // "" if it is in history only
	Current  uint64
	Versions []*Version
}

// Dig reads a database file that may be damaged, without bbolt. The file must be no server's (ErrLocked). It keeps each record that
// authenticates at its place in the tree of the newest commit; where that tree has gaps, also those on other pages that
// what is left of the tree vouches for. ErrIntegrity if nothing authenticates.
func Dig(ctx context.Context, path string, keys *record.AccountKeys, now func() time.Time) (*Salvage, error) {
	f, err := openForSalvage(path)
	if err != nil {
		return nil, fmt.Errorf("salvaging metadata: %w", err)
	}
	defer f.Close()
	image, unread, err := readImage(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("salvaging metadata: %w", err)
	}
	d := &dig{image: image, keys: keys, seen: map[uint64]bool{}, found: map[string]*relic{}, spare: map[string]*relic{}}
	d.walk()
	s := &Salvage{m: &mender{wreck: newWreck(keys), at: now().UnixNano()}}
	for _, r := range d.found {
		s.m.add(r)
	}
	s.m.headless = s.m.head.generation == 0 || d.older // what the free pages have of it is earlier still
	s.diagnose(d, unread)
	if len(s.Damage) > 0 {
		d.strays()
		s.admit(d)
	}
	if len(d.found)+len(d.spare) == 0 {
		return nil, fmt.Errorf("salvaging metadata: %w: %w", ErrIntegrity, errNothing)
	}
	s.m.damaged = len(s.Damage) > 0
	s.m.mend()
	for i := range s.m.losses {
		if l := &s.m.losses[i]; l.Path == "" {
			l.Path = s.pathOf(l.Inode)
		}
	}
	s.Losses = s.m.losses
	sortLosses(s.Losses)
	return s, ctx.Err()
}

// diagnose says what is wrong with the tree.
func (s *Salvage) diagnose(d *dig, unread int) {
	tell := func(format string, a ...any) { s.Damage = append(s.Damage, fmt.Sprintf(format, a...)) }
	if _, err := pagecheck.Check(d.image); err != nil {
		tell("%s", strings.TrimPrefix(err.Error(), "pagecheck: "))
	}
	if d.older {
		s.Suspicious = append(s.Suspicious, "the first page of the newest commit is damaged: the one before it was taken, with what was found of the newest: what that one removed may be there again, and what it changed may be as it was")
	}
	if unread > 0 {
		tell("%s of the file cannot be read from the disk", say(unread, "page"))
	}
	if n := len(d.broken); n > 0 {
		tell("%s of the tree damaged, the first is page %d", say(n, "page"), d.broken[0])
	}
	if !d.treed {
		tell("the beginning of the file is damaged: there is no tree to go by")
	}
	for kind, n := range d.failed {
		if n > 0 {
			tell("%s not authentic", say(n, kindName(record.Domain(kind))+" record"))
		}
	}
	if s.m.malformed > 0 {
		tell("%s authentic but malformed", say(s.m.malformed, "record"))
	}
	switch h := &s.m.head; {
	case h.generation == 0:
		tell("the head record is missing; how much of what was purged awaits shredding was in it alone, so the next shred epoch gives the account a new key")
	case d.records != h.records:
		tell("%d records are there, the head says %d", d.records, h.records)
	case d.sum != h.sum:
		tell("the set of records is not the one that was last committed")
	}
	if !d.older && len(d.broken)+unread+s.m.malformed == 0 && d.treed && d.failed == [kinds]int{} && s.m.head.generation != 0 && len(s.Damage) > 0 {
		s.Suspicious = append(s.Suspicious, "every record that is there authenticates, but together they are not what was last committed: an older value was put back, or "+
			"records were left out or put in. Which ones cannot be told; what contradicts another record is listed, an older value that contradicts nothing is not")
	}
}

// admit takes in what lay outside the tree.
func (s *Salvage) admit(d *dig) {
	if s.m.head.generation == 0 { // numbers that were given since an older head must not be given again
		defer func() {
			const margin = 1 << 20
			s.m.head.nextInode += margin
			s.m.head.lastSeq += margin
		}()
	}
	if !d.treed {
		for _, r := range d.spare {
			s.m.add(r)
		}
		s.Suspicious = append(s.Suspicious, "all pages were searched, those of earlier commits too: what was removed or changed lately may be as it was before")
		return
	}
	if d.older && s.m.head.generation != 0 {
		s.m.advance(d.spare)
	}
	taken := s.m.admit(d.spare)
	for _, kind := range slices.Sorted(maps.Keys(taken)) {
		s.Suspicious = append(s.Suspicious, fmt.Sprintf("%s taken from pages of an earlier commit: it may not be the newest", say(taken[kind], kind+" record")))
	}
}

func (s *Salvage) pathOf(id Inode) string {
	for _, en := range s.m.live {
		if en.Inode == id {
			return s.m.path(en)
		}
	}
	return ""
}

// Blobs calls fn with every blob's record.
func (s *Salvage) Blobs(fn func(*BlobKey)) {
	for _, id := range slices.SortedFunc(maps.Keys(s.m.blobs), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) }) {
		fn(s.m.blobs[id])
	}
}

// Files calls fn with every file that has versions, with the layouts of those whole.
func (s *Salvage) Files(fn func(*SalvagedFile)) {
	paths := map[Inode]string{}
	for _, en := range s.m.live {
		paths[en.Inode] = s.m.path(en)
	}
	for _, id := range slices.Sorted(maps.Keys(s.m.nodes)) {
		n := s.m.nodes[id]
		if n.Kind != File || n.Version == 0 {
			continue
		}
		f := &SalvagedFile{Inode: id, Path: paths[id], Current: n.Version}
		for _, k := range slices.Sorted(maps.Keys(s.m.versions[id])) {
			v := s.m.versions[id][k]
			whole := v.Version
			whole.Layout = s.m.layout(v)
			f.Versions = append(f.Versions, &whole)
		}
		fn(f)
	}
}

// layout is where a version's bytes lie, with what stands in pages.
func (m *mender) layout(v *storedVersion) extent.Layout {
	l := v.Layout
	for _, p := range v.pages {
		l.Extents, _ = appendPage(l.Extents, m.pages[string(pageKey(v.Inode, p.n, p.page))]) // mendPages has decoded them
	}
	return l
}

// Fallback makes the content of version n current again, as a new version: the one that cannot be read stays in history.
func (s *Salvage) Fallback(id Inode, n uint64) error {
	node, old := s.m.nodes[id], s.m.versions[id][n]
	if node == nil || old == nil {
		return absent("version")
	}
	v := *old
	v.N, v.At, v.prev = node.Versions+1, s.m.at, node.Version
	v.State = Complete
	s.m.addVersion(&v)
	node.Version, node.Versions, node.Attr, node.Changed = v.N, v.N, v.Attr, s.m.at
	s.m.count()
	return nil
}

// Write makes a new database of it at path and syncs the file; the caller gives it its name. fs.ErrExist if there is one.
func (s *Salvage) Write(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	db := &store{path: path, keys: s.m.keys, noSync: true}
	if err := db.openBolt(path, true); err != nil {
		return fmt.Errorf("rebuilding metadata: %w", err)
	}
	err = guard(func() error { return s.fill(ctx, db) })
	if err == nil {
		err = db.bolt.Sync()
	}
	if err = errors.Join(err, db.closeBolt()); err != nil {
		return fmt.Errorf("rebuilding metadata: %w", err)
	}
	return nil
}

// rebuildBatch is how many records are put in one transaction of bbolt.
const rebuildBatch = 20_000

func (s *Salvage) fill(ctx context.Context, db *store) error {
	all := s.records()
	places := slices.Sorted(maps.Keys(all))
	box, set, h := db.keys.Box(), db.keys.Set(), &s.m.head
	h.records, h.sum = 0, record.Sum{}
	for first := 0; first == 0 || first < len(places); first += rebuildBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		tx, err := db.bolt.Begin(true)
		if err != nil {
			return err
		}
		for _, kind := range buckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte{byte(kind)}); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		for _, place := range places[first:min(first+rebuildBatch, len(places))] {
			dbkey := []byte(place)
			sealed := box.Seal(nil, record.Domain(dbkey[0]), dbkey, all[place])
			set.Add(&h.sum, dbkey, sealed)
			h.records++
			if err := tx.Bucket(dbkey[:1]).Put(dbkey[1:], sealed); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if first+rebuildBatch >= len(places) {
			h.generation++
			dbkey := append([]byte{byte(record.DomainHead)}, headKey...)
			if err := tx.Bucket(dbkey[:1]).Put(dbkey[1:], box.Seal(nil, record.DomainHead, dbkey, h.encode())); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// records are all but the head, by kind ‖ key. The indexes are made anew.
func (s *Salvage) records() map[string][]byte {
	m, all := s.m, map[string][]byte{}
	put := func(kind record.Domain, key string, plain []byte) { all[string([]byte{byte(kind)})+key] = plain }
	fold := func(en *Entry, state byte) {
		if folded := norm.NFC.String(en.Name); folded != en.Name {
			dir := uint64(en.Dir)
			put(record.DomainFold, string(foldKey(m.keys.DirToken(dir), m.keys.FoldToken(dir, folded), state, m.keys.NameToken(dir, en.Name))), encodeFold(en.Dir, en.Name))
		}
	}
	for key, en := range m.live {
		put(record.DomainEntry, key, en.encode())
		fold(en, foldLive)
	}
	for key, en := range m.past {
		put(record.DomainPast, key, en.encode())
		dirTok, nameTok := m.keys.DirToken(uint64(en.Dir)), m.keys.NameToken(uint64(en.Dir), en.Name)
		put(record.DomainWhen, string(whenDirKey(dirTok, en.Until, nameTok)), encodeSince(en.Since))
		put(record.DomainWhen, string(whenNameKey(en.Until, dirTok, nameTok)), nil)
		fold(en, foldPast)
	}
	for id, n := range m.nodes {
		put(record.DomainInode, string(inodeKey(id)), n.encode())
	}
	for id, history := range m.versions {
		ordered := make([]*storedVersion, 0, len(history))
		for _, k := range slices.Sorted(maps.Keys(history)) {
			ordered = append(ordered, history[k])
		}
		for i, v := range ordered {
			if v.N != m.nodes[id].Version {
				put(record.DomainWhen, string(whenVersionKey(m.supersededSince(v, ordered[i+1:]), id, v.N)), nil)
			}
		}
		for _, v := range ordered {
			put(record.DomainVersion, string(versionKey(id, v.N)), v.encode())
		}
	}
	for key, page := range m.pages {
		put(record.DomainExtents, key, page)
	}
	for id, b := range m.blobs {
		put(record.DomainBlobKey, string(id[:]), b.encode())
	}
	for id, at := range m.doomed {
		var e encoder
		e.i64(at)
		put(record.DomainDoomed, string(id[:]), e.b)
	}
	for seq, event := range m.outbox {
		var e encoder
		e.bytes(event)
		put(record.DomainOutbox, string(seqKey(seq)), e.b)
	}
	m.head.folds = 0
	for place := range all {
		if place[0] == byte(record.DomainFold) {
			m.head.folds++
		}
	}
	return all
}

// supersededSince is when a version was superseded: what the index said, if that can be, or what the next version says. Where the
// next one is lost or purged nobody knows how long it was current.
func (m *mender) supersededSince(v *storedVersion, after []*storedVersion) int64 {
	since := v.At
	if v.State != Interrupted {
		for _, next := range after {
			if next.State == Interrupted {
				continue
			}
			if next.prev == v.N {
				since = next.At
			} else if since == next.At { // no instant is left between them
				next.prev = v.N
			}
			break
		}
	}
	if at, ok := m.indexed()[versionName{v.Inode, v.N}]; ok && canSupersede(at, v, after) {
		return at
	}
	return since
}

// versionName names a version of an inode.
type versionName struct {
	inode Inode
	n     uint64
}

// indexed is what the index by time said of versions.
func (m *mender) indexed() map[versionName]int64 {
	if m.since == nil {
		m.since = map[versionName]int64{}
		for key := range m.when {
			if b := []byte(key); len(b) == 10+16 && b[0] == whenAll && b[9] == whenVersion {
				m.since[versionName{Inode(be64(b[10:])), be64(b[18:])}] = int64(be64(b[1:]))
			}
		}
	}
	return m.since
}

// canSupersede tells whether v can be superseded since an instant, by one of the versions after it or by one that was purged.
func canSupersede(since int64, v *storedVersion, after []*storedVersion) bool {
	if v.State == Interrupted {
		return since == v.At
	}
	for _, next := range after {
		if next.State != Interrupted {
			return since == next.At || next.prev != v.N && v.At <= since && since < next.At
		}
	}
	return false
}
