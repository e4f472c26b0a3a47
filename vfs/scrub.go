package vfs

import (
	"context"
	"time"
)

// Scrub is Verify in the background: it reads blobs no faster than that many bytes a second (0 = as fast as it can), and it condemns a volume
// whose metadata is not what was committed. Such a volume takes no more writes, and as soon as nobody uses it, it is closed, so
// that the next opening verifies it anew and refuses it: end its sessions. A damaged blob is reported and hurts only its files, and what the
// metadata only counts wrong is reported and hurts nobody.
func (v *Volume) Scrub(ctx context.Context, rate int64, report func(finding string)) (res *VerifyResult, condemned bool, err error) {
	return v.verify(ctx, &pace{rate: rate, began: time.Now()}, true, report)
}

// pace lets bytes through at a rate. Used by one goroutine.
type pace struct {
	rate  int64 // bytes per second; 0 = no limit
	ends  bool  // only the ends of blobs are read
	began time.Time
	done  int64
}

// take waits until n bytes more may have been read. A nil pace does not wait.
func (p *pace) take(ctx context.Context, n int) error {
	if p == nil || p.rate <= 0 {
		return ctx.Err()
	}
	p.done += int64(n)
	due := p.began.Add(time.Duration(float64(p.done) / float64(p.rate) * float64(time.Second)))
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
