package vfs

import (
	"context"
	"sync"
	"time"
)

// HousekeeperOptions of Housekeep. Zero values mean defaults.
type HousekeeperOptions struct {
	Every     time.Duration // between two rounds; 0 = 1 minute
	Quiet     time.Duration // how long nobody must have been writing in any volume; 0 = 10 seconds
	MaxCopied int64         // bytes copied for one volume in one round; 0 = 256 MiB
	Versions  int           // version records looked at for one volume in one round; 0 = 20,000
	// Report is told of every error and of every round that did something, with the volume; nil = nobody is.
	Report func(v *Volume, r *TidyResult, err error)
}

// Housekeep tidies the volumes that are open, one after the other, while nobody writes. Owner: who calls stop, which waits for the
// end of what is under way. It opens no volume: one that nobody uses becomes no worse.
func (f *FS) Housekeep(o HousekeeperOptions) (stop func()) {
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Quiet == 0 {
		o.Quiet = 10 * time.Second
	}
	if o.MaxCopied == 0 {
		o.MaxCopied = 256 << 20
	}
	if o.Versions == 0 {
		o.Versions = 20_000
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(o.Every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f.round(ctx, o)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// round tidies every open volume once, as long as it is quiet.
func (f *FS) round(ctx context.Context, o HousekeeperOptions) {
	f.mu.Lock()
	var open []*Volume
	for _, v := range f.volumes {
		v.mu.Lock()
		// One in which nothing changed since is left alone, so that it can fall idle and be closed.
		if v.core != nil && !v.gone && (v.tidied != v.core || v.tidiedAt != v.core.updates.Load()) {
			open = append(open, v)
		}
		v.mu.Unlock()
	}
	f.mu.Unlock()
	for _, v := range open {
		if ctx.Err() != nil || !f.drafts.quiet(f.o.Now(), o.Quiet) {
			return
		}
		r, err := v.Tidy(ctx, TidyOptions{Fold: true, Repack: true, MaxCopied: o.MaxCopied, Versions: o.Versions})
		if ctx.Err() != nil {
			return
		}
		v.mu.Lock()
		if v.core != nil && err == nil && r.Done && r.Quarantined+r.Busy == 0 {
			v.tidied, v.tidiedAt = v.core, v.core.updates.Load()
		}
		v.mu.Unlock()
		if o.Report != nil && (err != nil || r.Folded+r.Repacked+r.Swept+r.Damaged > 0) {
			o.Report(v, r, err)
		}
	}
}
