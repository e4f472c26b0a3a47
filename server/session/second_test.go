package session

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
)

// enrol gives an account a second factor and returns its codes by time; that of the database stands still from then on (codesAt).
func (h *house) enrol(t *testing.T, name string) (code func(time.Time) Secret, recovery []string) {
	t.Helper()
	at := h.codesAt()
	h.codeTime.Store(&at)
	e, err := h.db.EnableSecond(t.Context(), name, "test", "test")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(e.URI)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return func(at time.Time) Secret {
		sum := sha1.New
		if u.Query().Get("algorithm") == "SHA256" { // under fips140=only
			sum = sha256.New
		}
		m := hmac.New(sum, key)
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix()/30)))
		s := m.Sum(nil)
		return Secret(fmt.Sprintf("%06d", binary.BigEndian.Uint32(s[s[len(s)-1]&15:])&0x7fffffff%1e6))
	}, e.Recovery
}

func TestSecondFactorIsAskedAfterTheFirst(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	code, recovery := h.enrol(t, "alice")
	try := func(c Credential) error {
		l := h.connect(t, sftpFrom("198.51.100.7"))
		defer l.Close()
		s, err := l.Login(t.Context(), "alice", c)
		if err == nil && !s.facts(0).SecondFactor {
			t.Error("logged in, and no second factor noted")
		}
		return err
	}
	now := h.codesAt()
	want := func(what string, c Credential, err error) {
		t.Helper()
		if got := try(c); !errors.Is(got, err) {
			t.Errorf("%s: %v, want %v", what, got, err)
		}
	}
	want("key alone", Credential{PublicKey: h.key}, ErrCodeNeeded)
	want("password alone, over SFTP", Credential{Password: secret}, ErrCodeNeeded)
	wantCode(t, "password alone, over FTPS", try(Credential{Password: secret, CodeAppended: true}), policy.CodeCodeNeeded)
	want("a wrong password is not asked for a code", Credential{Password: "wrong-horse-12"}, ErrAuth)
	want("wrong password, right code", Credential{Password: Secret("wrong-horse-12" + string(code(now))), CodeAppended: true}, ErrAuth)
	want("wrong code", Credential{PublicKey: h.key, Code: "12345"}, ErrAuth)
	want("key and code", Credential{PublicKey: h.key, Code: code(now)}, nil)
	wantCode(t, "the code again", try(Credential{PublicKey: h.key, Code: code(now)}), policy.CodeCodeUsed)
	want("password and code in one", Credential{Password: Secret(secret + string(code(now.Add(30*time.Second)))), CodeAppended: true}, nil)
	want("password and recovery code in one", Credential{Password: Secret(secret + recovery[0]), CodeAppended: true}, nil)
	want("recovery code over SFTP", Credential{Password: secret, Code: Secret(recovery[1])}, nil)
	if n := count(h.records(t), func(r audit.Record) bool {
		return r.Event.Action == audit.SecondFactor && strings.HasPrefix(r.Event.Detail, "recovery code used")
	}); n != 2 {
		t.Errorf("%d recovery codes in the audit log, want 2", n)
	}
}

// Sessions that came in without a second factor end when the account gets one; those with it when it is taken away.
func TestSecondFactorReachesLiveSessions(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "bob", everything)
	before, _ := h.login(t, "alice")
	other, _ := h.login(t, "bob")
	code, _ := h.enrol(t, "alice")
	if d := <-before.hung; d.Code != policy.CodeSecondFactor {
		t.Errorf("session without second factor: %v", d)
	}
	l := h.connect(t, sftpFrom("198.51.100.7"))
	if _, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key, Code: code(h.codesAt())}); err != nil {
		t.Fatal(err)
	}
	if err := h.db.ResetSecond(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	if d := <-l.hung; d.Code != policy.CodeCredential {
		t.Errorf("session with the old second factor: %v", d)
	}
	h.set(t, policy.Site, "auth.require_2fa", "true")
	if d := <-other.hung; d.Code != policy.CodeSecondFactor {
		t.Errorf("session of an account that must have one: %v", d)
	}
}

// Whoever has the first factor gets a handful of guesses, and then one per wait, which doubles; over any number of addresses.
func TestGuessingCodesSlowsDown(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var skew atomic.Int64
	h := build(t, func(o *Options) { o.Now = func() time.Time { return start.Add(time.Duration(skew.Load())) } })
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "login.per_address", "0")
	h.set(t, policy.Site, "login.ban_after", "0")
	code, _ := h.enrol(t, "alice")
	guesses, n := 0, 0
	for skew.Load() < int64(24*time.Hour) {
		n++
		l := h.connect(t, sftpFrom(fmt.Sprintf("198.51.100.%d", n%250+1)))
		_, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key, Code: "x"})
		l.Close()
		if errors.Is(err, ErrAuth) {
			guesses++
			continue
		}
		wantCode(t, "while waiting", err, policy.CodeCodeRate)
		skew.Add(int64(10 * time.Minute))
	}
	if guesses < 15 || guesses > 40 {
		t.Errorf("%d guesses in a day", guesses)
	}
	h.m.Unlock("alice")
	l := h.connect(t, sftpFrom("203.0.113.1"))
	if _, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key, Code: code(h.codesAt())}); err != nil { // the database has its own clock
		t.Errorf("after unlock: %v", err)
	}
}
