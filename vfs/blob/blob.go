// Package blob is the contract of the place where sealed bytes lie: immutable
// blobs named by random ids. A store sees ciphertext only and is not trusted
// with more than keeping it: whoever changes, swaps or removes blobs can make
// reads fail, never make them return other bytes.
package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrShort means that a blob holds fewer bytes than Resume was told to keep.
var ErrShort = errors.New("blob: shorter than what must be kept")

// ErrReadOnly means that a sync of the store itself failed earlier. What it
// had acknowledged before may stand on the disk or not, so it takes no more
// writes until it is opened again.
var ErrReadOnly = errors.New("blob: store takes no writes after a failed sync")

// ID is the random name of a blob.
type ID [16]byte

// String is the id in 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote, and nothing else.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("blob: id of %d digits", len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("blob: id: %w", err)
	}
	if id.String() != s { // upper case would give one blob two names
		return ID{}, fmt.Errorf("blob: id not in lower case")
	}
	return id, nil
}

// Store keeps blobs. Safe for concurrent use. Nothing is retried. Errors wrap
// fs.ErrNotExist, fs.ErrExist, syscall.ENOSPC or ErrReadOnly where these apply;
// anything else is a failure of the storage.
type Store interface {
	// Create starts a blob; fs.ErrExist if there is one of that id. Until its
	// writer ends, Open, List and Remove may see the blob or not, but after a
	// crash List finds whatever takes up space.
	Create(ctx context.Context, id ID) (Writer, error)
	// Resume continues, at its end, a blob that was synced or left behind by a
	// crash, after cutting it to size bytes. ErrShort if it has fewer.
	Resume(ctx context.Context, id ID, size int64) (Writer, error)
	// Open opens a blob that was synced or committed, or left behind by a crash.
	Open(ctx context.Context, id ID) (Reader, error)
	// Remove removes a blob durably; absent is not an error. Open readers go on reading.
	Remove(ctx context.Context, id ID) error
	// List calls fn with every blob whose id is greater than after, and its
	// size in bytes, in id order, until fn fails; it returns fn's error. No
	// blob has the zero id, so the zero after lists all.
	List(ctx context.Context, after ID, fn func(ID, int64) error) error
}

// ManyRemover is a Store that removes many blobs with less than the work of one for each.
type ManyRemover interface {
	// RemoveMany is Remove of each. After an error some may be gone.
	RemoveMany(ctx context.Context, ids []ID) error
}

// RemoveAll removes blobs durably, in the way that suits the store. After an error some may be gone.
func RemoveAll(ctx context.Context, s Store, ids []ID) error {
	if m, ok := s.(ManyRemover); ok {
		return m.RemoveMany(ctx, ids)
	}
	for _, id := range ids {
		if err := s.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// Writer appends to one blob. After any error it is dead: all methods but
// ReadAt and Abort fail. Not safe for concurrent use, except that ReadAt may
// run beside everything else before Commit or Abort.
type Writer interface {
	io.Writer
	// ReadAt reads what was written, synced or not.
	io.ReaderAt
	// Sync makes what was written so far, and the blob itself, survive power loss and readable through Store.Open.
	Sync() error
	// Commit syncs and ends the blob.
	Commit() error
	// Abort ends the writer without Commit. A blob that was never synced is
	// removed; one that was synced or resumed stays, because others may rely
	// on it. Abort after the end does nothing.
	Abort() error
}

// Reader reads a blob at any offset. Safe for concurrent use.
type Reader interface {
	io.ReaderAt
	io.Closer
	// Size is the blob's length at Open, bytes.
	Size() int64
}
