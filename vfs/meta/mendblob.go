package meta

import (
	"fmt"
	"maps"
	"slices"

	"sallyport/vfs/extent"
)

// mendBlobs compares the keys of blobs with the versions that use them.
func (m *mender) mendBlobs() {
	refs := m.refs()
	for _, id := range slices.Sorted(maps.Keys(m.versions)) {
		for _, k := range slices.Sorted(maps.Keys(m.versions[id])) {
			v := m.versions[id][k]
			for _, ref := range v.Layout.Blobs {
				b := m.blobs[ref.ID]
				if b == nil {
					continue
				}
				if !ref.Open && b.State == BlobOpen { // its key is of an earlier commit; recovery must not cut off what a version relies on
					b.State, b.Size, b.Inode = BlobSealed, ref.Bytes, id
				}
				if b.State == BlobOpen {
					b.Relied = max(b.Relied, ref.Bytes)
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

// Unended calls fn with the blobs whose records are those of small files that were not committed yet (BlobOpen, Scattered), and that nothing
// refers to: recovery makes nothing of those. Where records are lost, one of an earlier commit may be all that is left of such a file.
func (s *Salvage) Unended(fn func(*BlobKey)) {
	refs := s.m.refs()
	s.Blobs(func(b *BlobKey) {
		if b.State == BlobOpen && b.Scattered && !refs[b.ID] {
			fn(b)
		}
	})
}

// Rescue makes a fragment of a blob that Unended has told of, and that is there with that many bytes, and says what that means.
func (s *Salvage) Rescue(id [16]byte, bytes uint64) Loss {
	b := s.m.blobs[id]
	b.State, b.Size = BlobSealed, bytes
	s.m.rescueBlob(b)
	s.m.count()
	l := s.m.losses[len(s.m.losses)-1]
	l.Path = s.pathOf(l.Inode)
	s.Losses = append(s.Losses, l)
	return l
}

// refs are the blobs that versions refer to.
func (m *mender) refs() map[[16]byte]bool {
	refs := map[[16]byte]bool{}
	for _, history := range m.versions {
		for _, v := range history {
			for i := range v.Layout.Blobs {
				refs[v.Layout.Blobs[i].ID] = true
			}
		}
	}
	return refs
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
	if b.Writer == "" && b.Inode == 0 && b.Dir == 0 { // a spare record
		whole += "; perhaps of an upload that was not committed"
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
	h.kept = m.kept()
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
