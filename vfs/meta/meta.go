// Package meta is the sealed metadata database of one account: typed records
// over bbolt, history, a keyed set hash over all records, and group commit.
// Every key is a token or a number, every value a sealed record. No bbolt
// type leaves the package. Layout: docs/FORMAT.md "Metadata database".
package meta

import (
	"context"
	"errors"
	"time"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// ErrIntegrity means that a record, or the set of records, does not authenticate.
var ErrIntegrity = errors.New("meta: integrity check failed")

// ErrReadOnly means that a commit failed once: no more writes until the database is closed, reopened and verified.
var ErrReadOnly = errors.New("meta: no writes until reopened after a failed commit")

// Inode numbers are never reused. Root is 1.
type Inode uint64

const Root Inode = 1

type Kind uint8

const (
	File Kind = 1 + iota
	Dir
	Symlink
)

// State of a version.
type State uint8

const (
	Complete    State = 1 + iota
	Partial           // an interrupted upload of a new name: current, visible, resumable
	Interrupted       // an interrupted overwrite: history only, never current
)

// Attr is what listings need without opening a version.
type Attr struct {
	Size         uint64
	Mode         uint32 // permission bits only
	Mtime, Atime int64  // ns since 1970; what the client set or the commit instant
	State        State
}

// Node is an inode's record.
type Node struct {
	ID       Inode
	Kind     Kind
	Created  int64  // instant
	Changed  int64  // instant of the last change
	Version  uint64 // current version number; 0 = none yet
	Children uint64 // live entries of a directory
	Parent   Inode  // directory that holds the live entry (there are no hard links); 0 = unlinked
	Target   string // symlink
	Attr
	// Interrupted is set when a broken overwrite left bytes in history: REST>0, APPE and non-truncating writes are
	// refused until a complete upload or removal (DESIGN.md §2).
	Interrupted bool
}

// Version is one content of a file, or (for directories and symlinks) one set of attributes. Immutable.
type Version struct {
	Inode  Inode
	N      uint64
	At     int64 // instant of the commit
	Writer string
	Attr
	Layout extent.Layout
}

// Entry is a live or past name.
type Entry struct {
	Dir          Inode
	Name         string
	Inode        Inode
	Since, Until int64 // Until 0 = live
}

// BlobState of a blob's key record.
type BlobState uint8

const (
	BlobOpen BlobState = 1 + iota
	BlobSealed
)

// BlobKey is what metadata knows of a blob.
type BlobKey struct {
	ID      [16]byte
	Wrapped []byte
	State   BlobState
	Live    uint64 // plaintext bytes that current versions use
	Size    uint64 // plaintext bytes in all, when sealed
	// While open: for whom it is written, so that a crash leaves a resumable partial upload.
	Dir        Inode
	Name       string
	Inode      Inode  // 0 = new name
	LinearFrom uint64 // blob byte b is file byte LinearFrom+b, unless Scattered
	Base       uint64 // version of Inode the draft started from; 0 = empty
	Scattered  bool
	Writer     string
}

// Options of Open.
type Options struct {
	Now    func() time.Time
	Create bool // make a new database; fails if one exists
	// SkipSetHash opens without the full scan (tests and benchmarks of other things only).
	SkipSetHash bool
}

// DB is one account's database. Safe for concurrent use.
type DB struct{}

// Open opens and verifies: format version, head, and the set hash over every record.
func Open(ctx context.Context, path string, keys *record.AccountKeys, o Options) (*DB, error) {
	return nil, errors.ErrUnsupported
}
func (db *DB) Close() error { panic("skeleton") }

// View runs fn on a consistent snapshot. fn must be short: it holds a read transaction. Never does I/O to the network.
func (db *DB) View(fn func(tx *Tx) error) error { panic("skeleton") }

// Update runs fn in a group commit and returns after fsync. If fn returns an error nothing of it is applied and
// other members of the group are unharmed. Concurrent updates share one transaction; a lone one does not wait.
// fn may run again if the group is retried without it; it must have no effects but on tx.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error { panic("skeleton") }

// Tx is valid inside View or Update only.
type Tx struct{}

// Instant is this transaction's time: max(now, last+1 ns), strictly increasing over transactions of one volume.
func (tx *Tx) Instant() int64 { panic("skeleton") }

// Lookup finds a live name: exact bytes first, else the only name with the same NFC form. fs.ErrNotExist otherwise.
func (tx *Tx) Lookup(dir Inode, name string) (Entry, error)             { panic("skeleton") }
func (tx *Tx) LookupAt(dir Inode, name string, at int64) (Entry, error) { panic("skeleton") }

// List calls fn with the live entries of dir and their nodes, from cursor (nil = start), until fn returns false; it returns the
// cursor to go on from in a later transaction (nil = end). Order is that of the tokens.
func (tx *Tx) List(dir Inode, cursor []byte, fn func(Entry, *Node) bool) (next []byte, err error) {
	panic("skeleton")
}

// ListAt is List as of an instant.
func (tx *Tx) ListAt(dir Inode, at int64, cursor []byte, fn func(Entry, Inode) bool) (next []byte, err error) {
	panic("skeleton")
}
func (tx *Tx) Node(id Inode) (*Node, error)                        { panic("skeleton") }
func (tx *Tx) Version(id Inode, n uint64) (*Version, error)        { panic("skeleton") }
func (tx *Tx) VersionAt(id Inode, at int64) (*Version, error)      { panic("skeleton") }
func (tx *Tx) Versions(id Inode, fn func(*Version) bool) error     { panic("skeleton") }
func (tx *Tx) Blob(id [16]byte) (*BlobKey, error)                  { panic("skeleton") }
func (tx *Tx) Blobs(fn func(*BlobKey) bool) error                  { panic("skeleton") }
func (tx *Tx) Outbox(fn func(seq uint64, event []byte) bool) error { panic("skeleton") }
func (tx *Tx) Doomed(fn func(id [16]byte) bool) error              { panic("skeleton") }

// NewNode makes an inode (ID, Created, Changed and first version are filled in). Link gives it a name.
func (tx *Tx) NewNode(n *Node) error { panic("skeleton") }

// PutNode rewrites an inode's record (Changed is filled in).
func (tx *Tx) PutNode(n *Node) error { panic("skeleton") }

// AddVersion numbers v, stores it, indexes it by time and, unless its state is Interrupted, makes it current in n (which is put).
func (tx *Tx) AddVersion(n *Node, v *Version) error { panic("skeleton") }

// Link adds the live name; a live entry of that name is superseded (goes to history). Children counts, Parent and the
// directory's mtime follow. Unlink supersedes without a successor.
func (tx *Tx) Link(dir Inode, name string, id Inode) error { panic("skeleton") }
func (tx *Tx) Unlink(dir Inode, name string) error         { panic("skeleton") }

func (tx *Tx) PutBlob(b *BlobKey) error     { panic("skeleton") }
func (tx *Tx) DeleteBlob(id [16]byte) error { panic("skeleton") }
func (tx *Tx) Doom(id [16]byte) error       { panic("skeleton") } // DeleteBlob and remember to unlink its file
func (tx *Tx) Undoom(id [16]byte) error     { panic("skeleton") } // the file is gone

// Emit puts an audit event into the outbox of this transaction. Ack removes events up to seq after they reached the chain.
func (tx *Tx) Emit(event []byte) error { panic("skeleton") }
func (tx *Tx) Ack(upTo uint64) error   { panic("skeleton") }

// Stats are read from the head, cheap.
type Stats struct {
	Records, Files, Dirs, Versions, Blobs uint64
	LiveBytes, HistoryBytes               uint64 // logical sizes of current and of superseded versions
	Generation                            uint64
	LastInstant                           int64
}

func (tx *Tx) Stats() Stats { panic("skeleton") }

// Verify walks every record, checks the set hash and every reference; it calls report for each finding.
func (db *DB) Verify(ctx context.Context, report func(finding string)) error { panic("skeleton") }
