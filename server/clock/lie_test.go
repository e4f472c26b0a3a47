package clock

import (
	"os"
	"testing"
	"time"
)

// Looks are never a second apart to the nanosecond, so that a clock that is waited for is at last a little ahead of the server's time.
// That is no lie, even if a run before did not believe it: an operator has said that it is right.
func TestAConfirmedClockIsBelievedWhenTimeHasWaitedForIt(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.stop()
	last := w.wall
	if err := os.WriteFile(w.path, []byte("no record"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(last)
	w.stop() // it notes a clock that is not believed, because of the damage
	w.wall = last.Add(-time.Minute)
	w.start(time.Time{})
	w.confirms()
	for range 130 {
		w.idle(lookEvery + 100*time.Microsecond)
		w.c.Look()
		w.is(Trusted, false)
	}
	w.at(w.wall, jitter)
}

// It was ahead by less than MaxJump, and by more than is left to believe. Whoever sets it right need not confirm it, also if the server
// was started in between.
func TestAClockThatIsSetRightIsBelievedAfterARestart(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]bool{"of the server": false, "of the machine": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.again(defaultMaxOff)
			w.passes(10 * time.Minute)
			w.jumps(30 * time.Minute)
			w.is(Ahead, false)
			if off {
				w.again(time.Minute)
			} else {
				w.stop()
				w.idle(time.Minute)
				w.start(time.Time{})
			}
			w.is(Ahead, false)
			w.stop()
			w.jumps(-30*time.Minute + 20*time.Millisecond)
			w.start(time.Time{})
			w.is(Trusted, false)
			w.at(w.wall, 0)
		})
	}
}
