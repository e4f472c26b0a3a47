package ftpd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"sallyport/policy"
)

// conn is one accepted connection, from accept to close: its TLS, its place with the session manager, its writer, and the ways
// to end it from outside. What a login adds is in control.
type conn struct {
	srv      *Server
	listener net.Listener
	raw      net.Conn
	mode     Mode
	remote   netip.AddrPort
	local    netip.AddrPort
	log      *slog.Logger

	// Used by one goroutine at a time: that of serve, and the library's command loop while a control exists (CLNT and a plain
	// login change facts).
	ctx      context.Context // ends with the connection
	visitor  visitor
	facts    policy.Facts
	stream   net.Conn // raw, or TLS on it
	lines    lineReader
	ticketID [16]byte    // random; names this connection in the TLS session tickets it issues. Set by newConn
	tickets  *tls.Config // key of its TLS 1.2 tickets. Set by newConn
	dataTLS  *dataConfig // nil before TLS, and on plain FTP
	chain    [][]byte    // certificate of the client, if it was asked for one and has one
	plain    bool        // TLS is not asked for, by an exception of the policy
	deadline time.Time   // for the login

	wmu  sync.Mutex // one reply at a time
	wbuf []byte     // guarded by wmu

	mu       sync.Mutex    // guards what follows
	farewell string        // the connection must end, with this reply; empty = go on
	draining bool          // the server stops: end after the transfer
	control  *control      // nil before the library has the connection
	active   time.Time     // last command or end of one
	account  string        // logged in; "" before
	settled  chan struct{} // closed when account is final; see ticket.go
}

func newConn(s *Server, ln net.Listener, raw net.Conn, m Mode) *conn {
	c := &conn{
		srv: s, listener: ln, raw: raw, stream: raw, mode: m,
		remote: addrPort(raw.RemoteAddr()), local: addrPort(raw.LocalAddr()),
		log: s.o.Log, active: time.Now(), settled: make(chan struct{}),
	}
	_, _ = rand.Read(c.ticketID[:])
	c.tickets = ownTickets()
	c.lines.r = raw
	c.deadline = c.active.Add(s.limits.login)
	c.facts = policy.Facts{Protocol: protocol(m), Remote: c.remote, Local: c.local}
	return c
}

// protocol is what a connection counts as. The session manager knows at a login without TLS that it is plain FTP.
func protocol(m Mode) policy.Protocol {
	if m == Implicit {
		return policy.FTPSImplicit
	}
	return policy.FTPS
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// serve owns the connection. It returns when nothing of it is left.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.ctx = ctx
	defer c.raw.Close()
	defer c.recovered("connection")
	c.srv.counters.connections.Add(1)

	if !c.connect() {
		return
	}
	defer c.leave()
	defer c.settle("")

	user, ok := "", true
	if c.mode == Implicit {
		if ok = c.handshake(); ok {
			c.reply(220, c.srv.o.Banner)
		}
	} else {
		user, ok = c.plaintext()
	}
	for ok && c.session(user) { // again after REIN
		c.leave()
		c.unsettle()
		c.deadline = time.Now().Add(c.srv.limits.login)
		user, ok = "", c.connect() && c.admit()
		if ok {
			c.reply(220, c.srv.o.Banner)
		}
	}
	c.leave() // before the last words, which may take a second: the place is free
	c.goodbye()
}

// connect asks the session manager for a place.
func (c *conn) connect() bool {
	v, denial := c.srv.backend.Connect(c.ctx, c.facts, c.hangup)
	if denial != nil {
		c.srv.counters.refused.Add(1)
		// The session manager tells the operator, once a minute and address: strangers must not fill the log.
		c.log.Debug("connection refused", "remote", c.remote.String(), "code", denial.Code)
		if c.stream != c.raw || c.mode == Explicit {
			c.setWriteDeadline(c.srv.limits.farewell)
			c.reply(421, denialText(denial))
		}
		// In front of implicit TLS nothing can be said, and a refused stranger is not worth a handshake.
		return false
	}
	c.visitor = v
	c.log = c.srv.o.Log.With("session", v.ID(), "remote", c.remote.String())
	return true
}

// leave gives the place back.
func (c *conn) leave() {
	if c.visitor != nil {
		c.visitor.Close()
		c.visitor = nil
	}
}

// handshake secures the control connection.
func (c *conn) handshake() bool {
	// Until here the deadline is the only thing that ends a silent client (F3).
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.limits.handshake)
	defer cancel()
	if err := c.raw.SetDeadline(time.Now().Add(c.srv.limits.handshake)); err != nil {
		return false
	}
	t := tls.Server(c.raw, c.controlConfig())
	if err := t.HandshakeContext(ctx); err != nil {
		c.srv.counters.handshakes.Add(1)
		c.log.Debug("TLS handshake failed", "error", err) // strangers do that as fast as they like; Stats counts them
		return false
	}
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		return false
	}
	c.stream, c.lines.r = t, t
	c.dataTLS = &dataConfig{c: c}
	state := t.ConnectionState()
	for _, cert := range state.PeerCertificates {
		c.chain = append(c.chain, cert.Raw)
	}
	c.facts.TLS, c.facts.TLSVersion, c.facts.Cipher = true, state.Version, tls.CipherSuiteName(state.CipherSuite)
	c.log.Debug("TLS established", "version", tls.VersionName(state.Version), "cipher", c.facts.Cipher, "curve", state.CurveID.String())
	return c.admit()
}

// admit tells the session manager what is known by now.
func (c *conn) admit() bool {
	c.visitor.SetCertificate(c.chain)
	if d := c.visitor.SetFacts(c.facts); d != nil {
		c.srv.counters.refused.Add(1)
		c.reply(421, denialText(d))
		return false
	}
	return true
}

// hangup ends the connection from outside: ban, policy change, kill, shutdown of the manager. It does not block, and the data
// connection is dead when it returns, be it open or awaited (F11). The client is told why if it listens.
func (c *conn) hangup(d *policy.Denial) {
	text := "421 The connection was ended by the server."
	if d != nil {
		text = "421 " + denialText(d)
	}
	c.end(text)
}

// cut ends the connection without a word. It does not block.
func (c *conn) cut() {
	c.end("421 The server is stopping.")
	_ = c.raw.Close()
}

func (c *conn) end(text string) {
	c.mu.Lock()
	if c.farewell == "" {
		c.farewell = text
	}
	ctl := c.control
	// Wakes the reader, and leaves a client that does not read no time to hold the farewell.
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.srv.limits.farewell))
	c.mu.Unlock()
	if ctl != nil {
		ctl.abort(errHangup)
	}
}

// drain ends the connection as soon as no transfer is under way. It does not block.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// goodbye says the farewell, if there is one, and closes.
func (c *conn) goodbye() {
	c.mu.Lock()
	text := c.farewell
	c.farewell = "" // said once
	c.mu.Unlock()
	c.setWriteDeadline(c.srv.limits.farewell)
	if text != "" {
		c.writeLine(text)
	}
	if t, ok := c.stream.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if t, ok := c.raw.(*net.TCPConn); ok && t.CloseWrite() == nil {
		// Closing with unread bytes would reset the connection, and many systems then throw away the last reply unread.
		_ = c.raw.SetReadDeadline(time.Now().Add(c.srv.limits.farewell))
		_, _ = io.CopyN(io.Discard, c.raw, maxOverlong)
	}
	_ = c.raw.Close()
}

// readLine waits for the next line. It returns io.EOF when the connection is to end, whoever wants that.
// It keeps the idle limit, the login limit and the drain; a client in a transfer may be silent (the data connection has its own
// limit).
func (c *conn) readLine() ([]byte, error) {
	for {
		c.arm()
		line, err := c.lines.next()
		if err == nil {
			c.touch()
			return line, nil
		}
		if errors.Is(err, errLineTooLong) || errors.Is(err, errBadLine) {
			c.touch()
			return nil, err
		}
		if errors.Is(err, errFlood) {
			c.setFarewell("421 Command line too long.")
			return nil, io.EOF
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.expired() {
			return nil, io.EOF
		}
	}
}

// arm sets the time at which a waiting readLine looks around.
func (c *conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.expiry()
	if c.farewell != "" || c.over() || c.draining && !c.busy() {
		at = time.Unix(1, 0)
	}
	_ = c.raw.SetReadDeadline(at)
}

// expired tells whether a deadline of readLine means the end, and notes the farewell.
func (c *conn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.farewell != "" || c.over():
		return true
	case c.busy():
		return false
	case c.draining:
		c.farewell = "421 The server is stopping; please come back later."
		return true
	case time.Now().Before(c.expiry()):
		return false
	case c.member() == nil:
		c.farewell = "421 No login within the time limit."
	default:
		c.farewell = "421 No command within the idle time limit."
	}
	return true
}

// lookAround is how often a reader whose deadline has passed during a command sees whether that has ended.
const lookAround = time.Second

// expiry is when the client will have been idle for too long. Called with c.mu held.
func (c *conn) expiry() time.Time {
	m := c.member()
	if m == nil {
		if next := time.Now().Add(lookAround); c.busy() && next.After(c.deadline) {
			// A password being looked at, or a reply that the client does not take, outlasts the limit. A deadline that has
			// passed would have the reader spin until that ends.
			return next
		}
		return c.deadline
	}
	idle := m.Policy().Session.Idle
	if idle == 0 {
		idle = 24 * time.Hour // no limit; looking around once a day costs nothing
		return time.Now().Add(idle)
	}
	if c.busy() {
		return time.Now().Add(idle)
	}
	return c.active.Add(idle)
}

// Called with c.mu held.
func (c *conn) busy() bool { return c.control != nil && c.control.op != nil }

// over tells that the library has let go of the connection. Called with c.mu held.
func (c *conn) over() bool { return c.control != nil && c.control.closed }

// Called with c.mu held.
func (c *conn) member() member {
	if c.control == nil {
		return nil
	}
	return c.control.login
}

func (c *conn) touch() {
	c.mu.Lock()
	c.active = time.Now()
	m := c.member()
	c.mu.Unlock()
	if m != nil {
		m.Touch()
	}
}

func (c *conn) setFarewell(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell == "" {
		c.farewell = text
	}
}

func (c *conn) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.farewell != ""
}

func (c *conn) setWriteDeadline(d time.Duration) { _ = c.raw.SetWriteDeadline(time.Now().Add(d)) }

// recovered ends the session that panicked, and no other. To be deferred in every goroutine and callback.
func (c *conn) recovered(where string) { c.caught(where, recover()) }

// caught records a panic r (nil = none) and ends the session. The value is not logged: it may quote what the client sent.
func (c *conn) caught(where string, r any) bool {
	if r == nil {
		return false
	}
	c.srv.counters.panics.Add(1)
	c.log.Error("panic in a session", "where", where, "type", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
	c.end("421 Internal error; the session ends.")
	return true
}

// armWrite gives the client its time to take a reply; less if the connection is ending.
func (c *conn) armWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.srv.limits.write
	if c.farewell != "" {
		d = c.srv.limits.farewell
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(d))
}
