package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// Credential proves an account; exactly one of Password and PublicKey is set.
type Credential struct {
	Password  Secret
	PublicKey []byte // SSH wire format; possession already verified by the front-end
	// Code is the second factor, where the protocol can ask for one.
	Code Secret
	// NewPassword takes the place of Password in the same login, if the account must change it. Where it need not, it is ignored.
	NewPassword Secret
	// CodeAppended: the protocol cannot, so the code of an account that has a second factor follows the password directly.
	CodeAppended bool
	// change: the password itself is asked for, and a certificate that would do without it does not.
	change bool
}

// Secret never prints.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const (
	methodPassword = "password"
	methodKey      = "publickey"
	// methodCertificate is an SSH or a TLS certificate that an authority signed, or a TLS certificate that is pinned.
	methodCertificate = "certificate"
)

func (c Credential) method() string {
	if c.PublicKey != nil {
		return methodKey
	}
	return methodPassword
}

// Login authenticates, admits, audits, and opens the volume. Errors: ErrAuth (one answer, after one time, for unknown
// accounts, wrong secrets and disabled accounts), ErrCodeNeeded, ErrSealed, ErrAudit, *policy.Denial, or an internal error.
func (c *Conn) Login(ctx context.Context, account string, cred Credential) (*Session, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	account = bounded(account)
	c.mu.Lock()
	if c.session != nil || c.closed || c.busy {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	c.busy = true
	facts := c.facts
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.busy = false
		c.mu.Unlock()
	}()
	facts.Method = cred.method()
	facts = settled(facts)
	// A front-end that forgot to ask must not have a password looked at that came in clear.
	if d := policy.AdmitUser(c.m.resolve(account), facts, c.m.o.Now()); d != nil {
		return nil, c.m.refused(c, nil, facts, d)
	}
	a, proof, err := c.m.authenticate(ctx, c, account, &cred, &facts)
	if err != nil {
		return nil, err
	}
	if !proof.both {
		if proof.second, err = c.m.second(ctx, c, a, account, cred, facts); err != nil {
			return nil, err
		}
	}
	facts.SecondFactor = proof.both || proof.second != 0
	if proof.password {
		if a, err = c.m.expired(ctx, c, a, cred, facts); err != nil {
			return nil, err
		}
		proof.version = a.PasswordVersion
	}
	return c.m.enter(ctx, c, a, proof, facts)
}

// settled names plain FTP. Until a credential is sent, a connection of FTPS without TLS may still begin it; from then on it
// came in clear, whatever the front-end called it, and only an exception of the policy (Admit) speaks for it.
func settled(f policy.Facts) policy.Facts {
	if f.Protocol != policy.SFTP && !f.TLS {
		f.Protocol = policy.FTP
	}
	return f
}

// account finds an account; for an unknown name it returns one that cannot log in.
func (m *Manager) account(name string) (*policydb.Account, error) {
	a, err := m.o.Policy.Account(bounded(name)) // the same work
	if errors.Is(err, policydb.ErrNoAccount) {
		return &policydb.Account{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading an account: %w", err)
	}
	return a, nil
}

// proof is how a session proved itself, to see whether that still holds.
type proof struct {
	key     []byte    // SSH public key or certificate
	chain   [][]byte  // TLS client certificate
	expires time.Time // of the key or certificate; zero = never
	detail  string    // which one, for the audit log
	// authority whose certificate it is; "" = none
	authority string
	password  bool
	version   uint64 // of the password
	second    uint64 // version of the second factor; 0 = none was given
	both      bool   // password and certificate, which are two factors
}

// authenticate verifies the first factor. A code that follows the password is put into its own field, and facts.Method becomes
// what it was that counted.
func (m *Manager) authenticate(ctx context.Context, c *Conn, name string, cred *Credential, facts *policy.Facts) (*policydb.Account, proof, error) {
	p := m.resolve(name)
	if d := m.throttle.allow(c.addr, name, facts.Method, p, m.o.Now()); d != nil {
		return nil, proof{}, m.refused(c, nil, *facts, d)
	}
	a, err := m.account(name)
	if err != nil {
		return nil, proof{}, err
	}
	if facts.Method == methodKey {
		if k := m.o.Policy.MatchKey(a, cred.PublicKey, facts.Remote.Addr(), m.o.Now()); k != nil && a.Enabled {
			facts.Method = k.Method
			return a, proof{key: cred.PublicKey, expires: k.Expires, detail: k.Detail, authority: k.Authority}, nil
		}
		err := c.keyRefused(name)
		m.refusedLogin(c, a, *facts, nil)
		return nil, proof{}, err
	}
	certified := m.certified(c, a, p, *facts)
	if certified.chain != nil && !cred.change && m.enough(a, p, cred, *facts) {
		facts.Method = methodCertificate
		return a, certified, nil
	}
	split, err := m.checkSecret(ctx, c, a, name, cred, certified.chain != nil, p, *facts)
	if err != nil {
		return nil, proof{}, err
	}
	how := proof{password: true, version: a.PasswordVersion}
	if certified.chain != nil {
		how, how.password, how.version = certified, true, a.PasswordVersion
		how.both = !split // a code was given beside the two: then it counts, and must be right
	}
	return a, how, nil
}

// enough says whether a certificate that is good for the account lets it in with no password: no second factor is needed, or what
// stands in the place of the password is the code of one.
func (m *Manager) enough(a *policydb.Account, p *policy.Effective, cred *Credential, f policy.Facts) bool {
	if wanted, _ := p.Auth.Wants2FA(f.Protocol); !wanted && a.Second == nil {
		return true
	}
	if a.Second == nil || !policydb.IsCode(string(cred.Password)) && !policydb.IsRecoveryCode(string(cred.Password)) {
		return false
	}
	cred.Code = cred.Password
	return true
}

// checkSecret verifies a password; split says that a code followed it, which is now cred.Code. A wrong one is counted, recorded and
// answered late.
func (m *Manager) checkSecret(ctx context.Context, c *Conn, a *policydb.Account, name string, cred *Credential, certified bool, p *policy.Effective, facts policy.Facts) (split bool, err error) {
	sent := cred.Password
	if cred.CodeAppended && a.Second != nil {
		password, code := policydb.SplitCode(string(sent))
		cred.Password, cred.Code, split = Secret(password), Secret(code), code != ""
	}
	good, err := m.checkPassword(ctx, c, a, name, cred.Password, p, facts)
	if !good && err == nil && split && certified { // nobody need send a code beside a certificate: it may belong to the password
		cred.Password, cred.Code, split = sent, "", false
		good, err = m.checkPassword(ctx, c, a, name, sent, p, facts)
	}
	switch {
	case err != nil:
		return false, err
	case !good:
		m.fail(c, name, sent)
		m.refusedLogin(c, a, facts, nil)
		m.pause(ctx, c, p)
		return false, ErrAuth
	}
	return split, nil
}

// certified is the proof by the TLS client certificate of the connection; zero if it has none for the account, or the policy does
// not take it.
func (m *Manager) certified(c *Conn, a *policydb.Account, p *policy.Effective, f policy.Facts) proof {
	c.mu.Lock()
	chain := c.chain
	c.mu.Unlock()
	if len(chain) == 0 || f.Protocol == policy.SFTP || !a.Enabled || !slices.Contains(p.Auth.FTPS, methodCertificate) {
		return proof{}
	}
	k := m.o.Policy.MatchTLS(a, chain, f.Remote.Addr(), m.o.Now())
	if k == nil {
		return proof{}
	}
	return proof{chain: chain, expires: k.Expires, detail: k.Detail, authority: k.Authority}
}

// checkPassword takes as long for an account that does not exist, is disabled or has no password as for one that has: each
// wrong password costs one hash, of the decoy if need be.
func (m *Manager) checkPassword(ctx context.Context, c *Conn, a *policydb.Account, name string, secret Secret, p *policy.Effective, facts policy.Facts) (bool, error) {
	usable := a.Enabled && a.HasPassword() && len(secret) <= policy.MaxPassword
	if usable && m.proofs.has(a, secret, m.o.Now()) {
		return true, nil
	}
	if err := m.gate.enter(ctx, c.addr); err != nil {
		var d *policy.Denial
		if errors.As(err, &d) {
			return false, m.refused(c, a, facts, d)
		}
		return false, err
	}
	defer m.gate.leave(c.addr)
	// Others may have failed while this one waited.
	if d := m.throttle.allow(c.addr, name, facts.Method, p, m.o.Now()); d != nil {
		return false, m.refused(c, a, facts, d)
	}
	if usable {
		if err := a.PasswordUsable(); err != nil { // said to the operator alone: strangers must not learn who has a password
			m.o.Log.Warn("a password cannot be checked: set it anew", "account", a.ID.String(), "error", err)
			usable = false
		}
	}
	against := a
	if !usable {
		against = m.decoys[p.Password.Hash]
	}
	good := m.check(against, string(secret[:min(len(secret), policy.MaxPassword)])) && usable
	if good {
		m.proofs.add(a, secret, m.o.Now())
		if err := m.o.Policy.Upgrade(ctx, a, string(secret)); err != nil { // the login is good all the same
			m.o.Log.Warn("a password keeps its old hash", "account", a.ID.String(), "error", err)
		}
	}
	return good, nil
}

// fail counts a failed login and bans the address when it was one too many.
func (m *Manager) fail(c *Conn, name string, secret Secret) {
	var wrong digest
	if secret != "" {
		wrong = m.proofs.wrong(c.addr, name, secret)
	}
	b := m.throttle.fail(c.addr, name, wrong, m.resolve(name), m.o.Now())
	if b == nil {
		return
	}
	m.o.Log.Warn("address banned", "address", b.Address.String(), "until", b.Until, "failures", b.Failures)
	m.later(audit.Event{Action: audit.Ban, Remote: c.current().Remote, Code: policy.CodeBanned, Count: uint64(b.Failures)})
	d := policy.Deny(policy.CodeBanned, "login.ban_after", "site")
	for _, other := range m.snapshot() {
		if other.addr == c.addr && other != c && !other.loggedIn() {
			other.end(d, "", "")
		}
	}
}

// pause holds back the answer to a failed login, longer with each one in a row of the address. The connection may be ended
// meanwhile to make room for others.
func (m *Manager) pause(ctx context.Context, c *Conn, p *policy.Effective) {
	d := m.throttle.delay(c.addr, p)
	if d == 0 {
		return
	}
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
	m.wait(ctx, c, d)
}

// wait until d is over, or the connection.
func wait(ctx context.Context, c *Conn, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-c.gone:
	}
}

func (c *Conn) loggedIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}

// refused records a login that policy refuses and returns the denial.
func (m *Manager) refused(c *Conn, a *policydb.Account, f policy.Facts, d *policy.Denial) error {
	m.refusedLogin(c, a, f, d)
	return d
}

// refusedLogin records a failed login. What strangers can cause as fast as they can send is recorded once a minute and
// address, with a count; a denial after a good credential always.
func (m *Manager) refusedLogin(c *Conn, a *policydb.Account, f policy.Facts, d *policy.Denial) {
	e := audit.Event{Action: audit.LoginRefused, Session: c.id, Remote: f.Remote, Protocol: string(f.Protocol), Client: f.Client, Method: f.Method}
	if a != nil {
		e.Account = audit.ID(a.ID)
	}
	if d == nil { // the credential was wrong
		m.later(e)
		return
	}
	e.Code, e.Detail = d.Code, because(d)
	switch d.Code {
	case policy.CodeAddressRate, policy.CodeAccountRate, policy.CodeBusy, policy.CodeBanned, policy.CodeSSLRequired:
		if e.Count = m.throttle.note(c.addr, m.o.Now()); e.Count == 0 {
			return
		}
	}
	m.later(e)
	m.o.Log.Info("login refused", "session", c.id, "account", e.Account.String(), "remote", f.Remote.String(), "protocol", string(f.Protocol),
		"code", d.Code, "rule", d.Rule, "origin", policy.Unnamed(d.Origin), "hint", d.Hint)
}

// later queues an audit record that nobody waits for.
func (m *Manager) later(e audit.Event) {
	if m.o.Audit == nil {
		return
	}
	e.Time = m.now()
	if err := m.o.Audit.AppendAsync(e); err != nil && !errors.Is(err, audit.ErrClosed) {
		// Err of the log refuses everything from here on; this is only for the operator to see why.
		m.o.Log.Error("audit log cannot be written", "error", err)
	}
}

// enter makes the session of an account that proved itself: registers it, then reads policy and account, then decides.
func (m *Manager) enter(ctx context.Context, c *Conn, a *policydb.Account, how proof, f policy.Facts) (*Session, error) {
	now := m.o.Now()
	f.Since, f.LastActive = now, now
	s := m.admit(c, a, how, f)
	if s == nil {
		return nil, c.endedErr()
	}
	if m.testOnlyRegistered != nil {
		m.testOnlyRegistered()
	}
	if err := m.settle(ctx, s); err != nil {
		s.leave()
		return nil, err
	}
	m.throttle.succeed(c.addr, a.Name, now)
	if how.authority != "" {
		if err := m.o.Policy.NoteCertificate(ctx, a, how.authority); err != nil { // only the guard against locking out asks for it
			m.o.Log.Warn("a login by certificate is not noted with its account", "account", a.ID.String(), "error", err)
		}
	}
	m.mu.Lock()
	m.uncount(c)
	m.mu.Unlock()
	m.o.Log.Info("session opened", "session", c.id, "account", a.ID.String(), "protocol", string(f.Protocol), "remote", f.Remote.String())
	return s, nil
}

func (c *Conn) endedErr() error {
	if d := c.ended.Load(); d != nil {
		return d
	}
	return ErrClosed
}

// settle decides on a registered session and opens its volume.
func (m *Manager) settle(ctx context.Context, s *Session) error {
	c := s.conn
	s.account.setPolicy(m.revision().Resolve(s.name))
	p := s.Policy()
	if d := policy.Admit(p, s.facts(m.earlier(s)), m.o.Now()); d != nil {
		return m.refused(c, &policydb.Account{ID: s.account.id}, c.current(), d)
	}
	if d := m.holds(s); d != nil {
		return m.refused(c, &policydb.Account{ID: s.account.id}, c.current(), d)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	e := s.event(audit.Login)
	e.Revision, e.Detail = p.Revision, s.proof.detail
	if err := m.o.Audit.Append(ctx, e); err != nil {
		return fmt.Errorf("%w: %w", ErrAudit, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.ended.Load(); d != nil { // a change meanwhile found the session in the table, or the front-end closed it
		return d
	}
	s.through = true
	return nil
}
