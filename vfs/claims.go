package vfs

import (
	"context"
	"io/fs"
	"sync"

	"sallyport/vfs/meta"
)

// slot is a place for a name: a directory and the exact bytes of the name.
type slot struct {
	dir  meta.Inode
	name string
}

// claims are the names of one volume that are not in its metadata yet, or
// about to change there. An upload of a new name holds its slot from OPEN to
// the first commit, together with any other upload of that name; an operation
// that makes, replaces or removes a name holds it alone for one transaction.
//
// The order is always: claim first, look second. Who looked first would
// decide on a name that the other one is just making.
type claims struct {
	mu      sync.Mutex // guards all below; never held over anything that blocks
	slots   map[slot]*claim
	dirs    map[meta.Inode]int // claims by directory, so that a directory with uploads in it is not removed
	removed map[meta.Inode]bool
	turn    chan struct{} // closed and replaced when an exclusive claim ends
}

type claim struct {
	uploads   int
	exclusive bool
}

func newClaims() *claims {
	return &claims{
		slots:   map[slot]*claim{},
		dirs:    map[meta.Inode]int{},
		removed: map[meta.Inode]bool{},
		turn:    make(chan struct{}),
	}
}

// hold claims s for an upload of a new name; excl refuses if another upload
// has it (O_EXCL). It waits for an operation on the name to end.
func (c *claims) hold(ctx context.Context, s slot, excl bool) error {
	return c.await(ctx, func() (bool, error) {
		cl := c.slots[s]
		switch {
		case c.removed[s.dir] || cl != nil && cl.exclusive:
			return false, nil
		case cl != nil && excl:
			return true, fs.ErrExist
		case cl == nil:
			cl = &claim{}
			c.slots[s] = cl
			c.dirs[s.dir]++
		}
		cl.uploads++
		return true, nil
	})
}

// drop ends one hold.
func (c *claims) drop(s slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.slots[s]; cl != nil {
		if cl.uploads--; cl.uploads == 0 {
			c.free(s)
		}
	}
}

// lock claims s alone for one transaction: fs.ErrExist if an upload has it.
func (c *claims) lock(ctx context.Context, s slot) (unlock func(), err error) {
	err = c.await(ctx, func() (bool, error) {
		cl := c.slots[s]
		switch {
		case c.removed[s.dir] || cl != nil && cl.exclusive:
			return false, nil
		case cl != nil:
			return true, fs.ErrExist
		}
		c.slots[s] = &claim{exclusive: true}
		c.dirs[s.dir]++
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.free(s)
		c.next()
	}, nil
}

// lockDir claims a directory for its removal: ErrNotEmpty while a name in it is claimed.
func (c *claims) lockDir(ctx context.Context, dir meta.Inode) (unlock func(), err error) {
	err = c.await(ctx, func() (bool, error) {
		switch {
		case c.removed[dir]:
			return false, nil
		case c.dirs[dir] > 0:
			return true, ErrNotEmpty
		}
		c.removed[dir] = true
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.removed, dir)
		c.next()
	}, nil
}

// await calls try under the lock until it is done, and waits for an exclusive claim to end in between.
func (c *claims) await(ctx context.Context, try func() (done bool, err error)) error {
	for {
		c.mu.Lock()
		done, err := try()
		turn := c.turn
		c.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *claims) free(s slot) {
	delete(c.slots, s)
	if c.dirs[s.dir]--; c.dirs[s.dir] == 0 {
		delete(c.dirs, s.dir)
	}
}

func (c *claims) next() {
	close(c.turn)
	c.turn = make(chan struct{})
}
