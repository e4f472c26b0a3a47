package clock

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/record"
)

// faults are the ways in which a record is there and cannot be used.
var faults = map[Unread]func(*bench){
	Unreadable: func(w *bench) { w.broken = &fs.PathError{Op: "read", Path: w.path, Err: syscall.EIO} },
	Damaged:    func(w *bench) { w.replace(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) },
	Newer: func(w *bench) {
		w.replace(func([]byte) []byte {
			return w.box.Seal(nil, record.DomainClock, []byte(recordPlace), append([]byte{recordVersion + 1}, make([]byte, 90)...))
		})
	},
}

// replace changes what is in the place of the record.
func (w *bench) replace(f func([]byte) []byte) {
	w.t.Helper()
	b, err := os.ReadFile(w.path)
	if err == nil {
		err = os.WriteFile(w.path, f(b), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// leapt is a server with a leap: what it gave the instant at happened at really, 90 days later. It was stopped, and its machine is on.
func leapt(t *testing.T) (w *bench, at, really time.Time) {
	t.Helper()
	w = startBench(t)
	w.again(90 * day)
	w.passes(time.Hour)
	at, really = w.c.Now(), w.wall
	w.confirms()
	w.passes(time.Hour)
	w.last = w.c.Now()
	w.stop()
	return w, at, really
}

// young says that nothing that happened at really, or before, counts as older than it is, and that retention destroys none of it.
func (w *bench) young(at, really time.Time) {
	w.t.Helper()
	if got := w.c.Settled(at); got.Before(really) {
		w.t.Fatalf("what happened at %v is taken to be of %v: %+v", really, got, w.c.State())
	}
	for _, keep := range []time.Duration{time.Hour, day, 30 * day} {
		if b := w.c.Before(w.c.Now().Sub(really) + keep); b.After(at) {
			w.t.Fatalf("what is before %v is taken to be older than it is, by %v", b, keep)
		}
	}
}

func TestNothingIsOlderBecauseTheRecordCannotBeRead(t *testing.T) {
	t.Parallel()
	for kind, fault := range faults {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w, at, really := leapt(t)
			whole := must(os.ReadFile(w.path))
			fault(w)
			bad := must(os.ReadFile(w.path))
			w.start(w.last)
			check := func(when string) {
				t.Helper()
				if s := w.c.State(); s.Unread != kind || s.Cause == "" || !s.Damaged || s.Status != Ahead || s.Known.IsZero() {
					t.Fatalf("%s: %+v", when, s)
				}
				w.young(at, really)
				if now, err := os.ReadFile(w.path); err != nil || !bytes.Equal(now, bad) {
					t.Fatalf("%s: what could not be read was overwritten: %v", when, err)
				}
			}
			check("at the start")
			w.passes(2 * time.Hour)
			check("after two hours")
			if n := len(w.told); n != 1 {
				t.Errorf("told %+v", w.told)
			}
			waited := w.c.Now()
			w.start(w.last) // killed
			check("after a crash")
			w.at(waited, 0)
			w.stop()
			w.start(w.last)
			check("after a stop")
			waited, happened := w.c.Now(), w.wall

			// It can be read again: all is as before, and what happened meanwhile has its age.
			if err := os.WriteFile(w.path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			w.broken = nil
			w.passes(2 * retryLast)
			if s := w.c.State(); s.Unread != "" || s.Damaged || s.Status != Trusted || !s.Known.IsZero() {
				t.Fatalf("it can be read again: %+v", s)
			}
			w.at(w.wall, jitter)
			if got := w.c.Settled(at); !got.Equal(really) {
				t.Errorf("what happened at %v is taken to be of %v", really, got)
			}
			w.young(waited, happened)
			if _, err := os.Stat(w.path + meanwhile); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what was noted meanwhile is still there: %v", err)
			}
			w.again(time.Hour)
			w.is(Trusted, false)
		})
	}
}

// A word ends it: the record is put aside whole, nothing counts as older than it is, and dates are ages only after another word.
func TestAWordPutsAsideWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for kind, fault := range faults {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w, at, really := leapt(t)
			fault(w)
			bad := must(os.ReadFile(w.path))
			w.start(w.last)
			w.passes(time.Hour)
			for range 2 { // two of a second do not take each other's place
				w.confirms()
				names := must(Aside(w.path))
				if got := must(os.ReadFile(filepath.Join(filepath.Dir(w.path), names[0]))); !bytes.Equal(got, bad) {
					t.Fatal("it is not kept as it was")
				}
				w.is(Trusted, false)
				w.young(at, really)
				w.broken = nil
				w.again(time.Minute)
				w.is(Trusted, false)
				w.young(at, really)
				if n := len(must(Aside(w.path))); n != len(names) {
					t.Errorf("%d are put aside, and were %d", n, len(names))
				}
				w.wall = w.wall.Add(-time.Minute)
				w.stop()
				fault(w)
				w.start(w.last)
			}
			w.confirms()
			known := w.c.State().Known
			if _, err := w.c.Forget(known.Add(-1)); err != ErrMoved {
				t.Errorf("what nobody saw was forgotten: %v", err)
			}
			if s, err := w.c.Forget(known); err != nil || !s.Known.IsZero() {
				t.Fatalf("%+v, %v", s, err)
			}
			if _, err := w.c.Forget(known); err != ErrKnown {
				t.Errorf("a second time: %v", err)
			}
			if got := w.c.Settled(at); !got.Equal(at) {
				t.Errorf("%v counts as of %v", at, got)
			}
			w.broken = nil
			w.again(time.Minute)
			if s := w.c.State(); !s.Known.IsZero() {
				t.Errorf("after a restart: %+v", s)
			}
		})
	}
}

// Each step of putting it aside may fail, and the server may be killed after it: the record is never gone, no word is half heard, and whoever
// comes next knows that there was one.
func TestEachStepOfPuttingAsideMayFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ jam, full, never bool }{
		"the other name":               {jam: true},
		"the new record":               {full: true},
		"all, and nothing was noted":   {full: true, never: true},
		"the name, and nothing was so": {jam: true, full: true, never: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, at, really := leapt(t)
			faults[Damaged](w)
			bad := must(os.ReadFile(w.path))
			w.full = c.never
			w.start(w.last)
			w.passes(time.Hour)
			if w.full = c.full; c.jam {
				w.jammed = errDisk
			}
			was := w.c.State()
			if _, err := w.c.Confirm(was.Offset); err == nil {
				t.Fatal("it was confirmed")
			}
			if s := w.c.State(); s.Status != Ahead || !s.Damaged || s.Known != was.Known {
				t.Errorf("%+v was not confirmed, and is %+v", was, s)
			}
			kept := func() (found bool) {
				for _, name := range append(must(Aside(w.path)), filepath.Base(w.path)) {
					got, err := os.ReadFile(filepath.Join(filepath.Dir(w.path), name))
					found = found || err == nil && bytes.Equal(got, bad)
				}
				return found
			}
			if !kept() {
				t.Error("what could not be read is gone")
			}
			w.start(w.last) // killed
			if s := w.c.State(); s.Status != Ahead || !s.Damaged || s.Known.IsZero() {
				t.Errorf("the next start says %+v", s)
			}
			w.young(at, really)
			w.full, w.jammed = false, nil
			w.passes(2 * retryLast)
			w.confirms()
			w.young(at, really)
			if !kept() {
				t.Error("what could not be read is gone")
			}
			w.again(time.Minute)
			w.is(Trusted, false)
			w.young(at, really)
		})
	}
}

// What can be read again while somebody gives it up is not given up, and what cannot be gone on from durably is not gone on from.
func TestARecordThatIsReadAgainIsTakenUpWhole(t *testing.T) {
	t.Parallel()
	w, at, really := leapt(t)
	w.idle(3 * day) // the machine counts it
	faults[Unreadable](w)
	w.start(w.last)
	w.passes(time.Hour)
	waited, happened := w.c.Now(), w.wall
	known := w.c.State().Known
	w.broken, w.full = nil, true
	w.passes(2 * retryLast)
	if s := w.c.State(); s.Unread == "" || !s.Damaged {
		t.Fatalf("it was gone on from, and nothing is on the disk: %+v", s)
	}
	w.full = false
	if _, err := w.c.Forget(known); err != ErrKnown {
		t.Errorf("it was forgotten: %v", err)
	}
	w.c.Look()
	w.is(Trusted, false)
	w.at(w.wall, jitter)
	if got := w.c.Settled(at); !got.Equal(really) {
		t.Errorf("what happened at %v is taken to be of %v", really, got)
	}
	w.young(waited, happened)
	if n := len(must(Aside(w.path))); n != 0 {
		t.Errorf("%d are put aside", n)
	}
}

// The machine was off, too, and the record of its last run comes back late: what happened meanwhile is as young as it is, whether the clock
// is believed then or confirmed.
func TestWhatHappenedBeforeTheRecordWasReadHasItsAge(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"believed": 50 * time.Hour, "confirmed": 50 * day} {
		for _, again := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, at, really := leapt(t)
				w.off(off)
				faults[Unreadable](w)
				w.start(w.last)
				w.passes(time.Hour)
				waited, happened := w.c.Now(), w.wall
				w.broken = nil
				if again {
					w.again(time.Minute)
				}
				w.passes(2 * retryLast)
				if w.c.State().Status != Trusted {
					w.confirms()
				}
				w.at(w.wall, jitter)
				w.young(at, really)
				w.young(waited, happened)
			})
		}
	}
}

// A record that somebody removed was there. Who has no account has nothing that could be too old.
func TestAMissingRecordMakesNothingOlder(t *testing.T) {
	t.Parallel()
	w, at, really := leapt(t)
	last := w.wall
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.again2(50*time.Hour, last)
	w.is(Trusted, false)
	w.young(at, really)
	w.young(last, w.wall) // nobody knows how far behind the clock the last run was
	w.again(time.Hour)
	w.young(at, really)

	w.new = true
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.start(w.wall)
	if s := w.c.State(); s.Status != Trusted || !s.Known.IsZero() {
		t.Errorf("of a state without accounts: %+v", s)
	}
}

// again2 is a start after the machine was off, with what the audit log knows.
func (w *bench) again2(off time.Duration, last time.Time) {
	w.t.Helper()
	w.off(off)
	w.start(last)
}

// A record from a copy, or from before a snapshot, lacks what the state has seen since.
func TestARecordThatIsOlderThanTheStateMakesNothingOlder(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.passes(time.Hour)
	w.stop()
	old := must(os.ReadFile(w.path))
	w.off(90 * day)
	w.start(time.Time{})
	w.passes(time.Hour)
	at, really := w.c.Now(), w.wall
	w.confirms()
	w.passes(time.Minute)
	last := w.c.Now()
	w.stop()
	if err := os.WriteFile(w.path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	w.off(time.Hour)
	w.start(last)
	w.young(at, really)
	w.is(Ahead, false)
	w.confirms()
	w.young(at, really)
	if s := w.c.State(); s.Known.IsZero() || s.Known.After(s.Now) {
		t.Errorf("%+v", s)
	}
	w.again(time.Minute)
	w.young(at, really)

	// What a crash takes is no more than a minute, and no leap.
	w.passes(saveEvery - time.Second)
	known, last := w.c.State().Known, w.c.Now()
	w.off(0)
	w.start(last)
	if s := w.c.State(); s.Known != known {
		t.Errorf("a crash made %v %v", known, s.Known)
	}
}

// What a state notes while its record cannot be read may be damaged, too.
func TestWhatWasNotedMeanwhileMayBeLostToo(t *testing.T) {
	t.Parallel()
	w, at, really := leapt(t)
	faults[Unreadable](w)
	w.start(w.last)
	w.passes(time.Hour)
	waited, happened := w.c.Now(), w.wall
	w.stop()
	if err := os.WriteFile(w.path+meanwhile, []byte("no record"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.broken = nil
	w.off(40 * time.Hour)
	w.start(waited)
	w.is(Trusted, false)
	w.at(w.wall, jitter)
	w.young(at, really)
	w.young(waited, happened)
}

// The oldest leap is forgotten when there are too many, and what it was about is younger for it, not older.
func TestWhatAForgottenLeapWasAboutIsNotOlder(t *testing.T) {
	t.Parallel()
	var p past
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for i := range maxLeaps + 3 {
		p.add(leap{at(100 * i), at(100*i + 10), at(100*i + 90)})
	}
	if len(p.leaps) != maxLeaps || !p.known.Equal(at(290)) {
		t.Fatalf("%d leaps, known since %v", len(p.leaps), p.known.Unix())
	}
	for i := range 291 {
		if got := p.settled(at(i)); !got.Equal(at(290)) {
			t.Errorf("%d settled at %d", i, got.Unix())
		}
	}
}

// A disk that takes half a minute to say that it is full, twice: the record has the time of its count, and a restart loses none.
func TestARecordHasTheTimeOfItsCount(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.jumps(90 * day)
	put, tries := w.c.put, 0
	w.c.put = func(path string, b []byte) error {
		if tries++; tries < 3 {
			w.idle(40 * time.Second)
			return errFull
		}
		return put(path, b)
	}
	w.wall = w.wall.Add(-89 * day)
	w.c.Look()
	w.wall = w.wall.Add(89 * day)
	offset := w.c.State().Offset
	for {
		if _, err := w.c.Confirm(offset); err == nil {
			break
		}
	}
	if tries < 3 {
		t.Fatalf("%d tries: the test shows nothing", tries)
	}
	w.at(w.wall, 0)
	w.start(time.Time{}) // killed
	w.at(w.wall, 0)
}

// A judgement may be older than the record of it: what passed in between is in both the time and the count, or a restart takes it off or adds it twice.
func TestAnOldJudgementHasTheTimeOfItsCount(t *testing.T) {
	t.Parallel()
	w := startBench(t)
	w.again(time.Minute)
	j := *w.c.now.Load()
	before := w.c.remember(&j)
	w.idle(40 * time.Second)
	after := w.c.remember(&j)
	passed, same := after.count.since(before.count)
	if !same || passed != 40*time.Second || after.now.Sub(before.now) != passed || after.wall.Sub(before.wall) != passed {
		t.Errorf("counted %v (%v), and the time went on by %v, the clock by %v", passed, same, after.now.Sub(before.now), after.wall.Sub(before.wall))
	}
}

// The word of an operator answers for the clock, and for what was believed of it before, whichever way it is wrong.
func TestAConfirmationEndsWhatIsNotProven(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 100 * day, "behind": -100 * day} {
		w := startBench(t)
		w.again(50 * time.Hour)
		w.jumps(by)
		if s := w.confirms(); s.Unproven != 0 {
			t.Errorf("%s: %+v", name, s)
		}
		w.again(time.Minute)
		if s := w.c.State(); s.Unproven > time.Minute {
			t.Errorf("%s, after a restart: %+v", name, s)
		}
	}
}

// What is kept has a name that says what it is, and no start takes it for rubbish.
func TestWhatIsPutAsideStays(t *testing.T) {
	t.Parallel()
	w, _, _ := leapt(t)
	faults[Damaged](w)
	w.start(w.last)
	w.confirms()
	was := must(Aside(w.path))
	if len(was) != 1 || !strings.HasPrefix(was[0], "clock.unread-2026") {
		t.Fatalf("%q", was)
	}
	w.again(time.Hour)
	if now := must(Aside(w.path)); len(now) != 1 || now[0] != was[0] {
		t.Errorf("%q", now)
	}
}
