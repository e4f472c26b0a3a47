// Package extent is the pure algebra of where a file's bytes lie: extents,
// the map of a file under change, layouts of finished versions, and their
// encoding (docs/FORMAT.md "Layout"). No I/O.
package extent

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"sort"
)

const (
	// InlineMax is the largest number of bytes that a finished version keeps inline in metadata instead of in a blob.
	InlineMax = 4096
	// InlineLimit bounds Layout.Inline of any version, bytes: at an fsync the
	// unsealed tail of less than one segment goes there too.
	InlineLimit = SegmentPlain + InlineMax
	// SegmentPlain is the plaintext of a full blob segment, bytes. It equals
	// stream.SegmentPlain; this package imports nothing of ours.
	SegmentPlain = 1 << segmentShift
	// MaxSize bounds file sizes and blob offsets, so that every sum of an offset and a length fits an int64.
	MaxSize = math.MaxInt64

	segmentShift = 16
)

// Values of Extent.Blob that name no blob.
const (
	// Inline means that BlobOff counts into Layout.Inline.
	Inline uint32 = math.MaxUint32
	// Hole marks zero bytes in the answer to a lookup; it is never stored.
	Hole uint32 = math.MaxUint32 - 1
)

// ErrInvalid means that a layout breaks a rule of docs/FORMAT.md or does not decode.
var ErrInvalid = errors.New("extent: invalid layout")

// Extent maps file bytes [Off,Off+Len) to plaintext bytes [BlobOff,BlobOff+Len)
// of Layout.Blobs[Blob], or of Layout.Inline if Blob is Inline. File ranges
// without an extent are holes (zero bytes).
type Extent struct {
	Off, Len, BlobOff uint64
	Blob              uint32
}

// End is the file offset after the last byte.
func (e Extent) End() uint64 { return e.Off + e.Len }

// slice is the part [lo,hi) of e, in file offsets.
func (e Extent) slice(lo, hi uint64) Extent {
	lo, hi = max(lo, e.Off), min(hi, e.End())
	return Extent{Off: lo, Len: hi - lo, BlobOff: e.BlobOff + (lo - e.Off), Blob: e.Blob}
}

// joins says whether f continues e in the file and in the blob.
func (e Extent) joins(f Extent) bool {
	return e.Blob == f.Blob && e.End() == f.Off && e.BlobOff+e.Len == f.BlobOff
}

// BlobRef says how much of a blob a version relies on.
//
// A sealed blob has a final segment and exactly Bytes of plaintext. A blob that
// was still open when the layout was made may have grown since; the version
// relies on its first Segments full segments and on nothing after them.
type BlobRef struct {
	ID       [16]byte
	Bytes    uint64 // plaintext bytes; Segments*65536 if Open
	Segments uint64 // full segments: Bytes/65536
	Open     bool   // no final segment stood when this layout was made
}

// Sealed is a reference to a whole blob of that many plaintext bytes.
func Sealed(id [16]byte, bytes uint64) BlobRef {
	return BlobRef{ID: id, Bytes: bytes, Segments: bytes >> segmentShift}
}

// Unsealed is a reference to the first segments of a blob that is still being written.
func Unsealed(id [16]byte, segments uint64) BlobRef {
	return BlobRef{ID: id, Bytes: segments << segmentShift, Segments: segments, Open: true}
}

// Layout is where the bytes of one version lie. Immutable once made.
type Layout struct {
	Size    uint64
	Extents []Extent // sorted by Off, not overlapping, within Size
	Blobs   []BlobRef
	Inline  []byte // bytes kept in metadata; extents with Blob == Inline point here
}

// Inlined is the layout of a file that lies in metadata as a whole. It keeps content.
func Inlined(content []byte) *Layout {
	l := &Layout{Size: uint64(len(content)), Inline: content}
	if len(content) > 0 {
		l.Extents = []Extent{{Len: l.Size, Blob: Inline}}
	}
	return l
}

// Used is the number of file bytes that lie in Blobs[i].
func (l *Layout) Used(i int) uint64 {
	var n uint64
	for _, e := range l.Extents {
		if e.Blob == uint32(i) {
			n += e.Len
		}
	}
	return n
}

// Stored is the number of stored bytes that the layout uses: those in Inline, and of each blob that there is at most those that it relies on.
func (l *Layout) Stored(is func(blob [16]byte) bool) uint64 {
	if len(l.Blobs) == 0 {
		return uint64(len(l.Inline))
	}
	var few [8]uint64 // most files lie in one blob
	used := few[:]
	if len(l.Blobs) > len(few) {
		used = make([]uint64, len(l.Blobs))
	}
	AddUsed(used, l.Extents, 1)
	return l.StoredOf(used, is)
}

// AddUsed adds, times by, what extents use of each blob of their layout, bytes.
func AddUsed(used []uint64, extents []Extent, by int) {
	for i := range extents {
		if e := &extents[i]; e.Blob != Inline {
			used[e.Blob] += uint64(by) * e.Len
		}
	}
}

// StoredOf is Stored where it is known already what the extents use of each blob.
func (l *Layout) StoredOf(used []uint64, is func(blob [16]byte) bool) uint64 {
	n := uint64(len(l.Inline))
	for i := range l.Blobs {
		if used[i] > 0 && is(l.Blobs[i].ID) {
			n += min(used[i], l.Blobs[i].Bytes)
		}
	}
	return n
}

// Piece is where the file bytes from off on lie, as far as one extent or hole
// reaches and at most up to end. A hole has Blob == Hole. off must be below end.
func (l *Layout) Piece(off, end uint64) Extent {
	i := sort.Search(len(l.Extents), func(i int) bool { return l.Extents[i].End() > off })
	if i == len(l.Extents) {
		return hole(off, end)
	}
	return l.Extents[i].pieceAt(off, end)
}

// Pieces yields, in order and without gaps, where the file bytes [off,off+n) lie, cut at Size.
func (l *Layout) Pieces(off, n uint64) iter.Seq[Extent] {
	end := off
	if off < l.Size {
		end += min(n, l.Size-off)
	}
	return pieces(l.Piece, off, end)
}

func pieces(piece func(off, end uint64) Extent, off, end uint64) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for at := off; at < end; {
			p := piece(at, end)
			if !yield(p) {
				return
			}
			at = p.End()
		}
	}
}

func hole(off, end uint64) Extent { return Extent{Off: off, Len: end - off, Blob: Hole} }

// pieceAt is the piece from off on if e is the first extent that ends after off.
func (e Extent) pieceAt(off, end uint64) Extent {
	if e.Off > off {
		return hole(off, min(e.Off, end))
	}
	return e.slice(off, end)
}

// Check returns ErrInvalid, with the reason, if l breaks a rule of docs/FORMAT.md.
func (l *Layout) Check() error {
	if l.Size > MaxSize {
		return invalid("size %d", l.Size)
	}
	if len(l.Inline) > InlineLimit {
		return invalid("%d bytes inline", len(l.Inline))
	}
	for i, b := range l.Blobs {
		if b.Bytes > MaxSize || b.Segments != b.Bytes>>segmentShift || b.Open && b.Bytes != b.Segments<<segmentShift {
			return invalid("blob %d: %d bytes in %d segments", i, b.Bytes, b.Segments)
		}
	}
	var end uint64
	for i, e := range l.Extents {
		if err := l.checkExtent(e, end); err != nil {
			return fmt.Errorf("extent %d: %w", i, err)
		}
		end = e.End()
	}
	return nil
}

func (l *Layout) checkExtent(e Extent, from uint64) error {
	var room uint64
	switch {
	case e.Blob == Inline:
		room = uint64(len(l.Inline))
	case uint64(e.Blob) < uint64(len(l.Blobs)):
		room = l.Blobs[e.Blob].Bytes
	default:
		return invalid("blob %d of %d", e.Blob, len(l.Blobs))
	}
	switch {
	case e.Len == 0:
		return invalid("empty")
	case e.Off < from:
		return invalid("overlaps or out of order at %d", e.Off)
	case e.Off > l.Size || e.Len > l.Size-e.Off:
		return invalid("reaches beyond size %d", l.Size)
	case e.BlobOff > room || e.Len > room-e.BlobOff:
		return invalid("reaches beyond the %d bytes of blob %d", room, e.Blob)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
