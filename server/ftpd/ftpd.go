// Package ftpd is the FTPS front-end: implicit and explicit TLS (RFC 4217) in front of one ftpserverlib server per connection.
//
// The library is the engine: it runs the command loop of a logged-in control connection, keeps the working directory, opens the
// data connection of a transfer and moves the bytes through io.Copy. Everything that a hostile client can reach before that is
// ours: accepting, TLS, the plaintext phase of explicit FTPS, the lines that the library gets to see (line.go, control.go), the
// data sockets (channel.go, dataconn.go) and every reply that leaves (reply.go). The library never learns of TLS: it hands
// around our data connections, which refuse to carry a byte before the protection that policy asks for is up.
//
// Guarantees, each with a test named for the defect of the library that it covers (F1 to F14): no transfer in clear unless a
// dated exception of the policy allows plain FTP; no data connection from another address, nor without the TLS session of the
// control connection once a client has shown that it can resume; an upload that ends without close_notify is interrupted, not
// complete; nobody holds a socket without sending or receiving; no secret and no internal error text in a log or a reply.
//
// RFCs: 959, 1123, 2228, 2389, 2428, 2640, 3659, 4217, 7151; draft-somers-ftp-mfxx, draft-bryan-ftpext-hash, draft-bryan-ftp-range.
package ftpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"sallyport/crypto/approved"
	"sallyport/server/session"
)

// Mode of a listener.
type Mode uint8

const (
	Explicit Mode = 1 + iota // AUTH TLS, port 21
	Implicit                 // TLS from the first byte, port 990
)

// Options of New. All limits have defaults.
type Options struct {
	Sessions session.Door
	// Certificate is asked per handshake (hot reload).
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Log         *slog.Logger
	// PassivePorts [first, last]; 0,0 = kernel's choice.
	PassivePorts [2]uint16
	// PublicAddress answers what PASV tells a client that reached local from remote; nil or invalid = local.
	PublicAddress func(local, remote netip.Addr) netip.Addr
	ActiveMode    bool
	// Banner is the text of the greeting; empty = "Sallyport ready".
	Banner string
	// Ciphers names what TLS 1.2 clients are offered: "modern" (default: ECDHE with an AEAD) or "compatible" (also ECDHE with
	// AES-CBC) or "legacy-insecure" (also 3DES, and RSA without forward secrecy). TLS 1.3 is the same in all.
	Ciphers string
	// Legacy is asked per handshake whether "legacy-insecure" is still offered; "modern" is otherwise. That profile needs it.
	Legacy func() bool
	// LoginTime is the time from accept to login; 0 = 60 s.
	LoginTime time.Duration
	// NoLegacyHashes leaves out XCRC, XMD5, XSHA and XSHA1. They are left out anyway when FIPS 140-3 mode forbids the algorithms.
	NoLegacyHashes bool

	backend backend // tests: instead of Sessions
	limits  limits  // tests: shorter times
}

// Server runs any number of listeners. Safe for concurrent use.
type Server struct {
	o        Options
	backend  backend
	limits   limits
	ports    *ports
	commands map[string]command
	legacy   bool // XCRC, XMD5 and XSHA are offered
	buffers  sync.Pool
	counters counters
	tickets  *tls.Config // seals TLS session tickets; crypto/tls changes its keys daily

	mu        sync.Mutex // guards what follows
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	draining  bool
	gone      chan struct{} // closed and replaced whenever a connection leaves conns
}

// New checks the options. It opens nothing: sockets come with Serve.
func New(o Options) (*Server, error) {
	if o.backend == nil {
		if o.Sessions == nil {
			return nil, errors.New("ftpd: no session manager")
		}
		o.backend = manager{o.Sessions}
	}
	if o.Certificate == nil {
		return nil, errors.New("ftpd: no certificate")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Banner == "" {
		o.Banner = "Sallyport ready"
	}
	switch o.Ciphers {
	case "":
		o.Ciphers = "modern"
	case "modern", "compatible":
	case legacyName:
		if o.Legacy == nil {
			return nil, fmt.Errorf("ftpd: cipher profile %q without an end", o.Ciphers)
		}
	default:
		return nil, fmt.Errorf("ftpd: unknown cipher profile %q (modern, compatible, legacy-insecure)", o.Ciphers)
	}
	if o.limits.login == 0 {
		o.limits.login = o.LoginTime
	}
	p, err := newPorts(o.PassivePorts)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, backend: o.backend, limits: o.limits.withDefaults(), ports: p,
		legacy:    !o.NoLegacyHashes && !approved.Only(),
		tickets:   &tls.Config{},
		conns:     make(map[*conn]struct{}),
		listeners: make(map[net.Listener]struct{}),
		gone:      make(chan struct{}),
	}
	s.buffers.New = func() any { return new([wireBuffer]byte) }
	s.commands = commandTable(s)
	return s, nil
}

// Serve accepts until ctx ends or ln fails; it returns after its connections have gone or were cut by Shutdown's deadline.
// It closes ln. When ctx ends, sessions without a transfer are told that the server stops; transfers under way finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener, m Mode) error {
	if m != Explicit && m != Implicit {
		return fmt.Errorf("ftpd: unknown listener mode %d", m)
	}
	if !s.addListener(ln) {
		_ = ln.Close() // after Shutdown: nothing to serve
		return nil
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()

	var own sync.WaitGroup
	err := s.accept(ctx, ln, m, &own)
	if ctx.Err() != nil {
		s.drain(ln)
	}
	own.Wait()
	return err
}

// accept is the loop of Serve. Its connections are goroutines that own waits for.
func (s *Server) accept(ctx context.Context, ln net.Listener, m Mode, own *sync.WaitGroup) error {
	var delay time.Duration
	for {
		raw, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
		case ctx.Err() != nil || s.isDraining():
			return nil
		case isTransient(err):
			// Out of descriptors or memory: what is open must live on, and trying at once would only burn CPU.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.o.Log.Warn("accept failed; waiting", "listener", ln.Addr().String(), "error", err, "delay", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			continue
		default:
			return fmt.Errorf("accepting on %s: %w", ln.Addr(), err)
		}
		c := newConn(s, ln, raw, m)
		if !s.add(c) {
			_ = raw.Close()
			continue
		}
		own.Go(func() {
			defer s.remove(c)
			// Not the listener's ctx: its end stops accepting, not the transfers under way.
			c.serve(context.WithoutCancel(ctx))
		})
	}
}

// Shutdown stops accepting, lets transfers under way finish until ctx ends, then cuts.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Unlock()
	s.drain(nil)
	for {
		s.mu.Lock()
		left, gone := len(s.conns), s.gone
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return s.cut(ctx)
		}
	}
}

// cut ends every connection and waits for its goroutines, which nothing holds any more but the volume's own work.
func (s *Server) cut(ctx context.Context) error {
	s.mu.Lock()
	n := len(s.conns)
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	return fmt.Errorf("ftpd: %d connections cut: %w", n, context.Cause(ctx))
}

// drain tells the connections of ln (nil: of all) to end after their transfer.
func (s *Server) drain(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if ln == nil || c.listener == ln {
			c.drain()
		}
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	_ = ln.Close()
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	close(s.gone)
	s.gone = make(chan struct{})
}

// isTransient tells errors of accept(2) that leave the listener whole.
func isTransient(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
