package admin

import (
	"encoding/json"
	"net/http"
)

// Code says what kind of error it is. Codes and their exit codes are a
// documented interface: they never change meaning.
type Code string

const (
	CodeFindings    Code = "findings"    // differs, or a check found problems
	CodeUsage       Code = "usage"       // the command line is wrong
	CodeRefused     Code = "refused"     // policy or rights
	CodeNotFound    Code = "not-found"   // no such account, key, session …
	CodeConflict    Code = "conflict"    // the revision moved on
	CodeSealed      Code = "sealed"      // no key
	CodeUnreachable Code = "unreachable" // no server answers
	CodeInvalid     Code = "invalid"     // input does not validate
	CodeTimeout     Code = "timeout"     // interrupted or timed out
	CodeInternal    Code = "internal"    // everything else
)

// Exit is the process exit code of c (docs/OPERATIONS.md "Exit codes").
func (c Code) Exit() int {
	switch c {
	case CodeFindings:
		return 1
	case CodeUsage:
		return 2
	case CodeRefused:
		return 3
	case CodeNotFound:
		return 4
	case CodeConflict:
		return 5
	case CodeSealed:
		return 6
	case CodeUnreachable:
		return 7
	case CodeInvalid:
		return 8
	case CodeTimeout:
		return 9
	default:
		return 10
	}
}

// status is the HTTP status that goes with c, for people with curl.
func (c Code) status() int {
	switch c {
	case CodeUsage, CodeInvalid:
		return http.StatusBadRequest
	case CodeRefused:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeConflict:
		return http.StatusConflict
	case CodeSealed:
		return http.StatusServiceUnavailable
	case CodeTimeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// Error is an error that an operator reads: what is wrong, and what to do.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	cause   error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.cause }

// Errorf is for errors without a cause worth keeping.
func newError(code Code, message, hint string) *Error {
	return &Error{Code: code, Message: message, Hint: hint}
}

// errorBody is how an error travels.
type errorBody struct {
	Error *Error `json:"error"`
}

func writeError(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.status())
	_ = json.NewEncoder(w).Encode(errorBody{e}) // the peer went away: nothing to tell
}
