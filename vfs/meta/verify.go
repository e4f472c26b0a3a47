package meta

import (
	"bytes"
	"cmp"
	"context"
	"runtime"
	"slices"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// Verify walks every record of a snapshot, checks the set hash and every reference, and calls report for each
// finding; findings name inodes and blobs, never file names. The error is nil unless it could not walk to
// the end. Writes go on meanwhile, but the file cannot reuse pages; memory is some 250 bytes per file, and up to three times that until the collector runs.
func (db *DB) Verify(ctx context.Context, report func(finding string)) error {
	return db.View(func(tx *Tx) error {
		c := newCensus(tx)
		err := sweep(ctx, tx.snap.tx, runtime.GOMAXPROCS(0), func(_ int, batch []sealedRecord) error { return c.take(batch) })
		if err != nil {
			return err
		}
		c.checkHead()
		c.checkNames()
		c.checkVersions()
		c.checkNodes()
		c.checkPages()
		c.checkFolds()
		c.checkBlobs()
		c.checkStats()
		for _, f := range c.findings {
			report(f)
		}
		return ctx.Err()
	})
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
	if c.lastSeq > h.lastSeq {
		c.find("an audit event has number %d, the last given is %d", c.lastSeq, h.lastSeq)
	}
	for id := range c.nodes {
		if id >= h.nextInode {
			c.find("inode %d, but the next to be given is %d", id, h.nextInode)
		}
	}
}

// checkNames checks that every entry refers to an inode and lies in a directory, and that past ones are indexed.
func (c *census) checkNames() {
	for i := range c.live {
		en := &c.live[i]
		n, dir := c.nodes[en.Inode], c.nodes[en.Dir]
		if n == nil || dir == nil || dir.Kind != Dir {
			c.find("a live name in inode %d of inode %d: one of them is missing or no directory", en.Dir, en.Inode)
			continue
		}
		n.names++
		dir.children++
		if n.Parent != en.Dir {
			c.find("inode %d has a name in inode %d, but says %d", en.Inode, en.Dir, n.Parent)
		}
		if n.Home != en.Dir || n.name != en.name || n.Left != 0 {
			c.find("inode %d does not know its name in inode %d", en.Inode, en.Dir)
		}
		if en.Since > c.tx.head.last {
			c.find("a live name of inode %d is from the future", en.Inode)
		}
	}
	for i := range c.past {
		en := &c.past[i]
		dirTok, nameTok := c.tx.tokens(en.Dir, en.Name)
		if n := c.nodes[en.Inode]; n == nil {
			c.find("a past name of inode %d, which is missing", en.Inode)
		} else {
			n.pastNames++
			n.left = max(n.left, en.Until)
		}
		index, err := c.tx.load(record.DomainWhen, whenDirKey(dirTok, en.Until, nameTok))
		if err != nil || !bytes.Equal(index, encodeSince(en.Since)) || !c.tx.exists(record.DomainWhen, whenNameKey(en.Until, dirTok, nameTok)) {
			c.find("a past name of inode %d is not in the time index", en.Inode)
		}
	}
}

func (c *census) checkNodes() {
	for id, n := range c.nodes {
		names := int32(1)
		if n.Parent == 0 || id == Root {
			names = 0
		}
		switch {
		case n.names != names:
			c.find("inode %d has %d live names, its record says %d", id, n.names, names)
		case names == 0 && n.pastNames == 0 && n.old == 0 && id != Root:
			c.find("inode %d has no name, present or past, and no version that was superseded", id)
		case n.unplaced:
			c.find("inode %d does not say where it lies", id)
		case uint64(n.pastNames) != n.Past:
			c.find("inode %d has %d past names, its record says %d", id, n.pastNames, n.Past)
		case names == 0 && id != Root && n.left > n.Left:
			c.find("inode %d had a name until after it says", id)
		}
		if n.children != n.Children {
			c.find("directory inode %d has %d entries, its record says %d", id, n.children, n.Children)
		}
		if n.Parent != 0 && !c.rooted(n) {
			c.find("inode %d does not hang below the root", id)
		}
	}
	if root := c.nodes[Root]; root == nil || root.Kind != Dir || root.Parent != Root {
		c.find("there is no root directory")
	}
}

// rooted climbs to the root, or to what is known to hang below it. More steps than there are inodes are a circle.
func (c *census) rooted(n *nodeCount) bool {
	var way []*nodeCount
	for up := n; !up.rooted; up = c.nodes[up.Parent] {
		if up.ID == Root {
			break
		}
		if way = append(way, up); c.nodes[up.Parent] == nil || len(way) > len(c.nodes) {
			return false
		}
	}
	for _, w := range way {
		w.rooted = true
	}
	return true
}

// checkVersions checks that versions rise in time, the current one is there, and those it superseded are indexed.
func (c *census) checkVersions() {
	slices.SortFunc(c.versions, func(a, b versionCount) int {
		return cmp.Or(cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.N, b.N))
	})
	indexed := uint64(0)
	for rest := c.versions; len(rest) > 0; {
		id, n := rest[0].Inode, 1
		for n < len(rest) && rest[n].Inode == id {
			n++
		}
		indexed += c.checkHistory(c.nodes[id], rest[:n])
		rest = rest[n:]
	}
	if names := 2 * uint64(len(c.past)); names != c.whenNames || indexed != c.whenVersions {
		c.find("the time index has %d records of names and %d of versions, the history is of %d and %d", c.whenNames, c.whenVersions, names, indexed)
	}
	for id, n := range c.nodes {
		if n.Version != 0 && !n.current {
			c.find("inode %d: its current version %d is missing", id, n.Version)
		}
	}
}

// checkHistory checks the versions of one inode and counts those that must be in the time index: all but the current one.
// What a purge took leaves gaps, over which instants still rise.
func (c *census) checkHistory(n *nodeCount, history []versionCount) (indexed uint64) {
	id := history[0].Inode
	if n == nil {
		c.find("%d versions of inode %d, which is missing", len(history), id)
		return 0
	}
	var before, newest *versionCount
	for i := range history {
		v := &history[i]
		if before != nil && v.At < before.At || v.At > c.tx.head.last || v.N > n.Versions {
			c.find("inode %d: version %d is out of order", id, v.N)
		}
		before = v
		if v.State != Interrupted {
			newest = v
		}
		if v.N == n.Version {
			n.current = true
			if n.Kind == File && n.Parent != 0 {
				c.liveBytes += v.Size
			}
		} else {
			indexed++
			n.old++
			if since, ok := c.indexed[versionName{id, v.N}]; !ok || !supersededAt(since, v, history[i+1:]) {
				c.find("inode %d: superseded version %d is not in the time index", id, v.N)
			}
		}
		if v.stored == nil {
			continue
		}
		if err := c.tx.readPages(v.stored); err != nil {
			c.find("inode %d: version %d: %v", id, v.N, err)
		}
		v.stored = nil
	}
	if newest == nil || newest.N != n.Version || n.Kind == File && newest.Size != n.Size {
		c.find("inode %d: its record does not agree with its newest version", id)
	}
	return indexed
}

// supersededAt tells whether v can be superseded since an instant, by one of the versions after it or by one that was purged.
func supersededAt(since int64, v *versionCount, after []versionCount) bool {
	if v.State == Interrupted {
		return since == v.At
	}
	for _, next := range after {
		if next.State == Interrupted {
			continue
		}
		return since == next.At || next.prev != v.N && v.At <= since && since < next.At
	}
	return false
}

func (c *census) checkPages() {
	for key, used := range c.pages {
		id := Inode(be64([]byte(key)))
		if !used {
			c.find("inode %d: a page of extents belongs to no version", id)
		}
	}
}

// checkFolds checks that names that are not in NFC, and only those, can be found by it.
func (c *census) checkFolds() {
	want := c.odd
	for i := range c.past {
		en := &c.past[i]
		if folded := norm.NFC.String(en.Name); folded != en.Name {
			dirTok, nameTok := c.tx.tokens(en.Dir, en.Name)
			want[string(foldKey(dirTok, c.tx.db.keys.FoldToken(uint64(en.Dir), folded), foldPast, nameTok))] = true
		}
	}
	if n := uint64(len(c.folds)); n != uint64(len(want)) || n != c.tx.head.folds {
		c.find("%d names to be found by another form, %d are listed, the head says %d", len(want), n, c.tx.head.folds)
	}
	for _, f := range c.folds {
		if !want[f.key] {
			c.find("a name in inode %d is listed under another form but does not exist", f.dir)
		}
	}
}

func (c *census) checkBlobs() {
	for id, b := range c.blobs {
		switch {
		case b.doomed && (b.refs > 0 || b.state != 0):
			c.find("blob %x is to be unlinked but in use", id)
		case b.state == 0 && !b.doomed:
			c.find("blob %x is used by %d versions but has no key", id, b.refs)
		case b.state == BlobSealed && b.refs == 0:
			c.find("blob %x is used by no version", id)
		case b.state == BlobSealed && b.used > b.size:
			c.find("blob %x has %d bytes, a version relies on %d", id, b.size, b.used)
		}
	}
}

// checkStats counts again what the head counts on the way.
func (c *census) checkStats() {
	var s head
	for _, n := range c.nodes {
		switch {
		case n.Kind == Dir && n.Parent != 0:
			s.dirs++
		case n.Kind == File && n.Parent != 0:
			s.files++
		}
	}
	s.live = c.liveBytes
	for i := range c.versions {
		v := &c.versions[i]
		if n := c.nodes[v.Inode]; n != nil && n.Kind == File {
			s.history += v.Size
		}
	}
	s.history -= s.live
	for _, b := range c.blobs {
		if b.state != 0 {
			s.blobs++
		}
	}
	s.versions = uint64(len(c.versions))
	h := &c.tx.head
	for _, x := range []struct {
		what      string
		got, want uint64
	}{
		{"files", h.files, s.files}, {"directories", h.dirs, s.dirs}, {"versions", h.versions, s.versions}, {"blobs", h.blobs, s.blobs},
		{"live bytes", h.live, s.live}, {"bytes in history", h.history, s.history},
	} {
		if x.got != x.want {
			c.find("the head counts %d %s, there are %d", x.got, x.what, x.want)
		}
	}
}
