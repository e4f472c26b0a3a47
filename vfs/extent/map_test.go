package extent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// cell is where one byte of the model file lies.
type cell struct {
	blob uint32
	off  uint64
}

var noCell = cell{blob: Hole}

// cells turns pieces into one cell per byte and checks that they are gapless and in order.
func cells(t interface{ Fatalf(string, ...any) }, off uint64, pieces []Extent) []cell {
	var out []cell
	for _, p := range pieces {
		if p.Off != off || p.Len == 0 {
			t.Fatalf("piece %+v does not continue at %d", p, off)
		}
		for i := range p.Len {
			c := cell{p.Blob, p.BlobOff + i}
			if p.Blob == Hole {
				c = noCell
			}
			out = append(out, c)
		}
		off = p.End()
	}
	return out
}

func checkShape(t interface{ Fatalf(string, ...any) }, m *Map) {
	n := 0
	for p, page := range m.pages {
		if len(page) == 0 || len(page) >= pageMax {
			t.Fatalf("page %d has %d extents", p, len(page))
		}
		n += len(page)
	}
	if n != m.Len() {
		t.Fatalf("Len %d, but %d extents", m.Len(), n)
	}
	all := m.Extents()
	for i := 1; i < len(all); i++ {
		if all[i].Off < all[i-1].End() {
			t.Fatalf("overlap: %+v %+v", all[i-1], all[i])
		}
		if all[i-1].joins(all[i]) {
			t.Fatalf("not merged: %+v %+v", all[i-1], all[i])
		}
	}
}

func TestMapAgainstByteArray(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const size = 400
		m, model := &Map{}, slices.Repeat([]cell{noCell}, size)
		span := func(t *rapid.T) (off, n uint64) {
			off = rapid.Uint64Range(0, size-1).Draw(t, "off")
			return off, rapid.Uint64Range(0, min(60, size-off)).Draw(t, "n")
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				off, n := span(t)
				e := Extent{Off: off, Len: n, BlobOff: rapid.Uint64Range(0, 90).Draw(t, "blob off"), Blob: rapid.Uint32Range(0, 2).Draw(t, "blob")}
				m.Insert(e)
				for i := range n {
					model[off+i] = cell{e.Blob, e.BlobOff + i}
				}
			},
			"continue": func(t *rapid.T) { // what a sequential writer does: must merge
				off, n := span(t)
				if off == 0 || model[off-1] == noCell {
					t.Skip("nothing to continue")
				}
				c := model[off-1]
				m.Insert(Extent{Off: off, Len: n, BlobOff: c.off + 1, Blob: c.blob})
				for i := range n {
					model[off+i] = cell{c.blob, c.off + 1 + i}
				}
			},
			"remove": func(t *rapid.T) {
				off, n := span(t)
				m.Remove(off, n)
				for i := range n {
					model[off+i] = noCell
				}
			},
			"truncate": func(t *rapid.T) {
				at := rapid.Uint64Range(0, size).Draw(t, "size")
				m.Truncate(at)
				for i := at; i < size; i++ {
					model[i] = noCell
				}
			},
			"": func(t *rapid.T) {
				checkShape(t, m)
				off, n := span(t)
				if got, want := cells(t, off, slices.Collect(m.Pieces(off, n))), model[off:off+n]; !slices.Equal(got, want) {
					t.Fatalf("Map.Pieces(%d,%d) = %v, want %v", off, n, got, want)
				}
				l := &Layout{Size: size, Extents: m.Extents()}
				if got, want := cells(t, off, slices.Collect(l.Pieces(off, n+size))), model[off:]; !slices.Equal(got, want) {
					t.Fatalf("Layout.Pieces(%d) = %v, want %v", off, got, want)
				}
			},
		})
	})
}

// Pages split, empty and join only with many extents, so this one is large and seeded.
func TestMapManyExtents(t *testing.T) {
	t.Parallel()
	const blocks = 20000
	rnd := rand.New(rand.NewPCG(1, 2))
	m, model := &Map{}, make([]uint64, blocks) // log position +1 of each block; 0 = noCell
	log := uint64(0)
	for round := range 60000 {
		b := rnd.Uint64N(blocks)
		switch {
		case round%5000 == 4999: // a long range over many pages
			n := min(rnd.Uint64N(blocks/4), blocks-b)
			m.Remove(b*4, n*4)
			clear(model[b : b+n])
		default:
			m.Insert(Extent{Off: b * 4, Len: 4, BlobOff: log * 4})
			model[b] = log + 1
			log++
		}
	}
	checkShape(t, m)
	if len(m.pages) < 20 {
		t.Fatalf("only %d pages: the test does not reach page splits", len(m.pages))
	}
	for p := range m.Pieces(0, blocks*4) {
		for i := uint64(0); i < p.Len; i += 4 {
			want := model[(p.Off+i)/4]
			if p.Blob == Hole && want != 0 || p.Blob != Hole && (p.BlobOff+i)/4+1 != want {
				t.Fatalf("block %d: piece %+v, want log position %d", (p.Off+i)/4, p, want)
			}
		}
	}
	round := NewMap(m.Extents())
	checkShape(t, round)
	if !slices.Equal(round.Extents(), m.Extents()) {
		t.Fatal("NewMap(Extents) differs")
	}
}

func TestSequentialIsOneExtent(t *testing.T) {
	t.Parallel()
	m := &Map{}
	for i := range uint64(1000) {
		m.Insert(Extent{Off: 7 + i*SegmentPlain, Len: SegmentPlain, BlobOff: i * SegmentPlain, Blob: 3})
	}
	want := []Extent{{Off: 7, Len: 1000 * SegmentPlain, Blob: 3}}
	if got := m.Extents(); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func BenchmarkRandomOverwrite(b *testing.B) {
	for _, blocks := range []uint64{1 << 10, 1 << 18} {
		b.Run(fmt.Sprintf("extents=%d", blocks), func(b *testing.B) {
			m := &Map{}
			perm := rand.New(rand.NewPCG(3, 4)).Perm(int(blocks))
			for i, at := range perm {
				m.Insert(Extent{Off: uint64(at) * 4096, Len: 4096, BlobOff: uint64(i) * 4096})
			}
			log := blocks
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.Insert(Extent{Off: uint64(perm[i%len(perm)]) * 4096, Len: 4096, BlobOff: log * 4096})
				log += 2
			}
			if m.Len() != int(blocks) {
				b.Fatalf("%d extents", m.Len())
			}
		})
	}
}
