package vfs

import (
	"context"
	"sync"

	"sallyport/vfs/meta"
)

// pins keep housekeeping and writers apart. A draft pins its file, because it goes on to rely on blobs of the version that
// it started from, and nothing but its own memory says so. Housekeeping claims the files that it changes for one
// transaction and passes over those that are pinned: what a session is writing is purged, folded or
// repacked when it has ended.
//
// Readers pin nothing: a file that is read all day must not keep its history for ever. They look again (snapshot.moved).
type pins struct {
	mu     sync.Mutex // guards all below; never held over anything that blocks
	drafts map[meta.Inode]int
	moving map[meta.Inode]bool
	turn   chan struct{} // closed and replaced when a claim of housekeeping ends
}

func newPins() *pins {
	return &pins{drafts: map[meta.Inode]int{}, moving: map[meta.Inode]bool{}, turn: make(chan struct{})}
}

// pin waits for a transaction of housekeeping on the file, which is short, and keeps others off until unpin.
func (p *pins) pin(ctx context.Context, id meta.Inode) error {
	for {
		p.mu.Lock()
		if !p.moving[id] {
			p.drafts[id]++
			p.mu.Unlock()
			return nil
		}
		turn := p.turn
		p.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pins) unpin(id meta.Inode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drafts[id]--; p.drafts[id] <= 0 {
		delete(p.drafts, id)
	}
}

// claim takes those of the files that no draft has pinned. Only one housekeeper of a volume is at work at a time, so there
// is no other claim in the way.
func (p *pins) claim(ids []meta.Inode) (got map[meta.Inode]bool) {
	got = make(map[meta.Inode]bool, len(ids))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if p.drafts[id] == 0 {
			p.moving[id], got[id] = true, true
		}
	}
	return got
}

// done ends a claim.
func (p *pins) done(got map[meta.Inode]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range got {
		delete(p.moving, id)
	}
	close(p.turn)
	p.turn = make(chan struct{})
}

// pinned tells whether a draft works on the file.
func (p *pins) pinned(id meta.Inode) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drafts[id] > 0
}

// move runs one transaction of housekeeping over the files of ids that are not being written; fn must leave others alone.
func (c *core) move(ctx context.Context, ids []meta.Inode, fn func(tx *meta.Tx, free map[meta.Inode]bool) error) (free map[meta.Inode]bool, err error) {
	free = c.pins.claim(ids)
	defer c.pins.done(free)
	// Before and after: who has read a version meanwhile cannot tell whether it was the old one, and looks again.
	c.moves.Add(1)
	defer c.moves.Add(1)
	return free, c.update(ctx, func(tx *meta.Tx) error { return fn(tx, free) })
}
