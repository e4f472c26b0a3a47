package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// sweepEvery is how often ages and idle times are looked at.
const sweepEvery = time.Second

// Session is one logged-in connection. Closed through Conn.Close. Safe for concurrent use.
type Session struct {
	conn    *Conn
	account *accountState
	name    string
	proof   proof
	// nextVersion is that of the password which this session itself is setting; it does not end by that.
	nextVersion atomic.Uint64
	seq         uint64 // order of logins
	since       time.Time
	active      atomic.Int64 // ns since 1970
	events      atomic.Uint64
	in, out     atomic.Uint64 // bytes of content
	flowIn      flow
	flowOut     flow
	ransom      ransomGuard
	guard       *Guard // set before the session is handed out
	through     bool   // the login is; guarded by conn.mu
}

// accountState is what the sessions of one account share.
type accountState struct {
	id     keyring.AccountID
	policy atomic.Pointer[policy.Effective]
	// names is held for reading from resolving a path to using it, and for writing by what can change where a path leads
	// (renames, symlinks), if rights differ from path to path: else somebody could swap a directory for a symlink in between.
	names sync.RWMutex
	// sessions, and how many others hold names. Guarded by Manager.mu: the last of them takes it out of the table.
	sessions map[*Session]struct{}
	holders  int

	flowIn, flowOut flow
}

// setPolicy keeps the newest revision.
func (a *accountState) setPolicy(p *policy.Effective) {
	for {
		old := a.policy.Load()
		if old != nil && old.Revision > p.Revision || a.policy.CompareAndSwap(old, p) {
			return
		}
	}
}

// reserve is the quota of the account's volume.
func (a *accountState) reserve(bytes, files, history int64) error {
	p := a.policy.Load()
	if p.Quota.CountHistory {
		bytes += history
	}
	switch {
	case p.Quota.Bytes > 0 && bytes > p.Quota.Bytes:
		return p.Deny(policy.CodeQuotaBytes, "quota.bytes")
	case p.Quota.Files > 0 && files > p.Quota.Files:
		return p.Deny(policy.CodeQuotaFiles, "quota.files")
	}
	return nil
}

// ID is that of the connection.
func (s *Session) ID() string { return s.conn.id }

// Account is the name.
func (s *Session) Account() string { return s.name }

// Policy is the one in force now; it changes while the session lives.
func (s *Session) Policy() *policy.Effective { return s.account.policy.Load() }

// Files is the account's volume behind policy and audit.
func (s *Session) Files() *Guard { return s.guard }

// Touch tells that the client did something. Calls of Guard and File do so themselves.
func (s *Session) Touch() { s.active.Store(s.conn.m.o.Now().UnixNano()) }

// admit registers the session; nil if the connection is gone already.
func (m *Manager) admit(c *Conn, a *policydb.Account, how proof, f policy.Facts) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.closed || c.closed || c.ended.Load() != nil {
		return nil
	}
	state := m.stateOf(a.ID)
	m.seq++
	s := &Session{conn: c, account: state, name: a.Name, proof: how, seq: m.seq, since: f.Since}
	s.active.Store(f.Since.UnixNano())
	state.sessions[s] = struct{}{}
	c.facts, c.session = f, s
	return s
}

// stateOf is what the sessions of an account share; made if it has none. Called with mu held.
func (m *Manager) stateOf(id keyring.AccountID) *accountState {
	state := m.accounts[id]
	if state == nil {
		state = &accountState{id: id, sessions: map[*Session]struct{}{}}
		m.accounts[id] = state
	}
	return state
}

// forget takes it out of the table if nobody needs it. Called with mu held.
func (m *Manager) forget(a *accountState) {
	if len(a.sessions) == 0 && a.holders == 0 && m.accounts[a.id] == a {
		delete(m.accounts, a.id)
	}
}

// HoldNames is for who changes names of an account from outside of its sessions: until release none of them, nor one that comes meanwhile, is
// between asking for the rights on a path and using it, if rights differ from path to path. It waits for those that are, and they wait for
// release: hold names for one transaction, and claim nothing in the volume before.
func (m *Manager) HoldNames(id keyring.AccountID) (release func()) {
	m.mu.Lock()
	state := m.stateOf(id)
	state.holders++
	m.mu.Unlock()
	state.names.Lock()
	return func() {
		state.names.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		state.holders--
		m.forget(state)
	}
}

// leave takes the session out of the table and ends its view.
func (s *Session) leave() {
	m := s.conn.m
	if s.guard != nil {
		if err := s.guard.view.Close(); err != nil {
			m.o.Log.Warn("closing a view", "session", s.conn.id, "error", unnamed(err))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(s.account.sessions, s)
	m.forget(s.account)
	s.conn.mu.Lock()
	s.conn.session = nil
	s.conn.mu.Unlock()
}

// unnamed is the first failure in err for the log: without the path that the volume puts around it, because names are sealed
// on disk.
func unnamed(err error) error {
	for {
		pe, ok := errors.AsType[*fs.PathError](err)
		if !ok {
			return err
		}
		err = pe.Err
	}
}

// close is leave with its audit event.
func (s *Session) close() {
	e := s.event(audit.Logout)
	s.leave()
	e.Bytes = s.in.Load() + s.out.Load()
	if d := s.conn.ended.Load(); d != closedDenial {
		e.Code = d.Code
	}
	s.conn.m.later(e)
	s.conn.m.o.Log.Info("session closed", "session", s.conn.id, "account", s.account.id.String(), "in", s.in.Load(), "out", s.out.Load())
}

// open opens the volume.
func (s *Session) open(ctx context.Context) error {
	m := s.conn.m
	v, err := m.o.FS.Volume(ctx, s.account.id)
	if errors.Is(err, keyring.ErrSealed) {
		return ErrSealed
	}
	if errors.Is(err, fs.ErrNotExist) {
		// The account is there, so its volume must be. Not wrapped: to the client this is no missing file.
		err = fmt.Errorf("%w: %v", vfs.ErrIntegrity, err)
	}
	if errors.Is(err, vfs.ErrIntegrity) {
		e := s.event(audit.Damage)
		e.Detail = "the volume does not open"
		m.later(e)
	}
	switch {
	case errors.Is(err, vfs.ErrIntegrity):
		m.o.Log.Error("account refused: its volume is damaged", "account", s.account.id.String(), "code", policy.CodeDamaged, "error", err.Error(),
			"hint", "`sallyport vfs verify --account NAME` says what is damaged, --repair brings back what can be")
		return m.refused(s.conn, &policydb.Account{ID: s.account.id}, s.conn.current(), policy.Deny(policy.CodeDamaged, "volume", "storage"))
	case errors.Is(err, vfs.ErrRepairing):
		return m.refused(s.conn, &policydb.Account{ID: s.account.id}, s.conn.current(), policy.Deny(policy.CodeMaintenance, "volume", "storage"))
	case err != nil:
		return fmt.Errorf("opening the volume: %w", err)
	}
	v.SetReserve(s.account.reserve)
	s.guard = newGuard(s, v.View(vfs.ViewOptions{Writer: s.conn.id, Note: s.note, Broken: s.keep, Supersede: s.supersede}))
	return nil
}

// facts of the session now; earlier is how many sessions of the account are older.
func (s *Session) facts(earlier int) policy.Facts {
	f := s.conn.current()
	f.Sessions, f.Since, f.LastActive = earlier, s.since, time.Unix(0, s.active.Load())
	return f
}

// earlier counts older sessions of the account, so that of two logins at once the first gets the last place.
func (m *Manager) earlier(s *Session) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for other := range s.account.sessions {
		if other.seq < s.seq {
			n++
		}
	}
	return n
}

// holds says whether what a session proved itself with is still good.
func (m *Manager) holds(s *Session) *policy.Denial {
	a, err := m.account(s.name)
	if err != nil || a.ID != s.account.id {
		return goneDenial
	}
	return s.judge(a, m.o.Now())
}

var (
	goneDenial       = policy.Deny(policy.CodeAccountGone, "account disabled or removed", "account")
	secondDenial     = policy.Deny(policy.CodeSecondFactor, "the account has a second factor now", "account")
	credentialDenial = policy.Deny(policy.CodeCredential, "credential changed or removed", "account")
)

func (s *Session) judge(a *policydb.Account, now time.Time) *policy.Denial {
	switch {
	case a.Removed || !a.Enabled:
		return goneDenial
	case s.proof.key != nil && s.conn.m.o.Policy.MatchKey(a, s.proof.key, s.conn.current().Remote.Addr(), now) == nil:
		return credentialDenial
	case s.proof.chain != nil && s.conn.m.o.Policy.MatchTLS(a, s.proof.chain, s.conn.current().Remote.Addr(), now) == nil:
		return credentialDenial
	case s.proof.password && a.PasswordVersion != s.proof.version && a.PasswordVersion != s.nextVersion.Load():
		return credentialDenial
	case a.Second != nil && s.proof.second == 0 && !s.proof.both: // it got one meanwhile
		return secondDenial
	case s.proof.second != 0 && (a.Second == nil || a.Second.Version != s.proof.second):
		return credentialDenial
	}
	return nil
}

// placed is a session with the number of older ones of its account.
type placed struct {
	s       *Session
	earlier int
}

// sessions of the table with their places, and the connections before login.
func (m *Manager) table() (live []placed, waiting []*Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		if !c.loggedIn() {
			waiting = append(waiting, c)
		}
	}
	for _, a := range m.accounts {
		list := make([]*Session, 0, len(a.sessions))
		for s := range a.sessions {
			list = append(list, s)
		}
		slices.SortFunc(list, func(x, y *Session) int { return cmp.Compare(x.seq, y.seq) })
		for i, s := range list {
			live = append(live, placed{s, i})
		}
	}
	return live, waiting
}

// Recheck decides again on every connection under the policy in force: the same Admit as at login, on the stored facts.
// It never waits for a connection to end; those that may not stay are refused every call from here on.
func (m *Manager) Recheck(*policy.Revision) {
	r := m.revision() // not the argument: changes may be told out of order
	now := m.o.Now()
	live, waiting := m.table()
	resolved := map[string]*policy.Effective{}
	for _, l := range live {
		p := resolved[l.s.name]
		if p == nil {
			p = r.Resolve(l.s.name)
			resolved[l.s.name] = p
		}
		l.s.account.setPolicy(p)
		if d := policy.Admit(p, l.s.facts(l.earlier), now); d != nil {
			l.s.conn.end(d, "", "policy")
		}
	}
	site := r.Resolve("")
	for _, c := range waiting {
		if d := policy.Admit(site, c.current(), now); d != nil {
			c.end(d, "", "policy")
		}
	}
}

// recheckAccount ends the sessions of an account that was disabled or removed, and those whose credential is gone.
func (m *Manager) recheckAccount(a *policydb.Account) {
	m.mu.Lock()
	var list []*Session
	if state := m.accounts[a.ID]; state != nil {
		for s := range state.sessions {
			list = append(list, s)
		}
	}
	m.mu.Unlock()
	for _, s := range list {
		if d := s.judge(a, m.o.Now()); d != nil {
			s.conn.end(d, "", "account")
		}
	}
}

// recheckTrust ends the sessions whose certificate or key was revoked, or its authority removed.
func (m *Manager) recheckTrust() {
	live, _ := m.table()
	for _, l := range live {
		if l.s.proof.key == nil && l.s.proof.chain == nil {
			continue
		}
		if d := m.holds(l.s); d != nil {
			l.s.conn.end(d, "", "trust")
		}
	}
}

// sweepLoop ends in Close.
func (m *Manager) sweepLoop() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.sweep()
		case <-m.ctx.Done():
			return
		}
	}
}

// sweep ends what is idle, too old, too slow to log in, or in by a key or an exception that has ended.
func (m *Manager) sweep() {
	now := m.o.Now()
	live, waiting := m.table()
	for _, l := range live {
		p := l.s.Policy()
		if p == nil {
			continue // its login is about to decide
		}
		if d := policy.Admit(p, l.s.facts(l.earlier), now); d != nil {
			l.s.conn.end(d, "", "")
		} else if e := l.s.proof.expires; !e.IsZero() && !now.Before(e) {
			l.s.conn.end(credentialDenial, "", "key expired")
		}
	}
	for _, c := range waiting {
		if now.Sub(c.since) >= m.o.Limits.LoginTime && !c.isBusy() {
			c.end(policy.Deny(policy.CodeLoginTimeout, "limits.login_time", "sallyport.yaml"), "", "")
		}
	}
}

// Info is a live session as the operator sees it.
type Info struct {
	ID       string
	Account  string
	Facts    policy.Facts
	Since    time.Time
	Active   time.Time
	BytesIn  uint64 // content uploaded
	BytesOut uint64 // content downloaded
}

func (s *Session) info() Info {
	return Info{ID: s.conn.id, Account: s.name, Facts: s.conn.current(), Since: s.since, Active: time.Unix(0, s.active.Load()),
		BytesIn: s.in.Load(), BytesOut: s.out.Load()}
}

// List is every live session, the oldest first.
func (m *Manager) List() []Info {
	live, _ := m.table()
	slices.SortFunc(live, func(x, y placed) int { return cmp.Compare(x.s.seq, y.s.seq) })
	var out []Info
	for _, l := range live {
		out = append(out, l.s.info())
	}
	return out
}

// Kill ends the sessions that match and counts them; who and why go to the audit log.
func (m *Manager) Kill(match func(Info) bool, who, why string) int {
	live, _ := m.table()
	n := 0
	for _, l := range live {
		if match(l.s.info()) && l.s.conn.end(policy.Deny(policy.CodeKilled, "session kill", "operator"), who, why) {
			n++
		}
	}
	return n
}

// Counts are for metrics.
type Counts struct{ Connections, Sessions, Unauthenticated, Bans int }

// Counts of now.
func (m *Manager) Counts() Counts {
	bans := len(m.Bans())
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, a := range m.accounts {
		n += len(a.sessions)
	}
	return Counts{len(m.conns), n, m.unauth, bans}
}
