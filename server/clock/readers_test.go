package clock

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A disk that takes a minute for a sync is waited for by who judges the clock, and by nobody who wants to know the time.
func TestReadersDoNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	for name, judge := range map[string]func(*bench){
		"the minute's record": func(w *bench) { w.c.Look() },
		"a confirmation":      func(w *bench) { _, _ = w.c.Confirm(90 * day) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.jumps(90 * day)
			w.idle(saveEvery)
			reached, goOn := make(chan bool), make(chan bool)
			w.c.put = func(string, []byte) error { reached <- true; <-goOn; return nil }
			var judging sync.WaitGroup
			judging.Go(func() { judge(w) })
			<-reached
			// Any of these would wait for ever.
			if s := w.c.State(); s.Status != Ahead {
				t.Errorf("%+v", s)
			}
			if w.c.Record() == nil || w.c.Before(0).After(w.c.Now()) || w.c.Settled(w.wall) != w.wall {
				t.Error("nothing can be read")
			}
			goOn <- true
			judging.Wait()
		})
	}
}

// Who is held up between finding out how time goes and what has passed must not see it go further than who asks afterwards.
func TestNowNeverGoesBackWhenItSlowsDown(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Minute)
	var between time.Time
	elapsed := w.c.o.Elapsed
	held := true
	w.c.o.Elapsed = func() time.Duration {
		if held {
			held = false
			w.jumps(-time.Hour) // half speed from here
			w.idle(10 * time.Second)
			between = w.c.Now()
		}
		return elapsed()
	}
	first := w.c.Now()
	second := w.c.Now()
	if first.Before(between) || second.Before(first) {
		t.Errorf("it was %v, then %v, then %v", between, first, second)
	}
}

func TestNowNeverGoesBackForManyAtOnce(t *testing.T) {
	t.Parallel()
	var elapsed, wall atomic.Int64
	wall.Store(int64(1e18))
	w := newBench(t)
	c := Open(Options{Path: w.path, Box: w.box, Elapsed: func() time.Duration { return time.Duration(elapsed.Add(1000)) }, Wall: func() time.Time { return time.Unix(0, wall.Add(1000)) }})
	c.put = func(string, []byte) error { return nil }
	c.begin(time.Time{})
	var newest atomic.Int64 // what somebody was told before
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20000 {
				before := newest.Load()
				got := c.Now().UnixNano()
				if got < before {
					t.Errorf("somebody was told %d, and then another %d", before, got)
					return
				}
				for before < got && !newest.CompareAndSwap(before, got) {
					before = newest.Load()
				}
			}
		})
	}
	for i := range 2000 {
		wall.Add(int64([]time.Duration{-time.Minute, 20 * time.Second, 40 * time.Second}[i%3]))
		c.Look()
	}
	all.Wait()
}

// A disk that is full is told once, and tried less and less often. When it takes the record again, the clock is followed, and the restart in between
// is no reason not to.
func TestALeapThatCannotBeWrittenIsTriedSeldom(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"in one run": false, "with a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBench(t)
			var log bytes.Buffer
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			w.start(time.Time{})
			w.stop()
			w.off(day)
			right := w.wall
			w.wall = time.Unix(7, 0)
			w.start(time.Time{})
			w.passes(2 * time.Hour)
			w.wall = right.Add(2 * time.Hour)
			own := w.c.Now()
			log.Reset()
			w.full, w.puts = true, 0
			for range 3600 {
				w.passes(time.Second)
			}
			w.is(Ahead, false)
			if s := w.c.State(); !s.Unwritten || s.Damaged || !s.Since.Before(own) {
				t.Errorf("%+v", s)
			}
			w.at(own.Add(time.Hour), time.Second)
			if w.puts < 10 || w.puts > 70 || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("%d tries within an hour, and in the log:\n%s", w.puts, &log)
			}
			if restart {
				w.full = false
				w.stop() // it notes that the clock was not followed
				w.start(time.Time{})
			} else {
				w.full = false
				for range 60 {
					w.passes(time.Second)
				}
				if strings.Count(log.String(), "\n") != 2 {
					t.Errorf("in the log:\n%s", &log)
				}
			}
			w.is(Trusted, false)
			w.at(w.wall, 0)
			if got := w.c.Settled(own).Sub(right.Add(2 * time.Hour)).Abs(); got > 0 {
				t.Errorf("what happened before the leap settled %v from when it did", got)
			}
		})
	}
}

// What cannot be written while nothing leaps is tried seldom, too, and says nothing about the clock.
func TestARecordThatCannotBeWrittenIsTriedSeldom(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.full, w.puts = true, 0
	for range 3600 {
		w.passes(time.Second)
	}
	if w.is(Trusted, false); w.puts < 10 || w.puts > 70 {
		t.Errorf("%d tries within an hour", w.puts)
	}
}

// What the time costs whoever asks, alone and with others.
func BenchmarkNow(b *testing.B) {
	w := newBench(b)
	c := Open(Options{Path: w.path, Box: w.box})
	c.Begin(time.Time{}, func(State) {})
	defer c.Close()
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			c.Now()
		}
	})
	b.Run("with others", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Now()
			}
		})
	})
}
