package audit

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives a file n bytes of disk from at on, without changing its size (fallocate(2), FALLOC_FL_KEEP_SIZE): what
// is written there finds room on a full disk, and nobody else can take it.
func preallocate(f *os.File, at, n int64) error {
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, at, n); err != nil {
		return fmt.Errorf("reserving disk space: %w", os.NewSyscallError("fallocate", err))
	}
	return nil
}
