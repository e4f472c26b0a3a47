package session

import (
	"context"
	"errors"
	"fmt"

	"sallyport/crypto/approved"
	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// second verifies the second factor of an account whose first one is right, and returns its version; 0 if the account has
// none (whether it must have one is for Admit to say).
func (m *Manager) second(ctx context.Context, c *Conn, a *policydb.Account, name string, cred Credential, facts policy.Facts) (uint64, error) {
	if a.Second == nil {
		return 0, nil
	}
	if c.verified(a) {
		return a.Second.Version, nil
	}
	if d := m.throttle.allowCode(name, m.o.Now()); d != nil {
		return 0, m.refused(c, a, facts, d)
	}
	if cred.Code == "" {
		if !cred.CodeAppended {
			return 0, ErrCodeNeeded
		}
		return 0, m.refused(c, a, facts, policy.Deny(policy.CodeCodeNeeded, "second factor", "account"))
	}
	if d := m.throttle.takeCode(name, m.o.Now()); d != nil {
		return 0, m.refused(c, a, facts, d)
	}
	recovery, left, err := m.o.Policy.UseCode(ctx, name, string(cred.Code))
	if err != nil && !errors.Is(err, policydb.ErrWrongCode) {
		m.throttle.returnCode(name)
	}
	switch {
	case err == nil:
		m.throttle.rightCode(name)
		c.verify(a)
		if recovery {
			m.later(audit.Event{Action: audit.SecondFactor, Account: audit.ID(a.ID), Session: c.id, Remote: facts.Remote, Detail: fmt.Sprintf("recovery code used; %d left", left)})
			m.o.Log.Warn("recovery code used", "session", c.id, "account", a.ID.String(), "left", left)
		}
		return a.Second.Version, nil
	case errors.Is(err, policydb.ErrUsedCode): // a right one, seen before: no guess, but perhaps somebody who looked over a shoulder
		return 0, m.refused(c, a, facts, policy.Deny(policy.CodeCodeUsed, "second factor", "account"))
	case errors.Is(err, policydb.ErrWrongCode):
		m.fail(c, name, "second factor "+cred.Code)
		m.refusedLogin(c, a, facts, nil)
		m.pause(ctx, c, m.resolve(name))
		return 0, ErrAuth
	case errors.Is(err, approved.ErrNotFIPS): // no guess either: nothing was compared
		return 0, m.refused(c, a, facts, policy.Deny(policy.CodeCodeNotFIPS, "fips140=only", "process"))
	case errors.Is(err, policydb.ErrNoSecond): // reset a moment ago
		return 0, nil
	}
	return 0, fmt.Errorf("checking a code: %w", err)
}

// verified says whether a code of the account was given on this connection: then its password may be changed, and the login
// finished, without another one.
func (c *Conn) verified(a *policydb.Account) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.second == secondSeen{a.ID, a.Second.Version}
}

func (c *Conn) verify(a *policydb.Account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.second = secondSeen{a.ID, a.Second.Version}
}

type secondSeen struct {
	id      keyring.AccountID
	version uint64
}
