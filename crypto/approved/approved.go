// Package approved says whether the process may use only what FIPS 140-3
// approves, and refuses the rest in one way. The standard library panics or
// returns errors of its own there, and what comes from outside of it (bcrypt,
// Argon2id, age) would work on without a word. docs/FIPS.md lists what is
// refused.
package approved

import (
	"crypto/fips140"
	"errors"
	"fmt"
)

// ErrNotFIPS means that an operation needs an algorithm that the process may
// not use: it runs with GODEBUG=fips140=only.
var ErrNotFIPS = errors.New("not available with fips140=only")

// Only says whether nothing else may be used.
func Only() bool { return fips140.Enforced() }

// Refuse returns ErrNotFIPS, with what is refused and why, if nothing but what
// is approved may be used.
func Refuse(what string) error {
	if Only() {
		return fmt.Errorf("%s: %w", what, ErrNotFIPS)
	}
	return nil
}

// Mode describes the process for people and programs: "off"; "on", in which
// other algorithms work too; "only". The version of the module follows if the
// build names it.
func Mode() string {
	switch {
	case fips140.Enforced():
		return "only, module " + fips140.Version()
	case fips140.Enabled():
		return "on, module " + fips140.Version()
	}
	return "off"
}
