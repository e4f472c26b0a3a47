package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSunPath is the longest path that fits struct sockaddr_un with its NUL (unix(7)).
const maxSunPath = 107

// viaDir calls fn with a name of path that is short enough for sockaddr_un: a
// long one is reached through /proc/self/fd of its directory, which stays open
// during the call.
func viaDir(path string, fn func(short string) error) error {
	if len(path) <= maxSunPath {
		return fn(path)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(fd)
	return fn("/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path))
}

// Listen makes the socket at path with the given mode, and its directory if
// there is none: others may pass through that only if they may use the socket.
// A stale socket is replaced: the caller holds the lock of the state directory,
// so that no other server of this state is alive.
func Listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := makeDir(filepath.Dir(path), mode); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("admin socket: %s exists and is not a socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("admin socket: %w", err)
		}
	}
	var ln *net.UnixListener
	err := viaDir(path, func(short string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false) // by its short name it may not be found any more; Server removes it
			ln = l
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return ln, nil
}

// makeDir makes dir for a socket of the given mode. One that is there keeps its
// mode: somebody chose it.
func makeDir(dir string, socket os.FileMode) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	const others, search os.FileMode = 0o002, 0o711
	if socket&others == 0 {
		return os.MkdirAll(dir, 0o700)
	}
	if up := filepath.Dir(dir); up != dir { // those above must be passed, too
		if err := makeDir(up, socket); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, search) // whatever the umask is
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	var conn net.Conn
	err := viaDir(path, func(short string) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", short)
		conn = c
		return err
	})
	return conn, err
}

// Peer is the process at the other end, as the kernel attests it.
type Peer struct {
	PID  int32
	UID  uint32
	GIDs []uint32 // its group and its supplementary ones
}

// String names the peer in audit records and policy revisions.
func (p Peer) String() string { return "uid:" + strconv.FormatUint(uint64(p.UID), 10) }

var errNotUnix = errors.New("admin: not a unix socket")

// peerOf reads SO_PEERCRED (unix(7)): the credentials of connect(2) time.
func peerOf(c net.Conn) (Peer, error) {
	if s, ok := c.(*strangerConn); ok {
		c = s.UnixConn
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errNotUnix
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, os.NewSyscallError("getsockopt", credErr)
	}
	groups, err := peerGroups(raw)
	if err != nil {
		return Peer{}, err
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GIDs: append(groups, cred.Gid)}, nil
}

// maxGroups bounds the supplementary groups of a peer; Linux allows 65,536.
const maxGroups = 65_536

// peerGroups reads SO_PEERGROUPS: the supplementary groups of connect(2) time.
func peerGroups(raw syscall.RawConn) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		var errno unix.Errno
		if err := raw.Control(func(fd uintptr) {
			_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
				uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		}); err != nil {
			return nil, err
		}
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && len(groups) < maxGroups:
			groups = make([]uint32, min(int(size/4), maxGroups)) // the kernel says how many there are
		default:
			return nil, os.NewSyscallError("getsockopt", errno)
		}
	}
}
