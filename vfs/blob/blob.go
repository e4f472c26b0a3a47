// Package blob is the contract of the place where sealed bytes lie: immutable
// blobs named by random ids. A store sees ciphertext only and is not trusted.
package blob

import (
	"context"
	"io"
)

// ID is the random name of a blob.
type ID [16]byte

// Store keeps blobs. Safe for concurrent use. Errors: fs.ErrNotExist,
// fs.ErrExist, syscall.ENOSPC (wrapped) and anything else as I/O failure.
type Store interface {
	// Create starts a blob. It is not listed until Commit or Sync succeeded.
	Create(ctx context.Context, id ID) (Writer, error)
	// Resume continues a blob that was synced but never committed, cut to size bytes (recovery after a crash).
	Resume(ctx context.Context, id ID, size int64) (Writer, error)
	Open(ctx context.Context, id ID) (Reader, error)
	// Remove is durable on return of the next Flush at the latest; absent is not an error.
	Remove(ctx context.Context, id ID) error
	// List calls fn with every blob after `after` in id order.
	List(ctx context.Context, after ID, fn func(ID, int64) error) error
}

// Writer appends. After any error it takes no more writes and only Abort is allowed.
type Writer interface {
	io.Writer
	// Sync makes what was written so far survive power loss and readable through Store.Open.
	Sync() error
	// Commit syncs and ends the blob. A failed fsync is never retried.
	Commit() error
	Abort() error
}

// Reader reads a blob at any offset, concurrently.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}
