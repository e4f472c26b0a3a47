package meta

import (
	"bytes"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

const (
	pageRefSize = 8 + 4 + 4 + 16

	// directExtents is how many extents stand in the version's own record; more go to pages.
	directExtents = 128

	// Pages end where the extents themselves say so (pageEnd), on average after pageMean more than pageMin, so that
	// an extent put in or taken out changes one page or two and leaves the others as they were in the version before.
	pageMin  = 256
	pageMean = 1024
	pageMax  = 2000
)

// pageRef names a page of extents: inode ‖ n ‖ page is its key, where n is the version that first wrote it.
type pageRef struct {
	n     uint64
	page  uint32
	count uint32   // extents in it
	hash  [16]byte // SHA-256 of the page, cut off: the next version finds what it can share
}

// layout writes the layout as package extent does, without its extents if those are in pages, and the references to the pages.
// The layout has been checked.
func (e *encoder) layout(l extent.Layout, pages []pageRef) {
	if len(pages) > 0 {
		l.Extents = nil
	}
	e.u32(uint32(l.EncodedSize()))
	var err error
	if e.b, err = l.AppendBinary(e.b); err != nil {
		panic("meta: internal error: a layout that was checked: " + err.Error())
	}
	e.u32(uint32(len(pages)))
	for i := range pages {
		p := &pages[i]
		e.u64(p.n)
		e.u32(p.page)
		e.u32(p.count)
		e.raw(p.hash[:])
	}
}

func (d *decoder) layout() (l extent.Layout, pages []pageRef) {
	decoded, err := extent.Decode(d.take(d.count(1)))
	if err != nil {
		d.cause = err
		d.fail()
		return l, nil
	}
	for range d.count(pageRefSize) {
		p := pageRef{n: d.u64(), page: d.u32(), count: d.u32()}
		copy(p.hash[:], d.take(len(p.hash)))
		if p.count == 0 || p.count > pageMax {
			d.fail()
		}
		pages = append(pages, p)
	}
	if n := len(decoded.Extents); n > directExtents || n > 0 && len(pages) > 0 {
		d.fail()
	}
	return *decoded, pages
}

// pageEnd tells whether a page may end after an extent: it depends on nothing but the extent's place in the file.
func pageEnd(x *extent.Extent) bool {
	return x.Off*0x9e3779b97f4a7c15>>(64-10) == 0 // once in 1,024 = pageMean; the factor is 2^64 over the golden ratio
}

// cutPage returns the length of the first page of extents.
func cutPage(extents []extent.Extent) int {
	for i := pageMin; i < min(len(extents), pageMax); i++ {
		if pageEnd(&extents[i-1]) {
			return i
		}
	}
	return min(len(extents), pageMax)
}

// putPages stores the extents of a new version in pages, but those that the version before it has too. Where that has pages of the
// older form none is shared: its extents are all written once more, packed.
func (tx *Tx) putPages(s *storedVersion) error {
	have := map[[16]byte]pageRef{}
	if s.prev != 0 {
		before, err := tx.stored(s.Inode, s.prev)
		if err != nil {
			return dangling(record.DomainVersion)
		}
		for _, p := range before.pages {
			have[p.hash] = p
		}
	}
	written := uint32(0)
	var page []byte // most pages are shared: they are encoded to be compared, in one place
	for rest := s.Layout.Extents; len(rest) > 0; {
		n := cutPage(rest)
		page = appendPacked(page[:0], rest[:n])
		rest = rest[n:]
		hash := hashPage(page)
		p, ok := have[hash]
		if !ok {
			p = pageRef{n: s.N, page: written, count: uint32(n), hash: hash}
			tx.put(record.DomainExtents, pageKey(s.Inode, p.n, p.page), bytes.Clone(page), nil)
			written++
		}
		s.pages = append(s.pages, p)
	}
	return nil
}

// readPages fills in the extents of a layout in pages.
func (tx *Tx) readPages(s *storedVersion) error {
	if len(s.pages) == 0 {
		return nil
	}
	total := 0
	for i := range s.pages {
		total += int(s.pages[i].count)
	}
	s.Layout.Extents = make([]extent.Extent, 0, total)
	for i := range s.pages {
		p := &s.pages[i]
		plain, err := tx.load(record.DomainExtents, pageKey(s.Inode, p.n, p.page))
		if err != nil {
			return err
		}
		if plain == nil {
			return dangling(record.DomainExtents)
		}
		before := len(s.Layout.Extents)
		s.Layout.Extents, err = appendPage(s.Layout.Extents, plain)
		if err == nil && len(s.Layout.Extents)-before != int(p.count) {
			err = errMalformed
		}
		if err != nil {
			return broken(record.DomainExtents, err)
		}
	}
	if err := s.Layout.Check(); err != nil {
		return broken(record.DomainExtents, err)
	}
	return nil
}
