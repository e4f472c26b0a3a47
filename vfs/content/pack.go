package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// Pack writes the content of a layout into one new blob, from its first byte on, and commits it durably. It is how
// housekeeping moves bytes: what it reads authenticates, and nothing of it stays in memory. Holes become zeroes, so
// a caller leaves them out. An error leaves at most the key that Keys.New made, with or without a blob.
func (s *Store) Pack(ctx context.Context, l *extent.Layout) (id blob.ID, err error) {
	r, err := s.Open(ctx, l)
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrSource, err)
	}
	defer r.Close()
	log, err := s.openLog(ctx, 0, false)
	if log != nil {
		id = log.id
	}
	if err != nil {
		return id, err
	}
	if err := s.pack(ctx, log, r); err != nil {
		return id, errors.Join(fmt.Errorf("packing: %w", err), log.out.Abort())
	}
	if err := log.out.Commit(); err != nil {
		return id, errors.Join(fmt.Errorf("packing: %w", err), log.out.Abort())
	}
	return id, nil
}

func (s *Store) pack(ctx context.Context, log *blobLog, r *Reader) error {
	buf := get[slab](&s.pools.slabs)
	defer s.pools.slabs.Put(buf)
	for at, size := int64(0), r.Size(); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), size-at)]
		if len(p) > 0 {
			if _, err := r.ReadAt(p, at); err != nil && err != io.EOF {
				return fmt.Errorf("%w: %w", ErrSource, err)
			}
		}
		at += int64(len(p))
		var full []segment
		for ; len(p) >= segmentPlain; p = p[segmentPlain:] {
			full = append(full, segment{plain: p[:segmentPlain]})
		}
		if at < size {
			if err := log.append(full, nil); err != nil {
				return err
			}
			continue
		}
		return log.append(full, append([]byte{}, p...)) // a final segment is written even if nothing is left for it
	}
}
