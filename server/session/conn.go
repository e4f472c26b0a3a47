package session

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
)

// Conn is one accepted connection, before and after login. Front-ends get it first thing and Close it last. Safe for
// concurrent use.
type Conn struct {
	m      *Manager
	id     string
	addr   netip.Addr // that limits and bans go by
	since  time.Time
	hangup func(*policy.Denial)
	ended  atomic.Pointer[policy.Denial] // set once: why the connection must end
	gone   chan struct{}                 // closed by whoever sets ended

	mu      sync.Mutex // guards what follows
	facts   policy.Facts
	session *Session // nil before login
	offered int      // public keys tried
	second  secondSeen
	chain   [][]byte // TLS client certificate
	busy    bool     // a login is under way: not the one to make room
	closed  bool

	counted bool // among the unauthenticated; guarded by m.mu
}

// Connect is asked right after accept (TLS not yet begun): caps in total and per address, bans, deny_from/allow_from of the
// site. hangup is called at most once, from any goroutine, when the connection must end (ban, policy change, kill,
// shutdown); it should not block.
func (m *Manager) Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (*Conn, *policy.Denial) {
	f.Remote = unmap(f.Remote)
	now := m.o.Now()
	c := &Conn{m: m, id: rand.Text(), addr: limitBy(f.Remote.Addr()), since: now, hangup: hangup, facts: f, gone: make(chan struct{})}
	site := m.revision().Resolve("")
	d := policy.Admit(site, f, now)
	if d == nil {
		d = m.throttle.banned(c.addr, now)
	}
	if d == nil {
		d = m.register(c)
	}
	if d != nil {
		m.refusedConnect(c, f, d, now)
		return nil, d
	}
	// The site's policy may have changed before c stood in the table.
	if d := policy.Admit(m.revision().Resolve(""), f, m.o.Now()); d != nil {
		c.Close()
		m.refusedConnect(c, f, d, now)
		return nil, d
	}
	return c, nil
}

func (m *Manager) refusedConnect(c *Conn, f policy.Facts, d *policy.Denial, now time.Time) {
	n := m.throttle.note(c.addr, now)
	if n == 0 {
		return
	}
	m.later(audit.Event{Action: audit.ConnectRefused, Remote: f.Remote, Protocol: string(f.Protocol), Code: d.Code, Detail: because(d), Count: n})
	m.o.Log.Info("connection refused", "remote", f.Remote.String(), "code", d.Code, "rule", d.Rule, "origin", policy.Unnamed(d.Origin), "hint", d.Hint, "count", n)
}

// register counts a connection in, or says which cap is reached.
func (m *Manager) register(c *Conn) *policy.Denial {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return policy.Deny(policy.CodeShutdown, "shutdown", "operator")
	}
	if len(m.conns) >= m.o.Limits.Connections {
		return policy.Deny(policy.CodeServerFull, "limits.connections", "sallyport.yaml")
	}
	w := m.crowd[c.addr]
	if w == nil {
		w = &crowd{}
	}
	if w.all >= m.o.Limits.PerAddress {
		return policy.Deny(policy.CodeAddressFull, "limits.per_address", "sallyport.yaml")
	}
	if d := m.makeRoom(c.addr, w); d != nil {
		return d
	}
	m.crowd[c.addr] = w
	w.all++
	w.unauth++
	m.unauth++
	c.counted = true
	m.conns[c.id] = c
	return nil
}

// makeRoom ends the oldest idle connection before login if there are too many: of this address, or of the address that has
// most of them. So a flood of silent connections pushes out itself, and whoever logs in swiftly gets in. Called with mu held.
func (m *Manager) makeRoom(addr netip.Addr, w *crowd) *policy.Denial {
	denial := policy.Deny(policy.CodeAddressFull, "limits.unauthenticated_per_address", "sallyport.yaml")
	if w.unauth < m.o.Limits.UnauthPerAddress {
		if m.unauth < m.o.Limits.Unauthenticated {
			return nil
		}
		denial = policy.Deny(policy.CodeServerFull, "limits.unauthenticated", "sallyport.yaml")
		most := 0
		for a, w := range m.crowd {
			if w.unauth > most {
				addr, most = a, w.unauth
			}
		}
	}
	var oldest *Conn
	for _, c := range m.conns {
		if c.counted && c.addr == addr && (oldest == nil || c.since.Before(oldest.since)) && !c.isBusy() {
			oldest = c
		}
	}
	if oldest == nil {
		return denial
	}
	m.uncount(oldest)
	m.work.Go(func() { oldest.end(denial, "", "") }) // not stopped: register has looked
	return nil
}

func (c *Conn) isBusy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy
}

// uncount takes a connection from those before login. Called with m.mu held.
func (m *Manager) uncount(c *Conn) {
	if !c.counted {
		return
	}
	c.counted = false
	m.unauth--
	m.crowd[c.addr].unauth--
}

// ID is random, for logs, audit and error references.
func (c *Conn) ID() string { return c.id }

// SetFacts updates what is known (TLS state, client ident) and re-admits.
func (c *Conn) SetFacts(f policy.Facts) *policy.Denial {
	f.Remote = unmap(f.Remote)
	c.mu.Lock()
	s := c.session
	if s != nil { // how the account proved itself, and when, is not the front-end's to say
		f.Method, f.SecondFactor, f.Since, f.LastActive = c.facts.Method, c.facts.SecondFactor, c.facts.Since, c.facts.LastActive
		f = settled(f)
	}
	c.facts = f
	c.mu.Unlock()
	if d := c.ended.Load(); d != nil {
		return d
	}
	if c.m.sealed() {
		return Sealed()
	}
	p := c.m.revision().Resolve("")
	if s != nil {
		p = s.Policy()
	}
	return policy.Admit(p, f, c.m.o.Now())
}

// Close ends the session, if there is one: what is still open ends as interrupted. Further calls do nothing.
func (c *Conn) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	s := c.session
	through := s != nil && s.through
	c.mu.Unlock()
	if c.ended.CompareAndSwap(nil, closedDenial) {
		close(c.gone)
	}
	if through { // else the login under way sees that the connection is closed
		s.close()
	}
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conns[c.id] != c {
		return
	}
	delete(m.conns, c.id)
	m.uncount(c)
	if w := m.crowd[c.addr]; w.all > 1 {
		w.all--
	} else {
		delete(m.crowd, c.addr)
	}
}

// closedDenial is what calls on a closed connection get.
var closedDenial = policy.Deny(policy.CodeKilled, "the connection was closed", "front-end")

// end makes the connection end with d: calls of its session are refused from now on, and the front-end is told. The first
// reason counts. who and why are for the audit log.
func (c *Conn) end(d *policy.Denial, who, why string) bool {
	if !c.ended.CompareAndSwap(nil, d) {
		return false
	}
	close(c.gone)
	c.mu.Lock()
	s := c.session
	through := s != nil && s.through
	c.mu.Unlock()
	if through {
		e := s.event(audit.SessionKill)
		e.Code, e.Who, e.Detail = d.Code, who, why
		c.m.later(e)
		c.m.o.Log.Info("session ended", "session", c.id, "account", s.account.id.String(), "code", d.Code, "rule", d.Rule, "origin", policy.Unnamed(d.Origin), "who", who, "why", why)
	}
	if c.hangup != nil {
		// A front-end whose hangup blocks must not hold up a policy change.
		c.m.spawn(func() { c.hangup(d) })
	}
	return true
}

// Precheck is asked at USER, before a secret is sent: transport rules of the account; unknown accounts answer like the
// site's default.
func (c *Conn) Precheck(account string) *policy.Denial {
	if d := c.ended.Load(); d != nil {
		return d
	}
	if c.m.sealed() {
		return Sealed()
	}
	d := policy.AdmitUser(c.m.resolve(account), c.current(), c.m.o.Now())
	if d != nil {
		if n := c.m.throttle.note(c.addr, c.m.o.Now()); n > 0 {
			f := c.current()
			c.m.later(audit.Event{Action: audit.LoginRefused, Session: c.id, Remote: f.Remote, Protocol: string(f.Protocol), Code: d.Code, Detail: because(d), Count: n})
			c.m.o.Log.Info("login refused", "session", c.id, "remote", f.Remote.String(), "protocol", string(f.Protocol),
				"code", d.Code, "rule", d.Rule, "origin", policy.Unnamed(d.Origin), "hint", d.Hint, "count", n)
		}
	}
	return d
}

func (c *Conn) current() policy.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.facts
}

// Methods are the authentication methods of SSH to offer ("publickey", "certificate", "password"): those that any account may use, the
// same to everybody. What one account may use is not said before it has proved itself.
func (c *Conn) Methods() []string { return slices.Clone(c.m.offered().ssh) }

// WantsCertificate says whether a TLS client should be asked for a certificate: if the policy lets anybody come in with one.
func (c *Conn) WantsCertificate() bool { return c.m.offered().certificate }

// offers is what anybody may use under a revision. Finding out takes a look at every account, too long for every connection.
type offers struct {
	of          *policy.Revision
	ssh         []string
	certificate bool
}

func (m *Manager) offered() *offers {
	r := m.revision()
	if o := m.offers.Load(); o != nil && o.of == r {
		return o
	}
	o := &offers{of: r, certificate: r.Document.Allows("auth.ftps", methodCertificate)}
	for _, method := range []string{methodKey, methodCertificate, methodPassword} {
		if r.Document.Allows("auth.sftp", method) {
			o.ssh = append(o.ssh, method)
		}
	}
	m.offers.Store(o)
	return o
}

// SetCertificate tells the chain of certificates (DER) whose first one's key the client proved to hold in the TLS handshake.
func (c *Conn) SetCertificate(chain [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chain = chain
}

// KeyAllowed tells whether an SSH public key or certificate (wire format) may log in as account; the same work for unknown accounts. Not a
// login: nobody has proved to hold the key yet. Keys that are not listed are no failed logins, up to Limits.KeysOffered.
func (c *Conn) KeyAllowed(ctx context.Context, account string, key []byte) error {
	m := c.m
	if err := c.ready(ctx); err != nil {
		return err
	}
	a, err := m.account(account)
	if err != nil {
		return err
	}
	if k := m.o.Policy.MatchKey(a, key, c.current().Remote.Addr(), m.o.Now()); k != nil && a.Enabled && slices.Contains(m.resolve(account).Auth.Methods(policy.SFTP), k.Method) {
		return nil
	}
	return c.keyRefused(account)
}

// keyRefused counts a key that is not listed. Clients offer all they have, so only an excess counts as failures.
func (c *Conn) keyRefused(account string) error {
	c.mu.Lock()
	c.offered++
	excess := c.offered > c.m.o.Limits.KeysOffered
	c.mu.Unlock()
	if !excess {
		return ErrAuth
	}
	c.m.fail(c, account, "")
	d := policy.Deny(policy.CodeTooManyKeys, "limits.keys_offered", "sallyport.yaml")
	c.end(d, "", "")
	return d
}

// ready says whether a credential may be looked at.
func (c *Conn) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d := c.ended.Load(); d != nil {
		return d
	}
	if c.m.sealed() {
		return ErrSealed
	}
	if err := c.m.o.Audit.Err(); err != nil {
		return ErrAudit
	}
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// limitBy is what limits and bans go by: an IPv4 address, or an IPv6 /64, which is what one customer gets (RFC 6177).
func limitBy(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
