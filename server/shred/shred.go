// Package shred runs the shred epoch (vfs.Shred) daily and when an operator
// asks, one at a time, and records it: what got a new key, the root epoch, and
// whether the seal destroyed the old root.
package shred

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// Options of Start.
type Options struct {
	Volumes *vfs.FS
	// Record appends to the audit log and tells the record's number.
	Record func(context.Context, audit.Event) (uint64, error)
	Log    *slog.Logger
	// Repack is vfs.ShredOptions.Repack.
	Repack func(context.Context, *vfs.Volume) error
	// Left is told that the seal has not destroyed an old root (Finisher.Wake); nil = nobody.
	Left func()
	// Daily: by itself, At after midnight (local time) and up to Jitter later, so that a hundred servers on one
	// storage do not begin together.
	Daily bool
	// Ready is asked before the daily run; false leaves it to the next day. nil = always.
	Ready      func() bool
	At, Jitter time.Duration
}

// Shredder owns the daily run. Safe for concurrent use.
type Shredder struct {
	o    Options
	turn chan struct{} // a lock with a context: one run at a time
	stop context.CancelFunc
	done chan struct{}
}

// Receipt is what a run did, as it stands in the audit log.
type Receipt struct {
	vfs.Shredded
	Seq uint64 // number of its record in the audit log; 0 = nothing was to be done
}

// Start starts the daily run; Close ends it.
func Start(o Options) *Shredder {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Shredder{o: o, turn: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	go s.daily(ctx)
	return s
}

// Close cuts a run off that is under way; the next one goes on.
func (s *Shredder) Close() error {
	s.stop()
	<-s.done
	return nil
}

func (s *Shredder) daily(ctx context.Context) {
	defer close(s.done)
	if !s.o.Daily {
		return
	}
	for {
		now := time.Now()
		wait := time.NewTimer(next(now, s.o.At, s.o.Jitter).Sub(now))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		if s.o.Ready != nil && !s.o.Ready() {
			s.o.Log.Warn("the daily shredding is left to another day: the clock is not trusted", "hint", "sallyport backup clock")
			continue
		}
		r, err := s.Run(ctx, "", "daily", vfs.ShredOptions{})
		switch {
		case err != nil && ctx.Err() == nil:
			s.o.Log.Error("shredding what was purged failed; it is tried again tomorrow, or with `sallyport backup purge --now`", "error", err)
		case r.Seq != 0:
			s.o.Log.Info("what was purged is shredded", "accounts", len(r.Accounts), "epoch", r.Epoch)
		}
	}
}

// next is the next time of day, tomorrow's if today's is past.
func next(now time.Time, at, jitter time.Duration) time.Time {
	y, m, d := now.Date()
	t := time.Date(y, m, d, 0, 0, int(at/time.Second), 0, now.Location())
	if !t.After(now) {
		t = time.Date(y, m, d+1, 0, 0, int(at/time.Second), 0, now.Location())
	}
	if jitter > 0 {
		t = t.Add(rand.N(jitter))
	}
	return t
}

// Run runs a shred epoch now. who is the operator, "" the server itself. The
// receipt holds also beside an error: accounts that could not get a new key, or an old root that the seal has
// not destroyed (keyring.ErrOldRoot).
func (s *Shredder) Run(ctx context.Context, who, reason string, o vfs.ShredOptions) (Receipt, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
	o.Repack = s.o.Repack
	var r Receipt
	var err error
	r.Shredded, err = s.o.Volumes.Shred(ctx, o)
	if Pending(err) && s.o.Left != nil {
		s.o.Left()
	}
	failed := 0
	for _, a := range r.Accounts {
		if a.Err != nil {
			failed++
			s.o.Log.Error("an account could not get a new key", "account", a.ID, "error", a.Err)
			continue
		}
		e := audit.Event{Action: audit.AccountRekey, Account: audit.ID(a.ID), Who: who, Version: uint64(a.Version), Detail: reason}
		if _, recErr := s.o.Record(context.WithoutCancel(ctx), e); recErr != nil {
			err = errors.Join(err, fmt.Errorf("recording a new key: %w", recErr))
		}
	}
	if len(r.Accounts) == 0 && !r.NewRoot && !r.Destroyed {
		return r, err
	}
	e := audit.Event{Action: audit.Shred, Who: who, Count: uint64(len(r.Accounts) - failed), Bytes: r.Bytes, Version: uint64(r.Epoch), Detail: describe(&r.Shredded, reason), Result: "complete"}
	if err != nil || failed > 0 {
		e.Result = "partial"
	}
	var recErr error
	if r.Seq, recErr = s.o.Record(context.WithoutCancel(ctx), e); recErr != nil {
		err = errors.Join(err, fmt.Errorf("recording the shred epoch: %w", recErr))
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d accounts could not get a new key; the log names them", failed))
	}
	return r, err
}

// describe says what the receipt is worth.
func describe(r *vfs.Shredded, reason string) string {
	text := "no new root"
	switch {
	case r.Destroyed:
		text = "old root destroyed at the seal"
	case r.NewRoot:
		text = "new root; the seal cannot destroy the old one"
	}
	if reason != "" {
		text += "; " + reason
	}
	return text
}

// Pending says whether an error of Run only means that the seal could not be reached to destroy the old root.
func Pending(err error) bool { return errors.Is(err, keyring.ErrOldRoot) }
