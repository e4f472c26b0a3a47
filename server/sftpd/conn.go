package sftpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/policy"
)

// conn is one SSH connection from accept to close.
type conn struct {
	s   *Server
	nc  net.Conn
	ctx context.Context // ends when the connection is cut or over
	end context.CancelFunc
	// log is set once more when the session has its id: by serve, under mu,
	// because cut may be called from anywhere by then.
	log *slog.Logger
	// under is what x/crypto works on; set by handshake.
	under *clientConn

	handles  atomic.Int64  // that may still be opened
	channels atomic.Int64  // that are open
	heard    atomic.Int64  // when bytes last came in, Unix nanoseconds
	scanning chan struct{} // see filter.scan
	cutting  sync.Once

	mu       sync.Mutex // guards all below
	preAuth  ssh.ServerPreAuthConn
	draining bool
	sessions map[*filter]ssh.Channel
}

func newConn(s *Server, nc net.Conn) *conn {
	ctx, end := context.WithCancel(context.Background())
	c := &conn{s: s, nc: nc, ctx: ctx, end: end, log: s.log, sessions: make(map[*filter]ssh.Channel), scanning: make(chan struct{}, 1)}
	c.handles.Store(int64(s.limits.Handles))
	return c
}

// serve runs the connection; leave is called when it has logged in.
func (c *conn) serve(leave func()) {
	defer c.nc.Close()
	defer c.end()
	defer c.survive()
	facts := policy.Facts{
		Protocol: policy.SFTP,
		Remote:   addrPort(c.nc.RemoteAddr()),
		Local:    addrPort(c.nc.LocalAddr()),
	}
	visitor, denial := c.s.gate.connect(c.ctx, facts, c.hangup)
	if denial != nil {
		c.s.turnedAway.Add(1)
		sayBeforeIdent(c.nc, denial.Error())
		return
	}
	defer visitor.Close()
	c.mu.Lock()
	c.log = c.s.log.With("session", visitor.ID())
	c.mu.Unlock()

	limit := time.Now().Add(c.s.limits.PreAuth)
	in, err := c.handshake(visitor, facts, limit)
	if err != nil {
		c.s.failed.Add(1)
		c.log.Debug("no login", "error", err)
		return
	}
	defer in.conn.Close()
	leave()
	c.s.connections.Add(1)
	defer c.s.connections.Add(-1)
	c.log.Debug("connection logged in", "client", string(in.conn.ClientVersion()))
	c.loop(in)
	c.log.Debug("connection closed")
}

// survive is deferred in every goroutine of the connection: a panic ends this
// connection and no other.
func (c *conn) survive() {
	if v := recover(); v != nil {
		c.log.Error("connection panicked", "panic", panicText(v), "stack", string(debug.Stack()))
		c.nc.Close()
	}
}

// admitted is a connection that has logged in.
type admitted struct {
	conn  *ssh.ServerConn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	guest guest
}

// handshake exchanges keys and authenticates, all before limit.
func (c *conn) handshake(v visitor, facts policy.Facts, limit time.Time) (*admitted, error) {
	if err := c.nc.SetDeadline(limit); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(c.ctx, limit)
	defer cancel()
	under := &clientConn{Conn: c.nc, heard: &c.heard, bulk: &c.s.bulk}
	c.under = under
	h, err := under.peek(serverIdent, limit)
	if err != nil {
		return nil, err
	}
	facts.Client = h.ident
	if d := v.SetFacts(facts); d != nil {
		disconnectPlain(c.nc, d.Error())
		return nil, d
	}
	profile := c.s.offered()
	config := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: profile.keyExchanges, Ciphers: h.steer(profile.ciphers), MACs: profile.macs,
		},
		ServerVersion:       serverIdent,
		MaxAuthTries:        c.s.limits.AuthTries,
		PreAuthConnCallback: c.beforeAuth,
		BannerCallback:      func(ssh.ConnMetadata) string { return c.s.banner },
	}
	if len(config.Ciphers) < len(profile.ciphers) {
		c.s.steered.Add(1)
	}
	keys, err := profile.servable(c.s.hostKeys())
	if err != nil {
		c.log.Error("no host key to serve", "error", err)
		return nil, err
	}
	for _, k := range keys {
		config.AddHostKey(k)
	}
	l := &login{ctx: ctx, visitor: v, facts: facts, signatures: profile.signatures(), report: reporter{c.log}}
	l.configure(config)
	sc, chans, reqs, err := ssh.NewServerConn(under, config)
	if err != nil {
		return nil, err
	}
	c.setPreAuth(nil)
	facts = l.facts
	facts.Method = l.method
	if d := v.SetFacts(facts); d != nil {
		sc.Close()
		return nil, d
	}
	if err := errors.Join(c.nc.SetDeadline(time.Time{}), c.ctx.Err()); err != nil {
		sc.Close()
		return nil, err
	}
	return &admitted{sc, chans, reqs, l.guest}, nil
}

// beforeAuth keeps what can send a sentence to a client that has not logged in.
func (c *conn) beforeAuth(p ssh.ServerPreAuthConn) { c.setPreAuth(p) }

func (c *conn) setPreAuth(p ssh.ServerPreAuthConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.preAuth = p
}

// loop serves channels until the connection is gone, and then waits for them:
// what had arrived by then, a CLOSE above all, is still carried out.
func (c *conn) loop(in *admitted) {
	reqs := in.reqs
	alive := c.keepalive(in.conn)
	defer alive.Stop()
	var channels sync.WaitGroup
	defer channels.Wait()
	for {
		select {
		case nch, ok := <-in.chans:
			if !ok {
				return
			}
			c.open(nch, in.guest, &channels)
		case req, ok := <-reqs:
			if !ok {
				reqs = nil
				continue
			}
			// tcpip-forward and whatever else: RFC 4254, section 4.
			_ = req.Reply(false, nil)
		}
	}
}

// keepalive asks a silent client whether it is there and cuts one that does not
// answer; any answer will do, refusal is the usual one (OpenSSH's
// ClientAliveInterval works the same). The timer's goroutine ends with the
// connection.
func (c *conn) keepalive(sc *ssh.ServerConn) *time.Timer {
	every := c.s.limits.Keepalive
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		if c.ctx.Err() != nil {
			return
		}
		if silent := time.Since(time.Unix(0, c.heard.Load())); silent < every {
			t.Reset(every - silent)
			return
		}
		dead := time.AfterFunc(every, func() { c.cut("no answer to keepalive") })
		_, _, err := sc.SendRequest("keepalive@openssh.com", true, nil)
		dead.Stop()
		if err == nil {
			t.Reset(every)
		}
	})
	t.Reset(every)
	return t
}

// hangup is called by the session manager, from any goroutine.
func (c *conn) hangup(d *policy.Denial) {
	text := "the session was ended"
	if d != nil {
		text = d.Error()
	}
	c.cut(text)
}

// cut ends the connection now: what is being served stops, the client is told
// why if it takes the words within sayWait, and the socket is closed. It does
// not block. x/crypto has no way to send a DISCONNECT with a text, so the words
// go to standard error of each session, or, before login, into a banner.
func (c *conn) cut(why string) {
	c.cutting.Do(func() {
		c.end()
		c.mu.Lock()
		log := c.log
		preAuth := c.preAuth
		channels := make([]ssh.Channel, 0, len(c.sessions))
		for _, ch := range c.sessions {
			channels = append(channels, ch)
		}
		c.mu.Unlock()
		log.Info("connection cut", "reason", why)
		late := time.AfterFunc(sayWait, func() { c.nc.Close() })
		go func() { // ends after sayWait at the latest
			defer late.Stop()
			defer c.nc.Close()
			if preAuth != nil {
				_ = preAuth.SendAuthBanner(why + "\r\n")
			}
			for _, ch := range channels {
				_, _ = ch.Stderr().Write([]byte(why + "\r\n"))
			}
		}()
	})
}

// drain lets the connection finish what it has open and then ends it.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	busy := make([]*filter, 0, len(c.sessions))
	for f := range c.sessions {
		busy = append(busy, f)
	}
	c.mu.Unlock()
	for _, f := range busy {
		f.drain()
	}
	if len(busy) == 0 {
		c.cut(shuttingDown)
	}
}

// add registers a running session and tells whether the server is draining.
func (c *conn) add(f *filter, ch ssh.Channel) (draining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[f] = ch
	return c.draining
}

// remove takes it out; the last one of a draining connection ends it.
func (c *conn) remove(f *filter) {
	c.mu.Lock()
	delete(c.sessions, f)
	last := c.draining && len(c.sessions) == 0
	c.mu.Unlock()
	if last {
		c.cut(shuttingDown)
	}
}
