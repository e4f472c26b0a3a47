// Package content is the bytes of files: drafts under change with a bounded
// write window, the sealed blobs that they become, and authenticated readers.
// It knows nothing of names, versions or metadata stores.
//
// A draft writes at most one blob. The blob is a log of what was written: full
// segments, each sealed and appended once, and at the end one final segment.
// Where each byte of the file lies is the business of extents, so a blob never
// holds padding, and rewriting a range appends again. The blob store is not
// trusted: every byte served authenticated under the blob's own key, at its
// own place, in a blob whose end authenticated first (docs/FORMAT.md "Blob file").
package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs/blob"
	"sallyport/vfs/extent"
)

// ErrIntegrity means that stored bytes do not authenticate, or that a blob is
// missing or not as long as metadata says; no byte of the damaged range is served.
var ErrIntegrity = errors.New("content: integrity check failed")

// ErrBudget means that the server-wide budget of buffered bytes is exhausted,
// and that this draft has nothing left to write out in order to go on.
var ErrBudget = errors.New("content: write window budget exhausted")

// ErrSource means that the bytes that Pack should copy cannot be read, which says nothing of the store's ability to write.
var ErrSource = errors.New("content: what is to be copied cannot be read")

// Keys finds and makes data keys. Safe for concurrent use.
type Keys interface {
	// New makes a blob whose byte b is file byte linearFrom+b until Scatter is
	// called; recovery relies on that. When it returns, the wrapped key is
	// durable in metadata (state open), because the first segment follows. The
	// caller overwrites the key.
	//
	// whole means that the Finish under way writes all of the blob at once, and that nothing relies on it before the layout
	// that this returns is committed: recovery need keep nothing of it, whatever lies where, and Scatter is not called.
	New(ctx context.Context, linearFrom uint64, whole bool) (blob.ID, *record.Key, error)
	// Scatter is called once, and is durable on return, before the first byte
	// that breaks that line is appended, or when bytes on the line are truncated away.
	Scatter(ctx context.Context, id blob.ID) error
	// Key finds the data key of a blob. The caller overwrites it.
	Key(ctx context.Context, id blob.ID) (*record.Key, error)
}

// Store binds a blob store to one account's keys. Safe for concurrent use; not to be copied.
type Store struct {
	Blobs   blob.Store
	Keys    Keys
	Account record.AccountID
	Budget  *Budget // server-wide, shared; nil = unlimited

	pools pools
}

const (
	segmentPlain = stream.SegmentPlain
	segmentMask  = segmentPlain - 1
	segmentShift = 16

	// batchSegments is how many segments are read or written with one call. A
	// quarter of a megabyte makes the calls rare, and plaintext and ciphertext
	// of a batch stay in a second-level cache between copying and sealing.
	batchSegments = 4
)

// pools recycle the large buffers, which hold nothing between uses.
type pools struct {
	chunks sync.Pool // *chunk: one segment of plaintext
	slabs  sync.Pool // *slab: a batch of plaintext
	sealed sync.Pool // *sealedBatch: a batch as it lies in a blob
}

type slab [batchSegments * segmentPlain]byte

// sealedBatch has room for the header of the file and a final segment too.
type sealedBatch [headerSize + (batchSegments+1)*stream.SegmentSize]byte

func get[T any](p *sync.Pool) *T {
	if v, ok := p.Get().(*T); ok {
		return v
	}
	return new(T)
}

// integrity turns an error of reading a blob into ErrIntegrity if it says that
// the stored bytes are wrong, short or gone. Failures of the storage stay what they are.
func integrity(id blob.ID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrIntegrity):
		return err
	case errors.Is(err, stream.ErrAuth), errors.Is(err, record.ErrAuth), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: blob %s: %v", ErrIntegrity, id, err)
	}
	return fmt.Errorf("reading blob %s: %w", id, err)
}

// checkRange refuses offsets that no layout can hold.
func checkRange(off int64, n int) error {
	if off < 0 {
		return fs.ErrInvalid
	}
	if uint64(off)+uint64(n) > extent.MaxSize {
		return errTooLarge
	}
	return nil
}
