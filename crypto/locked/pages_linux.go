package locked

import "golang.org/x/sys/unix"

// Pages returns memory for at least size bytes that is not part of the Go heap.
// That it is not swapped out nor part of core dumps is best effort: limits on
// locked memory differ, and a server without swap needs none. Locked tells.
func Pages(size int) ([]byte, error) {
	page := unix.Getpagesize()
	b, err := unix.Mmap(-1, 0, max(1, (size+page-1)/page)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if unix.Mlock(b) != nil {
		memory.refused.Store(true)
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return b, nil
}

// Free overwrites and unmaps what Pages returned, whole. A failure leaves
// overwritten pages mapped.
func Free(b []byte) {
	clear(b)
	_ = unix.Munmap(b)
}
