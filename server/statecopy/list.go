package statecopy

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"

	"sallyport/vfs/blob"
)

// Blob is an entry of the list of an account's blobs.
type Blob struct {
	ID   blob.ID
	Size int64 // of the file, bytes; of an open one at least, and it may be missing if this is 0
	Open bool
}

const (
	listMagic = "SPBLIST1"
	listEntry = 16 + 8 + 1
)

// ListWriter writes a list of blobs, in ascending order of ids.
type ListWriter struct{ w *bufio.Writer }

// NewList begins a list.
func NewList(w io.Writer) (*ListWriter, error) {
	l := &ListWriter{w: bufio.NewWriter(w)}
	_, err := l.w.WriteString(listMagic)
	return l, err
}

// Add adds a blob.
func (l *ListWriter) Add(b Blob) error {
	e := binary.BigEndian.AppendUint64(slices.Clone(b.ID[:]), uint64(b.Size))
	kind := byte(0)
	if b.Open {
		kind = 1
	}
	_, err := l.w.Write(append(e, kind))
	return err
}

// Flush ends the list.
func (l *ListWriter) Flush() error { return l.w.Flush() }

// ReadList calls fn with every blob of a list. Its memory does not grow with the list.
func ReadList(r io.Reader, fn func(Blob) error) error {
	in := bufio.NewReader(r)
	magic := make([]byte, len(listMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != listMagic {
		return damaged("a list of blobs has no beginning")
	}
	var e [listEntry]byte
	var last blob.ID
	for {
		switch _, err := io.ReadFull(in, e[:]); {
		case err == io.EOF:
			return nil
		case err != nil:
			return damaged("a list of blobs ends in an entry")
		}
		b := Blob{ID: blob.ID(e[:16]), Size: int64(binary.BigEndian.Uint64(e[16:])), Open: e[24] == 1}
		if slices.Compare(b.ID[:], last[:]) <= 0 || b.Size < 0 || e[24] > 1 {
			return damaged("an entry of a list of blobs is impossible")
		}
		last = b.ID
		if err := fn(b); err != nil {
			return err
		}
	}
}
