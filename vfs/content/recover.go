package content

import (
	"context"
	"errors"
	"fmt"

	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
)

// Recover ends an open blob after a crash: it keeps the full segments from the
// start that authenticate, cuts off the rest, writes an empty final segment
// and commits; a final segment that stands at the end of the file is kept. It
// returns the plaintext bytes of the blob. It may run again at any time.
//
// ErrIntegrity means that there is no file, or none with a header of this
// blob: the crash came before it reached the disk, or it was damaged later.
// Nothing is changed then; who relies on the blob knows which it is. The blob
// must have no writer.
func (s *Store) Recover(ctx context.Context, id blob.ID) (bytes uint64, err error) {
	key, err := s.Keys.Key(ctx, id)
	if err != nil {
		return 0, integrity(id, err)
	}
	defer clear(key[:])
	found, err := s.survey(ctx, id, key)
	if err != nil {
		return 0, fmt.Errorf("recovering: %w", integrity(id, err))
	}
	if err := s.repair(ctx, id, key, found); err != nil {
		return 0, fmt.Errorf("recovering blob %s: %w", id, err)
	}
	return found.bytes, nil
}

// Whole tells whether there is a blob that its writer has ended and all of which authenticates, and how many plaintext bytes it has. It reads
// all of it and changes nothing. The error is of the storage, or of ctx.
func (s *Store) Whole(ctx context.Context, id blob.ID) (bytes uint64, whole bool, err error) {
	key, err := s.Keys.Key(ctx, id)
	if err != nil {
		return 0, false, nil //nolint:nilerr // nobody can read it
	}
	defer clear(key[:])
	found, err := s.survey(ctx, id, key)
	if err = integrity(id, err); errors.Is(err, ErrIntegrity) {
		return 0, false, nil
	}
	return found.bytes, found.final, err
}

// surveyed is what stands of a blob.
type surveyed struct {
	floe  []byte // header
	bytes uint64 // plaintext that authenticates
	size  int64  // bytes of the file to keep
	final bool   // they end with a final segment
}

func (s *Store) survey(ctx context.Context, id blob.ID, key *record.Key) (found surveyed, err error) {
	r, err := s.Blobs.Open(ctx, id)
	if err != nil {
		return found, err
	}
	defer r.Close()
	var header [headerSize]byte
	if err := readFull(r, header[:], 0); err != nil {
		return found, err
	}
	floe, err := parseHeader(header[:], id)
	if err != nil {
		return found, err
	}
	opener, err := stream.NewOpener((*[32]byte)(key), streamAAD(s.Account, id), floe)
	if err != nil {
		return found, err
	}
	found.floe, found.size = floe, headerSize
	sealed := get[sealedBatch](&s.pools.sealed)
	defer s.pools.sealed.Put(sealed)
	plain := get[chunk](&s.pools.chunks)
	defer s.pools.chunks.Put(plain)
	for n := uint64(0); ; n++ {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		segment := sealed[:min(stream.SegmentSize, r.Size()-found.size)]
		if err := readFull(r, segment, found.size); err != nil {
			return found, err
		}
		if _, err := opener.Open(plain.data[:0], segment, n, false); err == nil {
			found.size += stream.SegmentSize
			found.bytes += segmentPlain
			continue
		}
		if len(segment) < stream.SegmentSize { // a final segment is never full
			if tail, err := opener.Open(plain.data[:0], segment, n, true); err == nil {
				found.size, found.bytes, found.final = r.Size(), found.bytes+uint64(len(tail)), true
			}
		}
		return found, nil
	}
}

func (s *Store) repair(ctx context.Context, id blob.ID, key *record.Key, found surveyed) error {
	var end []byte
	if !found.final {
		sealer, err := stream.ResumeSealer((*[32]byte)(key), streamAAD(s.Account, id), found.floe)
		if err != nil {
			return err
		}
		end = sealer.Seal(nil, nil, found.bytes>>segmentShift, true)
	}
	w, err := s.Blobs.Resume(ctx, id, found.size)
	if err != nil {
		return err
	}
	if len(end) > 0 {
		if _, err := w.Write(end); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	if err := w.Commit(); err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}
