package sftpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/server/session"
)

// serverIdent names the product, not its version: that is nobody's business
// before login.
const serverIdent = "SSH-2.0-Sallyport"

// Options of New.
type Options struct {
	Sessions session.Door
	// HostKeys is asked per connection, so that keys can be rotated under a
	// running server. DSA and short RSA keys among them are passed over.
	HostKeys func() []ssh.Signer
	Log      *slog.Logger
	// Banner is shown before login; empty means none.
	Banner string
	// Profile of algorithms: "modern" (default), "compatible" or "legacy-insecure".
	Profile string
	// Legacy is asked per connection whether the profile "legacy-insecure" is still offered; "modern" is otherwise. The
	// profile needs it.
	Legacy func() bool
	Limits Limits
}

// Stats are counts since start, but for Connections, which is as of now.
type Stats struct {
	Connections int64 // logged in
	Accepted    int64
	TurnedAway  int64 // over a limit, before anything was read
	Failed      int64 // handshakes and logins that came to nothing
	Steered     int64 // connections for which AES-GCM was chosen
}

// Server runs any number of listeners. Safe for concurrent use.
type Server struct {
	gate     gate
	hostKeys func() []ssh.Signer
	log      *slog.Logger
	banner   string
	profile  profile // as configured: see offered
	legacy   func() bool
	limits   Limits
	lobby    lobby
	pool     bufferPool
	bulk     sync.Pool // of *[bulkSize]byte

	connections, accepted, turnedAway, failed, steered atomic.Int64

	running sync.WaitGroup // connections

	mu        sync.Mutex // guards all below
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// New checks the options; it opens nothing.
func New(o Options) (*Server, error) {
	if o.Sessions == nil {
		return nil, errors.New("sftpd: no session manager")
	}
	return newServer(o, managerGate{o.Sessions})
}

func newServer(o Options, g gate) (*Server, error) {
	if o.HostKeys == nil {
		return nil, errors.New("sftpd: no host keys")
	}
	p, err := profileNamed(o.Profile)
	if err != nil {
		return nil, err
	}
	if o.Profile == legacyName && o.Legacy == nil {
		return nil, fmt.Errorf("sftpd: profile %q without an end", o.Profile)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := o.Limits.withDefaults()
	return &Server{
		gate: g, hostKeys: o.HostKeys, log: o.Log, banner: o.Banner, profile: p, legacy: o.Legacy, limits: l,
		lobby:     lobby{total: l.Handshakes, perNet: l.HandshakesPerNet},
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}, nil
}

// offered is the profile of a connection that comes now.
func (s *Server) offered() profile {
	if s.profile.sha1 && !s.legacy() {
		return modern().allowed()
	}
	return s.profile
}

// Stats returns the counts for metrics.
func (s *Server) Stats() Stats {
	return Stats{
		Connections: s.connections.Load(), Accepted: s.accepted.Load(), TurnedAway: s.turnedAway.Load(),
		Failed: s.failed.Load(), Steered: s.steered.Load(),
	}
}

// Serve accepts until ctx ends, Shutdown is called or ln fails, and closes ln.
// It returns after its connections have gone or were cut by Shutdown; the error
// is nil unless ln failed by itself.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if !s.addListener(ln) {
		return nil
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.acceptAll(ctx, ln)
	s.running.Wait()
	return err
}

// Pauses after a failed accept, which is nearly always a lack of descriptors:
// as net/http.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

func (s *Server) acceptAll(ctx context.Context, ln net.Listener) error {
	pause := firstPause
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = firstPause
			s.accept(nc)
		case ctx.Err() != nil || s.isClosing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.log.Warn("accepting a connection failed", "error", err, "pause", pause)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
		}
	}
}

// accept hands nc to a goroutine of its own, which Serve and Shutdown wait for,
// or turns it away.
func (s *Server) accept(nc net.Conn) {
	s.accepted.Add(1)
	leave, ok := s.lobby.enter(addrPort(nc.RemoteAddr()).Addr())
	if !ok {
		s.turnedAway.Add(1)
		sayBeforeIdent(nc, "too many connections; try again in a minute")
		nc.Close()
		return
	}
	c := newConn(s, nc)
	if !s.addConn(c) {
		leave()
		nc.Close()
		return
	}
	go func() {
		defer s.running.Done()
		defer s.removeConn(c)
		defer leave()
		c.serve(leave)
	}()
}

// sayWait bounds a farewell, so that nobody can hold a goroutine by not reading.
const sayWait = 500 * time.Millisecond

// sayBeforeIdent tells a refusal as a line before the identification, which
// RFC 4253, section 4.2 allows a server and OpenSSH's clients show.
func sayBeforeIdent(nc net.Conn, text string) {
	_ = nc.SetWriteDeadline(time.Now().Add(sayWait))
	_, _ = nc.Write([]byte(text + "\r\n"))
}

// Shutdown stops accepting, ends connections as soon as they have nothing open
// and nothing under way, and cuts the rest when ctx ends. It returns when all
// have gone; the error is that of ctx if any had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	conns := s.close()
	var drains sync.WaitGroup
	defer drains.Wait()
	for _, c := range conns {
		drains.Go(c.drain) // may say goodbye to a client that does not read
	}
	gone := make(chan struct{})
	go func() { // ends with the last connection, which the cut below hastens
		defer close(gone)
		s.running.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.cut(shuttingDown)
	}
	<-gone
	return context.Cause(ctx)
}

// close lets no new connection in and returns those that there are.
func (s *Server) close() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	var conns []*conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// addConn also counts c as running, under the lock that close takes, so that
// nothing is added to running once Shutdown waits for it.
func (s *Server) addConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.running.Add(1)
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) removeConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
