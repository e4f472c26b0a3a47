package content

import (
	"fmt"

	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// The blob file (docs/FORMAT.md "Blob file"):
//
//	  0   8  magic "SPBLOB1\n"
//	  8  16  blob id
//	 24  74  FLOE header
//	 98  30  zero
//	128      segments: Bytes/65536 full ones, then the final one with the remaining 0 … 65,535 bytes
const (
	headerSize = 128
	magic      = "SPBLOB1\n"
	aadPrefix  = "sallyport.blob.v1\x00"
	idAt       = 8
	floeAt     = 24
	zeroAt     = floeAt + stream.HeaderSize
)

// fileSize is the exact size of a sealed blob of that many plaintext bytes.
func fileSize(bytes uint64) int64 {
	return segmentAt(bytes>>segmentShift) + stream.Overhead + int64(bytes&segmentMask)
}

// segmentAt is where a segment lies in the file.
func segmentAt(segment uint64) int64 { return headerSize + int64(segment)*stream.SegmentSize }

// streamAAD binds a blob to its account and its name.
func streamAAD(account record.AccountID, id blob.ID) []byte {
	aad := append([]byte(aadPrefix), account[:]...)
	return append(aad, id[:]...)
}

func appendHeader(dst []byte, id blob.ID, floe []byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, id[:]...)
	dst = append(dst, floe...)
	return append(dst, make([]byte, headerSize-zeroAt)...)
}

// parseHeader checks everything but the FLOE header, which it returns.
func parseHeader(b []byte, id blob.ID) ([]byte, error) {
	if len(b) == headerSize && string(b[:idAt]) != magic {
		return nil, fmt.Errorf("%w: blob %s: format %q is unknown to this program (or damaged)", ErrIntegrity, id, b[:idAt])
	}
	if len(b) != headerSize || blob.ID(b[idAt:floeAt]) != id {
		return nil, fmt.Errorf("%w: not blob %s", ErrIntegrity, id)
	}
	for _, c := range b[zeroAt:] {
		if c != 0 {
			return nil, fmt.Errorf("%w: blob %s: reserved bytes", ErrIntegrity, id)
		}
	}
	return b[floeAt:zeroAt], nil
}

// checkRef refuses references that no blob can satisfy.
func checkRef(ref extent.BlobRef) error {
	if ref.Segments != ref.Bytes>>segmentShift || ref.Segments >= stream.MaxSegments || ref.Open && ref.Bytes&segmentMask != 0 {
		return fmt.Errorf("%w: impossible reference to blob %s", ErrIntegrity, blob.ID(ref.ID))
	}
	return nil
}
