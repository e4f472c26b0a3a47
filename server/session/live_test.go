package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// A change of the policy reaches 1,000 live sessions before Apply returns: each is refused from then on and told to hang up,
// and none of them is waited for.
func TestRecheckReachesEverySession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.set(t, policy.Site, "session.max", "2000")
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "bob", everything)
	const n = 1000
	var hung atomic.Int64
	block := make(chan struct{})
	var stays *Session
	var all []*Session
	for i := range n + 1 {
		addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		name := "alice"
		if i == n {
			name = "bob"
		}
		c, d := h.m.Connect(t.Context(), policy.Facts{Protocol: policy.SFTP, Remote: netip.AddrPortFrom(addr, 1)}, func(d *policy.Denial) {
			hung.Add(1)
			<-block // a front-end that is slow to hang up
		})
		if d != nil {
			t.Fatal(d)
		}
		defer c.Close()
		s, err := c.Login(t.Context(), name, Credential{PublicKey: h.key})
		if err != nil {
			t.Fatal(err)
		}
		if i == n {
			stays = s
		} else {
			all = append(all, s)
		}
	}
	h.set(t, policy.AccountTarget("alice"), "allow_from", "[203.0.113.0/24]")
	for _, s := range all {
		if _, err := s.Files().Stat("/"); denialOf(err) == nil || denialOf(err).Code != policy.CodeNotAllowed {
			t.Fatalf("session %s goes on: %v", s.ID(), err)
		}
	}
	if _, err := stays.Files().Stat("/"); err != nil {
		t.Errorf("the other account: %v", err)
	}
	close(block)
	for deadline := time.Now().Add(20 * time.Second); hung.Load() != n && time.Now().Before(deadline); {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
		}
	}
	if hung.Load() != n {
		t.Errorf("%d of %d were told to hang up", hung.Load(), n)
	}
	if got := count(h.records(t), func(r audit.Record) bool {
		return r.Action == audit.SessionKill && r.Code == policy.CodeNotAllowed
	}); got != n {
		t.Errorf("%d records of ended sessions", got)
	}
}

func TestSessionMax(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "session.max", "3")
	// Of many logins at once exactly three get in.
	var wg sync.WaitGroup
	var in atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			l := h.connect(t, sftpFrom("198.51.100.7"))
			if _, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key}); err == nil {
				in.Add(1)
			} else if d := denialOf(err); d == nil || d.Code != policy.CodeSessions {
				t.Errorf("login %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if in.Load() != 3 || len(h.m.List()) != 3 {
		t.Fatalf("%d got in, %d are listed", in.Load(), len(h.m.List()))
	}
	// A lower limit ends the newest.
	old := h.m.List()[0].ID
	h.set(t, policy.AccountTarget("alice"), "session.max", "1")
	for _, l := range h.m.snapshot() {
		if d := l.ended.Load(); l.loggedIn() && (d == nil) != (l.id == old) {
			t.Errorf("session %s (oldest %s): %v", l.id, old, d)
		}
	}
}

func TestAccountChangesReachLiveSessions(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(h *house) error
		code   string
	}{
		"disabled":         {func(h *house) error { return h.db.SetEnabled(context.Background(), "alice", false, "op") }, policy.CodeAccountGone},
		"removed":          {func(h *house) error { _, err := h.db.RemoveAccount(context.Background(), "alice", "op"); return err }, ""},
		"key removed":      {func(h *house) error { return removeKey(h, "alice") }, policy.CodeCredential},
		"password changed": {func(h *house) error { return h.db.SetPassword(context.Background(), "alice", "another-horse-34", "op") }, "-"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := build(t, nil)
			h.addAccount(t, "alice", everything)
			l, s := h.login(t, "alice")
			pw := h.connect(t, sftpFrom("198.51.100.8"))
			if _, err := pw.Login(t.Context(), "alice", Credential{Password: secret}); err != nil {
				t.Fatal(err)
			}
			if err := c.change(h); err != nil {
				t.Fatal(err)
			}
			_, err := s.Files().Stat("/")
			switch c.code {
			case "-": // the key session stays, the password session goes
				if err != nil {
					t.Errorf("key session: %v", err)
				}
				if d := <-pw.hung; d.Code != policy.CodeCredential {
					t.Errorf("password session: %v", d)
				}
				return
			case "": // whichever change is seen first ends it
				if denialOf(err) == nil {
					t.Errorf("the session goes on: %v", err)
				}
			default:
				wantCode(t, what, err, c.code)
			}
			<-l.hung
			l2 := h.connect(t, sftpFrom("198.51.100.9"))
			if _, err := l2.Login(t.Context(), "alice", Credential{PublicKey: h.key}); !errors.Is(err, ErrAuth) {
				t.Errorf("logging in again: %v", err)
			}
		})
	}
}

func removeKey(h *house, name string) error {
	keys, err := h.db.Keys(name)
	if err != nil {
		return err
	}
	return h.db.RemoveKey(context.Background(), name, keys[0].Fingerprint(), "op")
}

// A login races with the change that forbids it: whichever comes first, no session is left that the policy refuses.
func TestLoginRacesWithChange(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "session.max", "1000")
	for range 30 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				l := h.connect(t, sftpFrom("198.51.100.7"))
				if s, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key}); err == nil {
					s.Files().Stat("/")
				} else if denialOf(err) == nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() { h.set(t, policy.AccountTarget("alice"), "allow_from", "[203.0.113.0/24]") })
		wg.Wait()
		for _, c := range h.m.snapshot() {
			if c.loggedIn() && c.ended.Load() == nil {
				t.Fatal("a session that the policy refuses is live")
			}
			c.Close()
		}
		h.set(t, policy.AccountTarget("alice"), "allow_from", "[]")
	}
}

func TestKillAndList(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l1, s1 := h.login(t, "alice")
	_, s2 := h.login(t, "alice")
	if n := h.m.Kill(func(i Info) bool { return i.ID == s1.ID() }, "uid 0", "OPS-1"); n != 1 {
		t.Fatalf("killed %d", n)
	}
	if d := <-l1.hung; d.Code != policy.CodeKilled {
		t.Errorf("hung up with %v", d)
	}
	_, err := s1.Files().Stat("/")
	wantCode(t, "killed session", err, policy.CodeKilled)
	if _, err := s2.Files().Stat("/"); err != nil {
		t.Errorf("the other: %v", err)
	}
	if n := h.m.Kill(func(i Info) bool { return i.ID == s1.ID() }, "uid 0", ""); n != 0 {
		t.Errorf("killed again: %d", n)
	}
	if n := count(h.records(t), func(r audit.Record) bool {
		return r.Action == audit.SessionKill && r.Who == "uid 0" && r.Detail == "OPS-1"
	}); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestIdleAndAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		h.addAccount(t, "alice", everything)
		h.set(t, policy.Site, "session.idle", "10m")
		h.set(t, policy.Site, "session.max_age", "1h")
		idle, _ := h.login(t, "alice")
		awake, s := h.login(t, "alice")
		start := time.Now()
		wait := func(l *line, code string, after time.Duration) {
			t.Helper()
			for {
				select {
				case d := <-l.hung:
					if took := time.Since(start); d.Code != code || took < after || took > after+2*sweepEvery {
						t.Errorf("ended with %s after %v, want %s after %v", d.Code, took, code, after)
					}
					return
				case <-time.After(time.Minute):
					s.Touch()
				}
			}
		}
		wait(idle, policy.CodeIdle, 10*time.Minute)
		wait(awake, policy.CodeMaxAge, time.Hour)
		silent := h.connect(t, sftpFrom("198.51.100.9"))
		start = time.Now()
		wait(silent, policy.CodeLoginTimeout, 2*time.Minute)
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l, s := h.login(t, "alice")
	put(t, s.Files(), "/f", "x")
	if err := h.m.Close(); err != nil {
		t.Fatal(err)
	}
	if d := <-l.hung; d.Code != policy.CodeShutdown {
		t.Errorf("hung up with %v", d)
	}
	if _, d := h.m.Connect(t.Context(), sftpFrom("198.51.100.9"), nil); d == nil || d.Code != policy.CodeShutdown {
		t.Errorf("connecting: %v", d)
	}
	l.Close()
	if n := count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Upload }); n != 1 {
		t.Errorf("%d uploads in the chain", n)
	}
}

// Silent connections push out themselves: the cap holds, and whoever comes and logs in gets in.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	h := build(t, func(o *Options) { o.Limits = Limits{Unauthenticated: 20, UnauthPerAddress: 8, PerAddress: 1000} })
	h.addAccount(t, "alice", everything)
	var silent []*line
	for i := range 200 {
		silent = append(silent, h.connect(t, sftpFrom(fmt.Sprintf("203.0.113.%d", i%4))))
	}
	if n := h.m.Counts().Unauthenticated; n > 20 {
		t.Fatalf("%d connections before login", n)
	}
	for _, addr := range []string{"203.0.113.1", "198.51.100.1"} {
		l := h.connect(t, sftpFrom(addr))
		if _, err := l.Login(t.Context(), "alice", Credential{Password: secret}); err != nil {
			t.Errorf("login from %s: %v", addr, err)
		}
	}
	if d := <-silent[0].hung; d.Stage != policy.StageSession {
		t.Errorf("the oldest was told %v", d)
	}
	for _, l := range silent {
		l.Close()
	}
	if c := h.m.Counts(); c.Unauthenticated != 0 {
		t.Errorf("left: %+v", c)
	}
}

func TestConnectionCaps(t *testing.T) {
	t.Parallel()
	h := build(t, func(o *Options) { o.Limits = Limits{Connections: 5, PerAddress: 3} })
	for range 3 {
		h.connect(t, sftpFrom("198.51.100.1"))
	}
	_, d := h.m.Connect(t.Context(), sftpFrom("198.51.100.1"), nil)
	wantCode(t, "fourth of an address", d, policy.CodeAddressFull)
	h.connect(t, sftpFrom("2001:db8::1"))
	l := h.connect(t, sftpFrom("2001:db8::2"))
	_, d = h.m.Connect(t.Context(), sftpFrom("198.51.100.3"), nil)
	wantCode(t, "sixth in all", d, policy.CodeServerFull)
	l.Close()
	l.Close()
	h.connect(t, sftpFrom("198.51.100.3"))
}

// A connection that is closed, or ended, while its login is under way leaves no session behind.
func TestClosedDuringLogin(t *testing.T) {
	t.Parallel()
	for what, gone := range map[string]func(h *house, l *line){
		"closed": func(_ *house, l *line) { l.Close() },
		"banned": func(_ *house, l *line) { l.end(policy.Deny(policy.CodeBanned, "", ""), "", "") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := build(t, nil)
			h.addAccount(t, "alice", everything)
			l := h.connect(t, sftpFrom("198.51.100.7"))
			h.m.check = func(a *policydb.Account, secret string) bool { gone(h, l); return a.CheckPassword(secret) }
			if s, err := l.Login(t.Context(), "alice", Credential{Password: secret}); err == nil {
				t.Errorf("logged in as %s", s.Account())
			}
			if n := len(h.m.List()); n != 0 || h.m.Counts().Sessions != 0 {
				t.Errorf("%d sessions left", n)
			}
			h.m.check = (*policydb.Account).CheckPassword
			// The same between registration and the end of the login, where a change of policy would come.
			l = h.connect(t, sftpFrom("198.51.100.7"))
			h.m.testOnlyRegistered = func() { gone(h, l) }
			if s, err := l.Login(t.Context(), "alice", Credential{Password: secret}); err == nil {
				t.Errorf("logged in as %s", s.Account())
			}
			if n := len(h.m.List()); n != 0 || h.m.Counts().Sessions != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}
