package meta

import (
	"fmt"
	"io/fs"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// maxWriter is the longest writer, bytes.
const maxWriter = 1024

// Version is one content of a file, or (for directories and symlinks) one set of attributes. Immutable.
type Version struct {
	Inode  Inode
	N      uint64
	At     int64 // instant of the commit
	Writer string
	Attr
	Layout extent.Layout
}

// storedVersion is a version's record: the version, and what is not for callers.
type storedVersion struct {
	Version
	prev  uint64    // the current version before this one; 0 = none
	pages []pageRef // of the layout's extents, when they are too many for the record
}

func (s *storedVersion) encode() []byte {
	room := 128 + len(s.Layout.Inline) + 32*(len(s.Layout.Blobs)+min(len(s.Layout.Extents), directExtents)+len(s.pages))
	e := encoder{make([]byte, 0, room)}
	e.i64(s.At)
	e.u64(s.prev)
	e.attr(&s.Attr)
	e.str(s.Writer)
	e.layout(s.Layout, s.pages)
	return e.b
}

func decodeVersion(id Inode, n uint64, b []byte) (*storedVersion, error) {
	d := decoder{b: b}
	s := &storedVersion{}
	s.Inode, s.N = id, n
	s.At = d.instant()
	s.prev = d.u64()
	s.Attr = d.attr()
	s.Writer = d.str(maxWriter)
	s.Layout, s.pages = d.layout()
	if s.State == 0 || n == 0 || s.prev >= n {
		d.fail()
	}
	return s, d.end()
}

// AddVersion numbers v, stores it, notes by time what it supersedes and, unless its state is Interrupted, makes it
// current in n. n is put in either case, with its Interrupted and Target as the caller set them; everything else of n, and Inode, N
// and At of v, is filled in.
//
// A layout of many extents is stored in pages, and pages that the version before has as well are shared: the cost is
// that of hashing all extents (1 ms per 65,536), and of reading and writing the pages that differ.
func (tx *Tx) AddVersion(n *Node, v *Version) error {
	cur, err := tx.edit(n.ID)
	if err != nil {
		return err
	}
	if v.State < Complete || v.State > Interrupted || len(v.Writer) > maxWriter || len(n.Target) > maxTarget {
		return invalid("version")
	}
	if err := v.Layout.Check(); err != nil {
		return fmt.Errorf("meta: new version: %w", err)
	}
	cur.Interrupted = n.Interrupted
	if cur.Kind == Symlink {
		cur.Target = n.Target
	}
	v.Inode, v.N, v.At = cur.ID, cur.Versions+1, tx.instant
	s := &storedVersion{Version: *v, prev: cur.Version}
	if len(s.Layout.Extents) > directExtents {
		if err := tx.putPages(s); err != nil {
			return err
		}
	}
	tx.put(record.DomainVersion, versionKey(v.Inode, v.N), s.encode(), nil)
	tx.head.versions++
	if err := tx.keep(cur, s); err != nil {
		return err
	}
	tx.supersedeVersion(cur, v)
	cur.Versions, cur.Changed = v.N, tx.instant
	tx.putNode(cur)
	*n = *cur
	return nil
}

// supersedeVersion makes v current in cur, indexes what is not current any more, and counts.
func (tx *Tx) supersedeVersion(cur *Node, v *Version) {
	size := v.Size
	if cur.Kind != File {
		size = 0
	}
	if v.State == Interrupted {
		tx.indexVersion(tx.instant, v.Inode, v.N)
		tx.head.history += size
		return
	}
	if cur.Version != 0 {
		tx.indexVersion(tx.instant, v.Inode, cur.Version)
	}
	if cur.Parent == 0 {
		tx.head.history += size
	} else if cur.Kind == File {
		tx.head.live += size - cur.Size
		tx.head.history += cur.Size
	}
	cur.Version, cur.Attr = v.N, v.Attr
}

// storedAt reads the first version whose number is not below n; nil if there is none.
func (tx *Tx) storedAt(id Inode, n uint64) (*storedVersion, error) {
	key := versionKey(id, n)
	for f := range tx.scan(record.DomainVersion, key[:8], key) {
		return tx.openVersion(f)
	}
	return nil, nil
}

func (tx *Tx) openVersion(f found) (*storedVersion, error) {
	if len(f.key) != 16 {
		return nil, broken(record.DomainVersion, errMalformed)
	}
	plain, err := tx.openFound(record.DomainVersion, f)
	if err != nil {
		return nil, err
	}
	s, err := decodeVersion(Inode(be64(f.key)), be64(f.key[8:]), plain)
	if err != nil {
		return nil, broken(record.DomainVersion, err)
	}
	return s, nil
}

// stored reads one version's record, fs.ErrNotExist if there is none.
func (tx *Tx) stored(id Inode, n uint64) (*storedVersion, error) {
	plain, err := tx.load(record.DomainVersion, versionKey(id, n))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, fmt.Errorf("meta: version %d: %w", n, fs.ErrNotExist)
	}
	s, err := decodeVersion(id, n, plain)
	if err != nil {
		return nil, broken(record.DomainVersion, err)
	}
	return s, nil
}

// complete reads the pages of the layout.
func (tx *Tx) complete(s *storedVersion) (*Version, error) {
	if err := tx.readPages(s); err != nil {
		return nil, err
	}
	return &s.Version, nil
}

// Version reads version n of an inode, fs.ErrNotExist if there is none.
func (tx *Tx) Version(id Inode, n uint64) (*Version, error) {
	s, err := tx.stored(id, n)
	if err != nil {
		return nil, err
	}
	return tx.complete(s)
}

// VersionSize reads the size of version n of an inode, bytes, and not its extents; fs.ErrNotExist if there is none.
func (tx *Tx) VersionSize(id Inode, n uint64) (uint64, error) {
	s, err := tx.stored(id, n)
	if err != nil {
		return 0, err
	}
	return s.Size, nil
}

// VersionAt reads the version that was current at the instant, fs.ErrNotExist if there was none, or it is purged.
func (tx *Tx) VersionAt(id Inode, at int64) (*Version, error) {
	n, err := tx.node(id)
	if err != nil {
		return nil, err
	}
	s, err := tx.current(n, at)
	if err != nil {
		return nil, err
	}
	return tx.Version(id, s.n)
}

// Versions calls fn with every version of an inode, oldest first, interrupted ones included, until fn returns false.
func (tx *Tx) Versions(id Inode, fn func(*Version) bool) error {
	for f := range tx.scan(record.DomainVersion, inodeKey(id), nil) {
		s, err := tx.openVersion(f)
		if err != nil {
			return err
		}
		v, err := tx.complete(s)
		if err != nil {
			return err
		}
		if !fn(v) {
			return nil
		}
	}
	return nil
}
