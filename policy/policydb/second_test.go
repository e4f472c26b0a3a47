package policydb

import (
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Codes are those of RFC 6238, appendix B, of which authenticators show the last six digits.
func TestCodesAreThoseOfTheRFC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at           int64
		sha1, sha256 string
	}{
		{59, "94287082", "46119246"}, {1111111109, "07081804", "68084774"}, {1111111111, "14050471", "67062674"},
		{1234567890, "89005924", "91819424"}, {2000000000, "69279037", "90698825"}, {20000000000, "65353130", "77737706"},
	} {
		var got string
		fips140.WithoutEnforcement(func() { got = hotp(sha1.New, []byte("12345678901234567890"), uint64(c.at/30)) })
		if got != c.sha1[2:] {
			t.Errorf("SHA1 at %d: %s, want %s", c.at, got, c.sha1[2:])
		}
		if got := hotp(sha256.New, []byte("12345678901234567890123456789012"), uint64(c.at/30)); got != c.sha256[2:] {
			t.Errorf("SHA256 at %d: %s, want %s", c.at, got, c.sha256[2:])
		}
	}
}

func TestACodeWorksOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 10, 0, time.UTC)
	o := options(t)
	o.Now = func() time.Time { return now }
	db := open(t, o)
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "alice", ID: [16]byte{1}, Who: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.UseCode(t.Context(), "alice", "123456"); !errors.Is(err, ErrNoSecond) {
		t.Fatalf("without a second factor: %v", err)
	}
	e, err := db.EnableSecond(t.Context(), "alice", "Sallyport test", "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.EnableSecond(t.Context(), "alice", "x", "test"); !errors.Is(err, ErrHasSecond) {
		t.Errorf("a second enrolment: %v", err)
	}
	u, err := url.Parse(e.URI)
	if err != nil || u.Scheme != "otpauth" || u.Path != "/Sallyport test:alice" {
		t.Fatalf("URI %s, %v", e.URI, err)
	}
	secret, err := base32Plain.DecodeString(u.Query().Get("secret"))
	if err != nil {
		t.Fatal(err)
	}
	step := uint64(now.Unix()) / 30
	code := func(s uint64) string {
		if u.Query().Get("algorithm") == "SHA256" { // under fips140=only
			return hotp(sha256.New, secret, s)
		}
		return hotp(sha1.New, secret, s)
	}
	use := func(what, c string, want error) {
		t.Helper()
		if _, _, err := db.UseCode(t.Context(), "alice", c); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	use("two periods old", code(step-2), ErrWrongCode)
	use("two periods ahead", code(step+2), ErrWrongCode)
	use("one period old", code(step-1), nil)
	use("again", code(step-1), ErrUsedCode)
	use("of now", code(step), nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	use("of now, after a restart", code(step), ErrUsedCode)
	use("older than the last used", code(step-1), ErrUsedCode)
	use("one period ahead", code(step+1), nil)
	use("of now, when a later one was used", code(step), ErrUsedCode)

	// Of many at once exactly one wins.
	now = now.Add(10 * time.Minute)
	next := code(uint64(now.Unix()) / 30)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			if _, _, err := db.UseCode(t.Context(), "alice", next); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("one code, %d logins", won)
	}

	recovery, left, err := db.UseCode(t.Context(), "alice", strings.ToUpper(e.Recovery[3]))
	if err != nil || !recovery || left != len(e.Recovery)-1 {
		t.Errorf("recovery code: %v, %d left, %v", recovery, left, err)
	}
	use("a recovery code again", e.Recovery[3], ErrWrongCode)
	use("a recovery code that is none", "aaaa-bbbb-cccc-dddd", ErrWrongCode)

	if err := db.ResetSecond(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	use("after the reset", e.Recovery[4], ErrNoSecond)
}

func TestSplitCode(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"correct-horse-12123456":      {"correct-horse-12", "123456"},
		"correct-horse-12":            {"correct-horse-12", ""},
		"123456":                      {"", "123456"},
		"horse12345x":                 {"horse12345x", ""},
		"horse-12abcd-efgh-2345-mnop": {"horse-12", "abcd-efgh-2345-mnop"},
		"horse-12ABCD-EFGH-2345-MNOP": {"horse-12", "ABCD-EFGH-2345-MNOP"},
		"horse-12abcd-efgh-2345-mno1": {"horse-12abcd-efgh-2345-mno1", ""},
		"":                            {"", ""},
		"horse\u0661\u0662\u0663\u0664\u0665\u0666": {"horse\u0661\u0662\u0663\u0664\u0665\u0666", ""},
	} {
		if p, c := SplitCode(in); p != want[0] || c != want[1] {
			t.Errorf("%q: %q and %q", in, p, c)
		}
	}
}
