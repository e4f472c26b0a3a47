package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"sallyport/vfs/extent"
)

const (
	// packedPage is the first byte of a packed page. A page of the older form begins with a file offset, which is below 2^63, so its
	// first byte is below 0x80.
	packedPage = 0x81

	plainExtent = 32 // bytes of an extent in the older form, which is read for ever and written no more
	packedGuess = 8  // bytes of an extent in a packed page, about, where writes of 4 KiB lie at random in an old file
)

// shifts holds, by blob modulo its length, the distance from a byte's place in the file to its place in the blob, as it was in the last
// extent. A write cuts what lies below it, but does not move it: both sides have the same distance, and say so in one byte.
type shifts [16]uint64

// appendPacked appends a packed page (docs/FORMAT.md "Page of extents") of one extent or more. They have been checked.
func appendPacked(to []byte, extents []extent.Extent) []byte {
	to = append(to, packedPage)
	var last shifts
	end := uint64(0)
	for i := range extents {
		x := &extents[i]
		source := x.Blob + 1 // 0 is extent.Inline
		to = binary.AppendUvarint(to, x.Off-end)
		to = binary.AppendUvarint(to, x.Len)
		to = binary.AppendUvarint(to, uint64(source))
		shift, slot := x.BlobOff-x.Off, &last[source%uint32(len(last))]
		to = binary.AppendVarint(to, int64(shift-*slot))
		*slot, end = shift, x.End()
	}
	return to
}

// appendPage decodes a page of either form. Whether its extents are right shows when the layout is whole.
func appendPage(to []extent.Extent, b []byte) ([]extent.Extent, error) {
	if len(b) == 0 {
		return nil, errMalformed
	}
	if b[0] < 0x80 {
		return appendPlain(to, b)
	}
	if b[0] != packedPage {
		return nil, fmt.Errorf("%w: form %#x of a page of extents is unknown to this program", errMalformed, b[0])
	}
	return appendUnpacked(to, b[1:])
}

// appendPlain decodes a page of the older form: extents as package extent writes them.
func appendPlain(to []extent.Extent, b []byte) ([]extent.Extent, error) {
	if len(b)%plainExtent != 0 || len(b)/plainExtent > pageMax {
		return nil, errMalformed
	}
	for ; len(b) > 0; b = b[plainExtent:] {
		if binary.BigEndian.Uint32(b[28:]) != 0 {
			return nil, errMalformed
		}
		to = append(to, extent.Extent{
			Off: be64(b), Len: be64(b[8:]), BlobOff: be64(b[16:]), Blob: binary.BigEndian.Uint32(b[24:]),
		})
	}
	return to, nil
}

// appendUnpacked decodes a packed page behind its first byte. It accepts only what appendPacked writes: shortest numbers, no extent that
// is empty, none that reaches beyond the largest file or blob, none in a hole.
func appendUnpacked(to []extent.Extent, b []byte) ([]extent.Extent, error) {
	var last shifts
	end := uint64(0)
	for i, n := 0, 0; i < len(b); n++ {
		var gap, length, source, step uint64
		gap, i = number(b, i)
		length, i = number(b, i)
		source, i = number(b, i)
		step, i = number(b, i)
		if i > len(b) || n == pageMax || length == 0 || gap > extent.MaxSize-end || length > extent.MaxSize-end-gap || source > uint64(extent.Hole) {
			return nil, errMalformed
		}
		off, slot := end+gap, &last[source%uint64(len(last))]
		*slot += step>>1 ^ -(step & 1)
		blobOff := off + *slot
		if blobOff > extent.MaxSize-length {
			return nil, errMalformed
		}
		to = append(to, extent.Extent{Off: off, Len: length, BlobOff: blobOff, Blob: uint32(source) - 1})
		end = off + length
	}
	if end == 0 {
		return nil, errMalformed
	}
	return to, nil
}

// hashPage names the content of a page, of either form, in what refers to it.
func hashPage(page []byte) [16]byte {
	sum := sha256.Sum256(page)
	return [16]byte(sum[:16])
}

// number reads a number of 7 bits to a byte, lowest first, at b[i:], and returns what is behind it: a place beyond b if it is not
// there as a whole, exceeds 64 bits, or has zeroes that it does not need, or if i was beyond b. Most numbers have one byte.
func number(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return longNumber(b, i)
}

func longNumber(b []byte, i int) (uint64, int) {
	if i < len(b) {
		if v, n := binary.Uvarint(b[i:]); n > 0 && b[i+n-1] != 0 {
			return v, i + n
		}
	}
	return 0, len(b) + 1
}
