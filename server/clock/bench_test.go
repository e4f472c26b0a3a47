package clock

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// must is for what cannot fail in a test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const day = 24 * time.Hour

// judge is a test, or one of the many runs of a test that draws them.
type judge interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// bench is a machine: its clock, what it counts, its disk, and a server on it.
type bench struct {
	t    judge
	wall time.Time // what its clock says
	// elapsed is what its processor counts while it is awake, slept what it was suspended for; both go on over restarts of the machine, which
	// is not what a machine does, and which nobody may rely on.
	elapsed, slept time.Duration
	// boot is the number of its start, and begun when that was, by elapsed and slept. 0: it does not tell.
	boot  uint64
	begun time.Duration
	full  bool // the disk
	new   bool // its state has no account
	quick bool // it does not sync
	puts  int  // tries to write a record
	// broken is what the disk says instead of the record, jammed instead of giving it another name; nil = it does.
	broken, jammed error
	held           func() // whoever asks for the time is held up by it, before they know what has passed

	log  *slog.Logger
	path string
	box  *record.Box
	c    *Clock
	last time.Time // what the audit log knows
	told []State
}

func newBench(t testing.TB) *bench {
	t.Helper()
	var key record.Key
	_, _ = rand.Read(key[:])
	box, err := record.NewBox(&key, record.AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), boot: 1, path: filepath.Join(t.TempDir(), "clock"), box: box}
}

// startBench is one on which a server was started for the first time.
func startBench(t testing.TB) *bench {
	t.Helper()
	w := newBench(t)
	w.start(time.Time{})
	return w
}

// other is another machine with the same keys, which shows the same time.
func (w *bench) other() *bench {
	return &bench{t: w.t, wall: w.wall, boot: w.boot + 1000, path: w.path + "-of-another", box: w.box}
}

var errFull, errDisk = errors.New("no space"), errors.New("input/output error")

// open is a server before anything judges the clock.
func (w *bench) open() *Clock {
	c := Open(Options{
		Log: w.log, Path: w.path, Box: w.box, Wall: func() time.Time { return w.wall }, Elapsed: w.passed, Count: w.count, New: w.new, read: w.read, move: w.move,
	})
	c.slept = func() time.Duration { return w.slept }
	c.put = func(path string, b []byte) error {
		if w.puts++; w.full {
			return errFull
		} else if w.quick {
			return os.WriteFile(path, b, 0o600)
		}
		return durable.WriteFile(path, b, 0o600)
	}
	return c
}

func (w *bench) passed() time.Duration {
	if f := w.held; f != nil {
		w.held = nil
		f()
	}
	return w.elapsed
}

func (w *bench) read(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && w.broken != nil && path == w.path {
		return nil, w.broken
	}
	return b, err
}

func (w *bench) move(from, to string) error {
	if w.jammed != nil {
		return w.jammed
	}
	return os.Rename(from, to)
}

func (w *bench) count() (c Count) {
	if w.boot > 0 {
		binary.BigEndian.PutUint64(c.Of[:], w.boot)
		c.Time = w.elapsed + w.slept - w.begun
	}
	return c
}

// start is a start of the server; last is what the audit log knows. Only look judges the clock, so that the test decides when. Without
// a stop before it the server was killed.
func (w *bench) start(last time.Time) {
	w.t.Helper()
	w.c, w.told = w.open(), nil
	w.c.begin(last)
	w.c.tell = func(s State) { w.told = append(w.told, s) }
	w.c.Look()
}

// stop is an orderly one.
func (w *bench) stop() {
	w.t.Helper()
	if err := w.c.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// again is a server that was stopped and comes back, after a while in which the machine was off.
func (w *bench) again(off time.Duration) {
	w.t.Helper()
	w.stop()
	w.off(off)
	w.start(time.Time{})
}

// passes lets time pass with the server running: the clock and the count go on together.
func (w *bench) passes(d time.Duration) {
	w.t.Helper()
	before := w.c.Now()
	for d > 0 {
		step := min(d, lookEvery)
		switch { // nothing happens in between
		case d > 20*day:
			step = day
		case d > time.Hour:
			step = time.Hour
		case d > time.Minute:
			step = time.Minute
		}
		d -= step
		w.idle(step)
		w.c.Look()
		if now := w.c.Now(); now.Before(before) {
			w.t.Fatalf("the server's time went back from %v to %v", before, now)
		} else {
			before = now
		}
	}
}

// jumps sets the clock.
func (w *bench) jumps(d time.Duration) { w.wall = w.wall.Add(d); w.c.Look() }

// sleeps suspends the machine.
func (w *bench) sleeps(d time.Duration) { w.wall, w.slept = w.wall.Add(d), w.slept+d; w.c.Look() }

// idle lets time pass with the machine on, and nobody who looks at its clock.
func (w *bench) idle(d time.Duration) { w.wall, w.elapsed = w.wall.Add(d), w.elapsed+d }

// off lets time pass with the machine off: it counts anew when it comes back, if it counts.
func (w *bench) off(d time.Duration) {
	w.idle(d)
	if w.begun = w.elapsed + w.slept; w.boot > 0 {
		w.boot++
	}
}

// confirms says that the clock is right.
func (w *bench) confirms() State {
	w.t.Helper()
	s, err := w.c.Confirm(w.c.State().Offset)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *bench) is(status Status, slowed bool) {
	w.t.Helper()
	if s := w.c.State(); s.Status != status || s.Slowed != slowed || (s.Since.IsZero() != (status == Trusted)) {
		w.t.Fatalf("the clock is %+v, want %s, slowed %v", s, status, slowed)
	}
}

// at wants the server's time.
func (w *bench) at(want time.Time, within time.Duration) {
	w.t.Helper()
	if d := w.c.Now().Sub(want).Abs(); d > within {
		w.t.Fatalf("the server's time is %v, want %v", w.c.Now(), want)
	}
}
