package extent

import (
	"iter"
	"slices"
	"sort"
)

// pageMax is the number of extents at which a page of a Map splits: an insert
// moves at most one page (16 KiB) and the list of pages.
const pageMax = 512

// Map is where the bytes of a file under change lie. It is a list of sorted
// pages, so that a random overwrite of a file of n extents moves one page and
// not n extents. The zero Map is empty. Not safe for concurrent use.
type Map struct {
	pages [][]Extent // none empty
	n     int
}

// NewMap takes the extents of a valid layout.
func NewMap(extents []Extent) *Map {
	m := &Map{n: len(extents)}
	for page := range slices.Chunk(extents, pageMax/2) {
		m.pages = append(m.pages, slices.Clone(page))
	}
	return m
}

// Len is the number of extents.
func (m *Map) Len() int { return m.n }

// End is the file offset after the last mapped byte.
func (m *Map) End() uint64 {
	if m.n == 0 {
		return 0
	}
	page := m.pages[len(m.pages)-1]
	return page[len(page)-1].End()
}

// Extents is a copy of all extents, sorted and merged where contiguous.
func (m *Map) Extents() []Extent {
	out := make([]Extent, 0, m.n)
	for _, page := range m.pages {
		out = append(out, page...)
	}
	return out
}

// All yields the extents in order. The Map must not change meanwhile.
func (m *Map) All() iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for _, page := range m.pages {
			for _, e := range page {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Piece is where the file bytes from off on lie, as far as one extent or hole
// reaches and at most up to end. off must be below end.
func (m *Map) Piece(off, end uint64) Extent {
	p, i := m.find(off)
	if p == len(m.pages) {
		return hole(off, end)
	}
	return m.pages[p][i].pieceAt(off, end)
}

// Pieces yields, in order and without gaps, where the file bytes [off,off+n) lie. The Map must not change meanwhile.
func (m *Map) Pieces(off, n uint64) iter.Seq[Extent] { return pieces(m.Piece, off, off+n) }

// Insert maps a range, over whatever was there.
func (m *Map) Insert(e Extent) {
	if e.Len == 0 {
		return
	}
	if m.grow(e) {
		return
	}
	m.Remove(e.Off, e.Len)
	p, i := m.find(e.Off)
	m.put(p, i, e)
	m.merge(e.Off)
}

// grow is the way of sequential writes: e continues the last extent.
func (m *Map) grow(e Extent) bool {
	if m.n == 0 {
		return false
	}
	page := m.pages[len(m.pages)-1]
	last := &page[len(page)-1]
	if !last.joins(e) {
		return false
	}
	last.Len += e.Len
	return true
}

// Remove makes [off,off+n) a hole.
func (m *Map) Remove(off, n uint64) {
	if n == 0 || m.n == 0 {
		return
	}
	m.split(off)
	m.split(off + n)
	p, i := m.find(off)
	q, j := m.find(off + n)
	m.drop(p, i, q, j)
}

// Truncate drops everything from size on.
func (m *Map) Truncate(size uint64) {
	if end := m.End(); end > size {
		m.Remove(size, end-size)
	}
}

// find is the place of the first extent that ends after off; one page past the last if there is none.
func (m *Map) find(off uint64) (page, index int) {
	page = sort.Search(len(m.pages), func(p int) bool { return m.pages[p][len(m.pages[p])-1].End() > off })
	if page == len(m.pages) {
		return page, 0
	}
	es := m.pages[page]
	return page, sort.Search(len(es), func(i int) bool { return es[i].End() > off })
}

// split makes off a border between extents if it lies inside one.
func (m *Map) split(off uint64) {
	p, i := m.find(off)
	if p == len(m.pages) {
		return
	}
	e := m.pages[p][i]
	if e.Off >= off {
		return
	}
	m.pages[p][i] = e.slice(off, e.End())
	m.put(p, i, e.slice(e.Off, off))
}

// put inserts e before place (p,i) and splits a page that is full.
func (m *Map) put(p, i int, e Extent) {
	m.n++
	if p == len(m.pages) {
		if p == 0 {
			m.pages = append(m.pages, []Extent{e})
			return
		}
		p, i = p-1, len(m.pages[p-1])
	}
	page := slices.Insert(m.pages[p], i, e)
	m.pages[p] = page
	if len(page) < pageMax {
		return
	}
	half := len(page) / 2
	if i == len(page)-1 { // ascending writes: leave full pages behind
		half = len(page) - 1
	}
	m.pages = slices.Insert(m.pages, p+1, slices.Clone(page[half:]))
	m.pages[p] = page[:half]
}

// drop removes the extents from place (p,i) up to place (q,j).
func (m *Map) drop(p, i, q, j int) {
	if p == len(m.pages) {
		return
	}
	if p == q {
		m.n -= j - i
		m.pages[p] = slices.Delete(m.pages[p], i, j)
		m.dropEmpty(p, p+1)
		return
	}
	m.n -= len(m.pages[p]) - i
	m.pages[p] = m.pages[p][:i]
	for k := p + 1; k < q; k++ {
		m.n -= len(m.pages[k])
		m.pages[k] = nil
	}
	last := q
	if q < len(m.pages) {
		m.n -= j
		m.pages[q] = slices.Delete(m.pages[q], 0, j)
		last++
	}
	m.dropEmpty(p, last)
}

// dropEmpty takes empty pages out of [from,to).
func (m *Map) dropEmpty(from, to int) {
	kept := from
	for p := from; p < to; p++ {
		if len(m.pages[p]) > 0 {
			m.pages[kept] = m.pages[p]
			kept++
		}
	}
	m.pages = slices.Delete(m.pages, kept, to)
}

// merge joins the extent at off with its neighbours where they continue each other.
func (m *Map) merge(off uint64) {
	p, i := m.find(off)
	e := m.pages[p][i]
	if np, ni := m.next(p, i); np < len(m.pages) && e.joins(m.pages[np][ni]) {
		m.pages[p][i].Len += m.pages[np][ni].Len
		m.removeAt(np, ni)
	}
	if pp, pi := m.prev(p, i); pp >= 0 && m.pages[pp][pi].joins(e) {
		m.pages[pp][pi].Len += m.pages[p][i].Len
		m.removeAt(p, i)
	}
}

func (m *Map) next(p, i int) (int, int) {
	if i+1 < len(m.pages[p]) {
		return p, i + 1
	}
	return p + 1, 0
}

func (m *Map) prev(p, i int) (int, int) {
	if i > 0 {
		return p, i - 1
	}
	if p == 0 {
		return -1, 0
	}
	return p - 1, len(m.pages[p-1]) - 1
}

func (m *Map) removeAt(p, i int) {
	m.n--
	m.pages[p] = slices.Delete(m.pages[p], i, i+1)
	m.dropEmpty(p, p+1)
}
