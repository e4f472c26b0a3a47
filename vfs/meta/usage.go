package meta

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"sallyport/crypto/record"
)

// Usage counts how many versions of an inode rely on each blob and each page of extents. An inode with very many versions, of which
// some are purged at a time, would otherwise be read whole every time: who purges may keep its Usage meanwhile.
type Usage struct {
	inode Inode
	upTo  uint64 // no version above this number is counted
	blobs map[[16]byte]int
	pages map[pageName]int
}

type pageName struct {
	n    uint64
	page uint32
}

func newUsage(id Inode) *Usage {
	return &Usage{inode: id, blobs: map[[16]byte]int{}, pages: map[pageName]int{}}
}

// Usage counts what the versions of an inode rely on.
func (tx *Tx) Usage(id Inode) (*Usage, error) {
	u := newUsage(id)
	for f := range tx.scan(record.DomainVersion, inodeKey(id), nil) {
		v, err := tx.openVersion(f)
		if err != nil {
			return nil, err
		}
		u.add(v)
	}
	return u, nil
}

// Forget brings what is known to the state after a Purge that was committed.
func (p *Purged) Forget(known map[Inode]*Usage) {
	for id, gone := range p.gone {
		if u := known[id]; u != nil {
			subtract(u.blobs, gone.blobs)
			subtract(u.pages, gone.pages)
		}
	}
}

func subtract[K comparable](from, what map[K]int) {
	for k, n := range what {
		if from[k] -= n; from[k] <= 0 {
			delete(from, k)
		}
	}
}

func (u *Usage) clone() *Usage {
	return &Usage{inode: u.inode, upTo: u.upTo, blobs: maps.Clone(u.blobs), pages: maps.Clone(u.pages)}
}

func (u *Usage) add(v *storedVersion) {
	u.upTo = max(u.upTo, v.N)
	for i := range v.Layout.Blobs {
		u.blobs[v.Layout.Blobs[i].ID]++
	}
	for i := range v.pages {
		u.pages[pageName{v.pages[i].n, v.pages[i].page}]++
	}
}

// sorted are the blobs in the order of their names, so that one history always makes the same database.
func (u *Usage) sorted() [][16]byte {
	ids := make([][16]byte, 0, len(u.blobs))
	for id := range u.blobs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// unused takes out of free what the remaining versions of n rely on, the current one first, as it is the likeliest.
func (tx *Tx) unused(n *Node, free, known *Usage) error {
	keep := func(v *storedVersion) bool {
		for i := range v.Layout.Blobs {
			delete(free.blobs, v.Layout.Blobs[i].ID)
		}
		for i := range v.pages {
			delete(free.pages, pageName{v.pages[i].n, v.pages[i].page})
		}
		return len(free.blobs)+len(free.pages) > 0
	}
	if v, err := tx.stored(n.ID, n.Version); err == nil {
		if !keep(v) {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from := uint64(0)
	if known != nil && free.upTo <= known.upTo {
		maps.DeleteFunc(free.blobs, func(id [16]byte, n int) bool { return known.blobs[id] > n })
		maps.DeleteFunc(free.pages, func(p pageName, n int) bool { return known.pages[p] > n })
		from = known.upTo + 1
	}
	for f := range tx.scan(record.DomainVersion, inodeKey(n.ID), versionKey(n.ID, from)) {
		v, err := tx.openVersion(f)
		if err != nil {
			return err
		}
		if !keep(v) {
			return nil
		}
	}
	return nil
}
