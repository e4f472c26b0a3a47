package retention

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

const day = 24 * time.Hour

// site is a policy and volumes as the server has them, in a bubble whose clock is that of everything.
type site struct {
	t      *testing.T
	dir    string
	ring   *keyring.Keyring
	policy *policydb.DB
	fs     *vfs.FS
	k      *Keeper
	ids    map[string]keyring.AccountID
}

func newSite(t *testing.T, o Options, names ...string) *site {
	t.Helper()
	s := &site{t: t, ids: map[string]keyring.AccountID{}}
	dir := t.TempDir()
	s.dir = dir
	key, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	s.must(err)
	s.ring, err = keyring.Create(t.Context(), dir, key)
	s.must(err)
	box, err := s.ring.Policy()
	s.must(err)
	nameBox, err := s.ring.Names()
	s.must(err)
	s.policy, err = policydb.Open(t.Context(), policydb.Options{Path: filepath.Join(dir, "policy.db"), Box: box, Token: s.ring.PolicyToken, Names: nameBox, NameToken: s.ring.NameToken, PasswordCost: bcrypt.MinCost})
	s.must(err)
	s.open(o)
	for _, name := range names {
		s.add(name)
	}
	o.Policy, o.Volumes = s.policy, s.fs
	s.k = Start(o)
	return s
}

func (s *site) open(o Options) {
	s.t.Helper()
	var err error
	s.fs, err = vfs.Open(s.t.Context(), vfs.Options{Now: o.Clock.Now, Dir: filepath.Join(s.dir, "accounts"), Keyring: s.ring, Holds: func(id keyring.AccountID) ([]string, error) {
		list, err := s.policy.Holds(id)
		var paths []string
		for _, h := range list {
			paths = append(paths, h.Path)
		}
		return paths, err
	}})
	s.must(err)
}

// reopen is another start of the server.
func (s *site) reopen(o Options) {
	s.t.Helper()
	s.open(o)
	o.Policy, o.Volumes = s.policy, s.fs
	s.k = Start(o)
}

// end is called in the bubble, so that no goroutine outlives it.
func (s *site) end() {
	s.must(s.k.Close())
	s.must(s.fs.Close())
	s.must(s.policy.Close())
	s.must(s.ring.Close())
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) add(name string) {
	s.t.Helper()
	id, err := s.ring.NewAccount(s.t.Context())
	s.must(err)
	s.must(s.fs.Create(s.t.Context(), id))
	_, err = s.policy.CreateAccount(s.t.Context(), policydb.NewAccount{Name: name, ID: id, Who: "test"})
	s.must(err)
	s.ids[name] = id
}

func (s *site) volume(name string) *vfs.Volume {
	s.t.Helper()
	v, err := s.fs.Volume(s.t.Context(), s.ids[name])
	s.must(err)
	return v
}

func (s *site) with(name string, fn func(w *vfs.View)) {
	s.t.Helper()
	w := s.volume(name).View(vfs.ViewOptions{Writer: "test"})
	fn(w)
	s.must(w.Close())
}

func (s *site) put(w *vfs.View, name string, size int) {
	s.t.Helper()
	f, err := w.OpenHandle(s.t.Context(), name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	s.must(err)
	_, err = f.Write(make([]byte, size))
	s.must(err)
	s.must(f.Close())
}

// lose makes n files and removes them.
func (s *site) lose(name string, n, size int) {
	s.t.Helper()
	s.with(name, func(w *vfs.View) {
		for i := range n {
			s.put(w, fmt.Sprintf("/f%d", i), size)
			s.must(w.Remove(fmt.Sprintf("/f%d", i)))
		}
	})
}

func (s *site) set(path, value string) {
	s.t.Helper()
	doc, err := s.policy.Current().Document.Set("site", path, value)
	s.must(err)
	_, err = s.policy.Apply(s.t.Context(), policydb.Change{Base: s.policy.Current().N, Text: doc.Text(), Who: "test", Why: "test"})
	s.must(err)
}

func (s *site) history(name string) uint64 { s.t.Helper(); return s.volume(name).Stats().HistoryBytes }

func (s *site) events(name string) (list []audit.Event) {
	s.t.Helper()
	s.must(s.volume(name).Drain(context.Background(), func(b []byte) error {
		e, err := audit.Decode(b)
		if e.Action == audit.Purge {
			list = append(list, e)
		}
		return err
	}))
	return list
}

// later lets time pass and the keeper do what it does in it.
func later(d time.Duration) { time.Sleep(d); synctest.Wait() } // of the bubble

func bubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, fn)
}

func TestWhatIsOldEnoughGoesAndNothingSooner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme")
		s.set("backup.retention_days", "7")
		s.set("backup.grace_days", "12h")
		later(time.Minute)
		s.lose("acme", 3, 1000)
		later(3 * day)
		s.lose("acme", 1, 50)
		later(4*day + 12*time.Hour - time.Minute)
		if n := s.history("acme"); n != 3050 {
			t.Errorf("%d bytes of history a minute before their time, want 3050", n)
		}
		later(2 * time.Minute)
		if n := s.history("acme"); n != 50 {
			t.Errorf("%d bytes of history after it, want 50", n)
		}
		if doomed := s.volume("acme").Stats().DoomedBytes; doomed != 0 {
			t.Errorf("%d bytes of blobs are left", doomed)
		}
		count, bytes := uint64(0), uint64(0)
		for _, e := range s.events("acme") {
			count, bytes = count+e.Count, bytes+e.Bytes
			if e.Account != audit.ID(s.ids["acme"]) || e.Revision != 2 || e.Origin == "" {
				t.Errorf("event %+v", e)
			}
		}
		if count < 6 || bytes != 3000 { // directories have versions, too
			t.Errorf("%d items with %d bytes in the events, want 6 or more with 3000", count, bytes)
		}
		s.end()
	})
}

// Lowered from 30 days to 7 and to 0: what is too old then is gone within a minute, and nothing else.
func TestLoweredRetentionActsOnWhatIsThereWithinAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme", "other")
		s.set("backup.retention_days", "30")
		s.lose("acme", 1, 1000)
		s.lose("other", 1, 7)
		later(10 * day)
		s.lose("acme", 1, 200)
		later(5 * day)
		s.lose("acme", 1, 30)
		for _, c := range []struct {
			days string
			want uint64
		}{{"30", 1230}, {"7", 230}, {"36h", 30}, {"0", 0}} {
			s.set("backup.retention_days", c.days)
			later(time.Minute)
			if n := s.history("acme"); n != c.want {
				t.Errorf("%d bytes of history a minute after %s, want %d", n, c.days, c.want)
			}
		}
		s.end()
	})
}

func TestRetentionOfNothingIsGoneWithinAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme")
		s.set("backup.retention_days", "0")
		later(time.Hour)
		for range 3 {
			s.lose("acme", 2, 100_000)
			if s.history("acme") == 0 {
				t.Error("there was nothing to purge")
			}
			later(time.Minute)
			if st := s.volume("acme").Stats(); st.HistoryBytes+st.DoomedBytes+st.Versions != 1 || st.AwaitingShred == 0 {
				t.Errorf("a minute later: %+v", st) // the root directory has a version
			}
			later(time.Hour)
		}
		s.end()
	})
}

func TestPurgeNeverAndHoldsKeep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "never", "held", "path")
		s.set("backup.retention_days", "1")
		doc, err := s.policy.Current().Document.Set("account never", "backup.purge", "never")
		s.must(err)
		_, err = s.policy.Apply(t.Context(), policydb.Change{Base: s.policy.Current().N, Text: doc.Text(), Who: "test", Why: "test"})
		s.must(err)
		whole, err := s.policy.Hold(t.Context(), "held", "", "case", "test")
		s.must(err)
		_, err = s.policy.Hold(t.Context(), "path", "/f1", "case", "test")
		s.must(err)
		for name := range s.ids {
			s.lose(name, 3, 100)
		}
		later(2 * day)
		for name, want := range map[string]uint64{"never": 300, "held": 300, "path": 100} {
			if n := s.history(name); n != want {
				t.Errorf("%s has %d bytes of history, want %d", name, n, want)
			}
		}
		_, err = s.policy.Release(t.Context(), "held", whole.N)
		s.must(err)
		s.k.HoldsChanged(s.ids["held"])
		later(time.Minute)
		if n := s.history("held"); n != 0 {
			t.Errorf("%d bytes are left a minute after the release", n)
		}
		s.end()
	})
}

// Volumes are opened to find out what is in them, once, and then when something is due: not in every round.
func TestIdleAccountsStayClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("a%02d", i))
		}
		s := newSite(t, Options{Looks: 5}, names...)
		synctest.Wait()
		if st := s.k.Stats(); st.Accounts != 20 || st.Unknown != 15 {
			t.Errorf("after one round: %+v", st)
		}
		later(time.Minute)
		if st := s.k.Stats(); st.Unknown != 0 || s.fs.Totals().Volumes != 0 {
			t.Errorf("after a minute: %+v, %d open", st, s.fs.Totals().Volumes)
		}
		s.lose("a07", 1, 10)
		later(10 * time.Minute) // long enough for it to be closed as idle
		opened := 0
		for range 6 * 60 {
			later(10 * time.Second)
			opened += s.fs.Totals().Volumes
		}
		if opened != 0 {
			t.Errorf("volumes were open %d times in an hour in which nothing was due", opened)
		}
		later(7 * day)
		if n := s.history("a07"); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
		s.end()
	})
}

// One account with very much does not keep another waiting, and the rate is kept.
func TestAccountsTakeTurnsAtARate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{Slice: 100, Workers: 1, Rate: 100}, "large", "small")
		s.lose("large", 300, 1)
		s.lose("small", 1, 1)
		later(time.Second) // a clock that stands still gives instants that lie a little ahead of it
		s.set("backup.retention_days", "0")
		later(2500 * time.Millisecond)
		if n := s.history("small"); n != 0 {
			t.Error("the small one still waits")
		}
		if n := s.k.Stats().Bytes; n < 201 || n > 300 {
			t.Errorf("%d of 301 items after 2.5 s at 100 per second", n)
		}
		later(5 * time.Second)
		if s.history("large") != 0 {
			t.Errorf("%d bytes are left of the large one; %+v", s.history("large"), s.k.Stats())
		}
		s.end()
	})
}

// What somebody is writing waits, and goes when they have finished.
func TestBusyFilesAreTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme")
		s.set("backup.retention_days", "0")
		w := s.volume("acme").View(vfs.ViewOptions{Writer: "test"})
		s.put(w, "/a", 1000)
		f, err := w.OpenHandle(t.Context(), "/a", os.O_RDWR, 0)
		s.must(err)
		_, err = f.WriteAt([]byte("x"), 5)
		s.must(err)
		s.must(f.Sync())
		later(5 * time.Minute)
		if st := s.k.Stats(); s.history("acme") != 1000 || st.Busy == 0 || st.Due != 1 || st.Busy > 40 {
			t.Errorf("%d bytes of history while it is written, %+v", s.history("acme"), st)
		}
		s.must(f.Close())
		later(time.Minute)
		if n := s.history("acme"); n != 0 {
			t.Errorf("%d bytes a minute after", n)
		}
		s.must(w.Close())
		s.end()
	})
}

// A stop in the middle leaves what is still due to the next start.
func TestARestIsPurgedAfterTheNextStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{Rate: 10}, "acme")
		s.lose("acme", 600, 1)
		s.set("backup.retention_days", "0")
		later(20 * time.Second) // in the pause after the first transaction
		s.must(s.k.Close())
		left := s.history("acme")
		if left == 0 || left == 600 {
			t.Fatalf("%d of 600 are left", left)
		}
		s.k = Start(Options{Policy: s.policy, Volumes: s.fs})
		later(time.Minute)
		if n := s.history("acme"); n != 0 {
			t.Errorf("%d are left", n)
		}
		s.end()
	})
}

func TestWouldPurgeCountsWhatAChangeDestroys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme", "empty", "held")
		s.set("backup.retention_days", "30")
		first := time.Now()
		s.lose("acme", 2, 1000)
		s.lose("held", 2, 1000)
		_, err := s.policy.Hold(t.Context(), "held", "/", "case", "test")
		s.must(err)
		later(10 * day)
		s.lose("acme", 1, 5)
		later(day)
		plan := func(days string) []Loss {
			doc, err := s.policy.Current().Document.Set("site", "backup.retention_days", days)
			s.must(err)
			r := *s.policy.Current()
			r.Document = doc
			list, err := s.k.WouldPurge(t.Context(), &r)
			s.must(err)
			return list
		}
		if list := plan("31"); len(list) != 0 {
			t.Errorf("longer: %+v", list)
		}
		list := plan("5")
		if len(list) != 1 || list[0].Account != "acme" || list[0].Names != 2 || list[0].Bytes != 2000 || list[0].Oldest.Sub(first) > time.Second || list[0].Newest.Sub(first) > time.Second {
			t.Errorf("shorter: %+v", list)
		}
		if list := plan("0"); len(list) != 1 || list[0].Bytes != 2005 || list[0].Newest.Sub(first) < day {
			t.Errorf("nothing: %+v", list)
		}
		if s.history("acme") != 2005 {
			t.Error("planning destroyed something")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		r := *s.policy.Current()
		r.Document, err = r.Document.Set("site", "backup.retention_days", "0")
		s.must(err)
		list, err = s.k.WouldPurge(gone, &r)
		s.must(err)
		if i := slices.IndexFunc(list, func(l Loss) bool { return l.Account == "acme" }); i < 0 || !list[i].Unknown {
			t.Errorf("without time: %+v", list)
		}
		s.end()
	})
}

// A retention that is raised while a purge of a day runs keeps from then on what is left.
func TestRaisedRetentionStopsAPurgeUnderWay(t *testing.T) {
	t.Run("between slices", func(t *testing.T) { raised(t, Options{Rate: 10, Slice: 100}) })
	t.Run("in a slice", func(t *testing.T) { raised(t, Options{Rate: 10}) })
}

func raised(t *testing.T, o Options) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, o, "acme")
		s.lose("acme", 600, 1)
		later(time.Second) // a clock that stands still gives instants that lie a little ahead of it
		s.set("backup.retention_days", "0")
		later(5 * time.Second) // in the pause after the first transaction
		s.set("backup.retention_days", "30")
		left := s.history("acme")
		if left == 0 || left == 600 {
			t.Fatalf("%d of 600 are left", left)
		}
		later(10 * time.Minute)
		if n := s.history("acme"); n != left {
			t.Errorf("%d are left ten minutes after the policy kept %d", n, left)
		}
		if st := s.k.Stats(); st.Failures != 0 {
			t.Errorf("%+v", st)
		}
		s.set("backup.retention_days", "0")
		later(5 * time.Minute)
		if n := s.history("acme"); n != 0 {
			t.Errorf("%d are left after it was lowered again", n)
		}
		s.end()
	})
}
