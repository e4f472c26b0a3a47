package keyring

import (
	"runtime"
	"sync"
	"time"
)

// sweepPause is how long the keys of many accounts that fall idle one after the
// other wait for each other.
const sweepPause = 2 * time.Second

// sweeper has the garbage collector look for keys that nobody uses any more. An
// idle server would else do so minutes later.
type sweeper struct {
	mu    sync.Mutex
	timer *time.Timer // runs from the first call until the collection
	off   bool
}

// Sweep says that somebody let go of keys. They are overwritten within seconds;
// Sweep itself returns at once. Without it they are overwritten at the garbage
// collections that come anyway.
func (k *Keyring) Sweep() { k.sweep.soon() }

func (s *sweeper) soon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off || s.timer != nil {
		return
	}
	// The timer's function ends by itself and waits for nobody, so it needs no owner.
	s.timer = time.AfterFunc(sweepPause, func() {
		s.mu.Lock()
		s.timer = nil
		s.mu.Unlock()
		// sync.Pool lets go of what is in it at the second collection.
		runtime.GC()
		runtime.GC()
	})
}

func (s *sweeper) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}
