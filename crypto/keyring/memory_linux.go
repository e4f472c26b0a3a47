package keyring

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenProcess switches off core dumps and keeps other processes of the same
// user from reading this one's memory or tracing it. Call it first of all in a
// process that will hold keys.
func HardenProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching off core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process not dumpable: %w", err)
	}
	return nil
}
