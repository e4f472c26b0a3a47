package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/escrow"
	"sallyport/crypto/record"
)

// ErrNotFIPS means that an operation needs an algorithm that the process may
// not use, because it runs with GODEBUG=fips140=only (docs/FIPS.md).
var ErrNotFIPS = escrow.ErrNotFIPS

// ErrWeakPassphrase means that a new passphrase is too easy to guess; the text
// says what is wanted.
var ErrWeakPassphrase = errors.New("weak passphrase")

// Argon2 is the cost of deriving a key from a passphrase by Argon2id (RFC 9106).
type Argon2 struct {
	Memory  uint32 `json:"m"` // KiB
	Time    uint32 `json:"t"` // passes
	Threads uint32 `json:"p"`
}

// DefaultArgon2 takes 1 GiB and seconds: docs/PERFORMANCE.md. RFC 9106 section
// 4 recommends 2 GiB and one pass, or 64 MiB and three, which is the floor.
var DefaultArgon2 = Argon2{Memory: 1 << 20, Time: 3, Threads: 4}

// Bounds of stored parameters: below the floor a stolen seal.json would be too
// cheap to try, above the ceiling a changed one could exhaust the host.
var (
	argon2Floor   = Argon2{Memory: 64 << 10, Time: 3, Threads: 1}
	argon2Ceiling = Argon2{Memory: 4 << 20, Time: 16, Threads: 16}
)

const (
	saltSize = 16 // bytes, RFC 9106 section 3.1

	// A stolen disk can be tried at leisure, so the length is that of a single
	// factor (NIST SP 800-63B-4, section 3.1.1.2: 15), and one more.
	minPassphrase  = 16   // characters
	maxPassphrase  = 1024 // bytes
	minDistinct    = 8    // characters
	wrongPhrase    = "the passphrase is another one"
	notAPassphrase = "a passphrase has at most 1,024 bytes and is not empty"
)

// Argon2Of is the usual cost with another memory, in MiB. Others than Valid ones are refused.
func Argon2Of(memory uint32) (Argon2, error) {
	cost := DefaultArgon2
	cost.Memory = uint32(min(uint64(memory)<<10, math.MaxUint32))
	return cost, cost.Valid()
}

// Valid says what is wrong with the parameters, if anything.
func (a Argon2) Valid() error {
	lo, hi := argon2Floor, argon2Ceiling
	switch {
	case a.Memory < lo.Memory || a.Memory > hi.Memory:
		return fmt.Errorf("Argon2id memory of %d KiB is not between %d and %d", a.Memory, lo.Memory, hi.Memory)
	case a.Time < lo.Time || a.Time > hi.Time:
		return fmt.Errorf("%d passes of Argon2id are not between %d and %d", a.Time, lo.Time, hi.Time)
	case a.Threads < lo.Threads || a.Threads > hi.Threads:
		return fmt.Errorf("%d threads of Argon2id are not between %d and %d", a.Threads, lo.Threads, hi.Threads)
	}
	return nil
}

// passphraseParams is what a passphrase seal keeps in seal.json.
type passphraseParams struct {
	keyPair
	Salt []byte `json:"salt"`
	Argon2
}

func (p *passphraseParams) valid() error {
	if len(p.Salt) != saltSize {
		return fmt.Errorf("a salt of %d bytes", len(p.Salt))
	}
	return errors.Join(p.keyPair.valid(), p.Argon2.Valid())
}

// CheckPassphrase says whether a new passphrase will do; ErrWeakPassphrase.
func CheckPassphrase(pass []byte) error {
	if len(pass) == 0 || len(pass) > maxPassphrase {
		return fmt.Errorf("%w: %s", ErrWeakPassphrase, notAPassphrase)
	}
	distinct := map[rune]bool{}
	var previous rune
	steps := map[rune]int{}
	for _, r := range string(pass) {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return fmt.Errorf("%w: it holds characters that cannot be typed", ErrWeakPassphrase)
		}
		distinct[unicode.ToLower(r)] = true
		steps[r-previous]++
		previous = r
	}
	n := utf8.RuneCount(pass)
	if n < minPassphrase || len(distinct) < minDistinct {
		return fmt.Errorf("%w: it needs at least %d characters, %d of them different; five random words make a good one", ErrWeakPassphrase, minPassphrase, minDistinct)
	}
	for _, count := range steps {
		if count > n/2 { // "abcdefgh…", "1234567…", "aaaa…"
			return fmt.Errorf("%w: it is mostly a sequence; five random words make a good one", ErrWeakPassphrase)
		}
	}
	return nil
}

// NewPassphrase makes a seal that the passphrase opens; the caller overwrites
// pass. ErrWeakPassphrase, or ErrNotFIPS under fips140=only.
func NewPassphrase(pass []byte, cost Argon2) (Seal, error) {
	if err := CheckPassphrase(pass); err != nil {
		return nil, err
	}
	p := &passphraseParams{Salt: make([]byte, saltSize), Argon2: cost}
	if err := cost.Valid(); err != nil {
		return nil, err
	}
	rand.Read(p.Salt)
	secret, err := p.derive(pass)
	if err != nil {
		return nil, err
	}
	defer clear(secret[:])
	if p.keyPair, err = newKeyPair(KindPassphrase, secret); err != nil {
		return nil, err
	}
	return p.seal(pass)
}

// Passphrase is the seal of this seal.json, to be opened by pass, which the
// caller overwrites. Whether it is the right one shows when the keyring is
// opened, which takes Argon2.Memory of memory: let no two run at once.
func (i *SealInfo) Passphrase(pass []byte) (Seal, error) {
	p := new(passphraseParams)
	if err := i.params(KindPassphrase, p); err != nil {
		return nil, err
	}
	if len(pass) == 0 || len(pass) > maxPassphrase {
		return nil, fmt.Errorf("%w: %s", ErrWrongKey, notAPassphrase)
	}
	if err := refuseArgon2(); err != nil {
		return nil, err
	}
	return p.seal(pass)
}

// params reads the parameters if the kind is the expected one.
func (i *SealInfo) params(kind string, p params) error {
	if i.Kind != kind {
		return fmt.Errorf("%w: it is sealed by %q, not by %q", ErrWrongKey, i.Kind, kind)
	}
	return decodeParams(kind, i.file.Params, p)
}

func (p *passphraseParams) seal(pass []byte) (Seal, error) {
	memory, free, err := lockedSecret(pass)
	if err != nil {
		return nil, err
	}
	return &peopleSeal{
		kind: KindPassphrase, raw: encodeParams(p), pair: p.keyPair, wrong: wrongPhrase, forget: free,
		secret: func(context.Context) (*record.Key, error) { return p.derive(memory) },
	}, nil
}

// derive is Argon2id over the passphrase in Unicode's form NFC, so that one
// passphrase is one on every keyboard.
func (p *passphraseParams) derive(pass []byte) (*record.Key, error) {
	if err := refuseArgon2(); err != nil {
		return nil, err
	}
	composed := norm.NFC.Append(make([]byte, 0, 3*len(pass)), pass...) // a copy, and never moved: Bytes may return pass itself, which is still needed
	defer clear(composed)
	raw := argon2.IDKey(composed, p.Salt, p.Time, p.Memory, uint8(p.Threads), uint32(keySize))
	defer clear(raw)
	key := record.Key(raw)
	// What Argon2id filled tells the key to whoever reads it, and is as much
	// memory as the rest of the process together: give it back now.
	debug.FreeOSMemory()
	return &key, nil
}

func refuseArgon2() error { return escrow.RefuseNotFIPS("a passphrase seal (Argon2id)") }
