package keyring

import (
	"runtime"
	"sync"
	"weak"

	"sallyport/crypto/record"
)

// accountCache holds derived keys for as long as somebody else does, so that
// sessions of one account share them and idle accounts leave no keys behind.
type accountCache struct {
	mu   sync.Mutex
	keys map[AccountID]weak.Pointer[record.AccountKeys]
}

// get returns the keys of that account and version, and makes them if nobody
// has them.
func (c *accountCache) get(e *entry, derive func() (*record.AccountKeys, error)) (*record.AccountKeys, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keys := c.keys[e.id].Value(); keys != nil && keys.Version() == e.version {
		return keys, nil
	}
	keys, err := derive()
	if err != nil {
		return nil, err
	}
	c.remember(e.id, keys)
	return keys, nil
}

// put makes keys those of an account from now on.
func (c *accountCache) put(id AccountID, keys *record.AccountKeys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remember(id, keys)
}

func (c *accountCache) remember(id AccountID, keys *record.AccountKeys) {
	if c.keys == nil {
		c.keys = make(map[AccountID]weak.Pointer[record.AccountKeys])
	}
	c.keys[id] = weak.Make(keys)
	runtime.AddCleanup(keys, c.drop, id)
}

// drop removes the entry of keys that were collected, unless it has been
// replaced since.
func (c *accountCache) drop(id AccountID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[id].Value() == nil {
		delete(c.keys, id)
	}
}

func (c *accountCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.keys)
}
