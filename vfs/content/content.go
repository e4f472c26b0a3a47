// Package content is the bytes of files: extents over sealed blobs, drafts
// under change with a bounded write window, and authenticated readers.
// It knows nothing of names, versions or metadata stores.
package content

import (
	"context"
	"errors"
	"io"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// ErrIntegrity means that stored bytes do not authenticate; no byte of the damaged range is served.
var ErrIntegrity = errors.New("content: integrity check failed")

// ErrBudget means that the server-wide window budget is exhausted and could not be relieved by flushing.
var ErrBudget = errors.New("content: write window budget exhausted")

// Keys finds and makes data keys. New must have the wrapped key durable (state
// open) in metadata when it returns, because the first segment follows.
type Keys interface {
	// New makes a blob whose byte b is file byte linearFrom+b until Scatter is called; recovery relies on that.
	New(ctx context.Context, linearFrom uint64) (blob.ID, *record.Key, error)
	// Scatter is called once, and is durable on return, before the first byte that breaks that line is appended.
	Scatter(ctx context.Context, id blob.ID) error
	Key(ctx context.Context, id blob.ID) (*record.Key, error)
}

// Store binds a blob store to one account's keys. Safe for concurrent use.
type Store struct {
	Blobs   blob.Store
	Keys    Keys
	Account record.AccountID
	Budget  *Budget // server-wide, shared; nil = unlimited
}

// Budget is the server-wide bound of buffered dirty bytes.
type Budget struct{}

func NewBudget(bytes int64) *Budget { panic("skeleton") }

// Reader serves an extent.Layout. Safe for concurrent use. Opening authenticates the end of every blob before its first byte is served.
type Reader struct{}

func (s *Store) Open(ctx context.Context, l *extent.Layout) (*Reader, error) {
	return nil, errors.ErrUnsupported
}
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { panic("skeleton") }

// CopyTo streams [off, off+n) (n<0: to the end) in large segment-aligned writes, without a copy per segment.
func (r *Reader) CopyTo(w io.Writer, off, n int64) (int64, error) { panic("skeleton") }
func (r *Reader) Size() int64                                     { panic("skeleton") }
func (r *Reader) Close() error                                    { panic("skeleton") }

// Draft is one file's content under change: base layout + one new blob + window. Safe for concurrent use; no lock is held over I/O where avoidable.
type Draft struct{}

// Edit starts a draft on base (nil = empty).
func (s *Store) Edit(ctx context.Context, base *extent.Layout) (*Draft, error) {
	return nil, errors.ErrUnsupported
}

func (d *Draft) WriteAt(p []byte, off int64) (int, error) { panic("skeleton") }

// ReadFrom-style fast path: appends from src at off in segment-aligned buffers until EOF.
func (d *Draft) CopyFrom(src io.Reader, off int64) (int64, error) { panic("skeleton") }
func (d *Draft) ReadAt(p []byte, off int64) (int, error)          { panic("skeleton") }
func (d *Draft) Truncate(size int64) error                        { panic("skeleton") }
func (d *Draft) Size() int64                                      { panic("skeleton") }

// Changed says whether anything differs from the base.
func (d *Draft) Changed() bool { panic("skeleton") }

// Checkpoint makes everything written so far durable and returns its layout; the draft goes on (fsync@openssh.com).
func (d *Draft) Checkpoint(ctx context.Context) (*extent.Layout, error) {
	return nil, errors.ErrUnsupported
}

// Finish writes the final segment, commits the blob durably and returns the layout. The draft is done.
func (d *Draft) Finish(ctx context.Context) (*extent.Layout, error) {
	return nil, errors.ErrUnsupported
}

// Abort drops the draft; a blob that no checkpoint published is removed.
func (d *Draft) Abort() error { panic("skeleton") }

// Recover ends an open blob after a crash: cuts it to the last whole segment, writes the final segment and
// commits; returns the plaintext bytes that are good.
func (s *Store) Recover(ctx context.Context, id blob.ID) (bytes uint64, err error) {
	return 0, errors.ErrUnsupported
}
