package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// Options of NewServer. What only the assembled server can do comes as
// function values.
type Options struct {
	Log  *slog.Logger
	UIDs []uint32 // who may, beside root and the server's own user

	Status         func() Status
	Reload         func(context.Context) error
	HostKeys       func() []HostKey
	RotateHostKeys func(kinds ...string) error
	Certs          func() []Cert
	RotateCerts    func() error
}

// routes binds every operation; calls.go has the other side.
func (s *Server) routes(mux *http.ServeMux) {
	handle(s, mux, "status", s.status)
	handle(s, mux, "reload", s.reload)
	handle(s, mux, "hostkey/list", s.hostKeyList)
	handle(s, mux, "hostkey/rotate", s.hostKeyRotate)
	handle(s, mux, "cert/list", s.certList)
	handle(s, mux, "cert/rotate", s.certRotate)
}

func (s *Server) status(context.Context, Peer, Empty) (Status, error) { return s.o.Status(), nil }

func (s *Server) reload(ctx context.Context, _ Peer, _ Empty) (Empty, error) {
	if err := s.o.Reload(ctx); err != nil {
		return Empty{}, newError(CodeInvalid, "not reloaded, the running configuration stays: "+err.Error(), "")
	}
	return Empty{}, nil
}

func (s *Server) hostKeyList(context.Context, Peer, Empty) (HostKeys, error) {
	return HostKeys{s.o.HostKeys()}, nil
}

func (s *Server) hostKeyRotate(_ context.Context, _ Peer, r HostKeyRotate) (HostKeys, error) {
	if err := s.o.RotateHostKeys(r.Kinds...); err != nil {
		return HostKeys{}, err
	}
	return HostKeys{s.o.HostKeys()}, nil
}

func (s *Server) certList(context.Context, Peer, Empty) (Certs, error) {
	return Certs{s.o.Certs()}, nil
}

func (s *Server) certRotate(context.Context, Peer, Change) (Certs, error) {
	if err := s.o.RotateCerts(); err != nil {
		return Certs{}, err
	}
	return Certs{s.o.Certs()}, nil
}

// explain turns an error of the floors below into one for the operator. What
// is not known is internal: logged under a reference, never shown.
func (s *Server) explain(name string, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Code: CodeTimeout, Message: "the operation was interrupted", cause: err}
	default:
		return s.internal(name, err)
	}
}
