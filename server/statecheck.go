package server

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// StateError is a part of the state directory that keeps the server from
// starting, with what to do about it.
type StateError struct {
	Path string
	Err  error
	hint string
}

func (e *StateError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }
func (e *StateError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *StateError) Hint() string { return e.hint }

const (
	policyFile = "policy.db"
	auditDir   = "audit"
	clockFile  = "clock"
)

func policyError(c *Config, err error) error {
	path := filepath.Join(c.State.Dir, policyFile)
	return &StateError{path, fmt.Errorf("opening the policy: %w", err), "restore " + path + " from a copy of the state directory; it holds the accounts and what they may do"}
}

func auditError(c *Config, err error) error {
	path := filepath.Join(c.State.Dir, auditDir)
	return &StateError{path, fmt.Errorf("opening the audit log: %w", err),
		"find out what happened to it: `sallyport audit verify --offline` lists every finding. To serve meanwhile, move " + path +
			" aside and keep it: a new log begins, and says so"}
}

// policyIsThere refuses to make a new policy where there are accounts: it would
// forget them, and every rule with them.
func policyIsThere(c *Config, accounts int) error {
	if accounts == 0 || fileExists(filepath.Join(c.State.Dir, policyFile)) {
		return nil
	}
	return policyError(c, fmt.Errorf("the keyring has keys of %d accounts, but the file is missing: %w", accounts, fs.ErrNotExist))
}
