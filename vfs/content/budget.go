package content

import (
	"sync/atomic"
	"syscall"
)

// errTooLarge is what a write beyond the largest possible file gets.
var errTooLarge error = syscall.EFBIG

// Budget bounds what all drafts and readers of a server hold in buffers, in
// bytes. Readers may use a quarter of it for decrypted segments that they keep
// between calls. A nil Budget grants everything.
type Budget struct {
	limit, cacheLimit int64
	dirty, cached     atomic.Int64
}

// NewBudget makes a budget of that many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes - bytes/4, cacheLimit: bytes / 4} }

// Used says how many bytes of dirty data and of decrypted segments are held.
func (b *Budget) Used() (dirty, cached int64) {
	if b == nil {
		return 0, 0
	}
	return b.dirty.Load(), b.cached.Load()
}

func take(used *atomic.Int64, limit, n int64) bool {
	if used.Add(n) <= limit {
		return true
	}
	used.Add(-n)
	return false
}

func (b *Budget) takeDirty(n int64) bool { return b == nil || take(&b.dirty, b.limit, n) }

// forceDirty takes what is needed to make progress: at most a segment or two per draft at work.
func (b *Budget) forceDirty(n int64) {
	if b != nil {
		b.dirty.Add(n)
	}
}

func (b *Budget) giveDirty(n int64) {
	if b != nil {
		b.dirty.Add(-n)
	}
}

func (b *Budget) takeCache(n int64) bool { return b == nil || take(&b.cached, b.cacheLimit, n) }

func (b *Budget) giveCache(n int64) {
	if b != nil {
		b.cached.Add(-n)
	}
}
