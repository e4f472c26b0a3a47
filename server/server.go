// Package server assembles the parts: configuration, start and stop order,
// reload, health, metrics. It decides nothing that another package could.
//
// Start: harden the process, lock the state directory, host keys and
// certificates (outside the seal), keyring, policy, audit, volumes, sessions,
// front-ends, listeners, admin socket, health; then systemd is told. A failure
// stops at once and closes what was opened, in reverse. Stop: no new
// connections, transfers under way finish within shutdown.drain, sessions end,
// the admin socket closes last; then volumes, audit, policy, keys, lock.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/server/ftpd"
	"sallyport/server/sftpd"
)

// Options of Run.
type Options struct {
	Config  *Loaded
	Source  Source // read again on reload
	Version string
	Stderr  io.Writer
	// Terminal: Stderr is read by a person.
	Terminal bool
	// Hangup asks for a reload (SIGHUP).
	Hangup <-chan os.Signal
	// Locked is called when the state directory is this process's alone and nothing is served yet. May be nil.
	Locked func() error
	// Ready is called once when everything is served, from its own goroutine; Run waits for it. May be nil.
	Ready func(context.Context, admin.Status) error
}

// reloadEvery is how often certificate files are looked at for changes.
const reloadEvery = 10 * time.Second

// Server is one running server.
type Server struct {
	o       Options
	config  *Loaded
	started time.Time
	log     *slog.Logger
	level   *slog.LevelVar
	state   atomic.Pointer[string] // starting, ready, stopping

	reloading sync.Mutex // one reload at a time: SIGHUP and the admin socket both ask

	certs    *CertSet
	hostKeys *HostKeySet
	parts    *parts
	open     []bound
	ftp      *ftpd.Server
	sftp     *sftpd.Server
	admin    *admin.Server
}

// Run serves until ctx ends, then drains and stops. It returns nil after an
// orderly stop.
func Run(ctx context.Context, o Options) error {
	level := &slog.LevelVar{}
	level.Set(logLevel(o.Config.Log.Level))
	s := &Server{o: o, config: o.Config, started: time.Now(), level: level, log: NewLog(o.Stderr, o.Terminal, o.Config.Log.Format, level)}
	s.setState("starting")
	if err := harden(o.Config.Limits, s.log); err != nil {
		return err
	}
	passed, err := passedListeners(os.Getenv)
	if err != nil {
		return err
	}
	if !Initialised(s.config.State.Dir) {
		return fmt.Errorf("%w: %s", ErrNoState, s.config.State.Dir)
	}
	release, err := keyring.LockState(s.config.State.Dir)
	if err != nil {
		return err
	}
	defer release()
	if o.Locked != nil {
		if err := o.Locked(); err != nil {
			return err
		}
	}
	if err := s.openIdentity(); err != nil {
		return err
	}
	if s.parts, err = openParts(ctx, s.config.Config, s.log); err != nil {
		return err
	}
	err = s.recorded(ctx, func() error { return s.serve(ctx, passed) })
	return errors.Join(err, s.parts.close())
}

// recorded puts start and stop into the audit log around serve: a gap in the
// log is then either explained or suspicious.
func (s *Server) recorded(ctx context.Context, serve func() error) error {
	detail := "version " + s.o.Version
	if s.parts.audit.Empty() && s.parts.policy.Current().N > 0 {
		// Every change of the policy is recorded, so there was a log.
		s.log.Error("the audit log is missing and begins anew", "dir", filepath.Join(s.config.State.Dir, auditDir))
		detail += "; the log begins anew, what was recorded before is missing"
	}
	if err := s.parts.audit.Append(ctx, audit.Event{Action: audit.ServerStart, Detail: detail}); err != nil {
		return fmt.Errorf("recording the start: %w", err)
	}
	err := serve()
	reason := "orderly"
	if err != nil {
		reason = "after an error"
	}
	if auditErr := s.parts.audit.Append(context.WithoutCancel(ctx), audit.Event{Action: audit.ServerStop, Detail: reason}); auditErr != nil {
		err = errors.Join(err, fmt.Errorf("recording the stop: %w", auditErr))
	}
	return err
}

// openIdentity loads what the server shows to strangers: it is outside the seal.
func (s *Server) openIdentity() (err error) {
	if err := ensureCertificate(s.config.Config, time.Now()); err != nil {
		return err
	}
	pairs, _ := s.config.Certificates()
	if s.certs, err = OpenCerts(pairs, s.log); err != nil {
		return err
	}
	s.hostKeys, err = OpenHostKeys(s.config.HostKeyDir())
	return err
}

// serve opens every door, waits for ctx, and closes them.
func (s *Server) serve(ctx context.Context, passed map[string][]net.Listener) error {
	if err := s.frontEnds(); err != nil {
		return err
	}
	var err error
	if s.open, err = listenAll(ctx, s.config.Listeners, passed); err != nil {
		return err
	}
	adminListener, err := admin.Listen(s.config.AdminSocket(), s.adminMode())
	if err != nil {
		closeAll(s.open)
		return err
	}
	defer os.Remove(s.config.AdminSocket())
	health, err := listenHealth(ctx, s.config.Health.Address)
	if err != nil {
		closeAll(s.open)
		adminListener.Close()
		return err
	}
	return s.run(ctx, adminListener, health)
}

// run owns every goroutine of the server. Doors outlive ctx until the drain is
// over; the admin socket and health outlive the doors.
func (s *Server) run(ctx context.Context, adminListener, health net.Listener) error {
	g, gctx := errgroup.WithContext(ctx) // gctx ends with ctx or with the first door that fails
	doors, closeDoors := context.WithCancel(context.WithoutCancel(ctx))
	inside, closeInside := context.WithCancel(context.WithoutCancel(ctx))
	defer closeDoors()
	defer closeInside()

	for _, b := range s.open {
		g.Go(func() error { return s.door(doors, b) })
	}
	g.Go(func() error { return s.admin.Serve(inside, adminListener, time.Second) })
	if health != nil {
		g.Go(func() error { return s.serveHealth(inside, health) })
	}
	g.Go(func() error { s.watch(gctx); return nil })
	s.setState("ready")
	s.tell("READY=1\nSTATUS=ready")
	for _, l := range s.listeners() {
		s.log.Info("listening", "protocol", l.Protocol, "address", l.Address)
	}
	if s.o.Ready != nil {
		g.Go(func() error { return s.o.Ready(gctx, s.status()) })
	}
	g.Go(func() error {
		<-gctx.Done()
		s.stop(closeDoors)
		closeInside()
		return nil
	})
	err := g.Wait()
	s.log.Info("stopped")
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// stop drains: front-ends take no new connections and let transfers finish.
func (s *Server) stop(closeDoors func()) {
	s.setState("stopping")
	s.tell("STOPPING=1\nSTATUS=draining")
	s.log.Info("stopping; a second SIGINT stops at once", "drain", s.config.Shutdown.Drain.String())
	drain, cancel := context.WithTimeout(context.Background(), s.config.Shutdown.Drain)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return s.ftp.Shutdown(drain) })
	g.Go(func() error { return s.sftp.Shutdown(drain) })
	if err := g.Wait(); err != nil {
		s.log.Warn("transfers were cut at the end of the drain", "error", err)
	}
	closeDoors()
}

// door serves one listener.
func (s *Server) door(ctx context.Context, b bound) error {
	var err error
	switch b.protocol {
	case ProtocolSFTP:
		err = s.sftp.Serve(ctx, b.Listener)
	case ProtocolFTPSExplicit:
		err = s.ftp.Serve(ctx, b.Listener, ftpd.Explicit)
	case ProtocolFTPSImplicit:
		err = s.ftp.Serve(ctx, b.Listener, ftpd.Implicit)
	}
	if err != nil && ctx.Err() == nil && *s.state.Load() == "ready" {
		return fmt.Errorf("serving %s on %s: %w", b.protocol, b.Addr(), err)
	}
	return nil
}

func (s *Server) adminMode() os.FileMode {
	if len(s.config.Admin.UIDs) > 0 {
		return 0o666 // the kernel's peer credentials decide; the mode would keep the named uids out
	}
	return 0o600
}

func (s *Server) setState(state string) { s.state.Store(&state) }

// tell informs systemd; that it cannot be reached is worth a line, no more.
func (s *Server) tell(state string) {
	if err := notify(state); err != nil {
		s.log.Warn("systemd not told", "error", err)
	}
}

// listeners are the open doors with their real addresses.
func (s *Server) listeners() []admin.Listener {
	var out []admin.Listener
	for _, b := range s.open {
		out = append(out, admin.Listener{Protocol: b.protocol, Address: b.Addr().String()})
	}
	return out
}

func (s *Server) status() admin.Status {
	st := admin.Status{
		Version: s.o.Version, PID: os.Getpid(), State: *s.state.Load(), Started: s.started, StateDir: s.config.State.Dir,
		Seal: s.config.Seal.Kind + " " + filepath.Base(s.config.KeyFile()), Listeners: s.listeners(),
	}
	st.Revision, st.Sessions = s.parts.policy.Current().N, s.parts.sessions.Counts().Sessions
	st.Accounts = len(s.parts.keyring.Accounts())
	if os.Geteuid() == 0 {
		st.Warnings = append(st.Warnings, "the server runs as root; "+adviceRoot)
	}
	for _, c := range s.certs.List() {
		if left := time.Until(c.NotAfter); left < certWarnBefore {
			st.Warnings = append(st.Warnings, fmt.Sprintf("certificate %s expires %s", c.File, c.NotAfter.Format(time.DateOnly)))
		}
	}
	return st
}
