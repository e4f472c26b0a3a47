package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Limits of the admin door.
const (
	maxBody       = 20 << 20         // bytes of a request: above the largest policy as JSON
	headerTimeout = 5 * time.Second  // from accept to the end of the header
	bodyTimeout   = 10 * time.Second // to read a request's body
	idleTimeout   = 30 * time.Second
)

// Server has the operations that need keys; a Door lets callers in to it. Safe
// for concurrent use.
type Server struct {
	answerer
	o    Options
	mux  *http.ServeMux
	quit chan struct{} // closed by stop: streams end then
	once sync.Once

	next preparedSeal
}

// NewServer makes a Server; Door.Open puts it in service.
func NewServer(o Options) *Server {
	s := &Server{answerer: answerer{o.Log}, o: o, mux: http.NewServeMux(), quit: make(chan struct{})}
	s.routes(s.mux)
	o.Policy.OnRollback(s.wentBack)
	s.warnOfTests()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, newError(CodeNotFound, "there is no operation "+r.Method+" "+r.URL.Path, "client and server may be of different versions"))
	})
	return s
}

// stop ends the streams, and forgets a seal that was prepared.
func (s *Server) stop() {
	s.once.Do(func() { close(s.quit) })
	s.next.forget()
}

// answering is what every operation needs, of a Server or of a Door.
type answering interface {
	explain(name string, err error) *Error
	undelivered(name string, err error)
}

// answerer turns errors into answers (explain.go).
type answerer struct{ log *slog.Logger }

func (a answerer) undelivered(name string, err error) {
	a.log.Debug("admin answer not delivered", "operation", name, "error", err)
}

// op is what an operation does. who is the peer; errors are *Error, or of the
// floors below (see explain).
type op[Req, Resp any] func(ctx context.Context, who Peer, req Req) (Resp, error)

// handle makes the route of one operation.
func handle[Req, Resp any](a answering, mux *http.ServeMux, name string, fn op[Req, Resp]) {
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
			writeError(w, a.explain(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(resp); err != nil {
			a.undelivered(name, err)
		}
	})
}

// streaming is an operation that answers one JSON value per line. It may refuse before the first.
type streaming[Req, T any] func(ctx context.Context, who Peer, req Req) (func(send func(T) error) error, error)

// handleStream makes the route of an operation that answers one JSON value per
// line for as long as the client stays and the server serves. The answer of one
// that is not endless is either whole or visibly broken off.
func handleStream[Req, T any](s *Server, mux *http.ServeMux, name string, endless bool, fn streaming[Req, T]) {
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
		run, err := fn(ctx, r.Context().Value(peerKey{}).(Peer), req)
		if err != nil {
			writeError(w, s.explain(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		enc := json.NewEncoder(w)
		_ = rc.Flush() // the client knows at once that it was let in
		err = run(func(v T) error {
			if err := enc.Encode(v); err != nil || !endless {
				return err
			}
			return rc.Flush()
		})
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("admin stream ended", "operation", name, "error", err)
		}
		if err != nil && !endless {
			panic(http.ErrAbortHandler) // net/http's way to say that the answer is not whole
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
func (a answerer) internal(name string, err error) *Error {
	ref := rand.Text()[:8]
	a.log.Error("admin operation failed", "operation", name, "reference", ref, "error", err)
	return newError(CodeInternal, "internal error, reference "+ref, "the server's log has the cause under this reference")
}
