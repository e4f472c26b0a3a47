package content

import (
	"context"
	"fmt"
	"io"

	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// source reads the plaintext of one blob. Safe for concurrent use.
type source struct {
	ref    extent.BlobRef
	file   io.ReaderAt
	closer io.Closer // nil for the blob that a draft is writing
	opener *stream.Opener
	pools  *pools
}

// openSource opens a blob and authenticates its header and its end, so that a
// blob cut off at a segment border is found before its first byte is served.
func (s *Store) openSource(ctx context.Context, ref extent.BlobRef) (*source, error) {
	id := blob.ID(ref.ID)
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	key, err := s.Keys.Key(ctx, id)
	if err != nil {
		return nil, integrity(id, err)
	}
	defer clear(key[:])
	r, err := s.Blobs.Open(ctx, id)
	if err != nil {
		return nil, integrity(id, err)
	}
	src := &source{ref: ref, file: r, closer: r, pools: &s.pools}
	if err := src.authenticate(key, s.Account, r.Size()); err != nil {
		r.Close()
		return nil, integrity(id, err)
	}
	return src, nil
}

func (s *source) authenticate(key *record.Key, account record.AccountID, size int64) error {
	switch want := s.ref; {
	case want.Open && size < segmentAt(want.Segments),
		!want.Open && size != fileSize(want.Bytes):
		return fmt.Errorf("%w: file has %d bytes", ErrIntegrity, size)
	}
	var header [headerSize]byte
	if err := readFull(s.file, header[:], 0); err != nil {
		return err
	}
	floe, err := parseHeader(header[:], blob.ID(s.ref.ID))
	if err != nil {
		return err
	}
	aad := streamAAD(account, blob.ID(s.ref.ID))
	if s.opener, err = stream.NewOpener((*[32]byte)(key), aad, floe); err != nil {
		return err
	}
	last := s.ref.Segments
	if s.ref.Open {
		if last == 0 {
			return nil
		}
		last--
	}
	c := get[chunk](&s.pools.chunks)
	defer s.pools.chunks.Put(c)
	_, err = s.segment(c.data[:0], last)
	return err
}

// plainLen is how many plaintext bytes a segment holds.
func (s *source) plainLen(segment uint64) int {
	if segment < s.ref.Segments {
		return segmentPlain
	}
	return int(s.ref.Bytes & segmentMask)
}

// segment reads one segment and appends its plaintext to dst.
func (s *source) segment(dst []byte, segment uint64) ([]byte, error) {
	buf := get[sealedBatch](&s.pools.sealed)
	defer s.pools.sealed.Put(buf)
	sealed := buf[:s.plainLen(segment)+stream.Overhead]
	if err := readFull(s.file, sealed, segmentAt(segment)); err != nil {
		return nil, err
	}
	return s.opener.Open(dst, sealed, segment, s.final(segment))
}

func (s *source) final(segment uint64) bool { return !s.ref.Open && segment == s.ref.Segments }

// whole reads as many whole segments as p has room for, at most a batch, from
// that one on, with one call to the store, and decrypts them in place. It
// returns the bytes read.
func (s *source) whole(p []byte, segment uint64) (int, error) {
	buf := get[sealedBatch](&s.pools.sealed)
	defer s.pools.sealed.Put(buf)
	n, sealed, count := 0, 0, uint64(0)
	for ; count < batchSegments && segment+count <= s.ref.Segments; count++ {
		plain := s.plainLen(segment + count)
		if plain == 0 || plain > len(p)-n {
			break
		}
		n, sealed = n+plain, sealed+plain+stream.Overhead
	}
	if err := readFull(s.file, buf[:sealed], segmentAt(segment)); err != nil {
		return 0, err
	}
	rest := buf[:sealed]
	at := 0
	for i := range count {
		plain := s.plainLen(segment + i)
		if _, err := s.opener.Open(p[at:at:at+plain], rest[:plain+stream.Overhead], segment+i, s.final(segment+i)); err != nil {
			return 0, err
		}
		at, rest = at+plain, rest[plain+stream.Overhead:]
	}
	return n, nil
}

func (s *source) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// readFull fills p. An error beside all the bytes does not matter.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil:
		return io.ErrUnexpectedEOF
	}
	return err
}
