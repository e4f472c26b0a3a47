package meta

import (
	"errors"
	"io/fs"
	"slices"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// What history costs is counted by bytes that are stored, not by sizes of versions: a change of mode or times makes a version, too, and so
// does an append, and neither stores the file again. head.kept is
//
//	what all blobs have (BlobKey.stored) + what lies in records of versions − what the current version of each live file uses
//
// Each of the three is kept up where it changes, so that a commit costs what it changes; Verify counts anew. Bytes of a blob that no
// version relies on any more (purged, or overwritten before they were committed) are in the first, until repacking gives them up. So history is never
// said to be more than the sizes of its versions either, which is head.history, and is nothing where none is left.

// inHistory is what Stats and quotas are told.
func (h *head) inHistory() uint64 { return historyBytes(h.kept, h.history) }

func historyBytes(kept, sizes uint64) uint64 {
	if int64(kept) < 0 { // no sound volume has it; none is better than 2^64
		return 0
	}
	return min(kept, sizes)
}

// HistoryAfter is what HistoryBytes will be when the content of a live file is superseded by something that shares nothing with it.
func (tx *Tx) HistoryAfter(n *Node) (uint64, error) {
	used, err := tx.usedBy(n)
	return historyBytes(tx.head.kept+used, tx.head.history+n.Size), err
}

// HistoryAfterAppend is HistoryAfter where the content stays and more is added to it, and by how many bytes of the file history grows then:
// blobs are shared, and what lies in the record of the version is stored once more.
func (tx *Tx) HistoryAfterAppend(n *Node) (history, more uint64, err error) {
	if n.Version != 0 {
		s, err := tx.stored(n.ID, n.Version)
		if err != nil {
			return 0, 0, dangling(record.DomainVersion)
		}
		more = uint64(len(s.Layout.Inline))
	}
	return historyBytes(tx.head.kept+more, tx.head.history+n.Size), more, nil
}

// stored is what a blob counts with. Of one that is open only that counts which a version relies on: the rest is an upload in progress.
func (k *BlobKey) stored() uint64 {
	if k.State == BlobOpen {
		return k.Relied
	}
	return max(k.Size, k.Relied)
}

// hasBlob tells whether a blob has a key record: what relies on one that has none (damage) uses nothing.
func (tx *Tx) hasBlob(id [16]byte) bool { return tx.exists(record.DomainBlobKey, id[:]) }

// usedBy is how many stored bytes the current version of a file uses.
func (tx *Tx) usedBy(n *Node) (uint64, error) {
	if n.Version == 0 {
		return 0, nil
	}
	s, err := tx.stored(n.ID, n.Version)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, dangling(record.DomainVersion)
	}
	if err == nil {
		err = tx.readPages(s)
	}
	if err != nil {
		return 0, err
	}
	return s.Layout.Stored(tx.hasBlob), nil
}

// keep counts a new version s of n, which is still as it was before.
func (tx *Tx) keep(n *Node, s *storedVersion) error {
	if n.Kind != File {
		return nil
	}
	l := &s.Layout
	tx.head.kept += uint64(len(l.Inline))
	for i := range l.Blobs {
		if ref := &l.Blobs[i]; ref.Open {
			if err := tx.rely(ref.ID, ref.Bytes); err != nil {
				return err
			}
		}
	}
	if s.State == Interrupted || n.Parent == 0 {
		return nil
	}
	used := make([]uint64, len(l.Blobs))
	extent.AddUsed(used, l.Extents, 1)
	before, err := tx.usedBefore(n, s, used)
	tx.head.kept += before - l.StoredOf(used, tx.hasBlob)
	return err
}

// usedBefore is usedBy of a file whose next version is s, which uses that much of each of its blobs. Pages that both have are not
// read: the fsync of a file in very many pieces, of which few changed, would cost three times as much.
func (tx *Tx) usedBefore(n *Node, s *storedVersion, used []uint64) (uint64, error) {
	if len(s.pages) == 0 || n.Version == 0 {
		return tx.usedBy(n)
	}
	was, err := tx.stored(n.ID, n.Version)
	if err != nil {
		return 0, dangling(record.DomainVersion) // putPages has read it
	}
	// By the place of a blob in the layout, as pages have it: whatever blobs the two layouts have there.
	sum := make([]uint64, max(len(was.Layout.Blobs), len(used)))
	copy(sum, used)
	shared := map[pageRef]bool{} // true = by both
	for _, p := range was.pages {
		shared[p] = false
	}
	rest := s.Layout.Extents
	for _, p := range s.pages {
		if _, both := shared[p]; both {
			shared[p] = true
		} else {
			extent.AddUsed(sum, rest[:p.count], -1)
		}
		rest = rest[p.count:]
	}
	was.pages = slices.DeleteFunc(was.pages, func(p pageRef) bool { return shared[p] })
	if err := tx.readPages(was); err != nil {
		return 0, err
	}
	extent.AddUsed(sum, was.Layout.Extents, 1)
	return was.Layout.StoredOf(sum, tx.hasBlob), nil
}

// rely notes in the record of a blob that is being written how far a version relies on it.
func (tx *Tx) rely(id [16]byte, bytes uint64) error {
	b, err := tx.Blob(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // damage that Verify reports
	}
	if err != nil || b.State != BlobOpen || b.Relied >= bytes {
		return err
	}
	b.Relied = bytes
	return tx.PutBlob(b)
}

// recount counts all anew, in a transaction that has changed nothing of what is counted.
func (tx *Tx) recount() error {
	kept, open := uint64(0), map[[16]byte]uint64{}
	err := tx.Blobs(func(b *BlobKey) bool {
		if b.State == BlobOpen {
			open[b.ID] = 0
		}
		kept += b.stored()
		return true
	})
	if err != nil {
		return err
	}
	var n *Node
	for f := range tx.scan(record.DomainVersion, nil, nil) {
		v, err := tx.openVersion(f)
		if err != nil {
			return err
		}
		kept += uint64(len(v.Layout.Inline))
		for _, ref := range v.Layout.Blobs {
			if relied, ok := open[ref.ID]; ok {
				open[ref.ID] = max(relied, ref.Bytes)
			}
		}
		if n == nil || n.ID != v.Inode {
			if n, err = tx.nodePassing(v.Inode); err != nil {
				return dangling(record.DomainInode)
			}
		}
		if n.Kind != File || n.Parent == 0 || n.Version != v.N {
			continue
		}
		if err := tx.readPages(v); err != nil {
			return err
		}
		kept -= v.Layout.Stored(tx.hasBlob)
	}
	tx.head.kept = kept
	for id, relied := range open { // counts them
		if err := tx.rely(id, relied); err != nil {
			return err
		}
	}
	return nil
}

// keepRelaid counts that the bytes of a version lie elsewhere.
func (tx *Tx) keepRelaid(id Inode, version uint64, was, now *extent.Layout) error {
	n, err := tx.node(id)
	if err != nil {
		return dangling(record.DomainInode)
	}
	tx.head.kept += uint64(len(now.Inline)) - uint64(len(was.Inline))
	if n.Parent != 0 && n.Version == version {
		tx.head.kept += was.Stored(tx.hasBlob) - now.Stored(tx.hasBlob)
	}
	return nil
}

// kept counts what a repair has saved.
func (m *mender) kept() (kept uint64) {
	for _, b := range m.blobs {
		kept += b.stored()
	}
	for id, n := range m.nodes {
		for _, v := range m.versions[id] {
			kept += uint64(len(v.Layout.Inline))
		}
		if v := m.versions[id][n.Version]; v != nil && n.Kind == File && n.Parent != 0 {
			l := m.layout(v)
			kept -= l.Stored(func(id [16]byte) bool { return m.blobs[id] != nil })
		}
	}
	return kept
}
