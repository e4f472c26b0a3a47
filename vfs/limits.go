package vfs

import "time"

// Limits of names and paths.
const (
	MaxName     = 255  // bytes
	MaxPath     = 4096 // bytes
	MaxDepth    = 256  // components; deeper is ErrNameTooLong
	MaxSymlinks = 40
	MaxFile     = 1 << 44 // bytes; more is EFBIG, so that sums of sizes cannot overflow
)

const (
	// defaultMaxOpen is how many handles one view may hold.
	defaultMaxOpen = 1024
	// maxDrafts is how many files one account may write at once. Each may need a segment of memory even when the budget is
	// exhausted.
	maxDrafts = 512
	// defaultBudget is the dirty data of all volumes together, bytes.
	defaultBudget = 256 << 20
	// defaultIdle is how long an unused volume stays open.
	defaultIdle = 5 * time.Minute
	// refusalHold is how long a volume that failed to open is refused without another attempt: verifying it reads it
	// whole, and a stranger who knocks must not make the server do that again and again.
	refusalHold = 30 * time.Second
	// listBatch is how many entries a listing holds at once.
	listBatch = 512
	// listBytes is how many bytes of names and targets of symlinks a listing holds at once, about: targets can be long.
	listBytes = 64 << 10
	// reserveStep is the granularity in which the quota is asked while a file grows, bytes.
	reserveStep = 1 << 20

	// reservedName is kept for the view of old versions. Only in the root directory.
	reservedName = ".backups"
)
