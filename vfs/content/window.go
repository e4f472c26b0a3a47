package content

import (
	"iter"
	"slices"
	"sort"
	"time"
)

// windowMax bounds what one draft buffers, bytes. Eight workers with 255 KiB
// each are two megabytes ahead of a missing piece at most.
const windowMax = 4 << 20

// gapPatience is how long a full window waits for a missing piece before it
// is written out with the gap: at worst 4 MiB per 20 ms.
const gapPatience = 20 * time.Millisecond

// chunk buffers one segment's worth of file bytes, of which the dirty spans count.
type chunk struct {
	data  [segmentPlain]byte
	index int64  // which chunk of the window's grid
	dirty []span // sorted, apart from each other
}

type span struct{ lo, hi int }

// mark adds [lo,hi) to the dirty spans.
func (c *chunk) mark(lo, hi int) {
	i := sort.Search(len(c.dirty), func(i int) bool { return c.dirty[i].hi >= lo })
	j := i
	for ; j < len(c.dirty) && c.dirty[j].lo <= hi; j++ {
		lo, hi = min(lo, c.dirty[j].lo), max(hi, c.dirty[j].hi)
	}
	c.dirty = slices.Replace(c.dirty, i, j, span{lo, hi})
}

// clean takes [lo,hi) out of the dirty spans.
func (c *chunk) clean(lo, hi int) {
	for i := 0; i < len(c.dirty); {
		s := c.dirty[i]
		var left []span
		if s.lo < min(s.hi, lo) {
			left = append(left, span{s.lo, min(s.hi, lo)})
		}
		if max(s.lo, hi) < s.hi {
			left = append(left, span{max(s.lo, hi), s.hi})
		}
		c.dirty = slices.Replace(c.dirty, i, i+1, left...)
		i += len(left)
	}
}

// covers says whether all of [lo,hi) is dirty.
func (c *chunk) covers(lo, hi int) bool {
	for _, s := range c.dirty {
		if s.lo <= lo && hi <= s.hi {
			return true
		}
	}
	return false
}

// window holds dirty file bytes that have no place in the log yet. Its chunks
// lie on a grid of segment size that the owner shifts (phase) so that chunks
// of a sequential upload are exactly the next segments of the log and are
// sealed where they lie. Guarded by Draft.mu.
type window struct {
	phase  uint64 // 0 … 65535: where the grid stands; changed only while empty
	chunks []*chunk
}

func (w *window) empty() bool { return len(w.chunks) == 0 }

// dense says whether the window looks like a sequential upload with a piece
// missing, and not like writes all over the file.
func (w *window) dense() bool {
	dirty := 0
	for _, c := range w.chunks {
		for _, s := range c.dirty {
			dirty += s.hi - s.lo
		}
	}
	return dirty >= len(w.chunks)*segmentPlain/4*3
}

// place is the chunk that a file offset falls into, and where in it.
func (w *window) place(off uint64) (index int64, at int) {
	x := off + segmentPlain - w.phase
	return int64(x >> segmentShift), int(x & segmentMask)
}

// start is the file offset of a chunk's first byte; negative for the first chunk of a shifted grid.
func (w *window) start(c *chunk) int64 {
	return c.index<<segmentShift + int64(w.phase) - segmentPlain
}

func (w *window) search(index int64) (int, bool) {
	return slices.BinarySearchFunc(w.chunks, index, func(c *chunk, index int64) int { return int(c.index - index) })
}

// find returns the chunk of that index or nil.
func (w *window) find(index int64) *chunk {
	if i, ok := w.search(index); ok {
		return w.chunks[i]
	}
	return nil
}

func (w *window) insert(c *chunk, index int64) {
	i, _ := w.search(index)
	c.index, c.dirty = index, c.dirty[:0]
	w.chunks = slices.Insert(w.chunks, i, c)
}

func (w *window) remove(c *chunk) {
	if i, ok := w.search(c.index); ok {
		w.chunks = slices.Delete(w.chunks, i, i+1)
	}
}

// spans yields the dirty bytes within [off,end) in file order.
func (w *window) spans(off, end uint64) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		first, _ := w.place(off)
		i, _ := w.search(first)
		for _, c := range w.chunks[i:] {
			start := w.start(c)
			for _, s := range c.dirty {
				lo, hi := max(start+int64(s.lo), int64(off)), min(start+int64(s.hi), int64(end))
				if lo < hi && !yield(uint64(lo), c.data[lo-start:hi-start]) {
					return
				}
			}
		}
	}
}
