package meta

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
	lost   *Node // the directory for what has no name; nil until needed
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

// mendNames drops names of nothing, and second names.
func (m *mender) mendNames() {
	alone := func(en *Entry) bool {
		return m.nodes[en.Inode] == nil || m.nodes[en.Dir] == nil || m.nodes[en.Dir].Kind != Dir
	}
	maps.DeleteFunc(m.past, func(_ string, en *Entry) bool { return alone(en) })
	best := map[Inode]string{}
	for _, key := range slices.Sorted(maps.Keys(m.live)) {
		en := m.live[key]
		if alone(en) || en.Inode == Root {
			delete(m.live, key)
			continue
		}
		other, twice := best[en.Inode]
		if !twice {
			best[en.Inode] = key
			continue
		}
		worse := key
		n, o := m.nodes[en.Inode], m.live[other]
		if en.Dir == n.Parent && o.Dir != n.Parent || (en.Dir == n.Parent) == (o.Dir == n.Parent) && en.Since > o.Since {
			best[en.Inode], worse = key, other
		}
		m.losses = append(m.losses, Loss{Inode: en.Inode, Path: m.path(m.live[worse]), What: "a second name of the same file, one of the two is of an earlier time: the newer one stays"})
		delete(m.live, worse)
	}
	for id, key := range best {
		m.nodes[id].Parent = m.live[key].Dir
	}
}

// mendTree gives a name in lost+found to what should have one and has none, or hangs below itself.
func (m *mender) mendTree() {
	name := map[Inode]string{}
	for key, en := range m.live {
		name[en.Inode] = key
	}
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		n := m.nodes[id]
		if id == Root || n.Parent == 0 {
			continue
		}
		if name[id] == "" {
			if name[id] = m.renamed(n); name[id] == "" {
				m.rescueName(n, "its name")
				continue
			}
		}
		way := map[Inode]bool{}
		for up := n; up.ID != Root; up = m.nodes[up.Parent] {
			if way[up.ID] { // only replayed records make a circle
				delete(m.live, name[id])
				m.rescueName(n, "its place: it was below itself")
				break
			}
			if way[up.ID] = true; m.nodes[up.Parent] == nil || up.Parent == 0 {
				break // that one gets its own name
			}
		}
	}
}

// renamed gives an inode the name that it knows itself, and returns its key; "" if it knows none, or the name is taken.
func (m *mender) renamed(n *Node) string {
	dir := m.nodes[n.Home]
	if n.unplaced || !validName(n.Name) || dir == nil || dir.Kind != Dir || n.Home != n.Parent || n.Left != 0 {
		return ""
	}
	en := &Entry{Dir: n.Home, Name: n.Name, Inode: n.ID, Since: n.Changed}
	key := m.entryKey(en)
	if m.live[key] != nil {
		return ""
	}
	m.live[key] = en
	m.lose(n.ID, "the instant at which its name began; the name itself stands in its own record")
	return key
}

// rescueName puts an inode into lost+found.
func (m *mender) rescueName(n *Node, what string) {
	dir := m.lostAndFound()
	en := &Entry{Dir: dir.ID, Name: fmt.Sprintf("inode-%d", n.ID), Inode: n.ID, Since: m.at}
	m.live[m.entryKey(en)] = en
	n.Parent = dir.ID
	m.lose(n.ID, "%s: it is found as %s", what, en.Name)
}

func (m *mender) entryKey(en *Entry) string {
	return string(entryKey(m.keys.DirToken(uint64(en.Dir)), m.keys.NameToken(uint64(en.Dir), en.Name)))
}

// lostAndFound is the directory for what has no name, made when it is needed.
func (m *mender) lostAndFound() *Node {
	if m.lost != nil {
		return m.lost
	}
	attr := Attr{Mode: 0o700, Mtime: m.at, Atime: m.at, Created: m.at, State: Complete}
	m.lost = m.addNode(&Node{Kind: Dir, Parent: Root, Attr: attr}, extent.Layout{}, "")
	en := &Entry{Dir: Root, Name: "lost+found-" + time.Unix(0, m.at).UTC().Format(time.DateOnly), Inode: m.lost.ID, Since: m.at}
	for i := 2; m.live[m.entryKey(en)] != nil; i++ {
		en.Name = fmt.Sprintf("lost+found-%s.%d", time.Unix(0, m.at).UTC().Format(time.DateOnly), i)
	}
	m.live[m.entryKey(en)] = en
	return m.lost
}

// addNode makes an inode and its first version.
func (m *mender) addNode(n *Node, l extent.Layout, writer string) *Node {
	n.ID = m.head.nextInode
	m.head.nextInode++
	n.Changed, n.Version, n.Versions = m.at, 1, 1
	m.nodes[n.ID] = n
	m.addVersion(&storedVersion{Version: Version{Inode: n.ID, N: 1, At: m.at, Writer: writer, Attr: n.Attr, Layout: l}})
	return n
}

// mendNameless keeps the history of what was removed and whose past names are lost: under a past name in lost+found, so that it
// does not come back to life.
func (m *mender) mendNameless() {
	named := map[Inode]bool{Root: true}
	for _, all := range []map[string]*Entry{m.past, m.live} {
		for _, en := range all {
			named[en.Inode] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		n := m.nodes[id]
		if named[id] || n.Past == 0 && !n.unplaced && len(m.versions[id]) > 1 { // purged names leave nothing, and that is right
			continue
		}
		if dir := m.nodes[n.Home]; !n.unplaced && validName(n.Name) && dir != nil && dir.Kind == Dir && n.Left > 0 {
			en := &Entry{Dir: n.Home, Name: n.Name, Inode: id, Since: n.Left, Until: n.Left}
			if key := m.entryKey(en) + string(appendU64(nil, uint64(n.Left))); m.past[key] == nil {
				m.past[key] = en
				m.lose(id, "the instants between which it had its former name")
				continue
			}
		}
		en := &Entry{Dir: m.lostAndFound().ID, Name: fmt.Sprintf("inode-%d", id), Inode: id, Since: m.at, Until: m.at}
		m.past[m.entryKey(en)+string(appendU64(nil, uint64(m.at)))] = en
		m.lose(id, "the former name of something that was removed: it stays in history as %s", en.Name)
	}
}

// mendBlobs compares the keys of blobs with the versions that use them.
func (m *mender) mendBlobs() {
	refs := map[[16]byte]bool{}
	for _, id := range slices.Sorted(maps.Keys(m.versions)) {
		for _, k := range slices.Sorted(maps.Keys(m.versions[id])) {
			v := m.versions[id][k]
			for _, ref := range v.Layout.Blobs {
				refs[ref.ID] = true
				b := m.blobs[ref.ID]
				if b == nil {
					continue
				}
				if !ref.Open && b.State == BlobOpen { // its key is of an earlier commit; recovery must not cut off what a version relies on
					b.State, b.Size, b.Inode = BlobSealed, ref.Bytes, id
				}
			}
		}
	}
	for id := range refs {
		delete(m.doomed, id)
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.blobs), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) }) {
		b := m.blobs[id]
		delete(m.doomed, id)
		if refs[id] || b.State == BlobOpen {
			continue
		}
		if b.Size == 0 {
			delete(m.blobs, id)
			m.doomed[id] = m.at
			continue
		}
		m.rescueBlob(b)
	}
}

// rescueBlob gives a name to bytes that no version refers to any more: one is lost that did.
func (m *mender) rescueBlob(b *BlobKey) {
	dir := m.lostAndFound()
	attr := Attr{Size: b.Size, Mode: 0o600, Mtime: m.at, Atime: m.at, Created: m.at, State: Partial}
	n := m.addNode(&Node{Kind: File, Parent: dir.ID, Attr: attr}, extent.Layout{Size: b.Size, Blobs: []extent.BlobRef{extent.Sealed(b.ID, b.Size)}, Extents: []extent.Extent{{Len: b.Size}}}, b.Writer)
	en := &Entry{Dir: dir.ID, Name: fmt.Sprintf("fragment-%d", n.ID), Inode: n.ID, Since: m.at}
	m.live[m.entryKey(en)] = en
	whole := "bytes from " + fmt.Sprint(b.LinearFrom) + " on"
	if b.Scattered {
		whole = "pieces of it in the order in which they were written"
	}
	m.lose(b.Inode, "a version: what was written for it in one session, %d bytes, is found as %s (%s)", b.Size, en.Name, whole)
}

// count sets what the head and directories count.
func (m *mender) count() {
	h := &m.head
	h.files, h.dirs, h.versions, h.blobs, h.live, h.history, h.folds = 0, 0, 0, uint64(len(m.blobs)), 0, 0, 0
	for id, n := range m.nodes {
		n.Children = 0
		if v := m.versions[id][n.Version]; v != nil {
			if n.State = v.State; n.Kind == File {
				n.Size = v.Size
			}
		}
	}
	h.format = formatVersion
	m.place()
	for id, n := range m.nodes {
		switch {
		case n.Kind == Dir && n.Parent != 0:
			h.dirs++
		case n.Kind == File && n.Parent != 0:
			h.files++
			h.live += n.Size
		}
		h.versions += uint64(len(m.versions[id]))
		if n.Kind == File {
			for _, v := range m.versions[id] {
				h.history += v.Size
			}
		}
	}
	h.history -= h.live
	h.last = m.at
	for seq := range m.outbox {
		h.lastSeq = max(h.lastSeq, seq)
	}
}

// place has every inode know where it lies, or lay last, and how many past names it has.
func (m *mender) place() {
	for _, n := range m.nodes {
		if n.Past = 0; n.unplaced {
			n.Home, n.Name, n.Left, n.unplaced = 0, "", 0, false
		}
	}
	for _, en := range m.past {
		n := m.nodes[en.Inode]
		if n.Past++; n.Home == 0 || en.Until > n.Left && n.Parent == 0 {
			n.Home, n.Name, n.Left = en.Dir, en.Name, en.Until
		}
	}
	for _, en := range m.live {
		n := m.nodes[en.Inode]
		n.Home, n.Name, n.Left = en.Dir, en.Name, 0
		m.nodes[en.Dir].Children++
	}
	m.nodes[Root].Home = Root
}

// path of a name, as far as the names above it are known.
func (m *mender) path(en *Entry) string {
	path := en.Name
	up := map[Inode]*Entry{}
	for _, e := range m.live {
		up[e.Inode] = e
	}
	for dir, steps := en.Dir, 0; dir != Root; steps++ {
		e := up[dir]
		if e == nil || steps > len(up) {
			return "…/" + path
		}
		path, dir = e.Name+"/"+path, e.Dir
	}
	return "/" + path
}

// errNothing means that no record of the account authenticates.
var errNothing = errors.New("meta: nothing in the database authenticates")

// sortLosses puts the losses in the order of their inodes.
func sortLosses(all []Loss) {
	slices.SortStableFunc(all, func(a, b Loss) int { return cmp.Or(cmp.Compare(a.Inode, b.Inode)) })
}
