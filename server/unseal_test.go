package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
)

func bare() *Server {
	return &Server{log: slog.New(slog.DiscardHandler), life: newLife(time.Now()), handover: &handover{}, again: make(chan struct{}, 1), notes: &notes{log: slog.New(slog.DiscardHandler)}}
}

func TestPausesGrowUpToTheLastWithJitter(t *testing.T) {
	t.Parallel()
	middle := func() float64 { return 0.5 }
	var got []time.Duration
	for n := 1; n <= 6; n++ {
		got = append(got, pauseAfter(n, 5*time.Second, middle))
	}
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	low, high := pauseAfter(1000, time.Minute, func() float64 { return 0 }), pauseAfter(1000, time.Minute, func() float64 { return 1 })
	if low != 45*time.Second || high != 75*time.Second {
		t.Errorf("with jitter: %v to %v", low, high)
	}
}

func TestUnsealsAloneUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, attempts, tried := bare(), 0, 0
		began := time.Now()
		s.unsealAlone(t.Context(), 5*time.Second, func(context.Context) error {
			if attempts++; attempts < 8 {
				return errors.New("no key")
			}
			return nil
		}, func() { tried++ })
		if attempts != 8 || tried != 8 {
			t.Errorf("%d attempts, told of %d", attempts, tried)
		}
		if took := time.Since(began); took < 15*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took) // 0.5+1+2+4+5+5+5, give or take a quarter
		}
	})
}

func TestAReloadTriesAtOnceAndAnOperatorEndsTheTrying(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bare()
		at := make(chan time.Time, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.unsealAlone(t.Context(), time.Hour, func(context.Context) error { at <- time.Now(); return errors.New("no key") }, func() {})
		}()
		first := <-at
		s.again <- struct{}{}
		if second := <-at; !second.Equal(first) {
			t.Errorf("asked to try now, it waited %v", second.Sub(first))
		}
		s.life.ready(&parts{})
		<-done
	})
}

func TestTheEndOfTheServerEndsTheTrying(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			bare().unsealAlone(ctx, time.Hour, func(context.Context) error { return errors.New("no key") }, func() {})
		}()
		synctest.Wait()
		cancel()
		<-done
	})
}

func TestTheSameReasonIsNewsOnce(t *testing.T) {
	t.Parallel()
	l := newLife(time.Now())
	for i, step := range []struct {
		why  string
		news bool
	}{{"no key", true}, {"no key", false}, {"wrong key", true}, {"no key", true}} {
		if got := l.sealedBy(errors.New(step.why), time.Now()); got != step.news {
			t.Errorf("step %d: news is %v", i, got)
		}
	}
	if st := l.sealedState(); st == nil || st.Reason != "no key" {
		t.Errorf("state is %+v", st)
	}
}

// A server is open as a whole or not at all: what else looks at the parts sees them from ready on only.
func TestPartsAppearWithReadyOnly(t *testing.T) {
	t.Parallel()
	l := newLife(time.Now())
	if l.whole() != nil || l.move(phaseSealing, phaseReady) {
		t.Error("sealed before it was open")
	}
	if !l.move(phaseUnsealing, phaseStarting) || l.whole() != nil || l.sealedState() == nil {
		t.Error("unsealing is not sealed")
	}
	l.ready(&parts{})
	if l.whole() == nil || l.sealedState() != nil || l.now() != phaseReady {
		t.Error("ready is not open")
	}
	if l.move(phaseUnsealing, phaseStarting, phaseSealed) {
		t.Error("unsealed twice")
	}
}

func TestGuessingIsSlowedDownPerUser(t *testing.T) {
	t.Parallel()
	var p people
	now := time.Unix(1000, 0)
	for range freeFailures {
		if wait := p.mayTry(1, now); wait != 0 {
			t.Fatalf("waits %v too early", wait)
		}
		p.failed(1, now)
	}
	if wait := p.mayTry(1, now.Add(time.Second)); wait != failurePause-time.Second {
		t.Errorf("waits %v", wait)
	}
	if wait := p.mayTry(2, now); wait != 0 {
		t.Errorf("another user waits %v", wait)
	}
	if wait := p.mayTry(1, now.Add(failurePause)); wait != 0 {
		t.Errorf("after the pause it still waits %v", wait)
	}
	p.succeeded(1)
	if wait := p.mayTry(1, now); wait != 0 {
		t.Errorf("after a success it waits %v", wait)
	}
}

// Shares that waited too long are gone, and whoever comes next is told.
func TestSharesAreForgottenAndThatIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seal, shares, err := keyring.NewShares(2, 3)
	check(t, err)
	k, err := keyring.Create(t.Context(), dir, seal)
	check(t, err)
	check(t, k.Close())
	info, err := keyring.ReadSeal(dir)
	check(t, err)
	synctest.Test(t, func(t *testing.T) {
		var p people
		c, err := p.collector(info)
		check(t, err)
		if progress, forgotten, err := p.add(c, shares[0].Text()); err != nil || forgotten != 0 || progress.Have != 1 {
			t.Fatalf("first: %v, %d, %v", progress, forgotten, err)
		}
		time.Sleep(keyring.CollectTime + time.Second)
		synctest.Wait()
		if progress, forgotten, err := p.add(c, shares[1].Text()); err != nil || forgotten != 1 || progress.Have != 1 {
			t.Fatalf("late: %v, %d forgotten, %v", progress, forgotten, err)
		}
		if progress, forgotten, err := p.add(c, shares[2].Text()); err != nil || forgotten != 0 || !progress.Complete() {
			t.Fatalf("last: %v, %d, %v", progress, forgotten, err)
		}
		p.forget()
	})
}
