package clock

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// A server that crashes again and again, beside a clock that is set ahead again and again by what a start may explain: the machine was on.
func TestAnotherStartGetsAClockNoFurther(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{"by hours": 70 * time.Hour, "little by little": 50 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			begin := w.wall
			for i := range 50 {
				w.wall = w.wall.Add(step)
				if i%2 == 0 {
					w.stop()
				}
				w.idle(20 * time.Second)
				w.start(time.Time{})
				w.passes(10 * time.Second)
			}
			w.is(Ahead, false)
			if ahead := w.c.Now().Sub(begin) - 50*30*time.Second; ahead > defaultMaxJump+2*time.Second {
				t.Errorf("the server's time is %v ahead after 50 starts", ahead)
			}
			w.wall = begin.Add(50 * 30 * time.Second) // right
			w.passes(3 * time.Hour)
			w.is(Trusted, false)
			w.at(w.wall, jitter)
		})
	}
}

// The machine was restarted, too: then its clock is believed, but all that it says in 50 starts is not more than once.
func TestStartsOfTheMachineDoNotAddUp(t *testing.T) {
	t.Parallel()
	for name, counts := range map[string]bool{"that tells how long it is on": true, "that does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBench(t)
			if !counts {
				w.boot = 0
			}
			w.start(time.Time{})
			begin := w.wall
			for range 50 {
				w.off(10 * time.Second)
				w.wall = w.wall.Add(20 * time.Hour)
				w.start(time.Time{})
				w.passes(time.Minute)
			}
			w.is(Ahead, false)
			if ahead := w.c.Now().Sub(begin); ahead > defaultMaxOff+2*50*time.Minute+jitter || ahead < 60*time.Hour {
				t.Errorf("the server's time is %v ahead after 50 starts", ahead)
			}
			w.confirms()
			w.at(w.wall, 0)
			w.again(70 * time.Hour) // whoever confirmed it answered for all of that
			w.is(Trusted, false)
		})
	}
}

func TestWhatWasBelievedIsEarnedBack(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	for range 20 {
		w.again(50 * time.Hour)
		w.is(Trusted, false)
		w.at(w.wall, 0)
		if s := w.c.State(); s.Unproven != 50*time.Hour || s.MaxOff != defaultMaxOff {
			t.Fatalf("%+v", s)
		}
		w.passes(50 * time.Hour)
		if s := w.c.State(); s.Unproven != 0 {
			t.Fatalf("%+v", s)
		}
	}
	w.again(50 * time.Hour)
	w.is(Trusted, false)
	w.again(50 * time.Hour)
	w.is(Ahead, false)
	w.passes(time.Hour)
	w.is(Ahead, false)
}

// An hour that is counted earns an hour, and no more.
func TestNoMoreIsEarnedThanIsCounted(t *testing.T) {
	t.Parallel()
	for off, want := range map[time.Duration]Status{10*time.Hour - time.Minute: Trusted, 10*time.Hour + time.Minute: Ahead} {
		w := startBench(t)
		w.again(defaultMaxOff)
		w.passes(4 * time.Hour)
		w.stop()
		w.idle(6 * time.Hour)
		w.start(time.Time{})
		w.again(off)
		if s := w.c.State(); s.Status != want {
			t.Errorf("off for another %v: %+v", off, s)
		}
	}
}

// The server was off, and the machine was not: that is no guess.
func TestWhatTheMachineCountedIsBelieved(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.stop()
	w.idle(90 * day)
	w.start(time.Time{})
	w.is(Trusted, false)
	w.at(w.wall, 0)
	if s := w.c.State(); s.Unproven != 0 || len(w.c.past().leaps) != 0 || len(w.told) != 0 {
		t.Errorf("%+v, told %+v", s, w.told)
	}
	w.off(60 * time.Hour)
	w.start(time.Time{})
	w.stop()
	w.idle(40 * time.Hour) // counts for what was believed before, too
	w.start(time.Time{})
	if s := w.c.State(); s.Unproven != 20*time.Hour {
		t.Errorf("%+v", s)
	}
}

// What was given an instant in the minute that a crash took is not younger for who comes after it.
func TestACrashTakesNoTimeFromAMachineThatStaysOn(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(saveEvery + 50*time.Second)
	w.jumps(20 * time.Minute)
	at := w.c.Now()
	w.wall = time.Unix(7, 0)
	w.idle(time.Second)
	w.start(time.Time{})
	w.at(at.Add(time.Second), 0)
}

// A machine that was brought back from a snapshot counts on from there, and so does one that was cloned; another one counts for itself.
func TestACountOfSomethingElseIsNoEvidence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*bench)
		want   Status
	}{
		"a snapshot":              {func(w *bench) { w.begun += 51 * time.Hour }, Trusted}, // within MaxOff, and no more
		"a snapshot and 90 days":  {func(w *bench) { w.begun += 51 * time.Hour; w.wall = w.wall.Add(90 * day) }, Ahead},
		"another machine":         {func(w *bench) { w.boot += 7; w.begun -= 300 * day }, Trusted},
		"another one and 90 days": {func(w *bench) { w.boot += 7; w.begun -= 300 * day; w.wall = w.wall.Add(90 * day) }, Ahead},
		"none and 90 days":        {func(w *bench) { w.boot = 0; w.wall = w.wall.Add(90 * day) }, Ahead},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.passes(time.Hour)
			w.stop()
			was := w.wall
			w.idle(50 * time.Hour)
			c.change(w)
			w.start(time.Time{})
			w.is(c.want, false)
			if c.want == Ahead {
				w.at(was, 0)
			} else if s := w.c.State(); s.Unproven != 50*time.Hour {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A clock a second ahead is not worth a word, even where nothing more may be believed: what runs makes up for it.
func TestASmallStepNeedsNoWord(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(defaultMaxOff)
	w.is(Trusted, false)
	was := w.c.Now()
	w.jumps(2 * time.Second)
	w.is(Trusted, false)
	w.at(was, jitter)
	w.passes(3 * time.Second)
	w.is(Trusted, false)
	w.at(w.wall, jitter)
	if len(w.told) != 0 {
		t.Errorf("told %+v", w.told)
	}
}

// A record of a program that knew no count is read, and is one of another machine.
func TestARecordOfAnEarlierProgramIsRead(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.jumps(90 * day)
	w.passes(time.Hour)
	w.confirms()
	leaps := w.c.past().leaps
	r := w.c.remember(w.c.now.Load())
	b := r.encode()
	b[0] = 2
	b = append(b[:66:66], b[74:]...)
	if got, err := decode(b); err != nil || got.count != r.count || got.unproven != r.unproven || !got.known.IsZero() || len(got.leaps) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	b[0] = 1
	b = append(b[:26:26], b[26+40:]...)
	got, err := decode(b)
	if err != nil || !got.now.Equal(r.now) || len(got.leaps) != 1 || !got.leaps[0].to.Equal(leaps[0].to) || got.count != (Count{}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := decode(b[:i]); err == nil {
			t.Errorf("%d of %d bytes were read", i, len(b))
		}
	}
	sealed := w.box.Seal(nil, 46, []byte("clock"), b)
	if err := os.WriteFile(w.path, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	w.idle(70 * time.Hour)
	w.start(time.Time{})
	w.is(Trusted, false)
	if s := w.c.State(); s.Unproven != 70*time.Hour {
		t.Errorf("%+v", s)
	}
	w.stop()
	if now, err := os.ReadFile(w.path); err != nil || bytes.Equal(now, sealed) {
		t.Errorf("it was not written anew: %v", err)
	}
	w.idle(70 * time.Hour)
	w.start(time.Time{})
	w.is(Trusted, false)
}

// Before anything can judge the clock, a state that has a record does not go by it.
func TestBeforeItBeginsTimeStandsWhereTheRecordLeftIt(t *testing.T) {
	t.Parallel()
	w := newBench(t)
	if c := w.open(); !c.Now().Equal(w.wall) {
		t.Errorf("without a record it is %v, want the system's", c.Now())
	}
	w.start(time.Time{})
	w.jumps(90 * day)
	w.confirms()
	w.stop()
	last := w.wall
	w.wall = w.wall.AddDate(10, 0, 0)
	c := w.open()
	if !c.Now().Equal(last) || !c.Settled(last.Add(-91*day)).Equal(last.Add(-91*day)) || !c.Settled(last.Add(-90*day)).Equal(last) {
		t.Errorf("it is %v, want %v", c.Now(), last)
	}
}

// A stop may come first when the machine wakes up, and a copy be made, before anybody has looked what time it is.
func TestWhatAMachineSleptIsKnownAfterAStopWithoutALook(t *testing.T) {
	t.Parallel()
	for name, falsely := range map[string]bool{"a right clock": false, "a clock that is ahead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.passes(time.Hour)
			want, status := w.wall.Add(8*time.Hour+time.Minute), Trusted
			if falsely {
				w.jumps(5 * time.Hour)
				status = Ahead
			}
			w.wall, w.slept = w.wall.Add(8*time.Hour), w.slept+8*time.Hour
			w.stop()
			w.idle(time.Minute)
			w.start(time.Time{})
			w.is(status, false)
			w.at(want, 0)
			w.off(time.Minute)
			w.start(time.Time{})
			w.is(status, false)
		})
	}
}
