package meta

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"sallyport/vfs/extent"
)

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
