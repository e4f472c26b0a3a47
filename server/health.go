package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"sallyport/server/clock"
)

// protocolHealth names the health listener in errors.
const protocolHealth = "health"

// listenHealth opens the health listener; nil when address is empty.
func listenHealth(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	network, where := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, where = "unix", path
		if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
			os.Remove(path) // stale: the state directory is locked by us
		}
	}
	ln, err := lc.Listen(ctx, network, where)
	if err != nil {
		return nil, &ListenError{Listener{Protocol: protocolHealth, Address: address}, err}
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // serve removes the name, unless the next image goes on with it
	}
	return ln, nil
}

// serveHealth answers /healthz and /metrics until ctx ends.
func (s *Server) serveHealth(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /metrics", s.metrics)
	srv := &http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }() // ends with Close below
	select {
	case err := <-done:
		return fmt.Errorf("health listener: %w", err)
	case <-ctx.Done():
	}
	srv.Close()
	<-done
	return nil
}

// healthz is 200 when logins are possible, else 503; the body says why.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	var audit, refusing error
	believed := true
	p := s.life.whole()
	if p != nil {
		audit, refusing = p.audit.Failure(), p.audit.Err()
		believed = p.clock.State().Status == clock.Trusted
	}
	var copied *float64
	if p != nil {
		if last := p.copies().Last; !last.IsZero() {
			copied = new(time.Since(last).Seconds())
		}
	}
	answerHealth(w, s.life.now(), p == nil, believed, audit, refusing, copied)
}

// answerHealth: without the audit log nobody may log in, so the server is not ready whatever its state; unless
// audit.on_failure lets it go on, and refusing is nil. The age of the last copy is told, if there is one, and keeps nobody out; nor does
// a clock that is not believed.
func answerHealth(w http.ResponseWriter, state phase, sealed, clock bool, audit, refusing error, copied *float64) {
	ready := state == phaseReady && refusing == nil
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body := map[string]any{"state": state, "ready": ready, "sealed": sealed, "audit_writable": !sealed && audit == nil, "clock_trusted": clock}
	if copied != nil {
		body["state_copy_age_seconds"] = *copied
	}
	_ = json.NewEncoder(w).Encode(body) // an error means that the prober went away
}
