package meta

import (
	"fmt"
	"hash/maphash"
	"sync"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// census is what Verify has counted of the records, before it compares them with each other. A volume may hold millions:
// of each record it keeps the numbers that are compared, and no names but those that history has.
type census struct {
	tx *Tx

	mu       sync.Mutex // guards all below, which the workers fill
	findings []string
	sum      record.Sum
	records  uint64

	nodes    map[Inode]*nodeCount
	seed     maphash.Seed
	live     []nameCount
	past     []Entry
	folds    []foldCount
	odd      map[string]bool // keys of the fold records that live names must have
	versions []versionCount
	blobs    map[[16]byte]*blobCount
	pages    map[string]bool       // key → a version refers to it
	indexed  map[versionName]int64 // superseded version → since when

	whenNames, whenVersions uint64 // records of the time index
	liveBytes               uint64 // current versions of files that have a name
	lastSeq                 uint64
}

// nodeCount is an inode's record, without what is not compared, and what refers to it.
type nodeCount struct {
	ID, Parent, Home          Inode
	Version, Versions         uint64
	Children, Size, Past      uint64
	Left                      int64
	name                      uint64 // hash
	children                  uint64
	left                      int64
	names, pastNames          int32 // entries that refer to it
	old                       int32 // versions beside the current one
	Kind                      Kind
	unplaced, rooted, current bool // of format 1; known to hang below the root; its current version is there
}

func (c *census) node(n *Node) *nodeCount {
	return &nodeCount{
		ID: n.ID, Parent: n.Parent, Home: n.Home, Version: n.Version, Versions: n.Versions, Children: n.Children, Size: n.Size, Past: n.Past,
		Left: n.Left, name: c.hash(n.Name), Kind: n.Kind, unplaced: n.unplaced,
	}
}

// nameCount is a live name.
type nameCount struct {
	Dir, Inode Inode
	Since      int64
	name       uint64 // hash
}

// versionCount is a version; stored is nil unless its extents lie in pages.
type versionCount struct {
	Inode   Inode
	N, prev uint64
	At      int64
	Size    uint64
	stored  *storedVersion
	State   State
}

func (c *census) hash(name string) uint64 { return maphash.String(c.seed, name) }

type blobCount struct {
	size   uint64
	used   uint64 // most plaintext bytes that a version relies on
	refs   uint64
	state  BlobState // 0 = it has no key
	doomed bool
}

type versionName struct {
	inode Inode
	n     uint64
}

type foldCount struct {
	key  string
	dir  Inode
	name string
}

func newCensus(tx *Tx) *census {
	h := &tx.head // its counts are checked at the end; until then they spare growing
	return &census{
		tx: tx, seed: maphash.MakeSeed(), nodes: map[Inode]*nodeCount{}, live: make([]nameCount, 0, min(h.files+h.dirs, h.records)), odd: map[string]bool{},
		versions: make([]versionCount, 0, min(h.versions, h.records)), blobs: map[[16]byte]*blobCount{}, pages: map[string]bool{},
		indexed: map[versionName]int64{},
	}
}

// find notes a finding. Findings name inodes by number, never names.
func (c *census) find(format string, args ...any) {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
}

// take opens, decodes and counts a batch; several workers call it at once.
func (c *census) take(batch []sealedRecord) error {
	keys := c.tx.db.keys
	var plain []byte
	var sum record.Sum
	for _, r := range batch {
		keys.Set().Add(&sum, r.dbkey, r.sealed)
		kind := record.Domain(r.dbkey[0])
		var err error
		if plain, err = keys.Box().Open(plain[:0], kind, r.dbkey, r.sealed); err == nil {
			err = c.count(kind, r.dbkey[1:], plain)
		}
		if err != nil {
			c.mu.Lock()
			c.find("%s record %x: %v", kindName(kind), r.dbkey[1:], err)
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum = addSums(c.sum, sum)
	c.records += uint64(len(batch))
	return nil
}

// keySizes are the lengths of keys; those of the time index vary.
var keySizes = [kinds]int{
	record.DomainEntry: 32, record.DomainPast: 40, record.DomainInode: 8, record.DomainVersion: 16, record.DomainExtents: 20,
	record.DomainBlobKey: 16, record.DomainOutbox: 8, record.DomainDoomed: 16, record.DomainFold: 49,
}

func (c *census) count(kind record.Domain, key, plain []byte) error {
	if n := keySizes[kind]; n != 0 && n != len(key) {
		return errMalformed
	}
	switch kind {
	case record.DomainEntry, record.DomainPast:
		return c.countEntry(kind, key, plain)
	case record.DomainInode:
		n, err := decodeNode(Inode(be64(key)), plain)
		return c.counted(err, func() { c.nodes[n.ID] = c.node(n) })
	case record.DomainVersion:
		return c.countVersion(key, plain)
	case record.DomainExtents:
		_, err := appendPage(nil, plain)
		return c.counted(err, func() { c.pages[string(key)] = c.pages[string(key)] })
	case record.DomainBlobKey:
		k, err := decodeBlobKey([16]byte(key), plain)
		return c.counted(err, func() { b := c.blob(k.ID); b.state, b.size = k.State, k.Size })
	case record.DomainWhen:
		_, err := decodeWhen(key, plain)
		return c.counted(err, func() {
			if key[0] == whenAll && key[9] == whenVersion {
				c.indexed[versionName{Inode(be64(key[10:])), be64(key[18:])}] = int64(be64(key[1:]))
				c.whenVersions++
			} else {
				c.whenNames++
			}
		})
	case record.DomainOutbox:
		_, err := decodeEvent(plain)
		return c.counted(err, func() { c.lastSeq = max(c.lastSeq, be64(key)) })
	case record.DomainDoomed:
		_, err := decodeInstant(plain)
		return c.counted(err, func() { c.blob([16]byte(key)).doomed = true })
	case record.DomainFold:
		dir, name, err := decodeFold(plain)
		return c.counted(err, func() { c.folds = append(c.folds, foldCount{string(key), dir, name}) })
	}
	return errMalformed
}

// counted runs note under the lock if err is nil.
func (c *census) counted(err error, note func()) error {
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	note()
	return nil
}

func (c *census) countEntry(kind record.Domain, key, plain []byte) error {
	until := int64(0)
	if kind == record.DomainPast {
		if until = int64(be64(key[2*tokenSize:])); until == 0 {
			return errMalformed
		}
	}
	en, err := decodeEntry(plain, until)
	if err != nil {
		return err
	}
	keys := c.tx.db.keys
	if token(key[:tokenSize]) != keys.DirToken(uint64(en.Dir)) || token(key[tokenSize:2*tokenSize]) != keys.NameToken(uint64(en.Dir), en.Name) {
		return fmt.Errorf("its key is not that of its name in inode %d", en.Dir)
	}
	return c.counted(nil, func() {
		if kind == record.DomainPast {
			c.past = append(c.past, *en)
			return
		}
		c.live = append(c.live, nameCount{en.Dir, en.Inode, en.Since, c.hash(en.Name)})
		if folded := norm.NFC.String(en.Name); folded != en.Name {
			fold := foldKey(token(key[:tokenSize]), keys.FoldToken(uint64(en.Dir), folded), foldLive, token(key[tokenSize:2*tokenSize]))
			c.odd[string(fold)] = true
		}
	})
}

func (c *census) countVersion(key, plain []byte) error {
	v, err := decodeVersion(Inode(be64(key)), be64(key[8:]), plain)
	if err != nil {
		return err
	}
	return c.counted(nil, func() {
		for _, ref := range v.Layout.Blobs {
			b := c.blob(ref.ID)
			b.refs++
			b.used = max(b.used, ref.Bytes)
		}
		for _, p := range v.pages {
			c.pages[string(pageKey(v.Inode, p.n, p.page))] = true
		}
		kept := versionCount{Inode: v.Inode, N: v.N, prev: v.prev, At: v.At, Size: v.Size, State: v.State}
		if len(v.pages) > 0 {
			v.Writer = ""
			kept.stored = v
		}
		c.versions = append(c.versions, kept)
	})
}

func (c *census) blob(id [16]byte) *blobCount {
	if c.blobs[id] == nil {
		c.blobs[id] = &blobCount{}
	}
	return c.blobs[id]
}
