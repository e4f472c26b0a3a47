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

// LockState is AcquireState for those who only need to give it back.
func LockState(dir string) (release func(), err error) {
	l, err := AcquireState(dir)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// StateLock is a state directory that is this process's alone.
type StateLock struct{ f *os.File }

// AcquireState takes the state directory for this process, until Release is
// called or the process ends, however it ends. It returns ErrInUse at once if
// another process, or this one, has it already. The lock is flock(2) on the
// file lock, which stays; it holds the owner's process id for the operator.
func AcquireState(dir string) (*StateLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	if err := lock(dir, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &StateLock{f}, nil
}

// AdoptState takes over the lock that this process had before it became another
// program: fd is the descriptor of StateLock.Descriptor. The directory is never
// free in between.
func AdoptState(dir string, fd uintptr) (*StateLock, error) {
	unix.CloseOnExec(int(fd))
	f := os.NewFile(fd, lockName)
	if f == nil {
		return nil, fmt.Errorf("locking the state directory: %d is no descriptor", fd)
	}
	passed, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the state directory: %w", err), f.Close())
	}
	if there, err := os.Stat(filepath.Join(dir, lockName)); err != nil || !os.SameFile(passed, there) {
		f.Close() // of another directory, or removed since
		return AcquireState(dir)
	}
	if err := lock(dir, f); err != nil { // it is held by this very descriptor: no wait
		return nil, errors.Join(err, f.Close())
	}
	return &StateLock{f}, nil
}

func lock(dir string, f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s%s", ErrInUse, dir, owner(f))
	} else if err != nil {
		return fmt.Errorf("locking the state directory: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release gives the directory back.
func (l *StateLock) Release() { l.f.Close() }

// Descriptor is what holds the lock; a program that this process becomes keeps
// it if the descriptor stays open across exec(2).
func (l *StateLock) Descriptor() uintptr { return l.f.Fd() }

// owner is " by process N", or nothing if the file does not say.
func owner(f *os.File) string {
	var text [16]byte
	n, _ := f.ReadAt(text[:], 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil && pid > 0 {
		return fmt.Sprintf(" by process %d", pid)
	}
	return ""
}
