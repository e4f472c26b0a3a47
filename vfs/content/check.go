package content

import (
	"context"
	"fmt"

	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
)

// HeaderSize is where the segments of a blob's file begin, bytes.
const HeaderSize = headerSize

// SegmentSize is what a full segment takes in a blob's file, bytes.
const SegmentSize = stream.SegmentSize

// FileSize is the size of the file of a sealed blob of that many plaintext bytes.
func FileSize(bytes uint64) int64 { return fileSize(bytes) }

// OpenSize is the least size of the file of a blob of which that many full segments are relied on; 0 for none.
func OpenSize(segments uint64) int64 {
	if segments == 0 {
		return 0
	}
	return segmentAt(segments)
}

// Check authenticates a run of segments of a blob that somebody else keeps a copy of: header are the first HeaderSize bytes of
// the file, sealed is whole segments from number first on. final says that the last of them ends the blob. The store itself is not
// read. ErrIntegrity if they are not the blob's.
func (s *Store) Check(ctx context.Context, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	key, err := s.Keys.Key(ctx, id)
	if err != nil {
		return integrity(id, err)
	}
	floe, err := parseHeader(header, id)
	if err != nil {
		return err
	}
	opener, err := stream.NewOpener((*[32]byte)(key), streamAAD(s.Account, id), floe)
	if err != nil {
		return integrity(id, err)
	}
	c := get[chunk](&s.pools.chunks)
	defer s.pools.chunks.Put(c)
	for n := first; len(sealed) > 0; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment := sealed[:min(len(sealed), stream.SegmentSize)]
		sealed = sealed[len(segment):]
		if _, err := opener.Open(c.data[:0], segment, n, final && len(sealed) == 0); err != nil {
			return integrity(id, fmt.Errorf("segment %d: %w", n, err))
		}
	}
	return nil
}
