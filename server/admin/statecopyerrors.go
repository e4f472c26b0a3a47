package admin

import (
	"errors"
	"io/fs"
	"strings"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/copier"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// explainCopy explains what only a copy of the state can meet.
func explainCopy(e *Error, err error) bool {
	var damage *audit.DamageError
	switch {
	case errors.Is(err, copier.ErrRunning):
		e.Code, e.Message, e.Hint = CodeConflict, "a copy of the state is being made already", "wait for its end; `sallyport audit search --action state-copy` says who makes it"
	case errors.Is(err, copier.ErrNoLease):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "copier: "), "make the copy again: it goes on with what is there"
	case errors.Is(err, copier.ErrUnsteady):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "copier: "), "make the copy when no keys are being rotated"
	case errors.Is(err, statecopy.ErrOther):
		e.Code, e.Message, e.Hint = CodeRefused, err.Error(), "copy to another directory; or, if nobody will ever restore that copy, add --replace"
	case errors.Is(err, statecopy.ErrGone):
		e.Code, e.Message = CodeNotFound, "the account is gone"
	case errors.Is(err, statecopy.ErrAtSource):
		e.Code, e.Message = CodeFindings, strings.TrimPrefix(err.Error(), statecopy.ErrAtSource.Error()+": ")
	case errors.As(err, &damage):
		e.Code, e.Message, e.Hint = CodeFindings, damage.Error(), "`sallyport audit verify` says more"
	default:
		return false
	}
	return true
}

// copyError has damage of what was to be copied say so: nothing was put in force, and the copy before stays.
func copyError(err error) error {
	if errors.Is(err, vfs.ErrIntegrity) || errors.Is(err, policydb.ErrDamaged) || errors.Is(err, keyring.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		return &Error{Code: CodeFindings, Message: strings.TrimPrefix(err.Error(), "vfs: "), Hint: "the copy before stays in force; mend this first: `sallyport vfs verify` says what is damaged", cause: err}
	}
	return err
}
