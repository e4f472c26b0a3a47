package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/content"
	"sallyport/vfs/meta"
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
	ErrBusy        = errors.New("vfs: busy, try again")
	ErrInterrupted = errors.New("vfs: an upload of this file was interrupted; upload it completely or remove it first")
	ErrReadOnly    = errors.New("vfs: volume takes no writes until it is reopened and verified")
	ErrTooMany     = errors.New("vfs: too many open files")
	// ErrTooManyPast means that all sessions of the account together have as much of the past open as one account may. It is an ErrTooMany.
	ErrTooManyPast = fmt.Errorf("vfs: too many old versions open in all sessions of the account: %w", ErrTooMany)
	// ErrPurged means that what a handle was opened on has been purged meanwhile. It is an fs.ErrNotExist.
	ErrPurged = fmt.Errorf("vfs: purged since it was opened: %w", fs.ErrNotExist)
	// ErrNotKept means that an instant, or a version of that time, is older than what is kept. It is an fs.ErrNotExist.
	ErrNotKept = fmt.Errorf("vfs: older than what is kept: %w", fs.ErrNotExist)
	// ErrNothingYet means that an instant is before the volume was made. It is an fs.ErrNotExist.
	ErrNothingYet = fmt.Errorf("vfs: nothing was stored yet: %w", fs.ErrNotExist)
	// ErrFuture means that an instant has not come yet. It is an fs.ErrNotExist.
	ErrFuture = fmt.Errorf("vfs: not in the past: %w", fs.ErrNotExist)
	// ErrRepairing means that a repair has the volume for itself.
	ErrRepairing = errors.New("vfs: the volume is being repaired")
	// ErrQuota means that the reserve function refused; its own error is wrapped beside it.
	ErrQuota = errors.New("vfs: quota exceeded")
	// ErrIO is a failure of the storage below that has no better name. Its text is for operators and names no host path.
	ErrIO = errors.New("vfs: storage failure")
)

// sentinels pass to the caller as they are. Everything else becomes ErrIO, so
// that no text of a lower layer (which may name a host path) leaves the package.
var sentinels = []error{
	ErrIntegrity, ErrNotEmpty, ErrIsDir, ErrNotDir, ErrLoop, ErrNameTooLong, ErrBadName, ErrBusy,
	ErrInterrupted, ErrReadOnly, ErrTooManyPast, ErrTooMany, ErrPurged, ErrNotKept, ErrFuture, ErrNothingYet, ErrIO, ErrRepairing,
	syscall.ENOSPC, syscall.EFBIG,
	context.Canceled, context.DeadlineExceeded, io.EOF,
	keyring.ErrSealed, keyring.ErrNoAccount,
}

// public turns any error of a lower layer into one that callers branch on and clients may see.
func public(err error) error {
	if j, ok := errors.AsType[judgement](err); ok {
		return j // taken out where it is returned
	}
	var q *quotaError
	var v *volumeError
	var w *NotWhole
	switch {
	case err == nil:
		return nil
	case errors.As(err, &q):
		return q
	case errors.As(err, &v):
		return v.err
	case errors.As(err, &w):
		return w
	case errors.Is(err, meta.ErrIntegrity), errors.Is(err, content.ErrIntegrity), errors.Is(err, record.ErrAuth):
		return ErrIntegrity
	case errors.Is(err, meta.ErrReadOnly), errors.Is(err, blob.ErrReadOnly):
		return ErrReadOnly
	case errors.Is(err, meta.ErrLocked), errors.Is(err, content.ErrBudget):
		return ErrBusy
	case errors.Is(err, syscall.EDQUOT):
		return syscall.ENOSPC // the host's quota, not the account's: to the client the disk is full
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	return storageError(err)
}

// storageError keeps what an operator needs of err and drops every host path.
func storageError(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	var se *os.SyscallError
	switch {
	case errors.As(err, &pe):
		return fmt.Errorf("%w: %s: %w", ErrIO, pe.Op, bare(pe.Err))
	case errors.As(err, &le):
		return fmt.Errorf("%w: %s: %w", ErrIO, le.Op, bare(le.Err))
	case errors.As(err, &se):
		return fmt.Errorf("%w: %s: %w", ErrIO, se.Syscall, bare(se.Err))
	}
	var en syscall.Errno
	if errors.As(err, &en) {
		return fmt.Errorf("%w: %w", ErrIO, en)
	}
	return fmt.Errorf("%w: %T", ErrIO, err)
}

// bare reduces err to the error number in it, whose text names nothing.
func bare(err error) error {
	var en syscall.Errno
	if errors.As(err, &en) {
		return en
	}
	return fmt.Errorf("%T", err)
}

// plain are the standard errors that the package itself decides on. They are
// not in sentinels: below the volume they mean something else (a blob file
// that does not exist is damage, not a missing name).
var plain = []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed, fs.ErrInvalid}

// fail wraps err once with the operation and the client's path.
func fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	for _, p := range plain {
		if err == p { //nolint:errorlint // exactly ours; a wrapped one comes from below
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	return &fs.PathError{Op: op, Path: path, Err: public(err)}
}

// quotaError carries the refusal of the reserve function.
type quotaError struct{ cause error }

func (e *quotaError) Error() string   { return ErrQuota.Error() }
func (e *quotaError) Unwrap() []error { return []error{ErrQuota, e.cause} }

// volumeError is why a volume is refused: a text for the operator, and what the client may know.
type volumeError struct {
	text string
	err  error
}

func (e *volumeError) Error() string { return "vfs: " + e.text + ": " + e.err.Error() }
func (e *volumeError) Unwrap() error { return e.err }
