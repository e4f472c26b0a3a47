// Package server assembles the parts: configuration, start and stop order,
// sealed and unsealed life, reload, health, metrics. It decides nothing that
// another package could.
//
// Start: harden the process, lock the state directory, host keys and
// certificates (outside the seal), front-ends, listeners, admin socket, health.
// A failure so far stops at once. Then the server is sealed, answers, and says
// so, until the root key is there (unseal.go): keyring, policy, audit, volumes
// and sessions come up as a whole, or not at all. Seal: sessions end, the
// process executes itself again and starts sealed (handover.go). Stop: no new
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/server/ftpd"
	"sallyport/server/sftpd"
	"sallyport/server/statecopy"
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
	// MustUnseal ends Run with the error of the first attempt to unseal, if that fails: for servers whose key is beside
	// them, where nobody will come to unseal.
	MustUnseal bool
	// Ready is called once when everything is served, from its own goroutine; Run waits for it. May be nil.
	Ready func(context.Context, admin.Status) error
}

// reloadEvery is how often certificate files are looked at for changes.
const reloadEvery = 10 * time.Second

// Server is one running server.
type Server struct {
	o        Options
	config   *Loaded
	started  time.Time
	log      *slog.Logger
	level    *slog.LevelVar
	handover *handover // from the image before; then to the next
	lock     *keyring.StateLock
	ctx      context.Context         // of run: ends when the service does
	end      context.CancelCauseFunc // of ctx

	reloading sync.Mutex    // one reload at a time: SIGHUP and the admin socket both ask
	again     chan struct{} // capacity 1: try to unseal now

	certs     *CertSet
	hostKeys  *HostKeySet
	announced atomic.Bool // systemd knows that the server is up
	door      entrance    // to the sessions, of a sealed or an unsealed server
	life      *life
	notes     *notes
	people    people
	token     tokenCare
	open      []bound
	ftp       *ftpd.Server
	sftp      *sftpd.Server
	admin     *admin.Door
}

// Run serves until ctx ends, then drains and stops. It returns nil after an
// orderly stop.
func Run(ctx context.Context, o Options) error {
	level := &slog.LevelVar{}
	level.Set(logLevel(o.Config.Log.Level))
	s := &Server{
		o: o, config: o.Config, started: time.Now(), level: level, log: NewLog(o.Stderr, o.Terminal, o.Config.Log.Format, level),
		life: newLife(time.Now()), again: make(chan struct{}, 1),
	}
	next, err := s.serveImage(ctx)
	if next == nil {
		return err
	}
	if err != nil { // what could not be closed in order goes with the address space
		s.log.Error("sealing", "error", err)
	}
	if err := next.become(); err != nil {
		return fmt.Errorf("sealing: the process could not be replaced, so it ends: %w", err)
	}
	return nil
}

// serveImage is the life of one process image. The handover is not nil if the
// process is to become a new one.
func (s *Server) serveImage(ctx context.Context) (*handover, error) {
	if err := harden(s.config.Limits, s.log); err != nil {
		return nil, err
	}
	var err error
	if s.handover, err = takeHandover(); err != nil {
		return nil, err
	}
	passed, err := passedListeners(os.Getenv)
	if err != nil {
		return nil, err
	}
	if err := s.lockState(); err != nil {
		return nil, err
	}
	defer func() {
		if !s.handover.kept {
			s.lock.Release()
		}
	}()
	s.notes = openNotes(filepath.Join(s.config.State.Dir, notesFile), s.log)
	defer s.notes.close()
	if s.o.Locked != nil {
		if err := s.o.Locked(); err != nil {
			return nil, err
		}
	}
	if err := s.openIdentity(); err != nil {
		return nil, err
	}
	err = s.serve(ctx, passed)
	err = errors.Join(err, s.closeParts(ctx, err))
	if s.life.now() == phaseSealing && s.handover.kept {
		return s.handover, err
	}
	return nil, err
}

func (s *Server) lockState() (err error) {
	dir := s.config.State.Dir
	if fileExists(filepath.Join(dir, statecopy.RestoringFile)) {
		return fmt.Errorf("%w: %s", ErrRestoring, dir)
	}
	if !Initialised(dir) {
		return fmt.Errorf("%w: %s", ErrNoState, dir)
	}
	if s.handover.inherited() {
		s.lock, err = keyring.AdoptState(dir, uintptr(s.handover.Lock))
	} else {
		s.lock, err = keyring.AcquireState(dir)
	}
	return err
}

// closeParts records the stop and closes what needs keys, if it was ever open.
func (s *Server) closeParts(ctx context.Context, served error) error {
	if err := s.life.take(context.WithoutCancel(ctx)); err != nil { // after an attempt to unseal that is under way
		return err
	}
	defer s.life.give()
	if s.life.now() != phaseSealing {
		s.life.move(phaseStopping, phaseStarting, phaseSealed, phaseUnsealing, phaseReady)
	}
	last := s.door.admit(nil)
	p := s.life.whole()
	if p == nil {
		if last != nil {
			return last.Close()
		}
		return nil
	}
	reason := "orderly"
	switch {
	case served != nil:
		reason = "after an error"
	case s.life.now() == phaseSealing:
		reason = "sealing"
	}
	err := p.audit.Append(context.WithoutCancel(ctx), audit.Event{Action: audit.ServerStop, Detail: reason})
	if err != nil {
		err = fmt.Errorf("recording the stop: %w", err)
	}
	if last != nil && last != p.sessions {
		err = errors.Join(err, last.Close())
	}
	return errors.Join(err, p.close())
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
	if s.open, err = listenAll(ctx, s.config.Listeners, passed, s.handover.take); err != nil {
		return err
	}
	defer closeAll(s.open)
	s.handover.rest()
	adminListener, err := s.listenAdmin()
	if err != nil {
		return err
	}
	defer s.unlink(s.config.AdminSocket())
	health, err := s.listenHealth(ctx)
	if err != nil {
		adminListener.Close()
		return err
	}
	if path, ok := strings.CutPrefix(s.config.Health.Address, "unix:"); ok {
		defer s.unlink(path)
	}
	return s.run(ctx, adminListener, health)
}

// unlink removes the name of a socket, unless the next image goes on with it.
func (s *Server) unlink(path string) {
	if s.life.now() != phaseSealing {
		_ = os.Remove(path) // gone already is as well
	}
}

// run owns every goroutine of the server. Doors outlive ctx until the drain is
// over; the admin socket and health outlive the doors.
func (s *Server) run(ctx context.Context, adminListener, health net.Listener) error {
	ctx, s.end = context.WithCancelCause(ctx)
	s.ctx = ctx
	defer s.end(nil)
	g, gctx := errgroup.WithContext(ctx) // gctx ends with ctx or with the first door that fails
	doors, closeDoors := context.WithCancel(context.WithoutCancel(ctx))
	inside, closeInside := context.WithCancel(context.WithoutCancel(ctx))
	defer closeDoors()
	defer closeInside()

	tried := make(chan struct{})
	g.Go(func() error { return s.unsealAtStart(gctx, sync.OnceFunc(func() { close(tried) })) })
	for _, b := range s.open {
		g.Go(func() error {
			if !waitFor(doors, tried, doorsWait) {
				return nil
			}
			return s.serveDoor(doors, b)
		})
	}
	g.Go(func() error { return s.tendToken(inside) })
	g.Go(func() error { return s.admin.Serve(inside, adminListener, time.Second) })
	if health != nil {
		g.Go(func() error { return s.serveHealth(inside, health) })
	}
	g.Go(func() error { s.watch(gctx); return nil })
	g.Go(func() error {
		if waitFor(doors, tried, doorsWait) {
			s.tell("READY=1\nSTATUS=" + string(s.life.now()))
			s.announced.Store(true)
		}
		return nil
	})
	for _, l := range s.listeners() {
		s.log.Info("listening", "protocol", l.Protocol, "address", l.Address)
	}
	if s.o.Ready != nil {
		g.Go(func() error {
			select {
			case <-s.life.opened:
				return s.o.Ready(gctx, s.status())
			case <-gctx.Done():
				return nil
			}
		})
	}
	var leave error
	g.Go(func() error {
		<-gctx.Done()
		leave = s.leave(gctx, adminListener, health)
		closeDoors()
		closeInside()
		return nil
	})
	err := errors.Join(g.Wait(), leave)
	s.log.Info("stopped")
	if ctx.Err() != nil && leave == nil && (errors.Is(err, context.Canceled) || errors.Is(err, errSealing)) {
		return nil
	}
	return err
}

// waitFor tells whether ev or the end of d came before the end of ctx.
func waitFor(ctx context.Context, ev <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ev:
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// leave ends the service: in a hurry if the server is being sealed.
func (s *Server) leave(ctx context.Context, adminListener, health net.Listener) error {
	if !errors.Is(context.Cause(ctx), errSealing) {
		s.stop()
		return nil
	}
	err := s.keepSockets(adminListener, health)
	s.drop()
	hurry, cancel := context.WithTimeout(context.Background(), sealTime)
	defer cancel()
	s.shutDoors(hurry)
	return err
}

// sealTime is what connections get to say their last words when the server is
// sealed; whoever does not take them by then is cut.
const sealTime = 3 * time.Second

// stop drains: front-ends take no new connections and let transfers finish.
func (s *Server) stop() {
	s.life.move(phaseStopping, phaseStarting, phaseSealed, phaseReady)
	s.tell("STOPPING=1\nSTATUS=draining")
	s.log.Info("stopping; a second SIGINT stops at once", "drain", s.config.Shutdown.Drain.String())
	drain, cancel := context.WithTimeout(context.Background(), s.config.Shutdown.Drain)
	defer cancel()
	s.shutDoors(drain)
}

// shutDoors ends the front-ends, at the latest when ctx ends.
func (s *Server) shutDoors(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error { return s.ftp.Shutdown(ctx) })
	g.Go(func() error { return s.sftp.Shutdown(ctx) })
	if err := g.Wait(); err != nil {
		s.log.Warn("connections were cut at the end of their time", "error", err)
	}
}

// serveDoor serves one listener.
func (s *Server) serveDoor(ctx context.Context, b bound) error {
	var err error
	switch b.protocol {
	case ProtocolSFTP:
		err = s.sftp.Serve(ctx, b.Listener)
	case ProtocolFTPSExplicit:
		err = s.ftp.Serve(ctx, b.Listener, ftpd.Explicit)
	case ProtocolFTPSImplicit:
		err = s.ftp.Serve(ctx, b.Listener, ftpd.Implicit)
	}
	if now := s.life.now(); err != nil && ctx.Err() == nil && now != phaseStopping && now != phaseSealing {
		return fmt.Errorf("serving %s on %s: %w", b.protocol, b.Addr(), err)
	}
	return nil
}

func (s *Server) adminMode() os.FileMode {
	if a := s.config.Admin; len(a.UIDs)+len(a.UnsealUIDs)+len(a.UnsealGIDs) > 0 {
		return 0o666 // the kernel's peer credentials decide; the mode would keep the named uids out
	}
	return 0o600
}

// tell informs systemd; that it cannot be reached is worth a line, no more.
func (s *Server) tell(state string) {
	if err := notify(state); err != nil {
		s.log.Warn("systemd not told", "error", err)
	}
}

// tellStatus informs systemd about a change after the start, where READY=1 says it.
func (s *Server) tellStatus(text string) {
	if s.announced.Load() {
		s.tell("STATUS=" + oneLine(text))
	}
}
