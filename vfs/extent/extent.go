// Package extent is the pure algebra of where a file's bytes lie: extents,
// layouts and their encoding (docs/FORMAT.md). No I/O.
package extent

// InlineMax is the largest content kept inline in metadata instead of a blob, bytes.
const InlineMax = 4096

// Extent maps file bytes [Off,Off+Len) to plaintext bytes [BlobOff,BlobOff+Len) of Layout.Blobs[Blob]. Absent ranges are holes (zero bytes).
type Extent struct {
	Off, Len, BlobOff uint64
	Blob              uint32
}

// BlobRef says how much of a blob a version relies on.
type BlobRef struct {
	ID       [16]byte
	Bytes    uint64 // plaintext bytes of the blob that this layout relies on
	Segments uint64 // full segments; authenticated in metadata, stands for the final flag while Open
	Open     bool   // the blob had no final segment when this layout was made
}

// Layout is where the bytes of one version lie. Immutable once made.
type Layout struct {
	Size      uint64
	Extents   []Extent // sorted, not overlapping, merged where contiguous
	Blobs     []BlobRef
	Inline    []byte // file bytes [InlineOff, InlineOff+len(Inline)); wins over extents
	InlineOff uint64
}
