package pagecheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

// ErrLocked means that another process has the database open.
var ErrLocked = errors.New("pagecheck: the database is in use by another process")

// Open is for bbolt.Options.OpenFile. It opens the file, takes the lock that bbolt will take again on the same descriptor,
// waiting at most that long for another process to let go, and checks the pages. A new file must not exist yet.
//
// Errors: ErrLocked, ErrDamaged, or those of the system.
func Open(path string, mode fs.FileMode, isNew bool, wait time.Duration) (*os.File, error) {
	flag := os.O_RDWR
	if isNew {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	err = lock(f, wait)
	if err == nil && !isNew {
		err = checkFile(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lock(f *os.File, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("pagecheck: locking the database: %w", err)
		case time.Now().After(deadline):
			return ErrLocked
		}
	}
}

// checkFile maps the file; one that is cut short meanwhile is damaged, and no fault.
func checkFile(f *os.File) (err error) {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: the file is empty", ErrDamaged)
	}
	image, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("pagecheck: mapping the database: %w", err)
	}
	defer func() { err = errors.Join(err, syscall.Munmap(image)) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the file cannot be read", ErrDamaged)
		}
	}()
	_, err = Check(image)
	return err
}
