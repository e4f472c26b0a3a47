package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/server/admin"
)

// Sealing has to get rid of keys that lie expanded in objects of the standard
// library on the Go heap, where nothing can overwrite them. So the process
// executes its own program again: the kernel throws the whole address space
// away. What it keeps are process id, descriptors and environment; handover says
// which descriptor is what. Clients that connect meanwhile wait in the queue of
// a listener that was never closed, and the lock of the state directory is never
// free.

// handoverEnv holds a handover as JSON. It names descriptors, nothing secret.
const handoverEnv = "SALLYPORT_HANDOVER"

// handover is what one process image leaves to the next.
type handover struct {
	PID       int              `json:"pid"` // of whom it is meant for: children inherit the environment, too
	Lock      int              `json:"lock"`
	Admin     int              `json:"admin"`
	Health    int              `json:"health,omitempty"` // 0: none
	Listeners []passedListener `json:"listeners"`
	Sealed    *sealedBy        `json:"sealed"`

	kept bool // every descriptor is there for the next image
}

type passedListener struct {
	Listener
	FD int `json:"fd"`
}

// sealedBy is who sealed the server, and why.
type sealedBy struct {
	Who string    `json:"who"`
	Why string    `json:"why,omitempty"`
	At  time.Time `json:"at"`
}

// takeHandover reads what the image before left to this one, and forgets it in
// the environment. Without one, it is empty.
func takeHandover() (*handover, error) {
	text, ok := os.LookupEnv(handoverEnv)
	h := &handover{}
	if !ok {
		return h, nil
	}
	if err := os.Unsetenv(handoverEnv); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), h); err != nil {
		return nil, fmt.Errorf("%s: %w", handoverEnv, err)
	}
	if h.PID != os.Getpid() {
		return &handover{}, nil
	}
	for _, fd := range h.descriptors() {
		unix.CloseOnExec(fd)
	}
	return h, nil
}

func (h *handover) descriptors() []int {
	fds := []int{h.Lock, h.Admin}
	if h.Health != 0 {
		fds = append(fds, h.Health)
	}
	for _, l := range h.Listeners {
		fds = append(fds, l.FD)
	}
	return fds
}

// inherited tells whether there was an image before.
func (h *handover) inherited() bool { return h.PID != 0 }

// takeListener takes over the descriptor fd.
func takeListener(fd int, what string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), what)
	if f == nil {
		return nil, fmt.Errorf("taking over %s: %d is no descriptor", what, fd)
	}
	defer f.Close() // FileListener has its own duplicate
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("taking over %s: %w", what, err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is not this listener's to remove: see Run
	}
	return ln, nil
}

// take is the listener of want, if the image before had it.
func (h *handover) take(want Listener) (open []net.Listener, err error) {
	for i, l := range h.Listeners {
		if l.Listener != want || l.FD == 0 {
			continue
		}
		h.Listeners[i].FD = 0
		ln, err := takeListener(l.FD, want.Protocol)
		if err != nil {
			return open, err
		}
		open = append(open, ln)
		if !strings.HasPrefix(want.Address, "systemd:") { // one entry of the configuration, one socket
			break
		}
	}
	return open, nil
}

// rest closes the sockets that the configuration does not name any more.
func (h *handover) rest() {
	for _, l := range h.Listeners {
		if l.FD != 0 {
			unix.Close(l.FD)
		}
	}
	h.Listeners = nil
}

// keep duplicates the descriptor of ln, so that the socket goes on listening
// when ln is closed. net's own File would make the socket blocking.
func keep(ln net.Listener) (int, error) {
	c, ok := ln.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%T has no descriptor", ln)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return 0, err
	}
	return fd, dupErr
}

// become executes the program again with what h holds. It does not return unless
// that fails.
func (h *handover) become() error {
	h.PID = os.Getpid()
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	program, err := ownProgram()
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "LISTEN_") || strings.HasPrefix(kv, handoverEnv+"=") // the sockets of systemd are in h
	})
	for _, fd := range h.descriptors() {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("passing on descriptor %d: %w", fd, err)
		}
	}
	// Caught signals get their default back at exec(2): a reload in the moment
	// before the new image listens must not kill it. Ignored ones stay ignored.
	signal.Ignore(syscall.SIGHUP)
	return os.NewSyscallError("execve", syscall.Exec(program, os.Args, append(env, handoverEnv+"="+string(text))))
}

// ownProgram is the file that this process runs: by its name, so that it keeps
// its name in process lists, if that is still the same file, and through /proc
// if it was replaced. Sealing is no upgrade.
func ownProgram() (string, error) {
	const self = "/proc/self/exe"
	name, err := os.Readlink(self)
	if err != nil {
		return "", err
	}
	running, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	if there, err := os.Stat(name); err == nil && os.SameFile(running, there) {
		return name, nil
	}
	return self, nil
}

// listenAdmin makes the operators' socket, or takes over that of the image before.
func (s *Server) listenAdmin() (net.Listener, error) {
	if s.handover.inherited() {
		return takeListener(s.handover.Admin, "the admin socket")
	}
	return admin.Listen(s.config.AdminSocket(), s.adminMode())
}

// listenHealth is the same for health; nil if there is none.
func (s *Server) listenHealth(ctx context.Context) (net.Listener, error) {
	if s.handover.Health != 0 {
		return takeListener(s.handover.Health, protocolHealth)
	}
	return listenHealth(ctx, s.config.Health.Address)
}

// keepSockets writes the descriptors of everything that the next image goes on
// with into the handover.
func (s *Server) keepSockets(adminListener, health net.Listener) (err error) {
	h := s.handover
	h.Lock, h.Health, h.Listeners = int(s.lock.Descriptor()), 0, nil
	if h.Admin, err = keep(adminListener); err != nil {
		return err
	}
	if health != nil {
		if h.Health, err = keep(health); err != nil {
			return err
		}
	}
	for _, b := range s.open {
		fd, err := keep(b.Listener)
		if err != nil {
			return err
		}
		h.Listeners = append(h.Listeners, passedListener{b.configured, fd})
	}
	h.kept = true
	return nil
}
