package content

import "sync"

// cacheSegments is how many decrypted segments a reader keeps between calls.
// SFTP clients read 32 KiB at a time with several requests under way, so a few
// segments are half read at any moment.
const cacheSegments = 4

type segmentName struct {
	blob    uint32
	segment uint64
}

// segmentCache serves parts of segments and keeps a segment while it is likely
// to be asked for again. Safe for concurrent use; a segment that several
// callers want at once is decrypted once.
type segmentCache struct {
	store *Store
	mu    sync.Mutex
	slots []*slot // most recently used last
}

type slot struct {
	name segmentName
	load sync.Once // fills data, n and err
	data *chunk
	n    int
	err  error

	// Guarded by segmentCache.mu:
	users  int
	served int  // bytes handed out
	paid   bool // counted in the budget
}

// read copies plaintext of one segment, from at on, and returns the bytes copied.
func (c *segmentCache) read(src *source, name segmentName, p []byte, at int) (int, error) {
	s := c.acquire(name)
	s.load.Do(func() {
		s.data = get[chunk](&c.store.pools.chunks)
		var plain []byte
		plain, s.err = src.segment(s.data.data[:0], name.segment)
		s.n = len(plain)
	})
	n := 0
	if s.err == nil {
		n = copy(p, s.data.data[at:s.n])
	}
	err := s.err
	c.release(s, n)
	return n, err
}

func (c *segmentCache) acquire(name segmentName) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.slots {
		if s.name == name {
			copy(c.slots[i:], c.slots[i+1:])
			c.slots[len(c.slots)-1] = s
			s.users++
			return s
		}
	}
	s := &slot{name: name, users: 1}
	c.slots = append(c.slots, s)
	return s
}

// release keeps the segment unless it failed, was read to its end (a
// sequential reader will not come back), or the budget has no room.
func (c *segmentCache) release(s *slot, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	s.served += n
	if s.users > 0 {
		return
	}
	if !s.paid && s.err == nil && s.served < s.n {
		s.paid = c.store.Budget.takeCache(segmentPlain)
	}
	if s.err != nil || s.served >= s.n || !s.paid {
		c.remove(s)
	}
	for _, old := range c.slots {
		if len(c.slots) <= cacheSegments {
			break
		}
		if old.users == 0 {
			c.remove(old)
			break
		}
	}
}

func (c *segmentCache) remove(s *slot) {
	for i := range c.slots {
		if c.slots[i] == s {
			c.slots = append(c.slots[:i], c.slots[i+1:]...)
			break
		}
	}
	if s.data != nil {
		c.store.pools.chunks.Put(s.data)
		s.data = nil
	}
	if s.paid {
		c.store.Budget.giveCache(segmentPlain)
	}
}

// drop forgets everything; nobody may be reading.
func (c *segmentCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.slots) > 0 {
		c.remove(c.slots[0])
	}
}
