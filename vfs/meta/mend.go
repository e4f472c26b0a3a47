package meta

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sallyport/vfs/extent"
)

// Loss is one thing that a repair cannot bring back, or not as it was. What names no file; Path is for the operator's eyes
// only, and empty where no name is known.
type Loss struct {
	Inode Inode
	Path  string
	What  string
}

// mender makes a wreck consistent again, in memory.
type mender struct {
	*wreck
	at     int64                 // instant of the repair
	since  map[versionName]int64 // see indexed
	losses []Loss
	// headless: the head of the newest commit is lost, and with it how much of what was purged awaits shredding.
	headless bool
	damaged  bool  // something was wrong with the file
	lost     *Node // the directory for what has no name; nil until needed
}

func (m *mender) lose(id Inode, format string, a ...any) {
	m.losses = append(m.losses, Loss{Inode: id, What: fmt.Sprintf(format, a...)})
}

// mend brings records into agreement. What contradicts is decided for the newest, and reported.
func (m *mender) mend() {
	m.at = max(m.at, m.newest()+1)
	m.mendRoot()
	m.mendPages()
	m.mendVersions()
	m.mendNodes()
	m.mendNames()
	m.mendTree()
	m.mendNameless()
	m.mendBlobs()
	m.count()
	m.mendShred()
	m.mendMarks()
}

// mendShred says that something awaits shredding where the number is not known: with 0 the account would be passed over by the shred epoch, and what was purged would
// stay readable in the damaged file that the repair leaves.
func (m *mender) mendShred() {
	if !m.headless {
		return
	}
	m.head.shred = max(m.head.shred, 1)
}

// mendMarks takes the safe side: of what is lost nobody knows whether a view of the past had it. Without the head, nor does anybody of what was purged.
func (m *mender) mendMarks() {
	if m.damaged || len(m.losses) > 0 {
		m.head.lacking = m.at
	}
	if m.headless {
		m.head.purged, m.head.lacking = m.at, m.at
	}
}

// newest is the newest instant that any record knows. It also sees to it that no inode number is given twice.
func (m *mender) newest() int64 {
	last := m.head.last
	m.head.nextInode = max(m.head.nextInode, Root+1)
	for _, all := range []map[string]*Entry{m.live, m.past} {
		for _, en := range all {
			last = max(last, en.Since, en.Until)
			m.head.nextInode = max(m.head.nextInode, en.Inode+1, en.Dir+1)
		}
	}
	for id, n := range m.nodes {
		last = max(last, n.Changed)
		m.head.nextInode = max(m.head.nextInode, id+1)
	}
	for id, history := range m.versions {
		m.head.nextInode = max(m.head.nextInode, id+1)
		for _, v := range history {
			last = max(last, v.At)
		}
	}
	return last
}

func (m *mender) mendRoot() {
	root := m.nodes[Root]
	if root == nil {
		m.lose(Root, "the attributes of the root directory")
		root = &Node{ID: Root, Kind: Dir, Attr: Attr{Mode: 0o755, Mtime: m.at, Atime: m.at, Created: m.at, State: Complete}, Changed: m.at}
		m.nodes[Root] = root
	}
	root.Kind, root.Parent, root.Target = Dir, Root, ""
}

// mendPages finds out which versions have lost extents: their bytes cannot be found any more.
func (m *mender) mendPages() {
	used := map[string]bool{}
	for id, history := range m.versions {
		for _, v := range history {
			if len(v.pages) == 0 {
				continue
			}
			full := v.Layout
			full.Extents = nil
			whole := true
			for _, p := range v.pages {
				key := pageKey(id, p.n, p.page)
				before := len(full.Extents)
				if page := m.pages[string(key)]; page != nil {
					full.Extents, _ = appendPage(full.Extents, page) // decoded before
				}
				if len(full.Extents)-before != int(p.count) {
					whole = false
				}
			}
			if !whole || full.Check() != nil {
				m.lose(id, "the content of version %d, %d bytes: where its bytes lie is lost", v.N, v.Size)
				v.pages, v.Layout = nil, m.nowhere(v.Size)
				continue
			}
			for _, p := range v.pages {
				used[string(pageKey(id, p.n, p.page))] = true
			}
		}
	}
	maps.DeleteFunc(m.pages, func(key string, _ []byte) bool { return !used[key] })
}

// nowhere is a layout of that many bytes that cannot be read: it refers to a blob that does not exist. A version whose
// bytes are lost stays an error; it does not become a hole.
func (m *mender) nowhere(size uint64) extent.Layout {
	if size == 0 {
		return extent.Layout{}
	}
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return extent.Layout{Size: size, Blobs: []extent.BlobRef{extent.Sealed(id, size)}, Extents: []extent.Extent{{Len: size}}}
}

// mendVersions makes sure that every inode has the version that its record calls current.
func (m *mender) mendVersions() {
	for id, n := range m.nodes {
		history := m.versions[id]
		newest := newestVersion(history)
		switch {
		case n.Version == 0 && newest == nil, newest != nil && n.Version == newest.N:
		case newest != nil && n.Version < newest.N:
			m.lose(id, "its record was of version %d, its newest version is %d: that one is current now; attributes changed since may be lost", n.Version, newest.N)
			n.Version, n.Attr = newest.N, newest.Attr
		default: // the current version is lost
			v := &storedVersion{Version: Version{Inode: id, N: n.Version, At: n.Changed, Writer: "repair", Attr: n.Attr}}
			if v.State == 0 || v.State == Interrupted {
				v.State = Complete
			}
			if n.Kind == File {
				v.Layout = m.nowhere(n.Size)
				if n.Size > 0 {
					m.lose(id, "the content of its current version %d, %d bytes: its record is lost", v.N, v.Size)
				}
			}
			m.addVersion(v)
		}
	}
	for id, history := range m.versions {
		numbers := slices.Sorted(maps.Keys(history))
		var prev, at = uint64(0), int64(0)
		for _, k := range numbers {
			v := history[k]
			if v.At < at { // only one that was made up or replayed
				v.At = at
			}
			if at = v.At; v.Writer == "repair" { // what is authentic tells by it whether a purge took what was between
				v.prev = prev
			}
			if v.State != Interrupted {
				prev = k
			}
		}
		for i := len(numbers) - 1; i > 0; i-- { // one that was made up may lie after the next
			if a, b := history[numbers[i-1]], history[numbers[i]]; a.Writer == "repair" && b.Writer != "repair" {
				a.At = min(a.At, b.At)
			}
		}
		if n := m.nodes[id]; n != nil {
			n.Versions = max(n.Versions, numbers[len(numbers)-1])
		}
	}
}

// newestVersion is the newest that was ever current, nil if there is none.
func newestVersion(history map[uint64]*storedVersion) (newest *storedVersion) {
	for _, v := range history {
		if v.State != Interrupted && (newest == nil || v.N > newest.N) {
			newest = v
		}
	}
	return newest
}

// mendNodes makes inodes anew whose record is lost, where what is left tells what they were.
func (m *mender) mendNodes() {
	holder, named := map[Inode]bool{}, map[Inode]Inode{}
	for _, all := range []map[string]*Entry{m.past, m.live} {
		for _, en := range all {
			holder[en.Dir] = true
			named[en.Inode] = 0
		}
	}
	for _, en := range m.live {
		named[en.Inode] = en.Dir
	}
	ids := map[Inode]bool{}
	for id := range holder {
		ids[id] = true
	}
	for id := range named {
		ids[id] = true
	}
	for id := range m.versions {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if m.nodes[id] != nil {
			continue
		}
		n := &Node{ID: id, Kind: File, Changed: m.at, Parent: named[id]}
		if _, known := named[id]; !known {
			n.Parent = Root // it gets a name when nobody knows whether it had one
		}
		v := newestVersion(m.versions[id])
		if v != nil {
			n.Version, n.Attr = v.N, v.Attr
		}
		for k := range m.versions[id] {
			n.Versions = max(n.Versions, k)
		}
		switch {
		case holder[id]:
			n.Kind = Dir
			if v == nil {
				n.Version, n.Versions = n.Versions+1, n.Versions+1
				n.Attr = Attr{Mode: 0o755, Mtime: m.at, Atime: m.at, Created: m.at, State: Complete}
				m.addVersion(&storedVersion{Version: Version{Inode: id, N: n.Version, At: m.at, Attr: n.Attr}})
			}
			m.lose(id, "the record of a directory: it is made anew, with what is known to lie in it")
		case v != nil && v.Size > 0:
			m.lose(id, "the record of a file: it is made anew from version %d, the newest that is left", v.N)
		default:
			m.lose(id, "a name: the record of what it names is lost, and nothing else tells what that was")
			continue
		}
		m.nodes[id] = n
	}
	for id := range m.versions {
		if m.nodes[id] == nil {
			delete(m.versions, id)
		}
	}
}

// errNothing means that no record of the account authenticates.
var errNothing = errors.New("meta: nothing in the database authenticates")

// sortLosses puts the losses in the order of their inodes.
func sortLosses(all []Loss) {
	slices.SortStableFunc(all, func(a, b Loss) int { return cmp.Or(cmp.Compare(a.Inode, b.Inode)) })
}
