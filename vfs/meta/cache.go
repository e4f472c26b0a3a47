package meta

import "sync"

// cacheLimit is how many decoded records of one kind a generation of a cache
// holds. A cache holds two generations and a volume two caches (entries and
// nodes), so the bound is 65,536 records per volume: about 12 MiB with names of ordinary
// length, 28 MiB with names of 255 bytes. A listing of 10,000 entries stays warm.
const cacheLimit = 16384

// cache holds decoded records of the newest snapshot, so that repeated lookups
// and listings do not open seals again. Values are shared and must not be changed.
//
// Snapshots are numbered by bbolt's transactions. An entry is good from the
// snapshot it was read in up to the newest one, because a commit takes out
// what it changes before it becomes visible (retire); a reader of an older
// snapshot therefore adds nothing, and takes only what was already valid then.
type cache[K comparable, V any] struct {
	mu         sync.RWMutex // guards all below
	latest     uint64       // the only snapshot whose readers may add
	young, old map[K]stamped[V]
}

type stamped[V any] struct {
	value V
	since uint64
}

func newCache[K comparable, V any](latest uint64) *cache[K, V] {
	return &cache[K, V]{latest: latest, young: map[K]stamped[V]{}}
}

// get returns the value of k as of the given snapshot.
func (c *cache[K, V]) get(k K, snapshot uint64) (V, bool) {
	c.mu.RLock()
	s, young := c.young[k]
	found := young
	if !found {
		s, found = c.old[k]
	}
	c.mu.RUnlock()
	if !found || s.since > snapshot {
		var none V
		return none, false
	}
	if !young {
		c.rescue(k)
	}
	return s.value, true
}

// rescue moves what is still used from the old generation to the young one.
func (c *cache[K, V]) rescue(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.old[k]; ok {
		delete(c.old, k)
		c.insert(k, s)
	}
}

func (c *cache[K, V]) insert(k K, s stamped[V]) {
	if len(c.young) >= cacheLimit {
		c.old, c.young = c.young, make(map[K]stamped[V], cacheLimit/4)
	}
	c.young[k] = s
}

// add remembers what a reader of the given snapshot has decoded.
func (c *cache[K, V]) add(k K, v V, snapshot uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot == c.latest {
		delete(c.old, k)
		c.insert(k, stamped[V]{v, snapshot})
	}
}

// retire prepares for the commit that makes the given snapshot: its changed
// keys are forgotten and readers of older snapshots may not add any more.
func (c *cache[K, V]) retire(keys []K, snapshot uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = snapshot
	for _, k := range keys {
		delete(c.young, k)
		delete(c.old, k)
	}
}
