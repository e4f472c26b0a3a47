package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/blob"
	"sallyport/vfs/meta"
)

// Volume is one account's tree. It is opened (and its records verified) on first use, kept while in use and closed
// when idle; a Volume value stays good over that. Safe for concurrent use.
type Volume struct {
	fs       *FS
	id       keyring.AccountID
	reserve  atomic.Pointer[func(bytes, files, history int64) error]
	changes  atomic.Uint64 // transactions that were tried since Open of the FS
	draining chan struct{} // a lock with a context: one Drain at a time
	tidying  chan struct{} // the same for housekeeping
	losses   *losses       // outlives core, as instants do
	past     pastHandles

	mu         sync.Mutex // guards what is below; never held over I/O
	core       *core      // nil while closed
	refs       int        // operations and handles that use core
	views      map[*View]struct{}
	turning    chan struct{} // not nil while core is being opened or closed; closed at the end of that
	idle       *time.Timer
	refusal    error // why the last opening failed
	refused    time.Time
	gone       bool                  // retired: opens no more
	swept      meta.Inode            // where the next Tidy goes on; 0 = the beginning
	quarantine map[blob.ID]time.Time // key records that nothing relies on, since when that is known
	tidied     *core                 // the last round of the housekeeper found nothing left to do in it,
	tidiedAt   uint64                // when it had had so many updates
	repairing  bool                  // see alone
	noted      bool                  // the outbox has news
	noting     chan struct{}         // OnOutbox is being called; closed when it is not any more
	keeping    int                   // copies that need the blobs of an instant: see keep
	kept       bool                  // and that something waits for their end
	removing   int                   // removals of blobs under way
	removed    chan struct{}         // closed when there is none any more
}

func newVolume(f *FS, id keyring.AccountID) *Volume {
	return &Volume{fs: f, id: id, views: map[*View]struct{}{}, draining: make(chan struct{}, 1), tidying: make(chan struct{}, 1), losses: newLosses()}
}

// ID is the account of the volume.
func (v *Volume) ID() keyring.AccountID { return v.id }

// SetReserve sets the quota function. It is asked before bytes are taken, with what the account would then hold: live
// bytes and files, those of all uploads in progress included, and the bytes in history. An error refuses (ErrQuota, wrapping it). It must be quick,
// may be called concurrently, and must not call the volume. nil = no quota.
func (v *Volume) SetReserve(fn func(bytes, files, history int64) error) {
	if fn == nil {
		v.reserve.Store(nil)
		return
	}
	v.reserve.Store(&fn)
}

// acquire opens the volume if need be and keeps it open until release. After a failed commit the volume is closed as
// soon as nobody uses it, so the next acquire opens and verifies it anew.
func (v *Volume) acquire(ctx context.Context) (*core, error) {
	v.mu.Lock()
	for {
		switch {
		case v.gone:
			v.mu.Unlock()
			return nil, &volumeError{text: fmt.Sprintf("volume %s is closed", v.id), err: fs.ErrClosed}
		case v.repairing:
			v.mu.Unlock()
			return nil, &volumeError{text: fmt.Sprintf("volume %s is being repaired", v.id), err: ErrRepairing}
		case v.turning != nil:
			turned := v.turning
			v.mu.Unlock()
			select {
			case <-turned:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			v.mu.Lock()
		case v.core != nil:
			v.refs++
			c := v.core
			v.mu.Unlock()
			return c, nil
		case v.refusal != nil && v.fs.o.Now().Sub(v.refused) < refusalHold:
			err := v.refusal
			v.mu.Unlock()
			return nil, err
		default:
			turned := make(chan struct{})
			v.turning = turned
			v.mu.Unlock()
			c, err := openCore(ctx, v)
			v.mu.Lock()
			v.turning, v.core, v.refusal = nil, c, err
			close(turned)
			if err != nil {
				v.refused = v.fs.o.Now()
				if ctx.Err() != nil { // the caller gave up: that says nothing of the volume
					v.refusal = nil
				}
				v.mu.Unlock()
				return nil, err
			}
			v.refs++
			v.mu.Unlock()
			c.announce()
			return c, nil
		}
	}
}

// release ends one acquire.
func (v *Volume) release(c *core) {
	v.mu.Lock()
	v.refs--
	if v.refs > 0 {
		v.mu.Unlock()
		return
	}
	if !c.failed.Load() {
		v.rest()
		v.mu.Unlock()
		return
	}
	v.turn()
}

// rest starts the idle clock if nothing needs the volume. Called with mu held.
func (v *Volume) rest() {
	if v.refs > 0 || len(v.views) > 0 || v.core == nil || v.fs.o.IdleClose < 0 || v.gone {
		return
	}
	if v.idle != nil {
		v.idle.Reset(v.fs.o.IdleClose)
		return
	}
	v.idle = time.AfterFunc(v.fs.o.IdleClose, func() {
		v.mu.Lock()
		if v.refs > 0 || len(v.views) > 0 || v.core == nil || v.turning != nil {
			v.mu.Unlock()
			return
		}
		v.turn()
	})
}

// turn closes the core. Called with mu held and nobody using the core; it gives up mu.
func (v *Volume) turn() error {
	c, turned := v.core, make(chan struct{})
	v.core, v.turning = nil, turned
	v.mu.Unlock()
	err := c.close()
	v.losses.rest(!c.failed.Load())
	v.fs.o.Keyring.Sweep()
	v.mu.Lock()
	v.turning = nil
	close(turned)
	v.mu.Unlock()
	return err
}

// shut closes every view.
func (v *Volume) shut() error {
	v.mu.Lock()
	views := make([]*View, 0, len(v.views))
	for w := range v.views {
		views = append(views, w)
	}
	v.mu.Unlock()
	var errs []error
	for _, w := range views {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// retire closes the volume for good; ErrBusy while something uses it, and, if it must have told everything, while events wait that
// somebody drains: they are nowhere else, and what nobody told of must not go with the volume.
func (v *Volume) retire(told bool) error {
	v.mu.Lock()
	for v.turning != nil {
		turned := v.turning
		v.mu.Unlock()
		<-turned
		v.mu.Lock()
	}
	if v.refs > 0 || len(v.views) > 0 || v.repairing {
		v.mu.Unlock()
		return ErrBusy
	}
	if told && v.core != nil && v.core.untold() { // asked with mu held, as nothing can be told any more then
		v.mu.Unlock()
		return ErrBusy
	}
	v.gone = true
	if v.idle != nil {
		v.idle.Stop()
	}
	if v.core == nil {
		v.mu.Unlock()
		return nil
	}
	return v.turn()
}

// do runs fn with the open core.
func (v *Volume) do(ctx context.Context, fn func(*core) error) error {
	c, err := v.acquire(ctx)
	if err != nil {
		return err
	}
	defer v.release(c)
	return fn(c)
}
