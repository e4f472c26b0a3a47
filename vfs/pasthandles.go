package vfs

import "sync"

// What handles on the past may hold, of all sessions of an account together. A session is bounded by its view; but an account may have very
// many, and each handle has where its version lies in memory, for itself, and descriptors of blobs, which stay on the disk until it is closed.
const (
	maxPast        = 512
	maxPastExtents = 1 << 21 // 64 MiB
)

// pastHandles counts the handles on the past of one volume.
type pastHandles struct {
	mu      sync.Mutex // guards what is below
	handles int
	extents int
}

// take admits a handle on a version of that many extents, or refuses it with ErrTooManyPast. The only one is never refused: each version can be read.
func (p *pastHandles) take(extents int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handles > 0 && (p.handles >= maxPast || extents > maxPastExtents-p.extents) {
		return ErrTooManyPast
	}
	p.handles, p.extents = p.handles+1, p.extents+extents
	return nil
}

// give is called once for each handle that was admitted.
func (p *pastHandles) give(extents int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handles, p.extents = p.handles-1, p.extents-extents
}
