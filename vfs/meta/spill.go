package meta

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// sorterBytes is how much one sorter holds in memory.
const sorterBytes = 16 << 20

// spill sorts more sealed records than fit into memory: sorters write sorted
// runs into one file that has no name any more, merge reads them in order.
// What lies in it is sealed as it will be in the database.
type spill struct {
	file *os.File

	mu   sync.Mutex // guards what follows
	end  int64
	runs []run
}

type run struct{ off, size int64 }

// newSpill makes the file in a directory; nothing is left of it when it is closed, or after a crash.
func newSpill(dir, pattern string) (*spill, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spill{file: f}, nil
}

func (s *spill) close() error { return s.file.Close() }

// sorter collects the records of one goroutine.
type sorter struct {
	spill *spill
	limit int
	bytes []byte // key ‖ value, one record after the other
	refs  []recordRef
}

type recordRef struct {
	at         uint32
	key, value uint32 // lengths
}

func (s *sorter) key(r recordRef) []byte { return s.bytes[r.at:][:r.key] }

func (s *sorter) add(key, value []byte) error {
	if len(s.bytes) > 0 && len(s.bytes)+len(key)+len(value) > s.limit {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.refs = append(s.refs, recordRef{uint32(len(s.bytes)), uint32(len(key)), uint32(len(value))})
	s.bytes = append(append(s.bytes, key...), value...)
	return nil
}

// flush writes what is there as one run.
func (s *sorter) flush() error {
	if len(s.refs) == 0 {
		return nil
	}
	slices.SortFunc(s.refs, func(a, b recordRef) int { return bytes.Compare(s.key(a), s.key(b)) })
	size := int64(len(s.bytes) + 8*len(s.refs))
	s.spill.mu.Lock()
	off := s.spill.end
	s.spill.end += size
	s.spill.runs = append(s.spill.runs, run{off, size})
	s.spill.mu.Unlock()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.spill.file, off), 256<<10)
	var lengths [8]byte
	for _, r := range s.refs {
		binary.BigEndian.PutUint32(lengths[:], r.key)
		binary.BigEndian.PutUint32(lengths[4:], r.value)
		w.Write(lengths[:]) // Flush has the error
		w.Write(s.bytes[r.at:][:r.key+r.value])
	}
	s.refs, s.bytes = s.refs[:0], s.bytes[:0]
	return w.Flush()
}

// merge calls fn with every record in order of keys; both arguments are valid
// during the call. Sorters must have been flushed. Two records of one key are an error.
func (s *spill) merge(fn func(key, value []byte) error) error {
	var h runHeap
	for _, r := range s.runs {
		rd := &runReader{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.off, r.size), 64<<10)}
		if more, err := rd.next(); err != nil {
			return err
		} else if more {
			h = append(h, rd)
		}
	}
	heap.Init(&h)
	var last []byte
	for len(h) > 0 {
		rd := h[0]
		if last != nil && bytes.Equal(rd.key, last) {
			return fmt.Errorf("%w: two records have one place under the new key", ErrIntegrity)
		}
		last = append(last[:0], rd.key...)
		if err := fn(rd.key, rd.value); err != nil {
			return err
		}
		more, err := rd.next()
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	return nil
}

type runReader struct {
	r          *bufio.Reader
	buf        []byte
	key, value []byte
}

func (r *runReader) next() (bool, error) {
	var lengths [8]byte
	if _, err := io.ReadFull(r.r, lengths[:]); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	k, v := int(binary.BigEndian.Uint32(lengths[:])), int(binary.BigEndian.Uint32(lengths[4:]))
	r.buf = slices.Grow(r.buf[:0], k+v)[:k+v]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return false, err
	}
	r.key, r.value = r.buf[:k], r.buf[k:]
	return true, nil
}

type runHeap []*runReader

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].key, h[j].key) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*runReader)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
