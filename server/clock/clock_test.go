package clock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAClockThatIsRightIsFollowed(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.jumps(30 * time.Second) // as NTP steps it
	w.at(w.wall, 0)
	w.jumps(-5 * time.Millisecond)
	w.passes(10 * time.Second)
	w.at(w.wall, jitter)
	w.again(50 * time.Hour)
	w.is(Trusted, false)
	w.at(w.wall, 0)
	if len(w.told) != 0 {
		t.Errorf("told %+v", w.told)
	}
}

// The year 2036 at a start: the server goes on by its own count, and follows when the clock is set right.
func TestAClockThatIsAheadAtAStartIsNotFollowed(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"stop": false, "crash": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.passes(90 * time.Minute)
			last := w.wall
			if !crash {
				w.stop()
			}
			w.off(time.Hour)
			w.wall = w.wall.AddDate(10, 0, 0)
			w.start(last)
			w.is(Ahead, false)
			w.at(last, saveEvery)
			if len(w.told) != 1 || w.told[0].Status != Ahead || w.told[0].Offset < 3650*day {
				t.Fatalf("told %+v", w.told)
			}
			w.passes(2 * time.Hour)
			w.at(last.Add(2*time.Hour), saveEvery)
			if !crash {
				w.stop() // and no restart makes it right
			}
			w.off(time.Minute)
			w.start(last)
			w.is(Ahead, false)
			w.at(last.Add(2*time.Hour), 2*saveEvery)
			w.wall = w.wall.AddDate(-10, 0, 0)
			w.c.Look()
			w.is(Trusted, false)
			w.at(w.wall, 0)
			if n := len(w.told); n != 2 || w.told[1].Status != Trusted {
				t.Errorf("told %+v", w.told)
			}
		})
	}
}

func TestAJumpWhileRunningIsNotFollowed(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(10 * day)
	right := w.wall
	w.jumps(5 * time.Hour)
	w.is(Ahead, false)
	w.at(right, 0)
	w.passes(day)
	w.at(right.Add(day), 0)
	w.stop() // less than what a stop may explain, and yet not believed after one
	w.off(time.Hour)
	w.start(time.Time{})
	w.is(Ahead, false)
	w.jumps(-5 * time.Hour)
	w.is(Trusted, false)
	w.at(right.Add(day+time.Hour), 0)
}

// A clock that gets ahead a little at a time gets nowhere, either.
func TestACreepingClockIsNotFollowedForEver(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	begin := w.wall
	for range 24 {
		w.jumps(10 * time.Minute)
		w.passes(time.Hour)
	}
	w.is(Ahead, false)
	if ahead := w.c.Now().Sub(begin.Add(day)); ahead > defaultMaxJump+day/drift+time.Minute {
		t.Errorf("the server's time is %v ahead after a day", ahead)
	}
}

// Off for three months: one word, and what happened before and since has its right age, to the nanosecond.
func TestAfterAConfirmationEverythingHasItsAge(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startBench(t)
			w.passes(2 * day)
			old := w.c.Now()
			w.passes(time.Minute)
			w.again(90 * day)
			w.is(Ahead, false)
			w.passes(time.Minute)
			first := w.c.Now()
			real := w.wall
			if again {
				w.again(10 * time.Second)
			}
			w.passes(2 * day)
			last := w.c.Now()
			realLast := w.wall
			if s, err := w.c.Confirm(w.c.State().Offset); err != nil || s.Status != Trusted {
				t.Fatalf("%+v, %v", s, err)
			}
			if _, err := w.c.Confirm(w.c.State().Offset); !errors.Is(err, ErrTrusted) {
				t.Errorf("a second time: %v", err)
			}
			w.at(w.wall, 0)
			for range 2 { // and after another restart
				for _, c := range []struct {
					at, really time.Time
				}{{old, old}, {first, real}, {last, realLast}, {w.c.Now(), w.wall}} {
					if got := w.c.Settled(c.at); got.Sub(c.really).Abs() > time.Minute || got.Before(c.really.Add(-11*time.Second)) && !again {
						t.Errorf("%v settled at %v, want %v", c.at, got, c.really)
					}
					age := w.c.Now().Sub(w.c.Settled(c.at))
					if b := w.c.Before(age); b.Before(c.at) {
						t.Errorf("what is %v old at %v is not in what is before %v", age, c.at, b)
					}
					if b := w.c.Before(age + 1); !b.Before(c.at) {
						t.Errorf("what is %v old at %v is in what is a nanosecond older, before %v", age, c.at, b)
					}
				}
				w.stop()
				w.start(time.Time{})
				w.is(Trusted, false)
			}
		})
	}
}

// A clock at 1970 after a start, which something sets right an hour later: what happened in that hour is not taken for older.
func TestAClockThatIsFarBehindIsNotFollowedBack(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Minute)
	w.stop()
	w.off(day)
	right := w.wall
	w.wall = time.Unix(7, 0)
	w.start(time.Time{})
	w.is(Behind, false)
	w.at(right.Add(-day), time.Second)
	w.passes(time.Hour)
	w.at(right.Add(-day+time.Hour), time.Second)
	at := w.c.Now()
	w.wall = right.Add(time.Hour)
	w.c.Look()
	w.is(Trusted, false)
	w.at(w.wall, 0)
	if got := w.c.Settled(at); !got.Equal(w.wall) {
		t.Errorf("%v settled at %v, want %v", at, got, w.wall)
	}
	if got := w.c.Settled(at.Add(-2 * time.Hour)); !got.Equal(at.Add(-2 * time.Hour)) {
		t.Errorf("before the start: %v", got)
	}
}

// A clock that was a day ahead and is set right: the server's time waits for it at half speed.
func TestTheServersTimeWaitsForAClockThatWentBack(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.jumps(-day)
	w.is(Behind, true)
	was := w.c.Now()
	w.passes(day)
	w.at(was.Add(day/2), time.Minute)
	w.passes(day + 2*time.Minute)
	w.is(Trusted, false)
	w.at(w.wall, jitter)
	w.jumps(-20 * time.Minute) // less is not worth a word
	w.is(Trusted, false)
	w.passes(41 * time.Minute)
	w.at(w.wall, jitter)
}

// A clock that was years ahead from the first start on: nothing is destroyed sooner, and one word has time wait for it.
func TestAClockThatIsFarBehindCanBeConfirmed(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Minute)
	w.jumps(-100 * day)
	w.is(Behind, false)
	was := w.c.Now()
	w.passes(day)
	w.at(was.Add(day), 0)
	if s, err := w.c.Confirm(w.c.State().Offset); err != nil || !s.Slowed {
		t.Fatalf("%+v, %v", s, err)
	}
	was = w.c.Now()
	w.passes(day)
	w.at(was.Add(day/2), time.Minute)
	w.again(time.Hour)
	w.is(Behind, true)
	w.passes(199 * day)
	w.is(Trusted, false)
	w.at(w.wall, jitter)
	w.stop()
	w.start(time.Time{})
	if w.jumps(-100 * day); w.c.State().Slowed {
		t.Error("the confirmation outlived what it was for")
	}
}

// Without a record the audit log is asked; a record that was tampered with is no reason to believe anything.
func TestARecordThatIsMissingOrDamaged(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.stop()
	last := w.wall
	whole, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.off(4 * day)
	w.start(last)
	w.is(Ahead, false)
	w.at(last, 0)
	w.stop()

	for i := range whole {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 1
		if err := os.WriteFile(w.path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		w.wall = last.Add(time.Minute)
		w.start(last)
		if s := w.c.State(); s.Status != Ahead || !s.Damaged {
			t.Fatalf("with byte %d flipped: %+v", i, s)
		}
	}
	if s, err := w.c.Confirm(w.c.State().Offset); err != nil || s.Status != Trusted || s.Damaged {
		t.Errorf("%+v, %v", s, err)
	}
	w.at(w.wall, 0)
	w.stop()
	w.start(time.Time{})
	w.is(Trusted, false)
}

// Nothing becomes old by a time that is not on the disk.
func TestALeapThatCannotBeWrittenIsNotMade(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(90 * day)
	w.passes(time.Hour)
	was := w.c.Now()
	w.c.o.Path = filepath.Join(t.TempDir(), "nowhere", "clock")
	if _, err := w.c.Confirm(w.c.State().Offset); err == nil {
		t.Fatal("it was confirmed")
	}
	w.is(Ahead, false)
	w.at(was, 0)
	if len(w.c.past().leaps) != 0 {
		t.Error("a leap was noted")
	}
	w.c.o.Path = w.path
	w.confirms()
	w.at(w.wall, 0)
}

func TestSuspensionIsTimeThatPassed(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(50 * time.Hour)
	w.passes(time.Minute)
	w.sleeps(30 * time.Hour)
	if s := w.c.State(); s.Unproven != 20*time.Hour-time.Minute {
		t.Errorf("%+v", s)
	}
	w.sleeps(30 * day)
	w.is(Trusted, false)
	w.at(w.wall, 0)

	w.jumps(5 * time.Hour)
	w.again(time.Minute)
	w.is(Ahead, false)
	w.sleeps(10 * time.Hour)
	w.is(Ahead, false)
	w.jumps(-5 * time.Hour) // as right as before
	w.is(Trusted, false)
	w.at(w.wall, 0)
}

func TestCut(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, p := range []past{
		{},
		{known: at(30)},
		{leaps: []leap{{at(10), at(20), at(50)}, {at(50), at(60), at(65)}}}, // one begins where the other ends
		{leaps: []leap{{at(10), at(10), at(50)}, {at(50), at(50), at(65)}, {at(70), at(71), at(80)}}},
		{leaps: []leap{{at(10), at(20), at(50)}, {at(50), at(60), at(65)}}, known: at(5)},
		{leaps: []leap{{at(10), at(20), at(50)}, {at(50), at(60), at(65)}}, known: at(15)},
		{leaps: []leap{{at(10), at(20), at(50)}, {at(50), at(60), at(65)}}, known: at(57)},
		{leaps: []leap{{at(10), at(20), at(50)}, {at(50), at(60), at(65)}}, known: at(90)},
	} {
		for i := range 100 {
			// What is found must be the newest instant for which the definition holds.
			got := p.cut(at(i))
			for j := range 100 {
				if old := !p.settled(at(j)).After(at(i)); old != !at(j).After(got) {
					t.Errorf("%v: cut of %d is %v: what is of %d settled at %v", p, i, got.Unix(), j, p.settled(at(j)).Unix())
				}
			}
		}
	}
}

func TestRecordIsReadAsWritten(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 5) }
	r := remembered{now: at(100), wall: at(700), since: at(90), ahead: true, slow: true, doubt: true, known: at(33), leaps: []leap{{at(1), at(2), at(30)}, {at(30), at(31), at(40)}}}
	b := r.encode()
	got, err := decode(b)
	if err != nil || len(got.leaps) != 2 || got.leaps[1] != r.leaps[1] || got.now != r.now || got.wall != r.wall || got.since != r.since || !got.ahead || !got.slow || !got.doubt || !got.known.Equal(r.known) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := decode(b[:i]); err == nil {
			t.Errorf("%d of %d bytes were read", i, len(b))
		}
	}
	for _, bad := range []remembered{{}, {now: at(1), leaps: []leap{{at(3), at(2), at(9)}}}, {now: at(1), leaps: []leap{{at(3), at(4), at(4)}}}, {now: at(1), leaps: []leap{{at(3), at(4), at(9)}, {at(8), at(9), at(10)}}}} {
		if _, err := decode(bad.encode()); err == nil {
			t.Errorf("%+v was read", bad)
		}
	}
}
