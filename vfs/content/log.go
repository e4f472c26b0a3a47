package content

import (
	"context"
	"fmt"

	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// blobLog appends sealed segments to a draft's own blob. Used by one goroutine
// at a time: the one that owns the log (Draft.busy).
type blobLog struct {
	store     *Store
	id        blob.ID
	out       blob.Writer
	sealer    *stream.Sealer
	header    []byte // until it is written, together with the first segments
	source    *source
	segments  uint64 // full segments written
	scattered bool
}

// openLog makes the blob. Its key is durable before its file exists. whole is that of Keys.New.
func (s *Store) openLog(ctx context.Context, linearFrom uint64, whole bool) (*blobLog, error) {
	id, key, err := s.Keys.New(ctx, linearFrom, whole)
	if err != nil {
		return nil, fmt.Errorf("making a data key: %w", err)
	}
	defer clear(key[:])
	aad := streamAAD(s.Account, id)
	sealer, header, err := stream.NewSealer((*[32]byte)(key), aad)
	if err != nil {
		return nil, err
	}
	opener, err := stream.NewOpener((*[32]byte)(key), aad, header)
	if err != nil {
		return nil, err
	}
	out, err := s.Blobs.Create(ctx, id)
	if err != nil {
		return nil, err
	}
	return &blobLog{
		store: s, id: id, out: out, sealer: sealer, header: appendHeader(nil, id, header), scattered: whole,
		// What the draft reads back are always full segments below the end, so no count is needed here.
		source: &source{ref: extent.Unsealed(id, stream.MaxSegments-1), file: out, opener: opener, pools: &s.pools},
	}, nil
}

// scatter says, durably, that the blob is not one line of the file any more.
func (l *blobLog) scatter(ctx context.Context) error {
	if l.scattered {
		return nil
	}
	if err := l.store.Keys.Scatter(ctx, l.id); err != nil {
		return fmt.Errorf("marking blob %s: %w", l.id, err)
	}
	l.scattered = true
	return nil
}

// append seals at most a batch of full segments, and the final one if final is
// not nil, and writes them with one call.
func (l *blobLog) append(full []segment, final []byte) error {
	buf := get[sealedBatch](&l.store.pools.sealed)
	defer l.store.pools.sealed.Put(buf)
	out := append(buf[:0], l.header...)
	for i, s := range full {
		out = l.sealer.Seal(out, s.plain, l.segments+uint64(i), false)
	}
	if final != nil {
		out = l.sealer.Seal(out, final, l.segments+uint64(len(full)), true)
	}
	if _, err := l.out.Write(out); err != nil {
		return err
	}
	l.header = nil
	l.segments += uint64(len(full))
	return nil
}

// segment is a full segment of the log on its way to the blob.
type segment struct {
	plain []byte // 65536 bytes, not changed any more
	chunk *chunk // whose data plain is, to be recycled; nil if the caller of CopyFrom owns it
}
