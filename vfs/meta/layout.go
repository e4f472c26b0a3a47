package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

const (
	extentSize  = 32 // docs/FORMAT.md "Extent"
	blobRefSize = 16 + 8 + 8 + 1
	pageRefSize = 8 + 4 + 4 + 16

	maxInline = 1 << 20 // bytes; what is kept inline is 64 KiB at most today

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
	hash  [16]byte // SHA-256 of them, cut off: the next version finds what it can share
}

// validLayout tells whether extents are sorted, separate and within their blobs list.
func validLayout(l *extent.Layout) bool {
	if len(l.Inline) > maxInline || l.InlineOff > math.MaxInt64 || l.Size > math.MaxInt64 {
		return false
	}
	return validExtents(l.Extents, len(l.Blobs))
}

func validExtents(extents []extent.Extent, blobs int) bool {
	var end uint64
	for i := range extents {
		x := &extents[i]
		if x.Len == 0 || x.Off < end || x.Off+x.Len < x.Off || x.BlobOff+x.Len < x.BlobOff || uint64(x.Blob) >= uint64(blobs) {
			return false
		}
		end = x.Off + x.Len
	}
	return true
}

func (e *encoder) extents(extents []extent.Extent) {
	for i := range extents {
		x := &extents[i]
		e.u64(x.Off)
		e.u64(x.Len)
		e.u64(x.BlobOff)
		e.u32(x.Blob)
		e.u32(0)
	}
}

func (d *decoder) extents(to []extent.Extent, n int) []extent.Extent {
	b := d.take(n * extentSize)
	for ; len(b) >= extentSize; b = b[extentSize:] {
		if binary.BigEndian.Uint32(b[28:]) != 0 {
			d.fail()
		}
		to = append(to, extent.Extent{
			Off: be64(b), Len: be64(b[8:]), BlobOff: be64(b[16:]), Blob: binary.BigEndian.Uint32(b[24:]),
		})
	}
	return to
}

// layout writes the extents themselves if there are no pages.
func (e *encoder) layout(l *extent.Layout, pages []pageRef) {
	e.u64(l.Size)
	e.u64(l.InlineOff)
	e.bytes(l.Inline)
	e.u32(uint32(len(l.Blobs)))
	for i := range l.Blobs {
		b := &l.Blobs[i]
		e.raw(b.ID[:])
		e.u64(b.Bytes)
		e.u64(b.Segments)
		e.bool(b.Open)
	}
	e.u32(uint32(len(pages)))
	if len(pages) == 0 {
		e.u32(uint32(len(l.Extents)))
		e.extents(l.Extents)
		return
	}
	for i := range pages {
		p := &pages[i]
		e.u64(p.n)
		e.u32(p.page)
		e.u32(p.count)
		e.raw(p.hash[:])
	}
}

func (d *decoder) layout() (l extent.Layout, pages []pageRef) {
	l.Size = d.u64()
	l.InlineOff = d.u64()
	l.Inline = d.bytes(maxInline)
	for range d.count(blobRefSize) {
		var b extent.BlobRef
		copy(b.ID[:], d.take(len(b.ID)))
		b.Bytes, b.Segments, b.Open = d.u64(), d.u64(), d.bool()
		l.Blobs = append(l.Blobs, b)
	}
	for range d.count(pageRefSize) {
		p := pageRef{n: d.u64(), page: d.u32(), count: d.u32()}
		copy(p.hash[:], d.take(len(p.hash)))
		if p.count == 0 || p.count > pageMax {
			d.fail()
		}
		pages = append(pages, p)
	}
	if len(pages) == 0 {
		if n := d.count(extentSize); n > directExtents {
			d.fail()
		} else if n > 0 {
			l.Extents = d.extents(make([]extent.Extent, 0, n), n)
		}
	}
	if !validLayout(&l) {
		d.fail()
	}
	return l, pages
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

// putPages stores the extents of a new version in pages, but those that the version before it has too.
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
	for rest := s.Layout.Extents; len(rest) > 0; {
		n := cutPage(rest)
		e := encoder{make([]byte, 0, n*extentSize)}
		e.extents(rest[:n])
		rest = rest[n:]
		sum := sha256.Sum256(e.b)
		hash := [16]byte(sum[:16])
		p, ok := have[hash]
		if !ok {
			p = pageRef{n: s.N, page: written, count: uint32(n), hash: hash}
			tx.put(record.DomainExtents, pageKey(s.Inode, p.n, p.page), e.b, nil)
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
		page, err := decodePage(plain)
		if err != nil || len(page) != int(p.count) {
			return broken(record.DomainExtents, errMalformed)
		}
		s.Layout.Extents = append(s.Layout.Extents, page...)
	}
	if !validLayout(&s.Layout) {
		return broken(record.DomainExtents, errMalformed)
	}
	return nil
}

func decodePage(b []byte) ([]extent.Extent, error) {
	d := decoder{b: b}
	n := len(b) / extentSize
	if n == 0 || n > pageMax {
		return nil, errMalformed
	}
	page := d.extents(make([]extent.Extent, 0, n), n)
	if !validExtents(page, math.MaxUint32) {
		d.fail()
	}
	return page, d.end()
}
