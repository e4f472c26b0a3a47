package keyring

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lockedPage returns a page that is not part of the Go heap. That it is not
// swapped out nor part of core dumps is best effort: limits on locked memory
// differ, and a server without swap needs none.
func lockedPage() ([]byte, error) { return lockedPages(1) }

// lockedPages is lockedPage for what needs more than one.
func lockedPages(n int) ([]byte, error) {
	page, err := unix.Mmap(-1, 0, n*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	_ = unix.Mlock(page)
	_ = unix.Madvise(page, unix.MADV_DONTDUMP)
	return page, nil
}

// freePage unmaps the page. A failure leaves an overwritten page mapped.
func freePage(page []byte) { _ = unix.Munmap(page) }

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
