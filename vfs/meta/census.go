package meta

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// census is what Verify has counted of the records. A volume may hold very many: nothing is kept of a single one,
// except of directories and blobs.
type census struct {
	tx         *Tx
	seeds      [2]maphash.Seed
	tableLimit int // blobs in a table

	miscount func(string) // called by who walks, when the workers have ended

	tell     sync.Mutex // guards the two below
	report   func(string)
	findings uint64

	mu sync.Mutex // guards all below, which the workers fill
	tally
	dirs  []dirCount
	root  bool // there is one
	blobs blobTable
}

// tally is what can be added up. Each trace is that of one side less that of the other: zero at the end.
type tally struct {
	records uint64
	sum     record.Sum

	names, pasts, index trace // names and inodes; past names and inodes; the time index and superseded versions

	entries, children       uint64 // live names; those that lie in directories
	past                    uint64 // past names
	whenNames, whenVersions uint64 // records of the time index
	old, gaps               uint64 // superseded versions; those of them that do not tell since when

	files, directories, versions, live, history uint64 // as the head counts them, but history is of all versions
	kept                                        uint64 // as the head counts it
	keyed, folds, lastSeq                       uint64 // blobs that have a key; records
}

func (t *tally) add(o *tally) {
	t.sum = addSums(t.sum, o.sum)
	t.names.add(o.names)
	t.pasts.add(o.pasts)
	t.index.add(o.index)
	for _, x := range [][2]*uint64{
		{&t.records, &o.records}, {&t.entries, &o.entries}, {&t.children, &o.children}, {&t.past, &o.past}, {&t.whenNames, &o.whenNames},
		{&t.whenVersions, &o.whenVersions}, {&t.old, &o.old}, {&t.gaps, &o.gaps}, {&t.files, &o.files}, {&t.directories, &o.directories},
		{&t.versions, &o.versions}, {&t.live, &o.live}, {&t.history, &o.history}, {&t.keyed, &o.keyed}, {&t.kept, &o.kept}, {&t.folds, &o.folds},
	} {
		*x[0] += *x[1]
	}
	t.lastSeq = max(t.lastSeq, o.lastSeq)
}

// trace is a sum of random hashes, in two words under different seeds.
type trace [2]uint64

func (t *trace) add(o trace) { t[0], t[1] = t[0]+o[0], t[1]+o[1] }

// times is the trace of n equal records; -n takes them away.
func (t trace) times(n uint64) trace { return trace{t[0] * n, t[1] * n} }

const less = ^uint64(0) // -1

// dirCount is a directory and what it lies in.
type dirCount struct{ id, parent Inode }

// worker is what one goroutine needs: bbolt's transactions are shared, the scratch of ours is not.
type worker struct {
	c     *census
	tx    *Tx
	plain []byte
	buf   []byte
	tally
}

func newCensus(tx *Tx, report func(string)) *census {
	return &census{tx: tx, report: report, miscount: report, tableLimit: blobTableLimit, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (c *census) newWorker() *worker {
	return &worker{c: c, tx: &Tx{db: c.tx.db, snap: newSnapshot(c.tx.snap.tx), head: c.tx.head, instant: c.tx.instant}}
}

// find reports a finding. Findings name inodes by number, never names.
func (c *census) find(format string, args ...any) {
	c.tell.Lock()
	defer c.tell.Unlock()
	c.findings++
	c.report(fmt.Sprintf(format, args...))
}

func (c *census) found() uint64 {
	c.tell.Lock()
	defer c.tell.Unlock()
	return c.findings
}

func (c *census) malformed(kind record.Domain, key []byte, err error) {
	c.find("%s record %x: %v", kindName(kind), key, err)
}

func (c *census) locked(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// flush adds what the worker has counted to the census.
func (w *worker) flush() {
	w.c.locked(func() { w.c.add(&w.tally) })
	w.tally = tally{}
}

// trace hashes an inode's number and what belongs to it.
func (w *worker) trace(id Inode, number uint64, name string) trace {
	w.buf = append(appendU64(appendU64(w.buf[:0], uint64(id)), number), name...)
	return trace{maphash.Bytes(w.c.seeds[0], w.buf), maphash.Bytes(w.c.seeds[1], w.buf)}
}

// node reads an inode past the cache, which is for those who work; nil if there is none that can be read.
func (w *worker) node(id Inode) *Node {
	plain, err := w.tx.load(record.DomainInode, inodeKey(id))
	if err != nil || plain == nil {
		return nil
	}
	n, err := decodeNode(id, plain)
	if err != nil {
		return nil
	}
	return n
}

// takeAll adds up the set hash, and opens and counts the records that do not lie by inode.
func (c *census) takeAll(ctx context.Context) error {
	workers := c.workers()
	return sweep(ctx, c.tx.snap.tx, len(workers), func(i int, batch []sealedRecord) error {
		w := workers[i]
		keys := c.tx.db.keys
		for _, r := range batch {
			keys.Set().Add(&w.sum, r.dbkey, r.sealed)
			kind, key := record.Domain(r.dbkey[0]), r.dbkey[1:]
			switch kind {
			case record.DomainInode, record.DomainVersion, record.DomainExtents:
				continue // walkInodes opens them
			}
			var err error
			if w.plain, err = keys.Box().Open(w.plain[:0], kind, r.dbkey, r.sealed); err == nil {
				err = w.count(kind, key, w.plain)
			}
			if err != nil {
				c.malformed(kind, key, err)
			}
		}
		w.records += uint64(len(batch))
		w.flush()
		return nil
	})
}

// keySizes are the lengths of keys; those of the time index vary.
var keySizes = [kinds]int{
	record.DomainEntry: 32, record.DomainPast: 40, record.DomainInode: 8, record.DomainVersion: 16, record.DomainExtents: 20,
	record.DomainBlobKey: 16, record.DomainOutbox: 8, record.DomainDoomed: 16, record.DomainFold: 49,
}

func (w *worker) count(kind record.Domain, key, plain []byte) error {
	if n := keySizes[kind]; n != 0 && n != len(key) {
		return errMalformed
	}
	switch kind {
	case record.DomainEntry, record.DomainPast:
		return w.countEntry(kind, key, plain)
	case record.DomainBlobKey:
		k, err := decodeBlobKey([16]byte(key), plain)
		if err != nil {
			return err
		}
		w.keyed++
		w.kept += k.stored()
		w.c.locked(func() { w.c.blobs.key(k) })
	case record.DomainWhen:
		if _, err := decodeWhen(key, plain); err != nil {
			return err
		}
		if key[0] == whenAll && key[9] == whenVersion {
			w.whenVersions++
			w.index.add(w.trace(Inode(be64(key[10:])), be64(key[18:]), ""))
		} else {
			w.whenNames++
		}
	case record.DomainOutbox:
		_, err := decodeEvent(plain)
		w.lastSeq = max(w.lastSeq, be64(key))
		return err
	case record.DomainDoomed:
		_, err := decodeInstant(plain)
		return err // that it is doomed, its key says
	case record.DomainFold:
		return w.countFold(key, plain)
	default:
		return errMalformed
	}
	return nil
}

func (w *worker) countEntry(kind record.Domain, key, plain []byte) error {
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
	keys := w.c.tx.db.keys
	dirTok, nameTok := token(key[:tokenSize]), token(key[tokenSize:2*tokenSize])
	if dirTok != keys.DirToken(uint64(en.Dir)) || nameTok != keys.NameToken(uint64(en.Dir), en.Name) {
		return fmt.Errorf("its key is not that of its name in inode %d", en.Dir)
	}
	state := byte(foldLive)
	if kind == record.DomainPast {
		state = foldPast
		w.countPast(en, dirTok, nameTok)
	} else {
		w.entries++
		w.names.add(w.trace(en.Inode, uint64(en.Dir), en.Name))
		if en.Since > w.tx.head.last {
			w.c.find("a live name of inode %d is from the future", en.Inode)
		}
	}
	// Names that are not in NFC can be found by it.
	if folded := norm.NFC.String(en.Name); folded != en.Name && !w.tx.exists(record.DomainFold, foldKey(dirTok, keys.FoldToken(uint64(en.Dir), folded), state, nameTok)) {
		w.c.find("a name in inode %d is not listed under its other form", en.Dir)
	}
	return nil
}

// countPast checks that a past name is indexed and that its inode, if it has none now, had it no longer than it says.
func (w *worker) countPast(en *Entry, dirTok, nameTok token) {
	w.past++
	w.pasts.add(w.trace(en.Inode, 0, ""))
	if n := w.node(en.Inode); n == nil {
		w.c.find("a past name of inode %d, which is missing", en.Inode)
	} else if n.Parent == 0 && en.Until > n.Left {
		w.c.find("inode %d had a name until after it says", en.Inode)
	}
	index, err := w.tx.load(record.DomainWhen, whenDirKey(dirTok, en.Until, nameTok))
	if err != nil || !bytes.Equal(index, encodeSince(en.Since)) || !w.tx.exists(record.DomainWhen, whenNameKey(en.Until, dirTok, nameTok)) {
		w.c.find("a past name of inode %d is not in the time index", en.Inode)
	}
}

// countFold checks that a name which is listed under another form exists.
func (w *worker) countFold(key, plain []byte) error {
	dir, name, err := decodeFold(plain)
	if err != nil {
		return err
	}
	w.folds++
	keys := w.c.tx.db.keys
	dirTok, nameTok := keys.DirToken(uint64(dir)), keys.NameToken(uint64(dir), name)
	state := key[2*tokenSize]
	exists := state == foldLive && w.tx.exists(record.DomainEntry, entryKey(dirTok, nameTok))
	if state == foldPast {
		for range w.tx.scan(record.DomainPast, entryKey(dirTok, nameTok), nil) {
			exists = true
			break
		}
	}
	if !exists || !bytes.Equal(key, foldKey(dirTok, keys.FoldToken(uint64(dir), norm.NFC.String(name)), state, nameTok)) {
		w.c.find("a name in inode %d is listed under another form but does not exist", dir)
	}
	return nil
}
