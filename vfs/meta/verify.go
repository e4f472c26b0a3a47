package meta

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"

	"sallyport/crypto/record"
)

// Verify walks every record of a snapshot, checks the set hash and every reference, and calls report for each
// finding, one at a time; findings name inodes and blobs, never file names. The error is nil unless it could not walk
// to the end. Writes go on meanwhile, but the file cannot reuse pages. Memory does not grow with files, names or
// versions: it is 16 bytes for each directory, at most 40 MiB for blobs, and the longest history of one inode.
//
// What lies together in the file (an inode, its versions, their pages) is compared in one walk by inode number. What lies
// elsewhere is looked up; and where that would be dear, both sides are added up under random hashes: the sums
// agree only if every record has its partner, up to chance of 2^-64 and less. Only if they do not is the culprit looked for.
func (db *DB) Verify(ctx context.Context, report func(finding string)) error {
	return db.VerifyApart(ctx, report, report)
}

// VerifyApart is Verify that tells apart what is only counted wrong. The head counts for statistics and quotas; it is sealed, and nothing is read
// by what it counts. So such a difference is a defect of a program and no damage: nobody is to be refused their files for it.
func (db *DB) VerifyApart(ctx context.Context, report, miscount func(finding string)) error {
	return db.View(func(tx *Tx) error {
		c := newCensus(tx, report)
		c.miscount = miscount
		return c.verify(ctx)
	})
}

func (c *census) verify(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.firstBlobs, c.takeAll, c.walkInodes, c.checkBlobs, c.checkNames, c.checkIndex,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	c.checkHead()
	c.checkDirs()
	c.checkStats()
	return ctx.Err()
}

func (c *census) checkHead() {
	h := &c.tx.head
	// An open database works with the head in memory; the next one to open the file has only the one on the disk.
	if stored, err := c.tx.db.readHead(c.tx.snap); err != nil {
		c.find("the stored head cannot be read: %v", err)
	} else if stored != *h {
		c.find("the stored head is not that of the last commit")
	}
	if c.records != h.records {
		c.find("%d records, the head says %d", c.records, h.records)
	}
	if c.sum != h.sum {
		c.find("the set hash is not that of the records")
	}
	if h.whole() > h.last {
		c.find("the past is said to be whole from an instant on that has not come yet")
	}
	if c.lastSeq > h.lastSeq {
		c.find("an audit event has number %d, the last given is %d", c.lastSeq, h.lastSeq)
	}
	if c.folds != h.folds {
		c.find("%d names are listed under another form, the head says %d", c.folds, h.folds)
	}
}

// checkNames tells which names and inodes do not belong together, if there are any.
func (c *census) checkNames(ctx context.Context) error {
	if c.names != (trace{}) || c.children != c.entries {
		before := c.found()
		if err := c.sweep(ctx, c.explainName, record.DomainEntry, record.DomainInode); err != nil {
			return err
		}
		if c.found() == before {
			c.find("the live names are not those that the inodes say")
		}
	}
	if c.pasts == (trace{}) {
		return nil
	}
	// Each past name says its inode, but an inode says only how many it has: here all are counted.
	count := map[Inode]uint64{}
	before := c.found()
	err := c.sweep(ctx, func(w *worker, kind record.Domain, key, plain []byte) {
		if en, err := decodeEntry(plain, int64(be64(key[2*tokenSize:]))); err == nil {
			c.locked(func() { count[en.Inode]++ })
		}
	}, record.DomainPast)
	if err == nil {
		err = c.sweep(ctx, func(w *worker, kind record.Domain, key, plain []byte) {
			n, err := decodeNode(Inode(be64(key)), plain)
			if err == nil && n.Past != count[n.ID] {
				c.find("inode %d has %d past names, its record says %d", n.ID, count[n.ID], n.Past)
			}
		}, record.DomainInode)
	}
	if err == nil && c.found() == before {
		c.find("the past names are not as many as the inodes say")
	}
	return err
}

// explainName looks for the other side of a live name or of an inode that says it has one.
func (c *census) explainName(w *worker, kind record.Domain, key, plain []byte) {
	if kind == record.DomainInode {
		n, err := decodeNode(Inode(be64(key)), plain)
		if err != nil || n.Parent == 0 || n.ID == Root {
			return
		}
		dirTok, nameTok := c.tx.db.keys.DirToken(uint64(n.Home)), c.tx.db.keys.NameToken(uint64(n.Home), n.Name)
		plain, err := w.tx.load(record.DomainEntry, entryKey(dirTok, nameTok))
		if err != nil {
			return // found when all records were opened
		}
		if en, err := decodeEntry(plain, 0); plain == nil || err == nil && en.Inode != n.ID {
			c.find("inode %d has 0 live names, its record says 1", n.ID)
		}
		return
	}
	en, err := decodeEntry(plain, 0)
	if err != nil {
		return
	}
	n, dir := w.node(en.Inode), w.node(en.Dir)
	switch {
	case n == nil || dir == nil || dir.Kind != Dir:
		c.find("a live name in inode %d of inode %d: one of them is missing or no directory", en.Dir, en.Inode)
	case n.Parent != en.Dir:
		c.find("inode %d has a name in inode %d, but says %d", en.Inode, en.Dir, n.Parent)
	case n.Home != en.Dir || n.Name != en.Name || n.Left != 0:
		c.find("inode %d does not know its name in inode %d", en.Inode, en.Dir)
	}
}

// checkIndex compares the time index with the history. Where a purge left a gap behind a version, its own record does not
// tell when it was superseded: then every record of the index is held against its version.
func (c *census) checkIndex(ctx context.Context) error {
	if names := 2 * c.past; names != c.whenNames || c.old != c.whenVersions || c.index != (trace{}) {
		c.find("the time index has %d records of names and %d of versions, the history is of %d and %d", c.whenNames, c.whenVersions, names, c.old)
	}
	if c.gaps == 0 {
		return nil
	}
	return c.sweep(ctx, func(w *worker, kind record.Domain, key, plain []byte) {
		if key[0] != whenAll || key[9] != whenVersion {
			return
		}
		since, id, number := int64(be64(key[1:])), Inode(be64(key[10:])), be64(key[18:])
		v, err := w.tx.stored(id, number)
		if err != nil || v.State == Interrupted {
			return // counted, or looked up
		}
		for f := range w.tx.scan(record.DomainVersion, inodeKey(id), versionKey(id, number+1)) {
			next, err := w.tx.openVersion(f)
			if err != nil {
				return // found when all records were opened
			}
			if next.State == Interrupted {
				continue
			}
			if next.prev != number && since != next.At && (since < v.At || since >= next.At) {
				c.find("inode %d: superseded version %d is not in the time index", id, number)
			}
			return
		}
	}, record.DomainWhen)
}

// checkDirs checks that every directory hangs below the root. So does then what lies in them: names lie in directories only.
func (c *census) checkDirs() {
	if !c.root {
		c.find("there is no root directory")
	}
	slices.SortFunc(c.dirs, func(a, b dirCount) int { return cmp.Compare(a.id, b.id) })
	at := func(id Inode) (int, bool) {
		return slices.BinarySearchFunc(c.dirs, id, func(d dirCount, id Inode) int { return cmp.Compare(d.id, id) })
	}
	rooted := make([]bool, len(c.dirs))
	var way []int
	for i := range c.dirs {
		way = way[:0]
		up, ok := i, true
		for ok && !rooted[up] && c.dirs[up].id != Root {
			way = append(way, up)
			if up, ok = at(c.dirs[up].parent); len(way) > len(c.dirs) { // more steps than there are directories are a circle
				ok = false
			}
		}
		if !ok {
			c.find("inode %d does not hang below the root", c.dirs[i].id)
			continue
		}
		for _, w := range way {
			rooted[w] = true
		}
	}
}

// checkStats compares with what the head counts on the way.
func (c *census) checkStats() {
	h := &c.tx.head
	for _, x := range []struct {
		what      string
		got, want uint64
	}{
		{"files", h.files, c.files}, {"directories", h.dirs, c.directories}, {"versions", h.versions, c.versions}, {"blobs", h.blobs, c.keyed},
		{"live bytes", h.live, c.live}, {"bytes in history", h.history, c.history - c.live},
		{"bytes that are kept for history alone", h.kept, c.kept},
	} {
		if x.got != x.want {
			c.miscount(fmt.Sprintf("the head counts %d %s, there are %d", x.got, x.what, x.want))
		}
	}
}

// sweep opens every record of some kinds and hands those to fn that authenticate and whose keys have their length.
func (c *census) sweep(ctx context.Context, fn func(w *worker, kind record.Domain, key, plain []byte), kinds ...record.Domain) error {
	workers := c.workers()
	return sweepKinds(ctx, c.tx.snap.tx, kinds, len(workers), func(i int, batch []sealedRecord) error {
		w := workers[i]
		for _, r := range batch {
			kind, key := record.Domain(r.dbkey[0]), r.dbkey[1:]
			if n := keySizes[kind]; n != 0 && n != len(key) {
				continue
			}
			var err error
			if w.plain, err = c.tx.db.keys.Box().Open(w.plain[:0], kind, r.dbkey, r.sealed); err == nil {
				fn(w, kind, key, w.plain)
			}
		}
		return nil
	})
}

func (c *census) workers() []*worker {
	all := make([]*worker, runtime.GOMAXPROCS(0))
	for i := range all {
		all[i] = c.newWorker()
	}
	return all
}
