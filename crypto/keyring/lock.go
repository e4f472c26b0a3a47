package keyring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse means that another process has the state directory.
var ErrInUse = errors.New("keyring: the state directory is in use")

const lockName = "lock"

// LockState takes the state directory for this process, until release is
// called or the process ends, however it ends. It returns ErrInUse at once if
// another process, or this one, has it already. The lock is flock(2) on the
// file lock, which stays; it holds the owner's process id for the operator.
func LockState(dir string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s%s", ErrInUse, dir, owner(f))
	} else if err != nil {
		err = fmt.Errorf("locking the state directory: %w", err)
	} else if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// owner is " by process N", or nothing if the file does not say.
func owner(f *os.File) string {
	var text [16]byte
	n, _ := f.ReadAt(text[:], 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil && pid > 0 {
		return fmt.Sprintf(" by process %d", pid)
	}
	return ""
}
