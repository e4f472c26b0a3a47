package admin

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"sallyport/crypto/escrow"
	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/vfs"
)

// explain turns an error of the floors below into one for the operator. What
// is not known is internal: logged under a reference, never shown.
func (a answerer) explain(name string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = &Error{Message: err.Error(), cause: err}
	var parse *policy.ParseError
	var weak *policy.WeakPasswordError
	var denial *policy.Denial
	switch {
	case errors.As(err, &parse):
		e.Code, e.Message = CodeInvalid, parse.Excerpt()
	case errors.As(err, &weak):
		e.Code, e.Message, e.Hint = CodeInvalid, weak.Error(), "choose another password, or change the rule with `sallyport policy set`"
	case errors.As(err, &denial):
		e.Code, e.Message, e.Hint = CodeRefused, denial.Error(), denial.Hint
	case errors.Is(err, policydb.ErrNoAccount):
		e.Code, e.Message, e.Hint = CodeNotFound, "no such account", "`sallyport account list` shows them"
	case errors.Is(err, policydb.ErrHeld), errors.Is(err, vfs.ErrHeld):
		e.Code, e.Message, e.Hint = CodeRefused, "the account is on hold, or something in it: it must not be destroyed", "`sallyport backup list --holds` shows what is on hold and why, `sallyport backup release` ends a hold"
	case errors.Is(err, policydb.ErrNoHold):
		e.Code, e.Message, e.Hint = CodeNotFound, "no such hold", "`sallyport backup list --holds` shows them"
	case errors.Is(err, policydb.ErrBadHold):
		e.Code, e.Message, e.Hint = CodeInvalid, strings.TrimPrefix(err.Error(), "policydb: "), "a path begins with a slash, as the client sees it"
	case errors.Is(err, policydb.ErrNoKey):
		e.Code, e.Message, e.Hint = CodeNotFound, "the account has no such key", "`sallyport account keys list NAME` shows them"
	case errors.Is(err, policydb.ErrBadHash):
		e.Code, e.Message, e.Hint = CodeInvalid, strings.TrimPrefix(err.Error(), "policydb: "), "bcrypt ($2a$, $2b$, $2y$) and argon2id can be imported; for anything else set a password with --must-change"
	case errors.Is(err, policydb.ErrNoAuthority):
		e.Code, e.Message, e.Hint = CodeNotFound, "no such authority or revocation", "`sallyport ca list` shows them"
	case errors.Is(err, policydb.ErrBadRevocation):
		e.Code, e.Message, e.Hint = CodeInvalid, strings.TrimPrefix(err.Error(), "policydb: "), "`ssh-keygen -L -f CERT` shows serial and key id"
	case errors.Is(err, policydb.ErrNoPassword):
		e.Code, e.Message = CodeNotFound, "the account has no password"
	case errors.Is(err, policydb.ErrHasSecond):
		e.Code, e.Message, e.Hint = CodeInvalid, "the account has a second factor already", "`sallyport account 2fa reset NAME` takes it away first; its owner then needs the new one"
	case errors.Is(err, policydb.ErrNoSecond):
		e.Code, e.Message, e.Hint = CodeNotFound, "the account has no second factor", "`sallyport account 2fa enable NAME` gives it one"
	case errors.Is(err, policydb.ErrExists):
		e.Code, e.Message = CodeInvalid, "the account exists already"
	case errors.Is(err, policydb.ErrHasPolicy):
		e.Code, e.Message, e.Hint = CodeInvalid, "the policy has rules for this name, though there is no such account", "look at them with `sallyport policy show`; remove them first, so that nobody inherits rights by accident"
	case errors.Is(err, policydb.ErrBadName):
		e.Code, e.Message = CodeInvalid, "not an account name: 1 to 64 of a-z A-Z 0-9 . _ @ -"
	case errors.Is(err, policydb.ErrBadKey):
		e.Code, e.Message = CodeInvalid, strings.Replace(err.Error(), "policydb: ", "", 1)
	case errors.Is(err, policydb.ErrConflict):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "policydb: "), "look at what changed with `sallyport policy history` and `sallyport policy diff`, then try again"
	case errors.Is(err, policydb.ErrPending):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "policydb: "), "`sallyport policy confirm REVISION` keeps it, `sallyport policy rollback` takes it back; then try again"
	case errors.Is(err, policydb.ErrNotPending):
		e.Code, e.Message, e.Hint = CodeNotFound, "no change waits for a confirmation", "it was confirmed, or taken back: `sallyport policy history` shows which"
	case errors.Is(err, policydb.ErrNoRevision):
		e.Code, e.Message, e.Hint = CodeNotFound, "no such revision", "`sallyport policy history` shows them"
	case errors.Is(err, policydb.ErrReadOnly), errors.Is(err, vfs.ErrReadOnly):
		e.Code, e.Message, e.Hint = CodeInternal, "a write to disk failed, so nothing more is written", "see the log, check the disk, and restart the server: it verifies everything when it opens"
	case errors.Is(err, keyring.ErrWeakPassphrase), errors.Is(err, escrow.ErrRecipient), errors.Is(err, escrow.ErrNotFIPS):
		e.Code, e.Message = CodeInvalid, err.Error()
	case errors.Is(err, keyring.ErrNoKit):
		e.Code, e.Message, e.Hint = CodeNotFound, "no such recovery kit", "`sallyport seal status` shows them"
	case errors.Is(err, keyring.ErrKeyFile), errors.Is(err, keyring.ErrOldRoot), errors.Is(err, keyring.ErrPending):
		e.Code, e.Message = CodeRefused, err.Error()
	case errors.Is(err, keyring.ErrSealed):
		e.Code, e.Message = CodeSealed, "the server is sealed"
	case explainCopy(e, err):
	case errors.Is(err, vfs.ErrBusy):
		e.Code, e.Message, e.Hint = CodeInternal, "the account's sessions did not end in time; its keys are destroyed, its files are left as noise", "restart the server and remove the directory that the log names"
	case errors.Is(err, syscall.ENOSPC):
		e.Code, e.Message, e.Hint = CodeInternal, "the disk is full", "make room, then try again"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		e.Code, e.Message, e.Hint = CodeInternal, "the state directory cannot be written", "check its owner, mode and mount"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Code, e.Message = CodeTimeout, "the operation was interrupted"
	default:
		return a.internal(name, err)
	}
	if e.Code == CodeInternal {
		a.log.Error("admin operation failed", "operation", name, "error", err)
	}
	return e
}
