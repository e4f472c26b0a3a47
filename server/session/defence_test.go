package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
)

// The answer to each further wrong password of an address takes twice as long; a success ends that.
func TestAnswersToWrongPasswordsSlowDown(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "login.per_address", "0")
	h.set(t, policy.Site, "login.per_account", "0")
	h.set(t, policy.Site, "login.ban_after", "0")
	var waited []time.Duration
	h.m.wait = func(_ context.Context, c *Conn, d time.Duration) {
		if c.isBusy() {
			t.Error("a connection that waits cannot be ended to make room")
		}
		waited = append(waited, d)
	}
	guess := func(n int, account string) {
		t.Helper()
		for i := range n {
			if err := h.attempt(t, "198.51.100.1", account, Secret(fmt.Sprint("wrong-horse-", i))); !errors.Is(err, ErrAuth) {
				t.Fatal(err)
			}
		}
	}
	guess(4, "alice")
	guess(4, "nobody") // the same for names that do not exist
	want := []time.Duration{1, 2, 4, 8, 16, 16, 16}
	if len(waited) != len(want) {
		t.Fatalf("waited %v", waited)
	}
	for i := range want {
		if waited[i] != want[i]*time.Second {
			t.Errorf("waited %v", waited)
		}
	}
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
		t.Fatal(err)
	}
	waited = nil
	guess(1, "alice")
	if len(waited) != 0 {
		t.Errorf("the first one after a success waits %v", waited)
	}
	h.set(t, policy.Site, "login.delay", "0")
	guess(3, "alice")
	if len(waited) != 0 {
		t.Errorf("with no delay it waits %v", waited)
	}
}

// The wait ends with the connection.
func TestAWaitEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	l := h.connect(t, sftpFrom("198.51.100.1"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait(t.Context(), l.Conn, time.Hour)
	}()
	l.end(policy.Deny(policy.CodeKilled, "test", "test"), "", "")
	<-done
}

func TestANetworkIsLimited(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var skew atomic.Int64
	h := build(t, func(o *Options) { o.Now = func() time.Time { return start.Add(time.Duration(skew.Load())) } })
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "login.per_account", "0")
	h.set(t, policy.Site, "login.per_network", "20/min")
	through := func(format string) int {
		n := 0
		for i := 1; i <= 60; i++ {
			if err := h.attempt(t, fmt.Sprintf(format, i), "alice", Secret(fmt.Sprint("wrong-horse-", i))); errors.Is(err, ErrAuth) {
				n++
			} else {
				wantCode(t, "one too many", err, policy.CodeNetworkRate)
			}
		}
		return n
	}
	if n := through("198.51.100.%d"); n != 20 {
		t.Errorf("%d guesses of one /24 were looked at", n)
	}
	if n := through("2001:db8:1:%d::1"); n != 20 {
		t.Errorf("%d guesses of one /48 were looked at", n)
	}
	if err := h.attempt(t, "198.51.101.1", "alice", secret); err != nil {
		t.Errorf("from the next network: %v", err)
	}
	skew.Add(int64(time.Minute))
	if n := through("198.51.100.%d"); n != 20 {
		t.Errorf("%d a minute later", n)
	}
}

// A ban keeps out whoever guesses at an address, and not the account that logged in from there lately.
func TestABanSparesWhoIsKnown(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	for _, n := range []string{"alice", "bob"} {
		h.addAccount(t, n, everything)
	}
	h.set(t, policy.Site, "login.per_address", "0")
	h.set(t, policy.Site, "login.per_network", "0")
	h.set(t, policy.Site, "login.per_account", "0")
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		h.attempt(t, "198.51.100.1", "bob", Secret(fmt.Sprint("wrong-horse-", i)))
		h.attempt(t, "198.51.100.2", "bob", Secret(fmt.Sprint("wrong-horse-", i)))
	}
	if n := len(h.m.Bans()); n != 2 {
		t.Fatalf("%d bans", n)
	}
	if err := h.attempt(t, "198.51.100.1", "alice", secret); err != nil {
		t.Errorf("who is known there: %v", err)
	}
	wantCode(t, "who is not", h.attempt(t, "198.51.100.1", "bob", secret), policy.CodeBanned)
	if _, d := h.m.Connect(t.Context(), sftpFrom("198.51.100.2"), nil); d == nil || d.Code != policy.CodeBanned {
		t.Errorf("an address that nobody is known at connects: %v", d)
	}
	// Who brings the ban about is not spared by it.
	for i := range 15 {
		h.attempt(t, "198.51.100.1", "alice", Secret(fmt.Sprint("other-horse-", i)))
	}
	wantCode(t, "whose own password was guessed at", h.attempt(t, "198.51.100.1", "alice", secret), policy.CodeBanned)
}

// The operator's ban of a network ends sessions at once, spares nobody, and can be lifted.
func TestOrderedBans(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var skew atomic.Int64
	h := build(t, func(o *Options) { o.Now = func() time.Time { return start.Add(time.Duration(skew.Load())) } })
	h.addAccount(t, "alice", everything)
	in, _ := h.login(t, "alice") // from 198.51.100.7
	net := netip.MustParsePrefix("198.51.100.0/24")
	h.m.Ban(net, start.Add(time.Hour), "op", "abuse")
	if d := <-in.hung; d.Code != policy.CodeBanned {
		t.Errorf("the session: %v", d)
	}
	refused := func() bool {
		c, d := h.m.Connect(t.Context(), sftpFrom("198.51.100.7"), nil)
		if d == nil {
			c.Close()
		}
		return d != nil
	}
	if !refused() {
		t.Error("it may connect")
	}
	if b := h.m.Bans(); len(b) != 1 || b[0].Network != net {
		t.Errorf("bans %v", b)
	}
	if !h.m.Unban(net) || refused() {
		t.Error("lifted, and it may not connect")
	}
	h.m.Ban(net, start.Add(time.Hour), "op", "abuse")
	skew.Store(int64(time.Hour))
	if refused() || len(h.m.Bans()) != 0 {
		t.Error("it does not end")
	}
}

// Whatever is wrong, the work is one hash: nobody can tell accounts from each other by it. Work is counted, not time.
func TestWrongLoginsAreAllTheSameWork(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	for _, n := range []string{"plain", "second", "old", "off", "none"} {
		h.addAccount(t, n, everything)
	}
	code, _ := h.enrol(t, "second")
	for _, err := range []error{h.db.RequireChange(t.Context(), "old", "op"), h.db.SetEnabled(t.Context(), "off", false, "op"), h.db.ClearPassword(t.Context(), "none", "op")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.set(t, policy.Site, "login.per_address", "0")
	h.set(t, policy.Site, "login.per_network", "0")
	h.set(t, policy.Site, "login.per_account", "0")
	h.set(t, policy.Site, "login.ban_after", "0")
	var hashes, waits int
	h.m.check = func(a *policydb.Account, secret string) bool { hashes++; return a.CheckPassword(secret) }
	h.m.wait = func(context.Context, *Conn, time.Duration) { waits++ }
	for i, name := range []string{"plain", "second", "old", "off", "none", "nobody", "no such name!"} {
		for j, guess := range []Secret{"wrong-horse-12", "wrong-horse-123456", "wrong" + code(h.codesAt()), ""} {
			before := hashes
			l := h.connect(t, sftpFrom(fmt.Sprintf("203.0.113.%d", 10*i+j+1)))
			_, err := l.Login(t.Context(), name, Credential{Password: guess, CodeAppended: true})
			if !errors.Is(err, ErrAuth) || err.Error() != ErrAuth.Error() {
				t.Errorf("%s, guess %d: %v", name, j, err)
			}
			if hashes != before+1 {
				t.Errorf("%s, guess %d: %d hashes", name, j, hashes-before)
			}
		}
	}
	if waits != 0 {
		t.Errorf("%d first failures waited", waits)
	}
}

// What is recorded and logged of a refusal knows the account by its id, although the rule stands in the part of the policy that
// has its name.
func TestRefusalsNameNobody(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	h := build(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	h.addAccount(t, "alice.smith", everything)
	l, s := h.login(t, "alice.smith")
	h.set(t, policy.AccountTarget("alice.smith"), "paths", "[{path: /, allow: [list]}]")
	if err := s.Files().Mkdir("/a", 0o755); err == nil {
		t.Error("mkdir is not refused")
	}
	h.set(t, policy.AccountTarget("alice.smith"), "allow_from", "[203.0.113.0/24]")
	<-l.hung
	k := h.connect(t, sftpFrom("198.51.100.7"))
	if _, err := k.Login(t.Context(), "alice.smith", Credential{Password: secret}); err == nil {
		t.Error("a login from elsewhere is not refused")
	}
	refused := 0
	for _, r := range h.records(t) {
		if strings.Contains(r.Detail, "alice") {
			t.Errorf("%s: %s", r.Action, r.Detail)
		}
		if r.Code != "" && strings.Contains(r.Detail, " of account (") {
			refused++
		}
	}
	if refused < 2 || strings.Contains(log.String(), "alice") || !strings.Contains(log.String(), "account (") {
		t.Errorf("%d refusals of rules of the account; the log is\n%s", refused, log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
