package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrStateInUse means that another process holds the state directory.
var ErrStateInUse = errors.New("the state directory is in use")

// stateLock is held as long as a process works on a state directory. The
// kernel drops it when the process dies, however it dies.
type stateLock struct{ f *os.File }

// lockState takes the lock or returns ErrStateInUse with the holder's pid.
func lockState(dir string) (*stateLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder, _ := io.ReadAll(io.LimitReader(f, 32))
			if pid := strings.TrimSpace(string(holder)); pid != "" {
				return nil, fmt.Errorf("%w: %s, by process %s", ErrStateInUse, dir, pid)
			}
			return nil, fmt.Errorf("%w: %s", ErrStateInUse, dir)
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	// For people only; the lock is the kernel's. A failure to write it down costs the pid in an error message.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return &stateLock{f}, nil
}

func (l *stateLock) release() { l.f.Close() }
