//go:build !linux

package locked

// Pages returns ordinary memory: only Linux is hardened.
func Pages(size int) ([]byte, error) {
	memory.refused.Store(true)
	return make([]byte, max(1, size)), nil
}

// Free overwrites what Pages returned.
func Free(b []byte) { clear(b) }
