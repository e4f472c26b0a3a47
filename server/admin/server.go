package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

// Limits of the admin door.
const (
	maxBody       = 1 << 20          // bytes of a request: far above a policy change
	headerTimeout = 5 * time.Second  // from accept to the end of the header
	bodyTimeout   = 10 * time.Second // to read a request's body
	idleTimeout   = 30 * time.Second
)

// Server serves the operations of Options. Safe for concurrent use.
type Server struct {
	o    Options
	http *http.Server
	quit chan struct{} // closed when Serve begins to stop: streams end then
}

type peerKey struct{}

// NewServer makes a Server; Serve runs it.
func NewServer(o Options) *Server {
	s := &Server{o: o, quit: make(chan struct{})}
	mux := http.NewServeMux()
	s.routes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, newError(CodeNotFound, "there is no operation "+r.Method+" "+r.URL.Path, "client and server may be of different versions"))
	})
	s.http = &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := peerOf(c)
			if err != nil {
				return ctx // guard refuses a connection without a peer
			}
			return context.WithValue(ctx, peerKey{}, p)
		},
	}
	return s
}

// Serve answers on ln until ctx ends, then lets requests under way finish for
// grace and returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener, grace time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(ln) }() // ends with Shutdown or Close below
	select {
	case err := <-done:
		return fmt.Errorf("admin socket: %w", err)
	case <-ctx.Done():
	}
	close(s.quit)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		s.http.Close()
	}
	<-done
	return nil
}

// guard lets only known peers in and bounds what they send.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(Peer)
		if !ok || !s.allowed(p.UID) {
			s.o.Log.Warn("admin request refused", "uid", p.UID, "pid", p.PID, "path", r.URL.Path)
			writeError(w, newError(CodeRefused, "this user may not administer the server", "run as root or as the server's own user, or add your uid to admin.uids in sallyport.yaml"))
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a unix socket always can
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) allowed(uid uint32) bool {
	return uid == 0 || uid == uint32(os.Getuid()) || slices.Contains(s.o.UIDs, uid)
}

// op is what an operation does. who is the peer; errors are *Error, or of the
// floors below (see explain).
type op[Req, Resp any] func(ctx context.Context, who Peer, req Req) (Resp, error)

// handle makes the route of one operation.
func handle[Req, Resp any](s *Server, mux *http.ServeMux, name string, fn op[Req, Resp]) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(r.Body, &req); err != nil {
			writeError(w, newError(CodeInvalid, "the request does not parse: "+err.Error(), "client and server may be of different versions"))
			return
		}
		// The body is read: without this a long operation would be cut by the read deadline.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		who := r.Context().Value(peerKey{}).(Peer)
		resp, err := fn(r.Context(), who, req)
		if err != nil {
			writeError(w, s.explain(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(resp); err != nil {
			s.o.Log.Debug("admin answer not delivered", "operation", name, "error", err)
		}
	})
}

// handleStream makes the route of an operation that answers one JSON value per
// line for as long as the client stays and the server serves.
func handleStream[Req, T any](s *Server, mux *http.ServeMux, name string, fn func(ctx context.Context, req Req, send func(T) error) error) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(r.Body, &req); err != nil {
			writeError(w, newError(CodeInvalid, "the request does not parse: "+err.Error(), "client and server may be of different versions"))
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() { // ends with the request
			select {
			case <-s.quit:
				cancel()
			case <-ctx.Done():
			}
		}()
		w.Header().Set("Content-Type", "application/x-ndjson")
		enc := json.NewEncoder(w)
		_ = rc.Flush() // the client knows at once that it was let in
		err := fn(ctx, req, func(v T) error {
			if err := enc.Encode(v); err != nil {
				return err
			}
			return rc.Flush()
		})
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("admin stream ended", "operation", name, "error", err)
		}
	})
}

func decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}

// internal hides err from the client and logs it under a reference.
func (s *Server) internal(name string, err error) *Error {
	ref := rand.Text()[:8]
	s.o.Log.Error("admin operation failed", "operation", name, "reference", ref, "error", err)
	return newError(CodeInternal, "internal error, reference "+ref, "the server's log has the cause under this reference")
}
