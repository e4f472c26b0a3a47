package blobdir

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync(2): the size reaches the disk too, times do not.
func syncData(f *os.File) error {
	return control(f, func(fd int) error { return syscall.Fdatasync(fd) })
}

// writeBack starts writing a range to the disk and does not wait. It promises
// nothing; an error of that writing is reported by the next sync.
func writeBack(f *os.File, off, n int64) {
	_ = control(f, func(fd int) error { return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

func control(f *os.File, call func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = c.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); callErr != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return callErr
}
