// Package sftpd is the SFTP front-end on x/crypto/ssh and pkg/sftp, behind a packet filter and cipher steering.
package sftpd

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"golang.org/x/crypto/ssh"

	"sallyport/server/session"
)

// Options of New. All limits have defaults.
type Options struct {
	Sessions *session.Manager
	// HostKeys is asked per connection (hot reload).
	HostKeys func() []ssh.Signer
	Log      *slog.Logger
	Banner   string
}

// Server runs any number of listeners. Safe for concurrent use.
type Server struct{}

func New(o Options) (*Server, error) { return nil, errors.ErrUnsupported }

// Serve accepts until ctx ends or ln fails; it returns after its connections have gone or were cut by Shutdown's deadline.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return errors.ErrUnsupported }

// Shutdown stops accepting, lets requests under way finish until ctx ends, then cuts.
func (s *Server) Shutdown(ctx context.Context) error { return errors.ErrUnsupported }
