package sftpd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/pkg/sftp"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// Status codes of version 3: draft-ietf-secsh-filexfer-02, section 7.
const (
	fxOK               = 0
	fxEOF              = 1
	fxNoSuchFile       = 2
	fxPermissionDenied = 3
	fxFailure          = 4
	fxBadMessage       = 5
	fxOpUnsupported    = 8
)

// status is an answer to the client: a code and one sentence. As an error it
// passes through pkg/sftp unchanged, which sends Error() as the text and takes
// the code from the library's own error in the chain.
type status struct {
	code uint32
	text string
}

func (s *status) Error() string { return s.text }

// Unwrap gives pkg/sftp the code. Its error type is unexported, its values are
// not.
func (s *status) Unwrap() error {
	switch s.code {
	case fxEOF:
		return sftp.ErrSSHFxEOF
	case fxNoSuchFile:
		return sftp.ErrSSHFxNoSuchFile
	case fxPermissionDenied:
		return sftp.ErrSSHFxPermissionDenied
	case fxBadMessage:
		return sftp.ErrSSHFxBadMessage
	case fxOpUnsupported:
		return sftp.ErrSSHFxOpUnsupported
	}
	return sftp.ErrSSHFxFailure
}

// What this package refuses by itself.
var (
	errBadMessage   = &status{fxBadMessage, "malformed packet"}
	errBadHandle    = &status{fxFailure, "no such handle"}
	errNotFile      = &status{fxFailure, "the handle is a directory"}
	errNotDirectory = &status{fxFailure, "the handle is not a directory"}
	errNotReadable  = &status{fxPermissionDenied, "the file is not open for reading"}
	errNotWritable  = &status{fxPermissionDenied, "the file is not open for writing"}
	errHandles      = &status{fxFailure, "too many open handles in this session; close some first"}
	errOffset       = &status{fxFailure, "offset beyond the largest file size"}
	errUnknownOp    = &status{fxOpUnsupported, "operation not supported"}
	errHardlink     = &status{fxOpUnsupported, "hard links are not supported; use a symbolic link or copy-data"}
	errExtension    = &status{fxOpUnsupported, "extension not supported"}
	errHash         = &status{fxOpUnsupported, "none of the hash algorithms is supported; use sha256 or sha512"}
	errBlockSize    = &status{fxFailure, "block size must be 0 or at least 256, with fewer blocks"}
	errOverlap      = &status{fxFailure, "source and destination overlap"}
	errNotOwner     = &status{fxNoSuchFile, "only the home directory of the own account is known"}
	errGone         = &status{fxFailure, "the session is ending"}
)

// statuses is the table error → code and text. Order matters only where one
// error wraps another.
var statuses = []struct {
	err error
	status
}{
	{io.EOF, status{fxEOF, "end of file"}},
	{vfs.ErrIntegrity, status{fxFailure, "stored data is damaged; the operator has been told"}},
	{vfs.ErrNotEmpty, status{fxFailure, "directory not empty"}},
	{vfs.ErrIsDir, status{fxFailure, "is a directory"}},
	{vfs.ErrNotDir, status{fxFailure, "not a directory"}},
	{vfs.ErrLoop, status{fxFailure, "too many levels of symbolic links"}},
	{vfs.ErrNameTooLong, status{fxFailure, "name too long"}},
	{vfs.ErrBadName, status{fxFailure, "name not allowed"}},
	{vfs.ErrBusy, status{fxFailure, "in use by another session; try again"}},
	{vfs.ErrInterrupted, status{fxFailure, "an upload of this file was interrupted; upload it completely or remove it first"}},
	{vfs.ErrReadOnly, status{fxFailure, "no writes until the operator has checked the storage"}},
	{vfs.ErrTooManyPast, status{fxFailure, "too many old versions open in all sessions of this account; close some first"}},
	{vfs.ErrTooMany, status{fxFailure, "too many open files"}},
	{vfs.ErrQuota, status{fxFailure, "quota exceeded"}},
	{session.ErrSealed, status{fxFailure, "the server is sealed"}},
	{session.ErrAudit, status{fxFailure, "nothing can be recorded, so nothing may happen; the operator has been told"}},
	{session.ErrClosed, status{fxFailure, "the session is ending"}},
	{keyring.ErrSealed, status{fxFailure, "the server is sealed"}},
	{session.ErrNoHistory, status{fxNoSuchFile, "this account keeps nothing of the past (backup.retention_days is 0)"}},
	{vfs.ErrNotKept, status{fxNoSuchFile, "older than what is kept"}},
	{session.ErrInstant, status{fxNoSuchFile, "no such time: write it like 2026-11-20T1430Z, in UTC"}},
	{vfs.ErrNothingYet, status{fxNoSuchFile, "nothing had been stored at that time yet"}},
	{vfs.ErrFuture, status{fxNoSuchFile, "that time has not come yet"}},
	{vfs.ErrPurged, status{fxNoSuchFile, "no longer kept: retention has let it go"}},
	{fs.ErrNotExist, status{fxNoSuchFile, "no such file or directory"}},
	{fs.ErrPermission, status{fxPermissionDenied, "permission denied"}},
	{fs.ErrExist, status{fxFailure, "already exists"}},
	{fs.ErrClosed, status{fxFailure, "no such handle"}},
	{fs.ErrInvalid, status{fxFailure, "not possible here"}},
	{syscall.ENOSPC, status{fxFailure, "no space left"}},
	{syscall.EFBIG, status{fxFailure, "file too large"}},
	{errors.ErrUnsupported, status{fxOpUnsupported, "operation not supported"}},
	{context.Canceled, status{fxFailure, "the session is ending"}},
}

// reporter turns errors into statuses. Whatever the table does not know is
// logged under a reference, and the client sees the reference only.
type reporter struct{ log *slog.Logger }

// status is nil for a nil error.
func (r reporter) status(op string, err error) *status {
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[*status](err); ok {
		return s
	}
	if d, ok := errors.AsType[*policy.Denial](err); ok {
		return &status{fxPermissionDenied, d.Error()}
	}
	if at, ok := session.OldestWhole(err); ok {
		return &status{fxNoSuchFile, "some of that time was purged; the oldest that is whole is " + at}
	}
	for i := range statuses {
		if errors.Is(err, statuses[i].err) {
			if statuses[i].err == vfs.ErrIntegrity {
				r.log.Error("integrity error", "op", op, "error", unnamed(err))
			}
			return &statuses[i].status
		}
	}
	ref := rand.Text()[:10]
	r.log.Error("request failed", "op", op, "reference", ref, "error", unnamed(err))
	return internal(ref)
}

// unnamed is err for the log, without paths: names are sealed on disk.
func unnamed(err error) error {
	for {
		pe, ok := errors.AsType[*fs.PathError](err)
		if !ok {
			return err
		}
		err = pe.Err
	}
}

// panicked is the status for a handler that panicked with v.
func (r reporter) panicked(op string, v any) *status {
	ref := rand.Text()[:10]
	r.log.Error("handler panicked", "op", op, "reference", ref, "panic", panicText(v), "stack", string(debug.Stack()))
	return internal(ref)
}

// panicText is what the log says of a panic: those of the runtime quote nothing but numbers and types, any other may quote
// what the client sent.
func panicText(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

func internal(ref string) *status {
	return &status{fxFailure, "internal error, reference " + ref}
}

// statusPacket is the STATUS reply; nil is success.
func statusPacket(buf []byte, id uint32, s *status) packet {
	if s == nil {
		s = &status{fxOK, "OK"}
	}
	return newPacket(buf, fxpStatus, id).uint32(s.code).string(s.text).string("en")
}
