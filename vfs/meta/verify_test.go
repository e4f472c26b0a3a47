package meta

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// findings are those of Verify, with blob tables of that many blobs.
func (d *testDB) findings(t *testing.T, limit int) (out []string) {
	t.Helper()
	err := d.View(func(tx *Tx) error {
		c := newCensus(tx, func(f string) { out = append(out, f) })
		c.tableLimit = limit
		return c.verify(context.Background())
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// rewrite changes an inode's record and nothing else.
func rewrite(id Inode, fn func(n *Node)) func(tx *Tx) error {
	return func(tx *Tx) error {
		n, err := tx.edit(id)
		if err == nil {
			fn(n)
			tx.putNode(n)
		}
		return err
	}
}

func both(fns ...func(tx *Tx) error) func(tx *Tx) error {
	return func(tx *Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	}
}

// putEntry writes a live name and nothing else.
func putEntry(dir Inode, name string, id Inode, since int64) func(tx *Tx) error {
	return func(tx *Tx) error {
		dirTok, nameTok := tx.tokens(dir, name)
		en := &Entry{Dir: dir, Name: name, Inode: id, Since: since}
		tx.put(record.DomainEntry, entryKey(dirTok, nameTok), en.encode(), en)
		return nil
	}
}

func dropEntry(name string) func(tx *Tx) error {
	return func(tx *Tx) error {
		dirTok, nameTok := tx.tokens(Root, name)
		tx.remove(record.DomainEntry, entryKey(dirTok, nameTok))
		return nil
	}
}

// putPast writes a past name with its index and nothing else.
func putPast(name string, id Inode, since, until int64) func(tx *Tx) error {
	return func(tx *Tx) error {
		dirTok, nameTok := tx.tokens(Root, name)
		en := &Entry{Dir: Root, Name: name, Inode: id, Since: since, Until: until}
		tx.put(record.DomainPast, pastKey(dirTok, nameTok, until), en.encode(), nil)
		tx.indexPast(dirTok, nameTok, en)
		return nil
	}
}

func putVersion(id Inode, n uint64, edit func(s *storedVersion)) func(tx *Tx) error {
	return func(tx *Tx) error {
		s, err := tx.stored(id, n)
		if err == nil {
			edit(s)
			tx.put(record.DomainVersion, versionKey(id, s.N), s.encode(), nil)
		}
		return err
	}
}

// reindex says that a version was superseded at another instant.
func reindex(id Inode, n uint64, at func(was int64) int64) func(tx *Tx) error {
	return func(tx *Tx) error {
		for f := range tx.scan(record.DomainWhen, []byte{whenAll}, nil) {
			if f.key[9] == whenVersion && Inode(be64(f.key[10:])) == id && be64(f.key[18:]) == n {
				was := int64(be64(f.key[1:]))
				tx.remove(record.DomainWhen, whenVersionKey(was, id, n))
				tx.indexVersion(at(was), id, n)
				return nil
			}
		}
		return fmt.Errorf("version %d of inode %d is not in the index", n, id)
	}
}

// In rich: inode 2 "many" with versions 1 and 2, the second of which lies in pages; 3 not in NFC; 4 "gone", without a live name.
// TestVerifyFinds has more.

// TestEachCheckOfVerify breaks one thing at a time, with the right keys, and wants that finding.
func TestEachCheckOfVerify(t *testing.T) {
	t.Parallel()
	const odd = "e\u0301"
	sound := func(*Tx) error { return nil }
	for what, c := range map[string]struct {
		change func(tx *Tx) error
		want   string
	}{
		"records":                {func(tx *Tx) error { tx.head.records++; return tx.Emit(nil) }, "records, the head says"},
		"set hash":               {func(tx *Tx) error { tx.head.sum[5]++; return tx.Emit(nil) }, "the set hash is not that of the records"},
		"next inode":             {func(tx *Tx) error { tx.head.nextInode = 4; return tx.Emit(nil) }, "inode 4, but the next to be given is 4"},
		"last event":             {func(tx *Tx) error { err := tx.Emit(nil); tx.head.lastSeq = 0; return err }, "an audit event has number"},
		"name of no inode":       {putEntry(Root, "stray", 99, 1), "a live name in inode 1 of inode 99: one of them is missing"},
		"name in no directory":   {both(dropEntry("many"), putEntry(99, "many", 2, 1)), "a live name in inode 99 of inode 2: one of them is missing"},
		"name in a file":         {both(dropEntry("many"), putEntry(3, "many", 2, 1), rewrite(2, func(n *Node) { n.Parent, n.Home = 3, 3 }), rewrite(Root, func(n *Node) { n.Children-- })), "a live name in inode 3 of inode 2: one of them is missing or no directory"},
		"name elsewhere":         {rewrite(2, func(n *Node) { n.Parent, n.Home = 3, 3 }), "inode 2 has a name in inode 1, but says 3"},
		"another name":           {rewrite(2, func(n *Node) { n.Name = "other" }), "inode 2 does not know its name in inode 1"},
		"another home":           {rewrite(2, func(n *Node) { n.Home = 3 }), "inode 2 does not know its name in inode 1"},
		"left and here":          {rewrite(2, func(n *Node) { n.Left = 1 }), "inode 2 does not know its name in inode 1"},
		"two names":              {both(putEntry(Root, "second", 2, 1), rewrite(Root, func(n *Node) { n.Children++ })), "inode 2 does not know its name in inode 1"},
		"names exchanged":        {both(putEntry(Root, "many", 3, 1), putEntry(Root, odd, 2, 1)), "inode 2 has 0 live names"},
		"name gone":              {both(dropEntry("many"), rewrite(Root, func(n *Node) { n.Children-- })), "inode 2 has 0 live names, its record says 1"},
		"name of one without":    {both(putEntry(Root, "gone", 4, 1), rewrite(Root, func(n *Node) { n.Children++ })), "inode 4 has a name in inode 1, but says 0"},
		"future":                 {putEntry(Root, "many", 2, 1<<62), "a live name of inode 2 is from the future"},
		"past name of no inode":  {putPast("x", 99, 1, 2), "a past name of inode 99, which is missing"},
		"past names":             {putPast("x", 2, 1, 2), "inode 2 has 1 past names, its record says 0"},
		"past names exchanged":   {both(rewrite(4, func(n *Node) { n.Past = 2 }), rewrite(2, func(n *Node) { n.Past = ^uint64(0) })), "inode 4 has 1 past names, its record says 2"},
		"left too early":         {rewrite(4, func(n *Node) { n.Left-- }), "inode 4 had a name until after it says"},
		"past name by directory": {editWhen(whenDir, 0), "a past name of inode 4 is not in the time index"},
		"past name by time":      {editWhen(whenAll, whenName), "a past name of inode 4 is not in the time index"},
		"index of a name of nothing": {func(tx *Tx) error {
			tx.put(record.DomainWhen, whenNameKey(7, token{1}, token{2}), nil, nil)
			return nil
		}, "the time index has"},
		"index of a version twice": {func(tx *Tx) error { tx.indexVersion(5, 2, 1); return nil }, "the time index has"},
		"index of another version": {both(editWhen(whenAll, whenVersion), func(tx *Tx) error { tx.indexVersion(5, 77, 1); return nil }), "superseded version"},
		"index at another instant": {reindex(2, 1, func(was int64) int64 { return was - 1 }), "inode 2: superseded version 1 is not in the time index"},
		"nameless":                 {both(func(tx *Tx) error { return tx.NewNode(&Node{Kind: File}) }), "inode 5 has no name, present or past"},
		"unplaced":                 {rewrite(2, func(n *Node) { n.unplaced = true }), "inode 2 does not say where it lies"},
		"children":                 {rewrite(Root, func(n *Node) { n.Children++ }), "directory inode 1 has 2 entries, its record says 3"},
		"no root":                  {rewrite(Root, func(n *Node) { n.Parent = 2 }), "there is no root directory"},
		"below nothing":            {both(mkdirs("x"), rewrite(5, func(n *Node) { n.Parent, n.Home = 99, 99 })), "inode 5 does not hang below the root"},
		"circle":                   {both(mkdirs("x"), rewrite(5, func(n *Node) { n.Parent = 5 })), "inode 5 does not hang below the root"},
		"versions of nothing":      {func(tx *Tx) error { tx.remove(record.DomainInode, inodeKey(4)); return nil }, "versions of inode 4, which is missing"},
		"version from the future":  {putVersion(2, 2, func(s *storedVersion) { s.At = 1 << 62 }), "inode 2: version 2 is out of order"},
		"versions out of order":    {putVersion(2, 2, func(s *storedVersion) { s.At = 1 }), "inode 2: version 2 is out of order"},
		"version never given":      {rewrite(2, func(n *Node) { n.Versions = 1; n.Version = 1 }), "inode 2: version 2 is out of order"},
		"current version gone":     {func(tx *Tx) error { tx.remove(record.DomainVersion, versionKey(2, 2)); return nil }, "inode 2: its current version 2 is missing"},
		"not the newest":           {rewrite(2, func(n *Node) { n.Version = 1 }), "inode 2: its record does not agree with its newest version"},
		"another size":             {rewrite(2, func(n *Node) { n.Size++ }), "inode 2: its record does not agree with its newest version"},
		"page of nothing": {func(tx *Tx) error {
			tx.put(record.DomainExtents, pageKey(2, 1, 9), make([]byte, plainExtent), nil)
			return nil
		}, "inode 2: a page of extents belongs to no version"},
		"page gone":              {func(tx *Tx) error { tx.remove(record.DomainExtents, pageKey(2, 2, 0)); return nil }, "inode 2: version 2: "},
		"page malformed":         {func(tx *Tx) error { tx.put(record.DomainExtents, pageKey(2, 1, 9), []byte("x"), nil); return nil }, "extents record"},
		"fold gone":              {editFold, "a name in inode 1 is not listed under its other form"},
		"fold of nothing":        {func(tx *Tx) error { tx.putFold(oddKey(tx, "a\u0301", foldLive), Root, "a\u0301"); return nil }, "a name in inode 1 is listed under another form but does not exist"},
		"past fold of nothing":   {func(tx *Tx) error { tx.putFold(oddKey(tx, odd, foldPast), Root, odd); return nil }, "a name in inode 1 is listed under another form but does not exist"},
		"folds":                  {func(tx *Tx) error { tx.head.folds++; return tx.Emit(nil) }, "names are listed under another form, the head says 2"},
		"blob doomed":            {func(tx *Tx) error { return tx.Doom([16]byte{1}) }, "is to be unlinked but in use"},
		"blob doomed with a key": {both(func(tx *Tx) error { return tx.Doom([16]byte{7}) }, putBlob(7, 1)), "is to be unlinked but in use"},
		"blob gone":              {func(tx *Tx) error { return tx.DeleteBlob([16]byte{1}) }, "is used by 1 versions but has no key"},
		"blob unused":            {putBlob(9, 5), "is used by no version"},
		"blob short":             {putBlob(1, 5), "has 5 bytes, a version relies on 1048576"},
		"files":                  {func(tx *Tx) error { tx.head.files++; return tx.Emit(nil) }, "the head counts 3 files, there are 2"},
		"directories":            {func(tx *Tx) error { tx.head.dirs++; return tx.Emit(nil) }, "the head counts 2 directories, there are 1"},
		"versions":               {func(tx *Tx) error { tx.head.versions++; return tx.Emit(nil) }, "versions, there are"},
		"blobs":                  {func(tx *Tx) error { tx.head.blobs++; return tx.Emit(nil) }, "the head counts 2 blobs, there are 1"},
		"live bytes":             {func(tx *Tx) error { tx.head.live++; return tx.Emit(nil) }, "live bytes, there are"},
		"bytes kept":             {func(tx *Tx) error { tx.head.kept++; return tx.Emit(nil) }, "kept for history alone, there are"},
		"bytes in history":       {func(tx *Tx) error { tx.head.history++; return tx.Emit(nil) }, "bytes in history, there are"},
		"nothing":                {sound, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := rich(t)
			if got := d.findings(t, 2); len(got) > 0 {
				t.Fatalf("before: %q", got)
			}
			d.update(t, c.change)
			got := d.findings(t, 2)
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, c.want) }) {
				t.Errorf("no %q in %q", c.want, got)
			}
		})
	}
}

func editWhen(part, what byte) func(tx *Tx) error {
	return func(tx *Tx) error {
		for f := range tx.scan(record.DomainWhen, []byte{part}, nil) {
			if what == 0 || f.key[9] == what {
				tx.remove(record.DomainWhen, f.key)
				return nil
			}
		}
		return fmt.Errorf("nothing to remove")
	}
}

func editFold(tx *Tx) error {
	for f := range tx.scan(record.DomainFold, nil, nil) {
		tx.remove(record.DomainFold, f.key)
	}
	tx.head.folds = 0
	return nil
}

func oddKey(tx *Tx, name string, state byte) []byte {
	dirTok, nameTok := tx.tokens(Root, name)
	return foldKey(dirTok, tx.db.keys.FoldToken(uint64(Root), map[string]string{"e\u0301": "\u00e9", "a\u0301": "\u00e1"}[name]), state, nameTok)
}

func mkdirs(name string) func(tx *Tx) error {
	return func(tx *Tx) error { _, err := mkdir(tx, Root, name); return err }
}

func putBlob(id byte, size uint64) func(tx *Tx) error {
	return func(tx *Tx) error { return tx.PutBlob(&BlobKey{ID: [16]byte{id}, State: BlobSealed, Size: size}) }
}

// TestVerifyOfManyBlobsAndInodes has more of both than are compared at once.
func TestVerifyOfManyBlobsAndInodes(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	const files = 3*spanInodes + 5
	d.update(t, func(tx *Tx) error {
		for i := range files {
			n, err := addFile(tx, Root, fmt.Sprint(i), 0)
			if err != nil {
				return err
			}
			id := [16]byte{byte(i * 37), byte(i >> 8), byte(i)}
			if err := tx.PutBlob(&BlobKey{ID: id, State: BlobSealed, Size: 10}); err != nil {
				return err
			}
			l := extent.Layout{Size: 10, Blobs: []extent.BlobRef{extent.Sealed(id, 10)}, Extents: []extent.Extent{{Len: 10}}}
			if err := tx.AddVersion(n, &Version{Attr: Attr{Size: 10, State: Complete}, Layout: l}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, limit := range []int{1 << 20, files, files - 1, 100} {
		if got := d.findings(t, limit); len(got) > 0 {
			t.Fatalf("tables of %d: %q", limit, got)
		}
	}
	// One of each in the last table and in the last span.
	d.update(t, func(tx *Tx) error {
		if err := tx.PutBlob(&BlobKey{ID: [16]byte{0xff, 0xff}, State: BlobSealed}); err != nil {
			return err
		}
		return rewrite(files, func(n *Node) { n.Size++ })(tx)
	})
	for _, limit := range []int{1 << 20, 100} {
		got := strings.Join(d.findings(t, limit), "\n")
		if !strings.Contains(got, "blob ffff0000000000000000000000000000 is used by no version") || !strings.Contains(got, fmt.Sprintf("inode %d: its record does not agree", files)) {
			t.Errorf("tables of %d: %q", limit, got)
		}
	}
}

// TestVerifyAcrossAGap purges a version in the middle: only the time index tells when the one before it was superseded.
func TestVerifyAcrossAGap(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		at   func(was int64) int64
		want bool
	}{
		"as it was":   {func(was int64) int64 { return was }, false},
		"a bit later": {func(was int64) int64 { return was + 1 }, false},
		"too early":   {func(int64) int64 { return 1 }, true},
		"too late":    {func(int64) int64 { return 1 << 60 }, true},
	} {
		d := newDB(t)
		d.update(t, mkfile("a"))
		for range 3 {
			d.update(t, func(tx *Tx) error {
				n, err := tx.Node(2)
				if err != nil {
					return err
				}
				return tx.AddVersion(n, &Version{Attr: Attr{State: Complete}})
			})
		}
		d.update(t, func(tx *Tx) error { // as a purge does
			s, err := tx.stored(2, 2)
			if err != nil {
				return err
			}
			next, err := tx.stored(2, 3)
			if err != nil || s.At >= next.At {
				return fmt.Errorf("%v, %v", next, err)
			}
			tx.remove(record.DomainVersion, versionKey(2, 2))
			tx.remove(record.DomainWhen, whenVersionKey(next.At, 2, 2))
			tx.head.versions--
			tx.head.history -= s.Size
			tx.head.purged = next.At
			return reindex(2, 1, c.at)(tx)
		})
		if got := d.findings(t, 10); c.want != slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, "superseded version 1 is not in the time index") }) || !c.want && len(got) > 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// BenchmarkVerify walks FILES files (200,000 if it is not set), half of which have a blob, and as many past names.
func BenchmarkVerify(b *testing.B) {
	files := 200_000
	if n, err := strconv.Atoi(os.Getenv("FILES")); err == nil {
		files = n
	}
	d := newDB(b)
	d.grow(b, files)
	for from := 0; from < files; from += 5000 {
		d.update(b, func(tx *Tx) error {
			for i := from; i < min(from+5000, files); i++ {
				id := [16]byte{byte(i * 37), byte(i >> 16), byte(i >> 8), byte(i)}
				if err := tx.PutBlob(&BlobKey{ID: id, Wrapped: make([]byte, 100), State: BlobSealed, Size: 10}); err != nil {
					return err
				}
				n, err := addFile(tx, Root, fmt.Sprint("blob-", i), 0)
				if err != nil {
					return err
				}
				l := extent.Layout{Size: 10, Blobs: []extent.BlobRef{extent.Sealed(id, 10)}, Extents: []extent.Extent{{Len: 10}}}
				if err := tx.AddVersion(n, &Version{Attr: Attr{Size: 10, State: Complete}, Layout: l}); err != nil {
					return err
				}
				if err := tx.Unlink(Root, fmt.Sprintf("file-%08d.txt", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	d.reopen(b)
	records := d.published.Load().head.records
	b.Logf("%d records", records)
	debug.FreeOSMemory() // what making the files took
	peak, cpu := watchHeap(b), cpuTime(b)
	for b.Loop() {
		if err := d.Verify(b.Context(), func(f string) { b.Fatal(f) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N)/float64(records), "cpu-ns/record")
	b.ReportMetric(float64(peak())/(1<<20), "anon-MiB")
}
