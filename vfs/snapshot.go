package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"sallyport/vfs/content"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// snapshot is one committed version of a file, as handles read it.
type snapshot struct {
	c      *core
	node   meta.Node // as of that version
	layout *extent.Layout

	refs   atomic.Int32
	mu     sync.Mutex // guards reader; held while blobs are opened, which concerns the handles of one session only
	reader *content.Reader
}

func newSnapshot(c *core, n *meta.Node, l *extent.Layout) *snapshot {
	if l == nil {
		l = &extent.Layout{}
	}
	return &snapshot{c: c, node: *n, layout: l}
}

func (s *snapshot) retain() *snapshot {
	s.refs.Add(1)
	return s
}

func (s *snapshot) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		s.reader.Close() // read-only: nothing can be lost
		s.reader = nil
	}
}

// open authenticates the ends of the blobs, once. It counts damage.
func (s *snapshot) open(ctx context.Context) (*content.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		return s.reader, nil
	}
	r, err := s.c.content.Open(ctx, s.layout)
	if err != nil {
		return nil, s.c.damage(err)
	}
	s.reader = r
	return r, nil
}

func (s *snapshot) readAt(p []byte, off int64) (int, error) {
	if uint64(off) >= s.layout.Size {
		return 0, io.EOF
	}
	r, err := s.open(context.Background())
	if err != nil {
		return 0, err
	}
	n, err := r.ReadAt(p, off)
	return n, s.c.damage(err)
}

// damage counts what fails its integrity check and passes every error on. A blob that is not there is damage too.
func (c *core) damage(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrIntegrity
	}
	if err = public(err); errors.Is(err, ErrIntegrity) {
		c.damaged.Add(1)
		c.vol.fs.damaged.Add(1)
	}
	return err
}
