package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A record that was damaged is not mended by a second start: without it there is nothing to measure a clock by, however it moves.
func TestDoubtOutlivesARestart(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.stop()
	last := w.wall
	if err := os.WriteFile(w.path, []byte("no record"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(last)
	w.passes(time.Minute)
	w.stop()
	w.wall = last.Add(-2 * time.Hour) // the clock was ahead by so much, and is right now
	w.start(last)
	w.passes(5 * time.Hour)
	if s := w.c.State(); s.Status != Ahead || !s.Damaged {
		t.Fatalf("after another start the clock is %+v", s)
	}
	if s, err := w.c.Confirm(w.c.State().Offset); err != nil || s.Damaged {
		t.Fatalf("%+v, %v", s, err)
	}
	was := w.c.Now()
	w.passes(time.Hour)
	w.at(was.Add(30*time.Minute), time.Minute) // it waits for the clock, and does not stand
	w.stop()
	w.start(time.Time{})
	w.is(Behind, true) // as it was measured, and no longer in doubt
}

// Who cannot read or write the record cannot say what time it is, and can serve all the same.
func TestARecordThatCannotBeReadOrWrittenKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	w := newBench(t)
	if err := os.MkdirAll(filepath.Join(w.path, "in the way"), 0o700); err != nil { // not even root reads or replaces it
		t.Fatal(err)
	}
	last := w.wall
	w.wall = w.wall.Add(100 * day)
	w.start(last)
	if s := w.c.State(); s.Status != Ahead || !s.Damaged {
		t.Fatalf("the clock is %+v", s)
	}
	w.passes(2 * time.Hour)
	w.at(last.Add(2*time.Hour), 0)
	w.jammed = errDisk
	if _, err := w.c.Confirm(w.c.State().Offset); err == nil {
		t.Error("it was confirmed, and nothing is on the disk")
	}
	w.jammed, w.full = nil, true
	if _, err := w.c.Confirm(w.c.State().Offset); err == nil {
		t.Error("it was confirmed, and nothing is on the disk")
	}
	w.full = false
	w.confirms()
	w.stop()
	w.start(time.Time{})
	w.is(Trusted, false)
	w.at(w.wall, 0)
}

// After a crash the server's time begins up to a minute earlier than it was. What got its instants in that minute is before the leap, too.
func TestTheMinuteThatACrashTakesIsOnTheRightSideOfALeap(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(90 * day)
	w.passes(saveEvery + 50*time.Second)
	at := w.c.Now()
	w.off(0) // the power failed: the machine cannot tell how long it has been on
	w.start(time.Time{})
	if !w.c.Now().Before(at) {
		t.Fatal("nothing was lost: the test shows nothing")
	}
	w.confirms()
	if got := w.c.Settled(at); !got.Equal(w.wall) {
		t.Errorf("what happened before the leap to %v settled at %v", w.wall, got)
	}
	if b := w.c.Before(time.Hour); !b.Before(at) {
		t.Errorf("what is a minute old is before %v", b)
	}
}

// One word is for one clock: that it was right about being behind says nothing about the next time.
func TestAConfirmationOfAClockBehindEndsWithOneAhead(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.jumps(-100 * day)
	w.confirms()
	if s := w.c.State(); !s.Slowed || !s.Confirmed {
		t.Fatalf("%+v", s)
	}
	w.jumps(300 * day)
	w.is(Ahead, false)
	w.confirms()
	w.jumps(-100 * day)
	w.is(Behind, false)
}

// Somebody looks at the clock, thinks about it, and says yes: to what they saw.
func TestOnlyTheClockThatWasSeenIsConfirmed(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(90 * day)
	seen := w.c.State().Offset
	w.passes(10 * time.Minute) // thinking
	right := w.wall
	w.jumps(3650 * day)
	if _, err := w.c.Confirm(seen); err != ErrMoved {
		t.Fatalf("a clock that nobody saw was confirmed: %v", err)
	}
	w.is(Ahead, false)
	w.wall = right
	if _, err := w.c.Confirm(seen); err != nil {
		t.Fatal(err)
	}
	w.at(right, 0)
}

// TestACopyOfTheRecordHasTheLeaps: a state that is restored from a copy counts ages as the one that it was copied from.
func TestACopyOfTheRecordHasTheLeaps(t *testing.T) {
	t.Parallel()
	w := newBench(t)
	w.start(w.wall)
	w.passes(time.Hour)
	w.jumps(90 * day)
	w.passes(time.Hour)
	waited := w.c.Now()
	w.confirms()
	w.passes(time.Hour)
	want := w.c.Settled(waited)
	if want.Sub(waited) < 80*day {
		t.Fatalf("%v settles at %v", waited, want)
	}
	data := w.c.Record()
	w.stop()
	restored := w.other()
	restored.path = filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(restored.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	restored.off(time.Hour)
	restored.start(waited)
	restored.is(Trusted, false)
	if got := restored.c.Settled(waited); !got.Equal(want) {
		t.Errorf("settles at %v, want %v", got, want)
	}
	if unborn := Open(Options{Path: w.path, Box: w.box}); unborn.Record() != nil {
		t.Error("a record before anything is known")
	}
}
