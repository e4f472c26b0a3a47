package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// bound is an open listener.
type bound struct {
	protocol   string
	configured Listener
	net.Listener
}

// ListenError is a listener that could not be opened, with what to do.
type ListenError struct {
	Listener Listener
	Err      error
}

func (e *ListenError) Error() string {
	err := e.Err
	var op *net.OpError
	if errors.As(err, &op) { // it would name the address again
		err = op.Err
	}
	var sys syscall.Errno
	if errors.As(err, &sys) { // without the name of the call
		err = sys
	}
	return fmt.Sprintf("listening for %s on %s: %v", e.Listener.Protocol, e.Listener.Address, err)
}
func (e *ListenError) Unwrap() error { return e.Err }

// Hint says how to get the port.
func (e *ListenError) Hint() string {
	var dns *net.DNSError
	where := "listeners"
	if e.Listener.Protocol == protocolHealth {
		where = "health.address"
	}
	switch {
	case errors.Is(e.Err, syscall.EACCES):
		return "ports below 1024 need the capability CAP_NET_BIND_SERVICE or systemd socket activation; the unit written by `sallyport init` has it"
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "another program has this port: find it with `ss -ltnp`, or choose another address under " + where +
			" in sallyport.yaml (demo: --sftp, --ftps, --ftps-implicit; port 0 picks a free one)"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return "this host does not have that address: `ip address` shows those it has; `:PORT` alone is all of them"
	case errors.Is(e.Err, syscall.EAFNOSUPPORT):
		return "this host has no IPv6, or no IPv4: choose an address of the other kind under " + where + " in sallyport.yaml"
	case errors.As(e.Err, &dns):
		return "write an address of this host rather than a name under " + where + " in sallyport.yaml"
	case strings.HasPrefix(e.Listener.Address, "systemd:"):
		return "FileDescriptorName= of the socket unit must be this name, and the socket unit must be started before the service"
	default:
		return ""
	}
}

// listenAll opens every listener of the configuration, or none. What inherited
// returns for one is used first, then the sockets passed by systemd.
func listenAll(ctx context.Context, want []Listener, passed map[string][]net.Listener, inherited func(Listener) ([]net.Listener, error)) (_ []bound, err error) {
	var open []bound
	defer func() {
		if err != nil {
			closeAll(open)
		}
	}()
	for _, l := range want {
		had, err := inherited(l)
		for _, ln := range had {
			open = append(open, bound{l.Protocol, l, ln})
		}
		if err != nil {
			return nil, &ListenError{l, err}
		}
		if len(had) > 0 {
			continue
		}
		if name, ok := strings.CutPrefix(l.Address, "systemd:"); ok {
			if len(passed[name]) == 0 {
				return nil, &ListenError{l, fmt.Errorf("systemd passed no socket named %q", name)}
			}
			for _, ln := range passed[name] {
				open = append(open, bound{l.Protocol, l, ln})
			}
			continue
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", l.Address)
		if err != nil {
			return nil, &ListenError{l, err}
		}
		open = append(open, bound{l.Protocol, l, ln})
	}
	return open, nil
}

func closeAll(open []bound) {
	for _, b := range open {
		b.Close()
	}
}

// firstPassedFD is SD_LISTEN_FDS_START (sd_listen_fds(3)).
const firstPassedFD = 3

// passedListeners takes over the sockets of systemd socket activation by name
// (FileDescriptorName= of the socket unit).
func passedListeners(getenv func(string) string) (map[string][]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1024 {
		return nil, fmt.Errorf("LISTEN_FDS=%q is not a count of sockets", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	out := map[string][]net.Listener{}
	for i := range n {
		name := "unknown" // as systemd names sockets without a name
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		f := os.NewFile(uintptr(firstPassedFD+i), name)
		ln, err := net.FileListener(f)
		f.Close() // FileListener has its own duplicate
		if err != nil {
			return nil, fmt.Errorf("socket %q passed by systemd: %w", name, err)
		}
		out[name] = append(out[name], ln)
	}
	return out, nil
}
