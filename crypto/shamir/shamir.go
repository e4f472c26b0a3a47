// Package shamir splits a secret of 32 bytes among n people so that any k of
// them can put it together again, and fewer learn nothing about it (Shamir,
// "How to Share a Secret", CACM 1979). Each byte is shared by itself with a
// random polynomial of degree k-1 over GF(2^8).
//
// A share says which set it belongs to, and carries a check: mistakes in
// copying, shares of different sets and duplicates are told apart from each
// other before anything is combined. None of this is authenticated. Whoever
// combines shares must hold the result against a commitment.
//
// Layout: docs/FORMAT.md "Share".
package shamir

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

// Sizes, bytes.
const (
	SecretSize = 32
	ShareSize  = len(magic) + 4 + 3 + SecretSize + checkSize

	magic      = "S1"
	checkSize  = 4
	checkLabel = "sallyport.share.v1\x00"
)

// Limits of a set.
const (
	MinThreshold = 2
	MaxShares    = 255 // the points of GF(2^8) but zero, where the secret is
)

var (
	// ErrShare means that something is not a share; the text says where.
	ErrShare = errors.New("not a share")
	// ErrDuplicate means that this share was given before.
	ErrDuplicate = errors.New("this share was given already")
	// ErrConflict means that two shares claim the same number and differ.
	ErrConflict = errors.New("two different shares have the same number")
	// ErrMixed means that shares belong to different sets.
	ErrMixed = errors.New("the shares belong to different sets")
	// ErrTooFew means that fewer shares than the threshold were given.
	ErrTooFew = errors.New("too few shares")
)

// SetID names the shares of one split. It is random and not secret.
type SetID [4]byte

// Share is one person's part. Y is secret; a share prints without it.
type Share struct {
	Set  SetID
	K, N uint8 // any K of N restore the secret
	X    uint8 // number of the share, 1 … N
	Y    [SecretSize]byte
}

// Format keeps the secret part out of logs.
func (s Share) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "share %d of %d of set %x [redacted]", s.X, s.N, s.Set)
}

// Wipe overwrites the secret part.
func (s *Share) Wipe() { clear(s.Y[:]) }

// CheckThreshold says what is wrong with k of n, if anything.
func CheckThreshold(k, n int) error {
	if k < MinThreshold || n < k || n > MaxShares {
		return fmt.Errorf("%d of %d shares: the threshold is at least %d and at most the number of shares, which is at most %d", k, n, MinThreshold, MaxShares)
	}
	return nil
}

// Split makes n shares of the secret, of which any k restore it.
func Split(secret *[SecretSize]byte, k, n int) ([]Share, error) {
	if err := CheckThreshold(k, n); err != nil {
		return nil, err
	}
	var set SetID
	rand.Read(set[:])
	coefficients := make([]byte, (k-1)*SecretSize)
	defer clear(coefficients)
	rand.Read(coefficients) // never fails: crypto/rand ends the process instead
	shares := make([]Share, n)
	for i := range shares {
		s := &shares[i]
		*s = Share{Set: set, K: uint8(k), N: uint8(n), X: uint8(i + 1)}
		for b := range s.Y {
			// Horner: the highest coefficient first, the secret last.
			var y byte
			for c := k - 2; c >= 0; c-- {
				y = mul(y^coefficients[c*SecretSize+b], s.X)
			}
			s.Y[b] = y ^ secret[b]
		}
	}
	return shares, nil
}

// Combine restores the secret from shares of one set, at least K of them; if
// there are more, the first K are used. A wrong share that passes its own check
// gives a wrong secret and no error.
func Combine(shares []Share) (*[SecretSize]byte, error) {
	if err := check(shares); err != nil {
		return nil, err
	}
	shares = shares[:shares[0].K]
	secret := new([SecretSize]byte)
	for i := range shares {
		// Lagrange at zero: Π x_j / (x_j − x_i); minus is plus here.
		num, den := byte(1), byte(1)
		for j := range shares {
			if j != i {
				num = mul(num, shares[j].X)
				den = mul(den, shares[j].X^shares[i].X)
			}
		}
		l := mul(num, inverse(den))
		for b := range secret {
			secret[b] ^= mul(l, shares[i].Y[b])
		}
	}
	return secret, nil
}

func check(shares []Share) error {
	if len(shares) == 0 {
		return ErrTooFew
	}
	for i := range shares {
		if err := shares[i].valid(); err != nil {
			return err
		}
		for j := range i {
			if err := shares[j].Fits(&shares[i]); err != nil {
				return err
			}
		}
	}
	if len(shares) < int(shares[0].K) {
		return fmt.Errorf("%w: %d of the %d that are needed", ErrTooFew, len(shares), shares[0].K)
	}
	return nil
}

// Fits says why t cannot be used beside s: ErrMixed, ErrDuplicate or ErrConflict.
func (s *Share) Fits(t *Share) error {
	switch {
	case s.Set != t.Set || s.K != t.K || s.N != t.N:
		return fmt.Errorf("%w: %x (%d of %d) and %x (%d of %d)", ErrMixed, s.Set, s.K, s.N, t.Set, t.K, t.N)
	case s.X != t.X:
		return nil
	case subtle.ConstantTimeCompare(s.Y[:], t.Y[:]) == 1:
		return fmt.Errorf("%w: number %d", ErrDuplicate, s.X)
	default:
		return fmt.Errorf("%w: number %d", ErrConflict, s.X)
	}
}

func (s *Share) valid() error {
	if err := CheckThreshold(int(s.K), int(s.N)); err != nil {
		return fmt.Errorf("%w: %w", ErrShare, err)
	}
	if s.X == 0 || s.X > s.N {
		return fmt.Errorf("%w: number %d of %d", ErrShare, s.X, s.N)
	}
	return nil
}

// Bytes is the share as bytes, ShareSize of them.
func (s *Share) Bytes() []byte {
	b := make([]byte, 0, ShareSize)
	b = append(b, magic...)
	b = append(b, s.Set[:]...)
	b = append(b, s.K, s.N, s.X)
	b = append(b, s.Y[:]...)
	return append(b, checksum(b)...)
}

// Parse reads what Bytes made. Errors are ErrShare.
func Parse(b []byte) (*Share, error) {
	if len(b) != ShareSize {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrShare, len(b), ShareSize)
	}
	if string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin as one of this format", ErrShare)
	}
	body, sum := b[:ShareSize-checkSize], b[ShareSize-checkSize:]
	if !bytes.Equal(checksum(body), sum) {
		return nil, fmt.Errorf("%w: its check value does not match", ErrShare)
	}
	rest := body[len(magic):]
	s := &Share{Set: SetID(rest[:4]), K: rest[4], N: rest[5], X: rest[6]}
	copy(s.Y[:], rest[7:])
	if err := s.valid(); err != nil {
		s.Wipe()
		return nil, err
	}
	return s, nil
}

// checksum tells copying mistakes, and authenticates nothing.
func checksum(body []byte) []byte {
	sum := sha256.Sum256(slices.Concat([]byte(checkLabel), body))
	return sum[:checkSize]
}
