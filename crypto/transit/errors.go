package transit

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	// ErrConfig means that the configuration cannot be used; the text says why.
	ErrConfig = errors.New("transit: unusable configuration")
	// ErrUnavailable means that the service cannot be asked now: unreachable,
	// sealed, overloaded. Trying again later may help.
	ErrUnavailable = errors.New("transit: service unavailable")
	// ErrForbidden means that the token does not allow what was asked.
	ErrForbidden = errors.New("transit: permission denied")
	// ErrToken is an ErrForbidden: there is no such token, or no more, or not for this machine.
	ErrToken = fmt.Errorf("%w: the token has ended, was revoked, or may not be used from here", ErrForbidden)
	// ErrNoKey means that the mount or the key does not exist.
	ErrNoKey = errors.New("transit: no such key")
	// ErrUnsuitable means that the key exists and is of a kind that will not do.
	ErrUnsuitable = errors.New("transit: unsuitable key")
	// ErrSoftDeleted means that the key is there, and must not be used until its administrator brings it back. Of OpenBao.
	ErrSoftDeleted = errors.New("transit: key is soft-deleted")
	// ErrDestroyed means that the version of the key that wrapped a root is gone.
	ErrDestroyed = errors.New("transit: key version destroyed")
	// ErrTooOld means that the version of the key that wrapped a root is there, or may be, and must not decrypt.
	ErrTooOld = errors.New("transit: key version not allowed to decrypt")
	// ErrAnswer means that the service answered something that makes no sense.
	ErrAnswer = errors.New("transit: unexpected answer")
)

// Hint says what an operator can do about an error of this package; "" if it is none.
func Hint(err error) string {
	for _, h := range []struct {
		err  error
		hint string
	}{
		{ErrDestroyed, "this is an old copy of the state directory: what opened it was destroyed on purpose"},
		{ErrTooOld, "where this is the state in use, somebody has raised min_decryption_version of the key: lower it again there; where it is an old copy, it was done on purpose"},
		{ErrSoftDeleted, "its administrator can bring the key back: `bao write -f MOUNT/keys/KEY/soft-delete-restore`"},
		{ErrConfig, "check seal.transit (docs/OPERATIONS.md, Key services)"},
		{ErrUnavailable, "look after the key service: is it up, unsealed, and reachable at seal.transit.address? (`vault status`, `bao status`)"},
		{ErrForbidden, "seal.transit.token_file needs a token that is valid and may use the key (docs/OPERATIONS.md, Key services, has its policy; `vault token lookup` shows when it ends)"},
		{ErrNoKey, "check seal.transit.mount, key and namespace (`vault list MOUNT/keys`); what a key wrapped that was deleted there can be opened with a recovery kit only"},
		{ErrUnsuitable, "make a key of type aes256-gcm96, neither derived nor exportable, for this server alone (docs/OPERATIONS.md, Key services)"},
		{ErrAnswer, "is seal.transit.address a Vault (1.13 or later) or OpenBao, and nothing between that answers in its place?"},
	} {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}

// apiError is an answer that is not 2xx.
type apiError struct {
	status   int
	messages []string
	kind     error
	after    time.Duration // Retry-After; 0 = none
}

func (e *apiError) Error() string {
	text := fmt.Sprintf("%v (HTTP %d", e.kind, e.status)
	for _, m := range e.messages {
		text += ": " + m
	}
	return text + ")"
}

func (e *apiError) Unwrap() error { return e.kind }

// says tells whether the service's words have one of these in them. They are what
// it has: its status is 400 for many things.
func (e *apiError) says(words ...string) bool {
	return slices.ContainsFunc(e.messages, func(m string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(m, w) })
	})
}

// key32 is what could be a root key: 32 bytes in Base64, also within a string of JSON.
var key32 = regexp.MustCompile(`[A-Za-z0-9+/_\\-]{43,}(=|\\u003[dD])`)

// tidy makes the words of another program fit to be shown: one line, short, and
// without the secrets that were sent to it.
func tidy(s string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[redacted]")
		}
	}
	s = key32.ReplaceAllString(s, "[redacted]")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
