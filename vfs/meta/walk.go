package meta

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"sallyport/crypto/record"
)

// spanInodes is how many inodes a worker compares at once with their versions.
const spanInodes = 256

// span is a part of the inodes and of all that lies by inode, as keys: from ≤ key < to; to nil = the end.
type span struct{ from, to []byte }

// nodeCount is an inode's record and what was seen of its history.
type nodeCount struct {
	*Node
	old     uint64 // versions beside the current one
	current bool   // its current version is there
}

// versionCount is a version, without what is not compared.
type versionCount struct {
	N, prev uint64
	At      int64
	Size    uint64
	uses    uint64 // bytes that are stored, of the current version
	State   State
}

// walkInodes compares inodes, versions and pages of extents, which all lie in the order of inodes.
func (c *census) walkInodes(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	spans := make(chan span)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			w := c.newWorker()
			return guard(func() error {
				for s := range spans {
					if err := ctx.Err(); err != nil {
						return err
					}
					w.walk(s)
					w.flush()
				}
				return nil
			})
		})
	}
	g.Go(func() error {
		defer close(spans)
		return guard(func() error { return c.cutSpans(ctx, spans) })
	})
	return g.Wait()
}

func (c *census) cutSpans(ctx context.Context, spans chan<- span) error {
	send := func(s span) error {
		select {
		case spans <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	from, n := []byte{}, 0
	cursor := c.tx.snap.tx.Bucket([]byte{byte(record.DomainInode)}).Cursor()
	for k, _ := cursor.First(); k != nil; k, _ = cursor.Next() {
		// A cut elsewhere than at an inode's key could part an inode from its versions.
		if n++; n < spanInodes || len(k) != keySizes[record.DomainInode] {
			continue
		}
		to := bytes.Clone(k)
		if err := send(span{from, to}); err != nil {
			return err
		}
		from, n = to, 0
	}
	return send(span{from, nil})
}

// in walks the records of one kind in the span, opened; what cannot be opened is a finding.
func (w *worker) in(s span, kind record.Domain) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, plain []byte) bool) {
		for f := range w.tx.scan(kind, nil, s.from) {
			if s.to != nil && bytes.Compare(f.key, s.to) >= 0 {
				return
			}
			plain, err := w.c.tx.db.keys.Box().Open(w.plain[:0], kind, append([]byte{byte(kind)}, f.key...), f.sealed)
			if err == nil && len(f.key) != keySizes[kind] {
				err = errMalformed
			}
			if err != nil {
				w.c.malformed(kind, f.key, err)
				continue
			}
			w.plain = plain
			if !yield(f.key, plain) {
				return
			}
		}
	}
}

func (w *worker) walk(s span) {
	var nodes []nodeCount
	for key, plain := range w.in(s, record.DomainInode) {
		n, err := decodeNode(Inode(be64(key)), plain)
		if err != nil {
			w.c.malformed(record.DomainInode, key, err)
			continue
		}
		nodes = append(nodes, nodeCount{Node: n})
	}
	used := map[string]bool{} // pages that a version refers to
	w.histories(s, nodes, used)
	for key, plain := range w.in(s, record.DomainExtents) {
		if _, err := appendPage(nil, plain); err != nil {
			w.c.malformed(record.DomainExtents, key, err)
		} else if !used[string(key)] {
			w.c.find("inode %d: a page of extents belongs to no version", be64(key))
		}
	}
	for i := range nodes {
		w.checkNode(&nodes[i])
	}
}

// histories collects the versions of each inode and checks them.
func (w *worker) histories(s span, nodes []nodeCount, used map[string]bool) {
	var history []versionCount
	id := Inode(0)
	var n *nodeCount // of id; nil = it is missing
	check := func() {
		switch {
		case len(history) == 0:
		case n != nil:
			w.checkHistory(n, history)
		default:
			w.c.find("%d versions of inode %d, which is missing", len(history), id)
		}
		history = history[:0]
	}
	for key, plain := range w.in(s, record.DomainVersion) {
		v, err := decodeVersion(Inode(be64(key)), be64(key[8:]), plain)
		if err != nil {
			w.c.malformed(record.DomainVersion, key, err)
			continue
		}
		if v.Inode != id {
			check()
			id, n = v.Inode, nil
			if i, ok := slices.BinarySearchFunc(nodes, id, func(n nodeCount, id Inode) int { return cmp.Compare(n.ID, id) }); ok {
				n = &nodes[i]
			}
		}
		w.versions++
		w.countLayout(v, used)
		c := versionCount{N: v.N, prev: v.prev, At: v.At, Size: v.Size, State: v.State}
		if n != nil && n.Version == v.N {
			c.uses = v.Layout.Stored(w.tx.hasBlob)
		}
		history = append(history, c)
	}
	check()
}

// countLayout counts what a version relies on, and reads its extents if they lie in pages.
func (w *worker) countLayout(v *storedVersion, used map[string]bool) {
	if len(v.Layout.Blobs) > 0 {
		w.c.locked(func() { w.c.blobs.rely(v.Layout.Blobs) })
	}
	w.kept += uint64(len(v.Layout.Inline))
	for _, p := range v.pages {
		used[string(pageKey(v.Inode, p.n, p.page))] = true
	}
	if err := w.tx.readPages(v); err != nil {
		w.c.find("inode %d: version %d: %v", v.Inode, v.N, err)
	}
}

// checkHistory checks that the versions of one inode rise in time, and that all but the current one are in the time
// index. What a purge took leaves gaps, over which instants still rise.
func (w *worker) checkHistory(n *nodeCount, history []versionCount) {
	var before, newest *versionCount
	for i := range history {
		v := &history[i]
		if before != nil && v.At < before.At || v.At > w.tx.head.last || v.N > n.Versions {
			w.c.find("inode %d: version %d is out of order", n.ID, v.N)
		}
		before = v
		if v.prev != 0 && (newest == nil || newest.N != v.prev) && v.At > w.tx.head.whole() {
			w.c.find("inode %d: the version before %d is gone, and no purge is known that reached it", n.ID, v.N)
		}
		if v.State != Interrupted {
			newest = v
		}
		if n.Kind == File {
			w.history += v.Size
		}
		if v.N == n.Version {
			n.current = true
			if n.Kind == File && n.Parent != 0 {
				w.live += v.Size
				w.kept -= v.uses
			}
			continue
		}
		n.old++
		w.old++
		w.index.add(w.trace(n.ID, v.N, "").times(less))
		since, ok := supersededSince(v, history[i+1:])
		switch {
		case ok && since == 0:
			w.gaps++
		case !ok || !w.tx.exists(record.DomainWhen, whenVersionKey(since, n.ID, v.N)):
			w.c.find("inode %d: superseded version %d is not in the time index", n.ID, v.N)
		}
	}
	if newest == nil || newest.N != n.Version || n.Kind == File && newest.Size != n.Size {
		w.c.find("inode %d: its record does not agree with its newest version", n.ID)
	}
}

// supersededSince is the instant since which v has been superseded: by one of the versions after it, or by one that was purged,
// and then it is 0 and lies between the two. It returns false if nothing can have superseded it.
func supersededSince(v *versionCount, after []versionCount) (since int64, ok bool) {
	if v.State == Interrupted {
		return v.At, true
	}
	for _, next := range after {
		switch {
		case next.State == Interrupted:
		case next.prev != v.N:
			return 0, true
		default:
			return next.At, true
		}
	}
	return 0, false
}

// checkNode checks an inode by itself and against its history, and counts what it says of its names.
func (w *worker) checkNode(n *nodeCount) {
	c := w.c
	linked := n.Parent != 0 && n.ID != Root
	switch {
	case !linked && n.Past == 0 && n.old == 0 && n.ID != Root:
		c.find("inode %d has no name, present or past, and no version that was superseded", n.ID)
	case !linked && n.Past == 0 && n.Left > w.tx.head.whole() && n.ID != Root:
		c.find("inode %d: its names are gone, and no purge is known that reached the last", n.ID)
	case n.unplaced:
		c.find("inode %d does not say where it lies", n.ID)
	case linked && (n.Home != n.Parent || n.Left != 0):
		c.find("inode %d does not know its name in inode %d", n.ID, n.Parent)
	}
	if n.ID >= w.tx.head.nextInode {
		c.find("inode %d, but the next to be given is %d", n.ID, w.tx.head.nextInode)
	}
	if n.Version != 0 && !n.current {
		c.find("inode %d: its current version %d is missing", n.ID, n.Version)
	}
	if linked {
		w.names.add(w.trace(n.ID, uint64(n.Parent), n.Name).times(less))
	}
	if n.Past > 0 {
		w.pasts.add(w.trace(n.ID, 0, "").times(-n.Past))
	}
	switch {
	case n.Kind == Dir:
		w.checkDir(n)
	case n.Kind == File && n.Parent != 0:
		w.files++
	}
}

// checkDir counts the live names in a directory, by their keys.
func (w *worker) checkDir(n *nodeCount) {
	dirTok, children := w.c.tx.db.keys.DirToken(uint64(n.ID)), uint64(0)
	for range w.tx.scan(record.DomainEntry, dirTok[:], nil) {
		children++
	}
	w.children += children
	if children != n.Children {
		w.c.find("directory inode %d has %d entries, its record says %d", n.ID, children, n.Children)
	}
	if n.Parent == 0 {
		return
	}
	w.directories++
	w.c.locked(func() {
		w.c.dirs = append(w.c.dirs, dirCount{n.ID, n.Parent})
		w.c.root = w.c.root || n.ID == Root && n.Parent == Root
	})
}
