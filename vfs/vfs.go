// Package vfs is one account's encrypted, versioned volume: directories,
// files with history, symlinks, sealed names, durable commits. It knows keys
// and blobs, never policies. Semantics: docs/SEMANTICS.md.
package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/afero"

	"sallyport/crypto/keyring"
	"sallyport/vfs/extent"
)

// Errors that callers branch on, beside fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed, fs.ErrInvalid
// and syscall.ENOSPC. All are returned inside *fs.PathError with the client's path.
var (
	ErrIntegrity   = errors.New("vfs: stored data failed its integrity check")
	ErrNotEmpty    = errors.New("vfs: directory not empty")
	ErrIsDir       = errors.New("vfs: is a directory")
	ErrNotDir      = errors.New("vfs: not a directory")
	ErrLoop        = errors.New("vfs: too many levels of symbolic links")
	ErrNameTooLong = errors.New("vfs: name too long")
	ErrBadName     = errors.New("vfs: name not allowed")
	ErrBusy        = errors.New("vfs: name is being created by another session")
	ErrInterrupted = errors.New("vfs: an upload of this file was interrupted; upload it completely or remove it first")
	ErrReadOnly    = errors.New("vfs: volume takes no writes until it is reopened and verified")
	ErrTooMany     = errors.New("vfs: too many open files")
)

// Limits of names and paths.
const (
	MaxName     = 255  // bytes
	MaxPath     = 4096 // bytes
	MaxDepth    = 256  // components; deeper is ErrNameTooLong
	MaxSymlinks = 40
)

// Options of Open. Zero values mean defaults.
type Options struct {
	Dir          string // <state>/accounts
	Keyring      *keyring.Keyring
	Now          func() time.Time
	WindowBudget int64 // bytes of dirty data in all volumes; 0 = 256 MiB
}

// FS is all volumes of one state directory. Safe for concurrent use.
type FS struct{}

func Open(ctx context.Context, o Options) (*FS, error)                { return nil, errors.ErrUnsupported }
func (f *FS) Create(ctx context.Context, id keyring.AccountID) error  { return errors.ErrUnsupported }
func (f *FS) Destroy(ctx context.Context, id keyring.AccountID) error { return errors.ErrUnsupported }
func (f *FS) Volume(ctx context.Context, id keyring.AccountID) (*Volume, error) {
	return nil, errors.ErrUnsupported
}
func (f *FS) Close() error { panic("skeleton") }

// OnOutbox is called (not concurrently per volume, never under a lock) when a volume has audit events to drain.
func (f *FS) OnOutbox(fn func(v *Volume)) { panic("skeleton") }

// Volume is one account's tree. Opened on first use (verifies its records), closed when idle.
type Volume struct{}

func (v *Volume) ID() keyring.AccountID { panic("skeleton") }

// Drain hands the outbox in order to put; events are removed after put returned nil for them.
func (v *Volume) Drain(ctx context.Context, put func(event []byte) error) error { panic("skeleton") }
func (v *Volume) SetReserve(fn func(bytes, files int64) error)                  { panic("skeleton") }
func (v *Volume) Stats() Stats                                                  { panic("skeleton") }

// Verify walks everything: records, set hash, extents, every segment of every blob.
func (v *Volume) Verify(ctx context.Context, report func(finding string)) (*VerifyResult, error) {
	panic("skeleton")
}

type VerifyResult struct{ Records, Files, Versions, Blobs, Segments, Bytes, Findings uint64 }

// Stats of a volume, bytes unless said.
type Stats struct {
	LiveBytes, HistoryBytes, DoomedBytes   uint64
	Files, Dirs, Versions, Blobs, Damaged  uint64
	OpenHandles, OpenDrafts, PendingOutbox uint64
}

// Change is what a commit did; Note turns it into the audit event that rides in the same transaction.
type Change struct {
	Op      string // "upload", "mkdir", "remove", "rmdir", "rename", "symlink", "setattr", "copy", "truncate"
	Path    string // canonical
	To      string // rename, symlink target
	Bytes   uint64 // size of the new version
	Version uint64
	Result  string // "complete", "partial", "interrupted"
	At      time.Time
}

// ViewOptions identify a session to its volume.
type ViewOptions struct {
	Writer string                   // recorded in versions, e.g. the session id
	Note   func(Change) []byte      // nil result = no event; must be quick and without effects
	Broken func(upload string) bool // policy upload.interrupted: keep=true makes a visible partial, false discards; nil = keep
}

// View is one session's face of a volume: read-your-writes for its own open files, POSIX-shared state between its own handles.
// Paths are slash-separated, absolute or relative to "/", any bytes; ".." stops at "/". Safe for concurrent use.
// Implements afero.Fs and more.
type View struct{}

func (v *Volume) View(o ViewOptions) *View { panic("skeleton") }

// Close aborts what is still open as interrupted.
func (w *View) Close() error { panic("skeleton") }

func (w *View) Name() string                           { return "sallyport" }
func (w *View) Create(name string) (afero.File, error) { panic("skeleton") }
func (w *View) Open(name string) (afero.File, error)   { panic("skeleton") }
func (w *View) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	panic("skeleton")
}

// OpenFile2 style access without the interface: flag as os.O_*; perm bits for new files.
func (w *View) OpenHandle(ctx context.Context, name string, flag int, perm os.FileMode) (*File, error) {
	panic("skeleton")
}
func (w *View) Mkdir(name string, perm os.FileMode) error    { panic("skeleton") }
func (w *View) MkdirAll(name string, perm os.FileMode) error { panic("skeleton") }
func (w *View) Remove(name string) error                     { panic("skeleton") } // file, symlink or empty directory
func (w *View) RemoveFile(name string) error                 { panic("skeleton") } // ErrIsDir on a directory
func (w *View) Rmdir(name string) error                      { panic("skeleton") } // ErrNotDir on anything else
func (w *View) RemoveAll(name string) error                  { panic("skeleton") }

// Rename replaces an existing file or empty directory (posix-rename). RenameNew fails with fs.ErrExist instead (SFTP v3 RENAME).
func (w *View) Rename(from, to string) error                      { panic("skeleton") }
func (w *View) RenameNew(from, to string) error                   { panic("skeleton") }
func (w *View) Symlink(target, link string) error                 { panic("skeleton") }
func (w *View) Readlink(name string) (string, error)              { panic("skeleton") }
func (w *View) Stat(name string) (os.FileInfo, error)             { panic("skeleton") }
func (w *View) Lstat(name string) (os.FileInfo, error)            { panic("skeleton") }
func (w *View) Chmod(name string, mode os.FileMode) error         { panic("skeleton") }
func (w *View) Chown(name string, uid, gid int) error             { panic("skeleton") } // accepted, without effect
func (w *View) Chtimes(name string, atime, mtime time.Time) error { panic("skeleton") }

// SetAttr changes several attributes in one commit; nil = leave. Lset does not follow a final symlink.
func (w *View) SetAttr(name string, a AttrChange) error  { panic("skeleton") }
func (w *View) LsetAttr(name string, a AttrChange) error { panic("skeleton") }

type AttrChange struct {
	Size         *int64
	Mode         *os.FileMode
	Atime, Mtime *time.Time
}

// Resolve returns the canonical path: symlinks followed (the last component too if it exists and follow), "." and ".." gone,
// names as stored. The last component need not exist.
func (w *View) Resolve(name string, follow bool) (string, error) { panic("skeleton") }

// ReadDir streams a directory in batches without holding it all; order is not by name.
func (w *View) ReadDir(ctx context.Context, name string, fn func([]*Info) error) error {
	panic("skeleton")
}

// Usage for statvfs and AVBL: bytes and files used (live), history bytes.
func (w *View) Usage() (bytes, files, history uint64) { panic("skeleton") }

// Info implements fs.FileInfo; Sys returns the Info itself.
type Info struct{}

func (i *Info) Name() string       { panic("skeleton") }
func (i *Info) Size() int64        { panic("skeleton") }
func (i *Info) Mode() fs.FileMode  { panic("skeleton") }
func (i *Info) ModTime() time.Time { panic("skeleton") }
func (i *Info) IsDir() bool        { panic("skeleton") }
func (i *Info) Sys() any           { return i }
func (i *Info) ATime() time.Time   { panic("skeleton") }
func (i *Info) Created() time.Time { panic("skeleton") }
func (i *Info) Inode() uint64      { panic("skeleton") }
func (i *Info) Version() uint64    { panic("skeleton") }
func (i *Info) Partial() bool      { panic("skeleton") } // an interrupted upload, resumable

// File is an open handle. Safe for concurrent use. Implements afero.File, io.ReaderFrom, io.WriterTo and TransferError.
type File struct{}

func (f *File) Name() string                              { panic("skeleton") }
func (f *File) Read(p []byte) (int, error)                { panic("skeleton") }
func (f *File) ReadAt(p []byte, off int64) (int, error)   { panic("skeleton") }
func (f *File) Write(p []byte) (int, error)               { panic("skeleton") }
func (f *File) WriteAt(p []byte, off int64) (int, error)  { panic("skeleton") }
func (f *File) WriteString(s string) (int, error)         { panic("skeleton") }
func (f *File) Seek(off int64, whence int) (int64, error) { panic("skeleton") }
func (f *File) ReadFrom(r io.Reader) (int64, error)       { panic("skeleton") }
func (f *File) WriteTo(w io.Writer) (int64, error)        { panic("skeleton") }
func (f *File) Readdir(n int) ([]os.FileInfo, error)      { panic("skeleton") }
func (f *File) Readdirnames(n int) ([]string, error)      { panic("skeleton") }
func (f *File) Stat() (os.FileInfo, error)                { panic("skeleton") }
func (f *File) Truncate(size int64) error                 { panic("skeleton") }
func (f *File) SetAttr(a AttrChange) error                { panic("skeleton") }
func (f *File) Sync() error                               { panic("skeleton") } // commits and publishes

// TransferError tells that the transfer broke: Close then ends it as interrupted.
func (f *File) TransferError(err error) { panic("skeleton") }

// Close commits: success means that data and metadata survive power loss.
func (f *File) Close() error { panic("skeleton") }

// Layout is for tools and tests.
func (f *File) Layout() extent.Layout { panic("skeleton") }

var _ afero.Fs = (*View)(nil)
var _ afero.File = (*File)(nil)
