package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// attempt is one connection with one password.
func (h *house) attempt(t testing.TB, addr, name string, password Secret) error {
	t.Helper()
	c, d := h.m.Connect(context.Background(), sftpFrom(addr), func(*policy.Denial) {})
	if d != nil {
		return d
	}
	defer c.Close()
	_, err := c.Login(context.Background(), name, Credential{Password: password})
	return err
}

func TestGuessingIsLimitedAndBanned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil) // 10/min of an address, 5/min of an account, 15 failures: 30 minutes
		h.addAccount(t, "alice", everything)
		h.addAccount(t, "bob", everything)
		const bad = "203.0.113.9"
		tried := 0
		guess := func(name string) error {
			tried++
			return h.attempt(t, bad, name, Secret(fmt.Sprintf("guess-%d-guess", tried)))
		}
		for range 5 {
			if err := guess("alice"); !errors.Is(err, ErrAuth) {
				t.Fatalf("guess %d: %v", tried, err)
			}
		}
		wantCode(t, "sixth guess of an account", guess("alice"), policy.CodeAccountRate)
		wantCode(t, "even if right", h.attempt(t, bad, "alice", secret), policy.CodeAccountRate)
		for range 5 { // unknown accounts are counted like known ones
			if err := guess("nobody"); !errors.Is(err, ErrAuth) {
				t.Fatal(err)
			}
		}
		wantCode(t, "eleventh failure of an address", guess("bob"), policy.CodeAddressRate)
		if err := h.attempt(t, "198.51.100.1", "bob", secret); err != nil {
			t.Errorf("others are not held back: %v", err)
		}
		time.Sleep(time.Minute)
		for range 4 {
			if err := guess("bob"); !errors.Is(err, ErrAuth) {
				t.Fatal(err)
			}
		}
		other, d := h.m.Connect(t.Context(), sftpFrom(bad), nil)
		if d != nil {
			t.Fatal(d)
		}
		if err := guess("bob"); !errors.Is(err, ErrAuth) { // the fifteenth
			t.Fatal(err)
		}
		if d := other.ended.Load(); d == nil || d.Code != policy.CodeBanned {
			t.Errorf("another connection of the address: %v", d)
		}
		other.Close()
		wantCode(t, "banned", guess("bob"), policy.CodeBanned)
		if bans := h.m.Bans(); len(bans) != 1 || bans[0].Address.String() != bad || bans[0].Failures != 15 {
			t.Errorf("bans %v", bans)
		}
		time.Sleep(30*time.Minute - time.Second)
		wantCode(t, "still banned", guess("bob"), policy.CodeBanned)
		time.Sleep(time.Second)
		if err := h.attempt(t, bad, "bob", secret); err != nil {
			t.Errorf("after the ban: %v", err)
		}
		if n := count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Ban }); n != 1 {
			t.Errorf("%d bans recorded", n)
		}
	})
}

// What is remembered of strangers is bounded in bytes, not only in entries: SSH lets a name be 256 KiB long.
func TestLongNamesAreNotRemembered(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	long := strings.Repeat("x", 256<<10)
	if err := h.attempt(t, "203.0.113.9", long, "a-wrong-password"); !errors.Is(err, ErrAuth) {
		t.Fatalf("got %v, want %v", err, ErrAuth)
	}
	h.m.throttle.mu.Lock()
	defer h.m.throttle.mu.Unlock()
	if len(h.m.throttle.names.items) != 1 {
		t.Errorf("%d names are remembered, want 1", len(h.m.throttle.names.items))
	}
	for name := range h.m.throttle.names.items {
		if len(name) > 64 {
			t.Errorf("a name of %d bytes is remembered", len(name))
		}
	}
}

func TestTheSameWrongPasswordIsNoGuessing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		h.addAccount(t, "alice", everything)
		for range 100 { // a client with an old password
			if err := h.attempt(t, "203.0.113.9", "alice", "the-old-password-1"); !errors.Is(err, ErrAuth) && denialOf(err) == nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
		if bans := h.m.Bans(); len(bans) != 0 {
			t.Errorf("banned: %v", bans)
		}
		if err := h.attempt(t, "203.0.113.9", "alice", secret); err != nil {
			t.Errorf("with the right one: %v", err)
		}
	})
}

func TestSuccessCostsNothing(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	for i := range 100 {
		if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
	}
}

// Somebody who guesses at an account cannot keep its owner out, who logs in from where he did before.
func TestOwnerIsNotLockedOut(t *testing.T) {
	t.Parallel()
	start := time.Now()
	h := build(t, func(o *Options) { o.Now = func() time.Time { return start } }) // an account's sixth guess is looked at twelve seconds later
	h.addAccount(t, "alice", everything)
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		h.attempt(t, fmt.Sprintf("203.0.113.%d", i), "alice", "wrong-wrong-12")
	}
	wantCode(t, "from elsewhere", h.attempt(t, "203.0.113.77", "alice", secret), policy.CodeAccountRate)
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
		t.Errorf("the owner: %v", err)
	}
	l := h.connect(t, sftpFrom("203.0.113.78"))
	if _, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key}); err != nil {
		t.Errorf("by key from elsewhere: %v", err)
	}
}

func TestNeverBanAndIPv6(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.set(t, policy.Site, "login.never_ban", `["2001:db8:1::/48", 198.51.100.0/24]`)
	h.set(t, policy.Site, "login.per_address", "0")
	h.set(t, policy.Site, "login.per_account", "0")
	for i := range 16 {
		h.attempt(t, "198.51.100.1", "x", Secret(fmt.Sprint("guess", i)))
		h.attempt(t, fmt.Sprintf("2001:db8:1::%d", i+1), "x", Secret(fmt.Sprint("guess", i)))
		h.attempt(t, fmt.Sprintf("2001:db8:2::%d", i+1), "x", Secret(fmt.Sprint("guess", i)))
	}
	bans := h.m.Bans()
	if len(bans) != 1 || bans[0].Address != netip.MustParseAddr("2001:db8:2::") {
		t.Fatalf("bans %v", bans)
	}
	wantCode(t, "another address of the /64", h.attempt(t, "2001:db8:2::ffff", "x", "y"), policy.CodeBanned)
	if !h.m.Unban(netip.MustParsePrefix("2001:db8:2::99/128")) || h.m.Unban(netip.MustParsePrefix("2001:db8:2::99/128")) {
		t.Error("unban")
	}
	if err := h.attempt(t, "2001:db8:2::ffff", "x", "y"); !errors.Is(err, ErrAuth) {
		t.Errorf("after unban: %v", err)
	}
}

// Unknown, disabled and password-less accounts cost a hash like known ones: the same work, so the same time.
func TestEveryWrongPasswordCostsOneHash(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "off", everything)
	h.addAccount(t, "keyonly", everything)
	if err := errors.Join(h.db.SetEnabled(t.Context(), "off", false, "op"), h.db.ClearPassword(t.Context(), "keyonly", "op")); err != nil {
		t.Fatal(err)
	}
	hashes := 0
	h.m.check = func(a *policydb.Account, secret string) bool {
		if !a.HasPassword() {
			t.Error("checked against an account without a hash, which costs nothing")
		}
		hashes++
		return a.CheckPassword(secret)
	}
	for i, name := range []string{"alice", "off", "keyonly", "nobody", "not a name", ""} {
		if err := h.attempt(t, fmt.Sprintf("198.51.100.%d", i), name, "wrong-wrong-12"); !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", name, err)
		}
		if hashes != i+1 {
			t.Errorf("%s: %d hashes", name, hashes-i)
		}
	}
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil || hashes != 7 {
		t.Errorf("first login: %d hashes, %v", hashes, err)
	}
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil || hashes != 7 {
		t.Errorf("remembered: %d hashes, %v", hashes, err)
	}
}

func TestGateIsFairAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4, 8)
		bad, good := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.51.100.1")
		for range 2 { // half of the workers
			if err := g.enter(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		var results []error
		for range 6 {
			wg.Go(func() {
				err := g.enter(ctx, bad)
				mu.Lock()
				results = append(results, err)
				mu.Unlock()
			})
		}
		synctest.Wait()
		mu.Lock()
		if len(results) != 2 { // four wait (half of the queue), two are sent away
			t.Errorf("%d were answered at once", len(results))
		}
		for _, err := range results {
			wantCode(t, "queue full", err, policy.CodeBusy)
		}
		mu.Unlock()
		if err := g.enter(t.Context(), good); err != nil {
			t.Errorf("another address: %v", err)
		}
		g.leave(good)
		g.leave(bad)
		synctest.Wait()
		mu.Lock()
		if !slices.ContainsFunc(results, func(err error) bool { return err == nil }) {
			t.Error("nobody was let in after one left")
		}
		mu.Unlock()
		cancel()
		wg.Wait()
		g.leave(bad)
		g.leave(bad)
		if g.running != 0 || len(g.queue) != 0 || len(g.byAddr) != 0 {
			t.Errorf("left: %d running, %d waiting, %d addresses", g.running, len(g.queue), len(g.byAddr))
		}
	})
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecent[int, int](3)
	for i := range 10 {
		r.put(i, i)
		r.get(0)
	}
	if _, ok := r.get(0); !ok || len(r.items) != 3 || r.order.Len() != 3 {
		t.Error("what was used last is gone, or the bound does not hold")
	}
	if !r.remove(0) || r.remove(0) || len(r.all()) != 2 {
		t.Error("remove")
	}
}

// Codes that come at once on many connections are not looked at more often than one after the other.
func TestCodesAtOnceAreNoMoreGuesses(t *testing.T) {
	t.Parallel()
	th, now := newThrottle(), time.Now()
	for i := range freeCodes {
		if d := th.takeCode("alice", now); d != nil { // all under way: none is answered yet
			t.Fatalf("guess %d: %v", i+1, d)
		}
	}
	wantCode(t, "one more at once", asError(th.takeCode("alice", now)), policy.CodeCodeRate)
	later := now.Add(firstPenalty)
	if d := th.takeCode("alice", later); d != nil {
		t.Fatalf("after the wait: %v", d)
	}
	wantCode(t, "a second one with it", asError(th.takeCode("alice", later)), policy.CodeCodeRate)
	th.returnCode("alice") // a right one that was used before is no guess
	if d := th.takeCode("alice", later); d != nil {
		t.Errorf("after one that was no guess: %v", d)
	}
	th.rightCode("alice")
	if d := th.takeCode("alice", later); d != nil {
		t.Errorf("after a right one: %v", d)
	}
}

func asError(d *policy.Denial) error {
	if d == nil {
		return nil
	}
	return d
}
