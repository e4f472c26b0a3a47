package meta

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// ErrLocked means that another process has the database open.
var ErrLocked = errors.New("meta: the database is in use by another process")

// lockTimeout is how long Open waits for another process to let go, as a server that is just stopping does.
const lockTimeout = time.Second

// openLocked opens the file, takes the lock that bbolt will take again on the same descriptor, and checks the
// pages before bbolt sees them.
func openLocked(path string, mode fs.FileMode, isNew bool) (*os.File, error) {
	flag := os.O_RDWR
	if isNew {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err
	}
	if isNew {
		return f, nil
	}
	if err := checkFile(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lock(f *os.File) error {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("meta: locking the database: %w", err)
		case time.Now().After(deadline):
			return ErrLocked
		}
	}
}

func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: the database file is empty", ErrIntegrity)
	}
	image, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("meta: mapping the database: %w", err)
	}
	return errors.Join(guard(func() error { return checkPages(image) }), syscall.Munmap(image))
}
