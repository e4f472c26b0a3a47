// Package ftpd is the FTPS front-end on ftpserverlib: one library server per connection, behind our own TLS and line filter.
package ftpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"

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
	Sessions *session.Manager
	// Certificate is asked per handshake (hot reload).
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Log         *slog.Logger
	// PassivePorts [first, last]; 0,0 = kernel's choice.
	PassivePorts [2]uint16
	// PublicAddress answers what PASV tells a client that reached local from remote; nil or invalid = local.
	PublicAddress func(local, remote netip.Addr) netip.Addr
	ActiveMode    bool
	Banner        string
}

// Server runs any number of listeners. Safe for concurrent use.
type Server struct{}

func New(o Options) (*Server, error) { return nil, errors.ErrUnsupported }

// Serve accepts until ctx ends or ln fails; it returns after its connections have gone or were cut by Shutdown's deadline.
func (s *Server) Serve(ctx context.Context, ln net.Listener, m Mode) error {
	return errors.ErrUnsupported
}

// Shutdown stops accepting, lets transfers under way finish until ctx ends, then cuts.
func (s *Server) Shutdown(ctx context.Context) error { return errors.ErrUnsupported }
