package session

import (
	"context"
	"errors"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// expired is asked when a password (and the code, if there is one) was right: one that may only be used to choose another is
// refused with CodeMustChange, unless the login brings the other one.
func (m *Manager) expired(ctx context.Context, c *Conn, a *policydb.Account, cred Credential, facts policy.Facts) (*policydb.Account, error) {
	p := m.resolve(a.Name)
	if !a.PasswordExpired(p, m.o.Now()) {
		return a, nil
	}
	// Who may not come in anyway is told that, and changes nothing.
	if d := policy.Admit(p, facts, m.o.Now()); d != nil {
		return nil, m.refused(c, a, facts, d)
	}
	if cred.NewPassword == "" {
		return nil, m.refused(c, a, facts, policy.Deny(policy.CodeMustChange, "the password must be changed", "account"))
	}
	if err := m.setOwn(ctx, c, a, cred.NewPassword); err != nil {
		return nil, err
	}
	next, err := m.account(a.Name)
	if err != nil {
		return nil, err
	}
	if next.ID != a.ID || next.PasswordVersion != a.PasswordVersion+1 { // somebody has set yet another one
		return nil, ErrAuth
	}
	return next, nil
}

// ChangePassword has the owner of an account choose another password: on a session of the account, or on a connection before login
// (FTP's SITE PSWD). It counts and delays like a login. Errors: those of Login, and *policy.WeakPasswordError. The session
// that changes it goes on, others that logged in with the old one end.
func (c *Conn) ChangePassword(ctx context.Context, account string, old, secret Secret) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	m := c.m
	account = bounded(account)
	c.mu.Lock()
	s, facts := c.session, c.facts
	c.mu.Unlock()
	if s != nil && s.name != account {
		return ErrAuth
	}
	facts.Method = methodPassword
	facts = settled(facts)
	p := m.resolve(account)
	if d := policy.AdmitUser(p, facts, m.o.Now()); d != nil {
		return m.refused(c, nil, facts, d)
	}
	a, how, err := m.authenticate(ctx, c, account, &Credential{Password: old, change: true}, &facts)
	if err != nil {
		return err
	}
	if s == nil {
		if a.Second != nil && !c.verified(a) && !how.both {
			return m.refused(c, a, facts, policy.Deny(policy.CodeCodeNeeded, "second factor", "account"))
		}
		facts.SecondFactor = a.Second != nil || how.both // as at a login
		if d := policy.Admit(p, facts, m.o.Now()); d != nil {
			return m.refused(c, a, facts, d)
		}
		return m.setOwn(ctx, c, a, secret)
	}
	s.nextVersion.Store(a.PasswordVersion + 1)
	if err = m.setOwn(ctx, c, a, secret); err == nil {
		return nil
	}
	// That version is anybody's again: if an operator has made it meanwhile, this session was spared by mistake.
	s.nextVersion.Store(a.PasswordVersion)
	if d := m.holds(s); d != nil {
		c.end(d, "", "account")
	}
	return err
}

// setOwn stores a password that its owner chose.
func (m *Manager) setOwn(ctx context.Context, c *Conn, a *policydb.Account, secret Secret) error {
	err := m.gate.enter(ctx, c.addr) // it costs some hashes
	if err != nil {
		return err
	}
	defer m.gate.leave(c.addr)
	err = m.o.Policy.ChangePassword(ctx, policydb.PasswordChange{Account: a.Name, Secret: string(secret), Who: "account", Other: true, Proven: a})
	if weak, ok := errors.AsType[*policy.WeakPasswordError](err); ok {
		return weak
	}
	if errors.Is(err, policydb.ErrOutrun) || errors.Is(err, policydb.ErrNoAccount) {
		return ErrAuth // what was proven is no longer true
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.second = secondSeen{} // the next login gives a code of its own
	c.mu.Unlock()
	m.later(audit.Event{Action: audit.Password, Account: audit.ID(a.ID), Session: c.id, Remote: c.current().Remote, Detail: "changed by its owner"})
	return nil
}
