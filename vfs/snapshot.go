package vfs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
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

	version atomic.Uint64 // number of the version, or of a later one that changed attributes only; 0 = none

	refs   atomic.Int32
	mu     sync.Mutex // guards what is below; held while blobs are opened, which concerns the handles of one session only
	reader *content.Reader
	where  *extent.Layout // as layout, but where housekeeping has moved the bytes since
	moves  uint64         // core.moves before where was read
}

// newSnapshot is of a version whose layout was read, or made, after core.moves was what is given.
func newSnapshot(c *core, n *meta.Node, l *extent.Layout, moves uint64) *snapshot {
	if l == nil {
		l = &extent.Layout{}
	}
	s := &snapshot{c: c, node: *n, layout: l, where: l, moves: moves}
	s.version.Store(n.Version)
	return s
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
	s.shut()
}

// shut closes the reader. Called with mu held.
func (s *snapshot) shut() {
	if s.reader != nil {
		s.reader.Close() // read-only: nothing can be lost
		s.reader = nil
	}
}

// place is where the version lies now. ErrPurged if it is no more. Who must rely on it pins the file first.
func (s *snapshot) place() (*extent.Layout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.look()
	return s.where, err
}

// look looks whether housekeeping has moved the version since, and says so. Called with mu held.
func (s *snapshot) look() (moved bool, err error) {
	moves, version := s.c.moves.Load(), s.version.Load()
	if version == 0 || moves == s.moves && moves%2 == 0 { // odd: a transaction may just have been committed
		return false, nil
	}
	var v *meta.Version
	err = s.c.db.View(func(tx *meta.Tx) (err error) { v, err = tx.Version(s.node.ID, version); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return false, ErrPurged
	}
	if err != nil {
		return false, err
	}
	s.moves = moves
	if slices.Equal(v.Layout.Blobs, s.where.Blobs) && slices.Equal(v.Layout.Extents, s.where.Extents) {
		return false, nil
	}
	s.where = &v.Layout
	s.shut()
	return true, nil
}

// open authenticates the ends of the blobs, once.
func (s *snapshot) open(ctx context.Context) (*content.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.reader != nil {
			return s.reader, nil
		}
		r, err := s.c.content.Open(ctx, s.where)
		if err == nil {
			s.reader = r
			return r, nil
		}
		if moved, lerr := s.look(); !moved {
			return nil, s.c.damage(cmp.Or(lerr, err))
		}
	}
}

// again says whether a read that failed with err is worth another attempt: what it read has moved.
func (s *snapshot) again(r *content.Reader, err error) (bool, error) {
	if err == nil || err == io.EOF {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, fs.ErrClosed) && s.reader != r { // by another reader, who found that it has moved
		return true, nil
	}
	moved, lerr := s.look()
	if moved {
		return true, nil
	}
	return false, s.c.damage(cmp.Or(lerr, err))
}

func (s *snapshot) readAt(p []byte, off int64) (int, error) {
	if uint64(off) >= s.layout.Size {
		return 0, io.EOF
	}
	for {
		r, err := s.open(context.Background())
		if err != nil {
			return 0, err
		}
		n, err := r.ReadAt(p, off)
		if again, err := s.again(r, err); !again {
			return n, err
		}
	}
}

// copyTo streams from off to the end.
func (s *snapshot) copyTo(w io.Writer, off int64) (n int64, err error) {
	for uint64(off+n) < s.layout.Size {
		r, err := s.open(context.Background())
		if err != nil {
			return n, err
		}
		k, err := r.CopyTo(w, off+n, -1)
		n += k
		if again, err := s.again(r, err); !again {
			return n, err
		}
	}
	return n, nil
}

// damage counts what fails its integrity check and passes every error on. A blob that is not there is damage too.
func (c *core) damage(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errors.Is(err, ErrPurged) {
		return ErrPurged
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
