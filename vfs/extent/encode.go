package extent

import (
	"encoding/binary"
)

// Layout, big-endian (docs/FORMAT.md "Layout"):
//
//	 0  1  version 1
//	 1  3  zero
//	 4  4  number of blobs
//	 8  4  number of extents
//	12  4  bytes inline
//	16  8  size of the file
//	24     blobs, 32 bytes each: id 16 ‖ plaintext bytes u64 ‖ state u8 (0 sealed, 1 open) ‖ zero 7
//	       extents, 32 bytes each: file offset u64 ‖ length u64 ‖ blob offset u64 ‖ blob index u32 ‖ zero u32
//	       inline bytes
const (
	encodingVersion = 1
	headSize        = 24
	refSize         = 32
	extentSize      = 32
)

// EncodedSize is the length of the encoding, bytes.
func (l *Layout) EncodedSize() int {
	return headSize + refSize*len(l.Blobs) + extentSize*len(l.Extents) + len(l.Inline)
}

// AppendBinary appends the encoding of l to dst. ErrInvalid if l does not pass Check. Implements encoding.BinaryAppender.
func (l *Layout) AppendBinary(dst []byte) ([]byte, error) {
	if err := l.Check(); err != nil {
		return dst, err
	}
	if uint64(len(l.Blobs)) >= uint64(Hole) || uint64(len(l.Extents)) > uint64(Inline) {
		return dst, invalid("%d blobs, %d extents", len(l.Blobs), len(l.Extents))
	}
	dst = append(dst, encodingVersion, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Blobs)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Extents)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Inline)))
	dst = binary.BigEndian.AppendUint64(dst, l.Size)
	for _, b := range l.Blobs {
		dst = append(dst, b.ID[:]...)
		dst = binary.BigEndian.AppendUint64(dst, b.Bytes)
		var state byte
		if b.Open {
			state = 1
		}
		dst = append(dst, state, 0, 0, 0, 0, 0, 0, 0)
	}
	for _, e := range l.Extents {
		dst = binary.BigEndian.AppendUint64(dst, e.Off)
		dst = binary.BigEndian.AppendUint64(dst, e.Len)
		dst = binary.BigEndian.AppendUint64(dst, e.BlobOff)
		dst = binary.BigEndian.AppendUint32(dst, e.Blob)
		dst = append(dst, 0, 0, 0, 0)
	}
	return append(dst, l.Inline...), nil
}

// Decode reads exactly one encoded layout. Anything that AppendBinary would
// not have written is ErrInvalid. The layout does not keep b.
func Decode(b []byte) (*Layout, error) {
	if len(b) < headSize {
		return nil, invalid("too short")
	}
	if b[0] != encodingVersion || b[1]|b[2]|b[3] != 0 {
		return nil, invalid("version %d of a layout is unknown to this program", b[0])
	}
	blobs := uint64(binary.BigEndian.Uint32(b[4:]))
	extents := uint64(binary.BigEndian.Uint32(b[8:]))
	inline := uint64(binary.BigEndian.Uint32(b[12:]))
	l := &Layout{Size: binary.BigEndian.Uint64(b[16:])}
	b = b[headSize:]
	// Counted before anything is allocated: a few bytes must not ask for gigabytes.
	if uint64(len(b)) != blobs*refSize+extents*extentSize+inline || blobs >= uint64(Hole) {
		return nil, invalid("length does not match the counts")
	}
	if blobs > 0 {
		l.Blobs = make([]BlobRef, blobs)
	}
	for i := range l.Blobs {
		if err := decodeRef(&l.Blobs[i], b[:refSize]); err != nil {
			return nil, err
		}
		b = b[refSize:]
	}
	if extents > 0 {
		l.Extents = make([]Extent, extents)
	}
	for i := range l.Extents {
		l.Extents[i] = Extent{
			Off:     binary.BigEndian.Uint64(b),
			Len:     binary.BigEndian.Uint64(b[8:]),
			BlobOff: binary.BigEndian.Uint64(b[16:]),
			Blob:    binary.BigEndian.Uint32(b[24:]),
		}
		if binary.BigEndian.Uint32(b[28:]) != 0 {
			return nil, invalid("extent %d: reserved bytes", i)
		}
		b = b[extentSize:]
	}
	if inline > 0 {
		l.Inline = append([]byte(nil), b...)
	}
	if err := l.Check(); err != nil {
		return nil, err
	}
	return l, nil
}

func decodeRef(r *BlobRef, b []byte) error {
	r.ID = [16]byte(b)
	r.Bytes = binary.BigEndian.Uint64(b[16:])
	r.Segments = r.Bytes >> segmentShift
	switch tail := binary.BigEndian.Uint64(b[24:]); tail {
	case 0:
	case 1 << 56:
		r.Open = true
	default:
		return invalid("state of a blob")
	}
	return nil
}
