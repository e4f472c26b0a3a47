package retention

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/record"
	"sallyport/server/clock"
)

// machine has a clock that can be set: how far it is from the bubble's.
type machine struct {
	path string
	off  atomic.Int64 // a time.Duration
}

// boot is the clock of a server that starts.
func (m *machine) boot(t *testing.T) *clock.Clock {
	t.Helper()
	box, err := record.NewBox((*record.Key)([]byte("an unsafe test key of 32 bytes!!")), record.AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	c := clock.Open(clock.Options{Every: 5 * time.Minute, Path: m.path, Box: box, Wall: func() time.Time { return time.Now().Add(time.Duration(m.off.Load())) }, Elapsed: func() time.Duration { return time.Since(begin) }})
	c.Begin(time.Time{}, func(clock.State) {})
	return c
}

func TestAClockYearsAheadDestroysNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &machine{path: filepath.Join(t.TempDir(), "clock")}
		c := m.boot(t)
		s := newSite(t, Options{Clock: c}, "acme")
		s.set("backup.retention_days", "7")
		s.lose("acme", 1, 1000)
		later(3 * day)
		s.lose("acme", 1, 50)
		m.off.Store(int64(10 * 365 * day)) // the year 2010 of the bubble
		later(time.Hour)
		if n := s.history("acme"); n != 1050 || c.State().Status != clock.Ahead {
			t.Fatalf("%d bytes of history an hour later, want 1050; the clock is %+v", n, c.State())
		}
		s.lose("acme", 1, 7)
		later(4*day - 2*time.Hour)
		if n := s.history("acme"); n != 1057 {
			t.Errorf("%d bytes of history before their time, want 1057", n)
		}
		later(2 * time.Hour) // and what has had its time goes meanwhile
		if n := s.history("acme"); n != 57 {
			t.Errorf("%d bytes of history after the time of the first, want 57", n)
		}
		s.set("backup.retention_days", "96h30m") // as does what policy lets go
		later(time.Minute)
		if n := s.history("acme"); n != 7 {
			t.Errorf("%d bytes of history a minute after a shorter retention, want 7", n)
		}
		m.off.Store(int64(0))
		s.set("backup.retention_days", "7")
		later(6 * time.Minute)
		s.lose("acme", 1, 300)
		if n := s.history("acme"); n != 307 || c.State().Status != clock.Trusted {
			t.Errorf("%d bytes after the clock was set right, want 307; it is %+v", n, c.State())
		}
		later(3*day - time.Hour)
		if n := s.history("acme"); n != 307 {
			t.Errorf("%d bytes before the time of what went while the clock was wrong, want 307", n)
		}
		later(2 * time.Hour)
		if n := s.history("acme"); n != 300 {
			t.Errorf("%d bytes after it, want 300", n)
		}
		s.end()
		s.must(c.Close())
	})
}

// A server that was off for three months, and one whose clock only says so: they look alike, until somebody says which it is.
func TestAServerThatWasOffForMonthsPurgesWhenThatIsConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &machine{path: filepath.Join(t.TempDir(), "clock")}
		c := m.boot(t)
		s := newSite(t, Options{Clock: c}, "acme", "held")
		s.set("backup.retention_days", "7")
		_, err := s.policy.Hold(t.Context(), "held", "", "case", "test")
		s.must(err)
		s.lose("acme", 1, 1000)
		s.lose("held", 1, 20)
		later(day)
		s.must(s.k.Close())
		s.must(c.Close())
		s.must(s.fs.Close())
		time.Sleep(90 * day)

		c = m.boot(t)
		s.reopen(Options{Clock: c})
		later(time.Hour)
		s.lose("acme", 1, 50)
		later(day)
		if n := s.history("acme"); n != 1050 {
			t.Fatalf("%d bytes of history before anybody confirmed the clock, want 1050", n)
		}
		before := c.Now()
		if _, err := c.Confirm(c.State().Offset); err != nil {
			t.Fatal(err)
		}
		if leapt := c.Now().Sub(before); leapt < 89*day || leapt > 91*day {
			t.Errorf("the server's time leapt by %v", leapt)
		}
		later(time.Minute)
		if n := s.history("acme"); n != 50 {
			t.Errorf("%d bytes of history a minute after it, want 50", n)
		}
		s.lose("acme", 1, 3)
		later(6*day - time.Hour) // 50 bytes were deleted a day before the confirmation
		if n := s.history("acme"); n != 53 {
			t.Errorf("%d bytes of history before the time of what was deleted since the start, want 53", n)
		}
		later(2 * time.Hour)
		if n := s.history("acme"); n != 3 {
			t.Errorf("%d bytes of history after it, want 3", n)
		}
		later(day)
		if n, held := s.history("acme"), s.history("held"); n != 0 || held != 20 {
			t.Errorf("%d and %d bytes of history in the end, want none and what is held", n, held)
		}
		s.end()
		s.must(c.Close())
	})
}

// A clock at 1970 after a start, set right a day later: nothing goes sooner or later for it.
func TestAClockThatIsFarBehindMakesNothingOlderOrYounger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &machine{path: filepath.Join(t.TempDir(), "clock")}
		c := m.boot(t)
		s := newSite(t, Options{Clock: c}, "acme")
		s.set("backup.retention_days", "2")
		s.lose("acme", 1, 1000)
		later(time.Minute)
		s.must(s.k.Close())
		s.must(c.Close())
		s.must(s.fs.Close())
		time.Sleep(12 * time.Hour)

		m.off.Store(int64(-29 * 365 * day))
		c = m.boot(t)
		s.reopen(Options{Clock: c})
		s.lose("acme", 1, 50)
		later(time.Hour)
		if c.State().Status != clock.Behind {
			t.Fatalf("the clock is %+v", c.State())
		}
		m.off.Store(int64(0))
		later(35*time.Hour - 10*time.Minute)
		if n := s.history("acme"); n != 1050 {
			t.Errorf("%d bytes of history before the time of the first, want 1050", n)
		}
		later(20 * time.Minute)
		if n := s.history("acme"); n != 50 {
			t.Errorf("%d bytes of history after it, want 50", n)
		}
		later(12*time.Hour - 20*time.Minute)
		if n := s.history("acme"); n != 50 {
			t.Errorf("%d bytes of history before the time of the second, want 50", n)
		}
		later(20 * time.Minute)
		if n := s.history("acme"); n != 0 {
			t.Errorf("%d bytes of history in the end", n)
		}
		s.end()
		s.must(c.Close())
	})
}

// What another policy would destroy is counted by the same time.
func TestPlansGoByTheTimeThatIsBelieved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &machine{path: filepath.Join(t.TempDir(), "clock")}
		c := m.boot(t)
		s := newSite(t, Options{Clock: c}, "acme")
		s.set("backup.retention_days", "30")
		s.lose("acme", 2, 1000)
		later(10 * day)
		m.off.Store(int64(100 * day))
		later(6 * time.Minute)
		for days, want := range map[string]int{"11": 0, "9": 1} {
			doc, err := s.policy.Current().Document.Set("site", "backup.retention_days", days)
			s.must(err)
			r := *s.policy.Current()
			r.Document = doc
			list, err := s.k.WouldPurge(t.Context(), &r)
			s.must(err)
			if len(list) != want {
				t.Errorf("%s days: %+v", days, list)
			}
		}
		s.end()
		s.must(c.Close())
	})
}
