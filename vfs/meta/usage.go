package meta

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"

	"sallyport/crypto/record"
)

// usagesMost is how many references Usages hold at most: 8 MiB.
const usagesMost = 1 << 20

// Usages is what purges remember between transactions: what the remaining versions of inodes rely on. A purge that takes some of very
// many versions at a time would otherwise read all that remain each time. It belongs to one goroutine at a time. What changes
// it by other ways than purges makes it forget everything.
type Usages struct {
	of   map[Inode]*usage
	size int
	as   uint64 // state of DB.relaid that it is good for
	most int
}

// NewUsages returns what knows nothing yet.
func NewUsages() *Usages { return &Usages{of: map[Inode]*usage{}, most: usagesMost} }

// usage lists what versions of an inode rely on, once for each version that does: the beginnings of the ids of blobs, which are
// random, and pages of extents. Both are sorted.
type usage struct {
	upTo  uint64 // highest number of the versions that were read
	blobs []uint64
	pages []pageName
}

type pageName struct {
	n    uint64
	page uint32
}

func (a pageName) compare(b pageName) int {
	if a.n != b.n {
		if a.n < b.n {
			return -1
		}
		return 1
	}
	return int(int64(a.page) - int64(b.page))
}

func beginning(blob [16]byte) uint64 { return binary.BigEndian.Uint64(blob[:]) }

func (u *usage) size() int { return len(u.blobs) + 2*len(u.pages) }

func (u *usage) add(v *storedVersion) {
	u.upTo = max(u.upTo, v.N)
	for i := range v.Layout.Blobs {
		u.blobs = append(u.blobs, beginning(v.Layout.Blobs[i].ID))
	}
	for i := range v.pages {
		u.pages = append(u.pages, pageName{v.pages[i].n, v.pages[i].page})
	}
}

// get returns what is known of an inode, or nil.
func (k *Usages) get(id Inode, as uint64) *usage {
	if k == nil || k.as != as {
		return nil
	}
	return k.of[id]
}

// learn takes note of what a transaction has found out, when it is committed.
func (k *Usages) learn(as uint64, found map[Inode]*usage) {
	if k.as != as {
		k.of, k.size, k.as = map[Inode]*usage{}, 0, as
	}
	for id, u := range found {
		if old := k.of[id]; old != nil {
			k.size -= old.size()
			delete(k.of, id)
		}
		if n := u.size(); n > 0 && k.size+n <= k.most {
			k.of[id] = u
			k.size += n
		}
	}
}

// Remember brings what is known to the state after a Purge that was committed.
func (p *Purged) Remember(known *Usages) {
	if known != nil {
		known.learn(p.as, p.found)
	}
}

// relied counts what purged versions of an inode relied on.
type relied struct {
	upTo  uint64 // highest number of those versions
	blobs map[[16]byte]int
	pages map[pageName]int
}

func newRelied() *relied {
	return &relied{blobs: map[[16]byte]int{}, pages: map[pageName]int{}}
}

func (r *relied) none() bool { return len(r.blobs) == 0 && len(r.pages) == 0 }

func (r *relied) add(v *storedVersion) {
	r.upTo = max(r.upTo, v.N)
	for i := range v.Layout.Blobs {
		r.blobs[v.Layout.Blobs[i].ID]++
	}
	for i := range v.pages {
		r.pages[pageName{v.pages[i].n, v.pages[i].page}]++
	}
}

// sorted are the blobs in the order of their names, so that one history always makes the same database.
func (r *relied) sorted() [][16]byte {
	ids := make([][16]byte, 0, len(r.blobs))
	for id := range r.blobs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// without is a usage less what purged versions relied on.
func (u *usage) without(r *relied) *usage {
	left := &usage{upTo: u.upTo, blobs: make([]uint64, 0, len(u.blobs)), pages: make([]pageName, 0, len(u.pages))}
	blobs := map[uint64]int{}
	for id, n := range r.blobs {
		blobs[beginning(id)] += n
	}
	for _, b := range u.blobs {
		if blobs[b] > 0 {
			blobs[b]--
		} else {
			left.blobs = append(left.blobs, b)
		}
	}
	pages := map[pageName]int{}
	for p, n := range r.pages {
		pages[p] = n
	}
	for _, p := range u.pages {
		if pages[p] > 0 {
			pages[p]--
		} else {
			left.pages = append(left.pages, p)
		}
	}
	return left
}

// keep takes out of what may be freed what the usage lists.
func (u *usage) keep(free *relied) {
	for id := range free.blobs {
		if _, found := slices.BinarySearch(u.blobs, beginning(id)); found {
			delete(free.blobs, id)
		}
	}
	for p := range free.pages {
		if _, found := slices.BinarySearchFunc(u.pages, p, pageName.compare); found {
			delete(free.pages, p)
		}
	}
}

// unused takes out of free what the remaining versions of n rely on, the current one first, as it is the likeliest. It reads those
// alone that are not in what is known, and returns what is known then, nil if it did not have to read them all.
func (tx *Tx) unused(n *Node, free *relied, known *usage) (*usage, error) {
	keep := func(v *storedVersion) (more bool) {
		for i := range v.Layout.Blobs {
			delete(free.blobs, v.Layout.Blobs[i].ID)
		}
		for i := range v.pages {
			delete(free.pages, pageName{v.pages[i].n, v.pages[i].page})
		}
		return !free.none()
	}
	all, knew := &usage{}, known != nil && free.upTo <= known.upTo
	if knew {
		all = known.without(free)
		all.keep(free)
	} else if v, err := tx.stored(n.ID, n.Version); err == nil {
		if !keep(v) {
			return nil, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if all.upTo < n.Versions {
		for f := range tx.scan(record.DomainVersion, inodeKey(n.ID), versionKey(n.ID, all.upTo+1)) {
			v, err := tx.openVersion(f)
			if err != nil {
				return nil, err
			}
			if !keep(v) && !knew {
				return nil, nil
			}
			all.add(v)
		}
		slices.Sort(all.blobs)
		slices.SortFunc(all.pages, pageName.compare)
		all.upTo = n.Versions
	}
	return all, nil
}
