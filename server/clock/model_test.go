package clock

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/crypto/record"
)

// model is what may be known of a server's time by who sees all of the machine, and nothing of how the server decides.
type model struct {
	*bench
	real time.Time // the time that a right clock would show
	rt   *rapid.T

	bound time.Time // the server's time is not later: what was believed last without doubt, twice what was counted since, and MaxOff
	// What the clock may reach until the machine is started again: from the first one that was believed since its start. Zero if none was,
	// or nobody knows any more, because a full disk forgot it.
	base  time.Time
	given time.Time // the latest that the server said in this run
	// straight is what the server's time would be if it had never slowed down, which a run may not know that was killed beside a full disk.
	straight time.Time
	doubt    bool // the record could not be read, and nobody has said anything since
	early    []moment

	fork    []byte // the record beside which the machine was brought back from a snapshot
	hidden  bool   // the disk does not give the record that is there
	doubted bool   // what doubt was when it went
	late    bool   // a record was taken up late: only the server knows which clock it was that it believed first
}

// moment is what the server's time was when nobody knew how wrong it is, and what a right clock would have shown.
type moment struct{ at, real time.Time }

// run is time that the machine counts.
func (m *model) run(d time.Duration) {
	m.idle(d)
	m.counted(d)
}

func (m *model) counted(d time.Duration) {
	m.real = m.real.Add(d)
	m.bound, m.straight = m.bound.Add(2*d), m.straight.Add(d)
	if !m.base.IsZero() {
		m.base = m.base.Add(d + d/drift + 1)
	}
}

// looked is after each look: what must be true then.
func (m *model) looked() {
	m.rt.Helper()
	now, s := m.c.Now(), m.c.State()
	if m.hidden && s.Unread == "" {
		m.hidden, m.doubt, m.late = false, m.doubted, true
	}
	switch {
	case now.Before(m.given):
		m.rt.Fatalf("the server's time went back from %v to %v", m.given, now)
	case now.After(m.bound.Add(jitter)):
		m.rt.Fatalf("the server's time is %v, more than is counted and may be believed, %v: %+v", now, m.bound, s)
	case !m.base.IsZero() && now.After(m.base.Add(defaultMaxJump)):
		m.rt.Fatalf("the server's time is %v, more than the machine counts, %v: %+v", now, m.base, s)
	}
	m.given = now
	if now.After(m.straight) {
		m.straight = now
	}
	if most := m.straight.Add(defaultMaxOff); most.Before(m.bound) {
		m.bound = most
	}
	if m.base.IsZero() && !m.late && s.Status == Trusted && s.Offset <= jitter && s.Offset >= -jitter {
		m.base = now
	}
	switch ahead := s.Wall.Sub(now); {
	case s.Unwritten && !m.full:
		// It is tried again within a minute.
	case s.Status == Trusted && (ahead > smallLeap+jitter || ahead < -defaultMaxJump-jitter):
		m.rt.Fatalf("the clock is trusted, and is not followed: %+v", s)
	case s.Status == Ahead && !s.Damaged && ahead < 0:
		m.rt.Fatalf("a clock that is behind is called ahead: %+v", s)
	case s.Status == Behind && ahead > 0:
		m.rt.Fatalf("a clock that is ahead is called behind: %+v", s)
	case s.Since.IsZero() != (s.Status == Trusted):
		m.rt.Fatalf("%+v", s)
	}
	switch {
	case m.doubt && (s.Status != Ahead || !s.Damaged):
		m.rt.Fatalf("the record was damaged, and the clock is %+v", s)
	case m.full || m.c.saving.wait > 0: // since when the clock is not believed may be forgotten, until the next try succeeds
		m.early = nil
	case s.Status != Trusted:
		if m.early = append(m.early, moment{now, m.real}); len(m.early) > 400 {
			i := 0
			m.early = slices.DeleteFunc(m.early, func(moment) bool { i++; return i%2 == 0 })
		}
	case !m.wall.Equal(m.real): // a clock that lies a little, or was confirmed: nobody can know
		m.early = nil
	default: // now and ever after, whatever becomes of the record
		for _, e := range m.early {
			if got := m.c.Settled(e.at); got.Before(e.real.Add(-2 * smallLeap)) {
				m.rt.Fatalf("what happened at %v, and was given the instant %v, is taken to be of %v: %+v", e.real, e.at, got, m.c.past())
			}
		}
	}
	if b := m.c.Before(day); b.After(now.Add(-day)) {
		m.rt.Fatalf("what is before %v is a day old at %v", b, now)
	}
}

// begins is a start of the server.
func (m *model) begins(forgotten bool) {
	last := m.given
	m.given = time.Time{} // of a run: a machine that was off takes up to a minute
	if forgotten {
		m.base = time.Time{}
	}
	m.start(last)
	m.looked()
}

// confirmed is what one word does: the clock is followed, now and by who comes after a crash.
func (m *model) confirmed() {
	was := m.c.State()
	s, err := m.c.Confirm(was.Offset)
	nothing := was.Status == Trusted || was.Slowed
	switch {
	case err == ErrTrusted && (nothing || was.Unwritten && !m.full), // the next try may be the one before the word
		(err == ErrTrusted || err == ErrMoved) && was.Unread != "" && m.broken == nil && !m.full:
		m.looked()
		return
	case m.full && err != nil:
		if now := m.c.State(); now.Status != was.Status || now.Now.Before(was.Now) || now.Slowed != was.Slowed {
			m.rt.Fatalf("a word that was not heard changed %+v to %+v", was, now)
		}
		return
	case err != nil || nothing || m.full:
		m.rt.Fatalf("%v: %+v, with a disk that is full %v", err, was, m.full)
	}
	m.bound, m.straight = s.Now.Add(defaultMaxOff), s.Now // what was believed before is answered for, too
	m.doubt, m.hidden, m.broken = false, false, nil
	if was.Status == Ahead && was.Offset >= 0 {
		if s.Status != Trusted || s.Now.Before(m.wall) {
			m.rt.Fatalf("%+v was confirmed, and is %+v", was, s)
		}
		m.base = s.Now
	} else if s.Status != Trusted && (!s.Slowed || !s.Confirmed) {
		m.rt.Fatalf("%+v was confirmed, and is %+v", was, s)
	}
	m.looked()
	if rapid.Bool().Draw(m.rt, "the power fails after it") {
		m.off(0)
		m.begins(true)
		if now := m.c.State(); now.Now.Before(s.Now) || now.Status == Ahead && m.wall.Sub(now.Now) > 0 || now.Slowed != s.Slowed && now.Status != Trusted && was.Status != Ahead {
			m.rt.Fatalf("%+v was confirmed, and a crash made it %+v", s, now)
		}
	}
}

func spans(most time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour, day}).Draw(t, "unit")
		return min(unit*time.Duration(rapid.IntRange(1, 90).Draw(t, "of them")), most)
	})
}

// Whatever clock, machine, disk and people do: the server's time never goes back, is never further than what was counted and may be
// believed, and one word makes it right. Nor does anything ever count as older than it is, whatever becomes of the record. A full disk
// may be tried as often as one likes here: for that there is TestALeapThatCannotBeWrittenIsTriedSeldom.
func TestWhateverHappensToTheClock(t *testing.T) {
	t.Parallel()
	path := newBench(t).path
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		_, _ = os.Remove(path), os.Remove(path+meanwhile)
		for _, name := range must(Aside(path)) {
			_ = os.Remove(filepath.Join(filepath.Dir(path), name))
		}
		b.t, b.path, b.quick = rt, path, true
		if rapid.Bool().Draw(rt, "the machine does not tell how long it is on") {
			b.boot = 0
		}
		m := &model{bench: b, rt: rt, real: b.wall, bound: b.wall.Add(defaultMaxOff)}
		m.begins(true)
		rt.Repeat(map[string]func(*rapid.T){
			"time passes": func(rt *rapid.T) {
				for d := spans(100*day).Draw(rt, "time"); d > 0; {
					step := max(min(d, time.Second), d/40)
					m.run(step)
					d -= step
					m.c.Look()
					m.looked()
				}
			},
			"the clock jumps": func(rt *rapid.T) {
				d := spans(90*day).Draw(rt, "by")
				if rapid.Bool().Draw(rt, "back") {
					d = -d
				}
				m.wall = m.wall.Add(d)
				m.c.Look()
				m.looked()
			},
			"the clock is set right": func(*rapid.T) {
				m.wall = m.real
				m.c.Look()
				m.looked()
			},
			"the machine sleeps": func(rt *rapid.T) {
				d := spans(40*day).Draw(rt, "time")
				m.wall, m.slept = m.wall.Add(d), m.slept+d
				m.counted(d)
				m.c.Look()
				m.looked()
			},
			"somebody who asks is held up":   func(rt *rapid.T) { m.asks(rt, 3); m.c.Look(); m.looked() },
			"the disk gives the record":      func(*rapid.T) { m.broken = nil },
			"the disk":                       func(rt *rapid.T) { m.full = rapid.Bool().Draw(rt, "is full") },
			"the server restarts":            func(*rapid.T) { m.restarts() },
			"somebody says that it is right": func(*rapid.T) { m.confirmed() },
		})
		// And in the end, one word for a clock that is right.
		m.full, m.broken, m.wall = false, nil, m.real
		m.run(time.Minute)
		m.c.Look()
		m.looked()
		if s := m.c.State(); s.Status != Trusted && !s.Slowed {
			m.confirmed()
			m.c.Look()
		}
		behind := m.c.Now().Sub(m.wall)
		for range 50 { // no look may be late: time that runs at half speed is judged by each
			m.run(max(behind/20, 2*time.Second))
			m.c.Look()
			m.looked()
		}
		if s := m.c.State(); s.Status != Trusted || s.Offset.Abs() > jitter {
			rt.Fatalf("the clock is right, and the server's time is not: %+v", s)
		}
	})
}

// restarts ends the server in some way, and begins another one on the same or another start of the machine.
func (m *model) restarts() {
	was, alright := m.c.State(), m.wall.Equal(m.real)
	// Less than a second of sleep is counted with the next, though the clock is followed over it: what is left of that is no error of a restart.
	if rapid.IntRange(0, 3).Draw(m.rt, "it sleeps before that if 0, and nobody looks") == 0 && m.slept == m.c.now.Load().slept {
		d := spans(40*day).Draw(m.rt, "time")
		m.wall, m.slept = m.wall.Add(d), m.slept+d
		m.counted(d)
	}
	kept := !rapid.Bool().Draw(m.rt, "killed") && m.c.Close() == nil
	stays, counts, right := m.boot > 0 && rapid.Bool().Draw(m.rt, "the machine stays on"), true, rapid.Bool().Draw(m.rt, "and the clock is right")
	d := spans(40*day).Draw(m.rt, "time")
	if stays {
		m.run(d)
		if rapid.Bool().Draw(m.rt, "it is brought back from a snapshot") {
			m.begun += time.Duration(rapid.Float64Range(0, 1).Draw(m.rt, "how far") * float64(m.count().Time))
			counts = false
			if m.unsaved() {
				m.fork, _ = os.ReadFile(m.path)
			}
		}
	} else {
		m.off(d)
		up := spans(40*day).Draw(m.rt, "the machine is on before the server")
		m.idle(up)
		m.real = m.real.Add(d + up)
	}
	if right {
		m.wall = m.real
	}
	unsaved := m.unsaved()
	if unsaved {
		m.late = false
	}
	lost := m.loses()
	m.begins(unsaved || lost)
	switch s := m.c.State(); {
	case m.doubt || !kept || lost:
	case was.Status == Ahead && !was.Unwritten && !right && s.Status != Ahead:
		m.rt.Fatalf("a restart made %+v into %+v", was, s)
	case was.Status == Trusted && was.Offset.Abs() <= jitter && stays && counts && alright && right && (s.Status != Trusted || s.Offset.Abs() > jitter):
		m.rt.Fatalf("the machine has counted %v, and a restart made %+v into %+v", d, was, s)
	}
}

// loses has something happen to the record, now and then.
func (m *model) loses() bool {
	kind := rapid.SampledFrom([]string{"", "", "", "", "damaged", "newer", "missing", "unreadable"}).Draw(m.rt, "the record is")
	if _, err := os.Stat(m.path); kind == "" || m.hidden || err != nil {
		return m.hidden
	}
	var err error
	switch kind {
	case "damaged":
		err = os.WriteFile(m.path, []byte("no record"), 0o600)
		m.doubt = true
	case "newer":
		err = os.WriteFile(m.path, m.box.Seal(nil, record.DomainClock, []byte(recordPlace), []byte{recordVersion + 1, 0}), 0o600)
		m.doubt = true
	case "unreadable":
		m.broken, m.hidden, m.doubted, m.doubt = errDisk, true, m.doubt, true
	case "missing": // what the last run said is believed then, and all that may be believed of a clock
		err = os.Remove(m.path)
		m.bound, m.straight = later(m.bound, m.given.Add(defaultMaxOff)), later(m.straight, m.given)
		_, none := os.Stat(m.path + meanwhile)
		m.doubt = none == nil
	}
	if err != nil {
		m.rt.Fatal(err)
	}
	return true
}

// asks is somebody who asks for the time and is held up while anything happens to the clock, and others ask.
func (m *model) asks(rt *rapid.T, deep int) {
	m.held = func() {
		for range rapid.IntRange(0, 3).Draw(rt, "things happen") {
			switch rapid.IntRange(0, 4).Draw(rt, "of kind") {
			case 0:
				m.run(spans(90*time.Microsecond).Draw(rt, "time")) // less than what no word is said about
			case 1:
				m.wall = m.wall.Add(-spans(100*time.Hour).Draw(rt, "back by"))
			case 2:
				m.wall = m.wall.Add(spans(2*time.Hour).Draw(rt, "ahead by"))
			case 3:
				m.c.Look()
				m.looked() // what is believed now, if only for a moment, counts: a clock that lies may just agree with the server's time
			default:
				if deep > 0 {
					m.asks(rt, deep-1)
				}
			}
		}
	}
	now := m.c.Now()
	m.held = nil
	if now.Before(m.given) {
		rt.Fatalf("somebody was told %v, and then another %v", m.given, now)
	}
	m.given = now
}

// unsaved says whether the record does not tell which clock was believed first since the machine was started.
func (m *model) unsaved() bool {
	sealed, err := os.ReadFile(m.path)
	if err != nil {
		return true
	}
	if bytes.Equal(sealed, m.fork) { // its count is of a future that did not come
		return true
	}
	r, err := m.c.open(sealed)
	at := m.count()
	return err != nil || r.base.IsZero() || r.count.Of != at.Of || r.count.Time > at.Time || m.boot == 0
}
