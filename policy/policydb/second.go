package policydb

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/crypto/approved"
)

var (
	// ErrNoSecond: the account has no second factor.
	ErrNoSecond = errors.New("policydb: the account has no second factor")
	// ErrHasSecond: it has one already, which must be reset first: whoever enrols anew must know that the old one ends.
	ErrHasSecond = errors.New("policydb: the account has a second factor already")
	// ErrWrongCode: neither the code of now nor a recovery code.
	ErrWrongCode = errors.New("policydb: wrong code")
	// ErrUsedCode: a right code that was used before, or an older one.
	ErrUsedCode = errors.New("policydb: the code was used already")
)

const (
	// CodeDigits and codePeriod are what every authenticator knows. RFC 6238, section 4; RFC 4226, section 5.3.
	CodeDigits = 6
	codePeriod = 30 // seconds
	// codeWindow is how many periods a clock may be off, either way. RFC 6238, section 5.2 asks for at most one for the
	// delay of the network; the other is for phones.
	codeWindow = 1

	recoveryCodes = 10
)

// Second is the second factor of an account (RFC 6238).
type Second struct {
	Algorithm string    `json:"algorithm"` // SHA1, or SHA256 where FIPS 140-3 mode forbids the former
	Secret    []byte    `json:"secret"`
	Enabled   time.Time `json:"enabled"`
	// Step is the last one whose code was used: that code and older ones are refused. RFC 6238, section 5.2.
	Step uint64 `json:"step"`
	// Recovery are hashes of codes that work once each.
	Recovery [][]byte `json:"recovery"`
	// Version tells one enrolment from the next.
	Version uint64 `json:"version"`
}

// String keeps the secret out of logs.
func (*Second) String() string { return "[redacted]" }

// Enrolment is what the owner of an account needs, and is told once.
type Enrolment struct {
	URI      string // otpauth://
	Recovery []string
}

func (Enrolment) String() string { return "[redacted]" }

// EnableSecond gives the account a second factor; from then on no login works without it, and sessions without it end.
// issuer is how authenticators show the server.
func (db *DB) EnableSecond(ctx context.Context, name, issuer, who string) (*Enrolment, error) {
	s := &Second{Algorithm: "SHA1", Secret: make([]byte, 20), Enabled: db.o.Now().UTC().Round(0)}
	if approved.Only() {
		s.Algorithm, s.Secret = "SHA256", make([]byte, 32)
	}
	rand.Read(s.Secret)
	e := &Enrolment{URI: s.uri(issuer, name)}
	err := db.edit(ctx, name, who, func(a *Account) error {
		if a.Second != nil {
			return ErrHasSecond
		}
		s.Recovery, e.Recovery = nil, nil
		for range recoveryCodes {
			c := newRecoveryCode()
			e.Recovery = append(e.Recovery, c)
			s.Recovery = append(s.Recovery, recoveryHash(a, c))
		}
		a.secondVersion++
		s.Version = a.secondVersion
		a.Second = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ResetSecond takes the second factor away; sessions that came in with it end. Where the policy asks for one, the account is
// out until it is enabled again.
func (db *DB) ResetSecond(ctx context.Context, name, who string) error {
	return db.edit(ctx, name, who, func(a *Account) error {
		if a.Second == nil {
			return ErrNoSecond
		}
		a.Second = nil
		return nil
	})
}

// UseCode takes a code of the authenticator, or a recovery code. That it was used is durable on return, so neither a
// replay nor a restart makes it good again. left is how many recovery codes remain; recovery whether one was used.
// ErrWrongCode, ErrUsedCode, ErrNoSecond; approved.ErrNotFIPS for codes of HMAC-SHA-1 under fips140=only, where recovery codes go on
// working.
func (db *DB) UseCode(ctx context.Context, name, code string) (recovery bool, left int, err error) {
	now := db.o.Now()
	a, err := db.Account(name)
	if err != nil {
		return false, 0, err
	}
	if _, err := a.matchCode(code, now); err != nil { // a wrong one costs no transaction
		return false, 0, err
	}
	err = db.change(ctx, func(t *tx) error {
		a, err := t.account(name)
		if err != nil {
			return err
		}
		used, err := a.matchCode(code, now)
		if err != nil {
			return err
		}
		s := *a.Second
		if recovery = used.recovery >= 0; recovery {
			s.Recovery = slices.Delete(slices.Clone(s.Recovery), used.recovery, used.recovery+1)
		} else {
			s.Step = used.step
		}
		left = len(s.Recovery)
		a.Second = &s
		return t.putAccount(a)
	}, func() {})
	return recovery, left, err
}

// used is what a code was matched with.
type used struct {
	step     uint64
	recovery int // index; -1 = none
}

func (a *Account) matchCode(code string, now time.Time) (used, error) {
	s := a.Second
	if s == nil {
		return used{}, ErrNoSecond
	}
	if IsRecoveryCode(code) {
		h := recoveryHash(a, code)
		if i := slices.IndexFunc(s.Recovery, func(r []byte) bool { return hmac.Equal(r, h) }); i >= 0 {
			return used{recovery: i}, nil
		}
		return used{}, ErrWrongCode
	}
	if s.Algorithm != "SHA256" {
		if err := approved.Refuse("a second factor of HMAC-SHA-1"); err != nil {
			return used{}, err
		}
	}
	at := uint64(max(now.Unix(), codePeriod)) / codePeriod
	replayed := false
	for step := at - codeWindow; step <= at+codeWindow; step++ {
		if subtle.ConstantTimeCompare([]byte(s.code(step)), []byte(code)) != 1 {
			continue
		}
		if step > s.Step {
			return used{step: step, recovery: -1}, nil
		}
		replayed = true
	}
	if replayed {
		return used{}, ErrUsedCode
	}
	return used{}, ErrWrongCode
}

// code of a step. RFC 4226, section 5.3.
func (s *Second) code(step uint64) string {
	sum := sha1.New
	if s.Algorithm == "SHA256" {
		sum = sha256.New
	}
	return hotp(sum, s.Secret, step)
}

func hotp(sum func() hash.Hash, secret []byte, counter uint64) string {
	m := hmac.New(sum, secret)
	m.Write(binary.BigEndian.AppendUint64(nil, counter))
	h := m.Sum(nil)
	at := h[len(h)-1] & 0xf
	n := binary.BigEndian.Uint32(h[at:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000)
}

var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// uri is the form that authenticators read. Its parameters are described at
// github.com/google/google-authenticator/wiki/Key-Uri-Format.
func (s *Second) uri(issuer, account string) string {
	q := "secret=" + base32Plain.EncodeToString(s.Secret) + "&issuer=" + url.QueryEscape(issuer)
	if s.Algorithm != "SHA1" {
		q += "&algorithm=" + s.Algorithm
	}
	return "otpauth://totp/" + url.PathEscape(issuer) + ":" + url.PathEscape(account) + "?" + q
}

// A recovery code is 80 random bits in four groups: abcd-efgh-2345-mnop.
const (
	recoveryGroups = 4
	// RecoveryLength is the length of a recovery code, characters.
	RecoveryLength = recoveryGroups*5 - 1
)

func newRecoveryCode() string {
	b := make([]byte, 10)
	rand.Read(b)
	text := strings.ToLower(base32Plain.EncodeToString(b))
	var groups []string
	for g := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(g))
	}
	return strings.Join(groups, "-")
}

// IsRecoveryCode says whether s has the form of one.
func IsRecoveryCode(s string) bool {
	if len(s) != RecoveryLength {
		return false
	}
	for i, c := range []byte(strings.ToLower(s)) {
		if i%5 == 4 {
			if c != '-' {
				return false
			}
		} else if !(c >= 'a' && c <= 'z' || c >= '2' && c <= '7') {
			return false
		}
	}
	return true
}

// IsCode says whether s has the form of an authenticator's code.
func IsCode(s string) bool {
	return len(s) == CodeDigits && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// SplitCode separates a code at the end of a password from it: six digits or a recovery code; "" if there is none.
func SplitCode(secret string) (password, code string) {
	if n := len(secret) - RecoveryLength; n >= 0 && IsRecoveryCode(secret[n:]) {
		return secret[:n], secret[n:]
	}
	if n := len(secret) - CodeDigits; n >= 0 && IsCode(secret[n:]) {
		return secret[:n], secret[n:]
	}
	return secret, ""
}

// recoveryHash: the code is long enough that no salt or stretching is needed; the account binds it to its place.
func recoveryHash(a *Account, code string) []byte {
	m := hmac.New(sha256.New, []byte("sallyport.recovery.v1"))
	m.Write(a.ID[:])
	m.Write([]byte(strings.ToLower(code)))
	return m.Sum(nil)
}
