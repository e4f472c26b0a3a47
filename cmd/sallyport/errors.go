package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"sallyport/crypto/keyring"
	"sallyport/crypto/sealhelper"
	"sallyport/crypto/transit"
	"sallyport/server"
	"sallyport/server/admin"
)

// fail prints err as operators meet errors and returns the exit code.
func (a *app) fail(err error) int {
	e := explain(err)
	if a.output == "json" {
		_ = json.NewEncoder(a.stderr).Encode(map[string]*admin.Error{"error": e}) // a broken stderr cannot be reported
		return e.Code.Exit()
	}
	fmt.Fprintf(a.stderr, "sallyport: %s %s\n", a.colored("31", "error:"), clean(e.Message, true))
	if e.Hint != "" {
		fmt.Fprintf(a.stderr, "sallyport: %s %s\n", a.colored("36", "hint:"), clean(e.Hint, true))
	}
	return e.Code.Exit()
}

// explain gives every error a code and, where there is a way out, a hint.
func explain(err error) *admin.Error {
	var e *admin.Error
	if errors.As(err, &e) {
		return e
	}
	e = &admin.Error{Code: admin.CodeInternal, Message: err.Error()}
	var configErrors server.ConfigErrors
	var listen *server.ListenError
	var state *server.StateError
	var path *fs.PathError
	switch {
	case errors.As(err, &configErrors):
		e.Code, e.Hint = admin.CodeInvalid, configErrors.Hint()
	case errors.As(err, &listen):
		e.Code, e.Hint = admin.CodeRefused, listen.Hint()
	case copyFailed(e, err):
	case errors.As(err, &state):
		e.Hint = server.SealHint(err)
	case errors.Is(err, keyring.ErrInUse):
		e.Code, e.Hint = admin.CodeRefused, "one server works on one state directory; stop the other one or use another --state"
	case errors.Is(err, server.ErrNoState):
		e.Code, e.Hint = admin.CodeNotFound, "make it with `sallyport init`, or try `sallyport demo`"
	case errors.Is(err, server.ErrNeedsPeople):
		e.Code, e.Hint = admin.CodeSealed, "this needs the server that was unsealed: ask it without --offline, or start it and unseal it"
	case errors.Is(err, keyring.ErrNotFIPS): // the code that a server gives to it
		e.Code, e.Hint = admin.CodeInvalid, "docs/FIPS.md lists what is not available with GODEBUG=fips140=only"
	case errors.Is(err, transit.ErrConfig), errors.Is(err, sealhelper.ErrConfig):
		e.Code, e.Hint = admin.CodeInvalid, server.SealHint(err)
	case transit.Hint(err) != "":
		e.Code, e.Hint = admin.CodeSealed, transit.Hint(err)
	case errors.Is(err, sealhelper.ErrUnavailable), errors.Is(err, sealhelper.ErrDenied), errors.Is(err, sealhelper.ErrHelper):
		e.Code, e.Hint = admin.CodeSealed, "try the helper by hand (docs/SEAL-HELPER.md)"
	case errors.Is(err, keyring.ErrKeyFile):
		e.Code, e.Hint = admin.CodeSealed, server.SealHint(err)
	case errors.Is(err, keyring.ErrWrongKey):
		e.Code, e.Hint = admin.CodeSealed, server.SealHint(err)
	case errors.Is(err, keyring.ErrDamaged):
		e.Hint = server.SealHint(err)
	case errors.Is(err, keyring.ErrSealed):
		e.Code = admin.CodeSealed
	case errors.Is(err, server.ErrWeakKey):
		e.Code, e.Hint = admin.CodeInvalid, "use RSA with 2048 bits or more, ECDSA P-256 or Ed25519"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Hint = admin.CodeTimeout, "raise --timeout"
	case errors.Is(err, context.Canceled), errors.Is(err, errInterrupted):
		e.Code, e.Message = admin.CodeTimeout, "interrupted"
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &path):
		e.Code, e.Message = admin.CodeNotFound, "no such file: "+path.Path
	case errors.Is(err, syscall.EROFS):
		e.Hint = "the filesystem is mounted read-only"
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Hint = admin.CodeRefused, "this user may not: check owner and mode, run as the server's own user or root, or work elsewhere (--state; init: --root)"
	case errors.Is(err, syscall.ENOTDIR):
		e.Code, e.Hint = admin.CodeInvalid, "a file is where a directory should be: choose another place with --state"
	}
	return e
}
