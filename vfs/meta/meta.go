// Package meta is the sealed metadata database of one account: typed records
// over bbolt, history, a keyed set hash over all records, and group commit.
// Every key is a token or a number, every value a sealed record. No bbolt
// type leaves the package. Layout: docs/FORMAT.md "Metadata database" and keys.go.
//
// # What it guarantees
//
// Whoever can write the file, but has no key, can at most destroy: a record
// that is changed, replaced by an older one, swapped with another, left out or put in is found at
// the next Open (ErrIntegrity), because the head authenticates the number of records
// and a keyed hash over all of them; a record that is changed while the database is
// open is found when it is read. Replacing the whole file by an older
// whole file is not found here, nor is the damage of the page that bbolt wrote
// last, which takes the database back by one transaction as a crash during that write would.
//
// When Update returns nil, its changes survive power loss. When it returns an
// error nothing of it is seen, save after a failed commit (ErrReadOnly), when
// only reopening tells.
//
// # Time
//
// Names and versions are never overwritten, they are superseded, and an index by
// time answers what was there at an instant. An instant is the clock's or one
// nanosecond after the last one, whichever is later: a clock that steps back inverts nothing.
package meta

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrIntegrity means that a record, or the set of records, does not authenticate.
var ErrIntegrity = errors.New("meta: integrity check failed")

// ErrReadOnly means that a commit failed once: no more writes until the database is closed, reopened and verified.
var ErrReadOnly = errors.New("meta: no writes until reopened after a failed commit")

// ErrClosed is returned after Close.
var ErrClosed = fmt.Errorf("meta: database closed: %w", fs.ErrClosed)

// Options of Open.
type Options struct {
	Now    func() time.Time // nil = time.Now
	Create bool             // make a new database; fs.ErrExist if there is one
	// SkipSetHash opens without the full scan (tests and benchmarks of other things only).
	SkipSetHash bool

	// testOnlyCommit stands around bbolt's commit, to make it fail with or without effect.
	testOnlyCommit func(commit func() error) error
	// testOnlyNoSync leaves out every fsync, for tests of other things in their thousands.
	testOnlyNoSync bool
}
