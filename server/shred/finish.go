package shred

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// Times of a Finisher.
const (
	firstPause = 250 * time.Millisecond
	// lastPause is for a key service that may be away for days, and of which nothing but an erasure is wanted.
	lastPause = 15 * time.Minute
	// attemptTime bounds one attempt.
	attemptTime = 5 * time.Minute
)

// FinishOptions of StartFinisher.
type FinishOptions struct {
	Keyring *keyring.Keyring
	Record  func(context.Context, audit.Event) error
	Log     *slog.Logger
}

// Finisher has seals destroy what a rotation of the root, a shred epoch, the destruction of an account or a change of seals had to
// leave, because the process died or a key service was away: at once, then with growing pauses until it is done. What waits is in
// seal.json, so that it outlives the process. Safe for concurrent use.
type Finisher struct {
	o    FinishOptions
	wake chan struct{}
	next atomic.Pointer[time.Time]
	stop context.CancelFunc
	done chan struct{}
}

// StartFinisher starts it; Close ends it.
func StartFinisher(o FinishOptions) *Finisher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Finisher{o: o, wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	o.Keyring.Tell(f.record)
	go f.run(ctx)
	return f
}

// Close cuts an attempt off; the next process goes on.
func (f *Finisher) Close() error {
	f.stop()
	<-f.done
	return nil
}

// Wake tells that there may be something to destroy.
func (f *Finisher) Wake() {
	select {
	case f.wake <- struct{}{}:
	default: // it looks anyway
	}
}

// Next is when it tries again; zero = nothing waits.
func (f *Finisher) Next() time.Time {
	if t := f.next.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

func (f *Finisher) run(ctx context.Context) {
	defer close(f.done)
	for failed := 0; ; {
		switch err := f.Now(ctx, ""); {
		case err == nil || ctx.Err() != nil:
			failed = 0
		case !f.o.Keyring.Pending(): // it never will be
			failed = 0
			f.o.Log.Error("what a change of root or seal had left is not tried again", "error", err, "hint", "rotate the root key if it could not be destroyed: sallyport seal rotate")
		default:
			if failed++; failed == 1 { // the rest says the same, and seal status has it
				f.o.Log.Warn("an old root key is not destroyed yet; it is tried again by itself", "error", err, "hint", "sallyport seal status")
			}
		}
		var timer <-chan time.Time
		f.next.Store(nil)
		if failed > 0 {
			pause := pauseAfter(failed, rand.Float64())
			at := time.Now().Add(pause)
			f.next.Store(&at)
			timer = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-timer:
		}
	}
}

// pauseAfter is the pause after the nth failure (1, 2, …): doubled each time, with a jitter of a quarter either way.
func pauseAfter(n int, jitter float64) time.Duration {
	d := lastPause
	if n < 20 { // the shift stays small
		d = min(lastPause, firstPause<<(n-1))
	}
	return time.Duration(float64(d) * (0.75 + jitter/2))
}

// operator is the key of who had something destroyed, in a context.
type operator struct{}

// Now tries once and records what was destroyed. who is the operator, "" the server itself. nil if nothing waits any more;
// keyring.ErrOldRoot and keyring.ErrNeeded as of keyring.Finish.
func (f *Finisher) Now(ctx context.Context, who string) error {
	bounded, cancel := context.WithTimeout(context.WithValue(ctx, operator{}, who), attemptTime)
	defer cancel()
	_, err := f.o.Keyring.Finish(bounded)
	return err
}

// record is told of everything that a seal destroys (keyring.Tell), also by the change itself that made a root old: a crash after
// the destruction and before the record of the change would leave it unrecorded else.
func (f *Finisher) record(ctx context.Context, done keyring.Finished) error {
	who, _ := ctx.Value(operator{}).(string)
	e := audit.Event{Action: audit.RootDestroy, Who: who, Version: uint64(done.OldRoot), Result: "destroyed"}
	if done.Former != "" {
		e.Detail = done.Former + " " + done.FormerLabel
	}
	f.o.Log.Info("an old root key is destroyed at the seal", "epoch", e.Version, "seal", e.Detail)
	if err := f.o.Record(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("recording the destruction of an old root: %w", err)
	}
	return nil
}
