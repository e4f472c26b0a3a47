package policydb

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/approved"
	"sallyport/policy"
)

// passwordDB is a database with the account alice and a policy for the site.
func passwordDB(t *testing.T, now *time.Time, site string) *DB {
	t.Helper()
	o := options(t)
	o.Now = func() time.Time { return *now }
	db := open(t, o)
	setSite(t, db, site)
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "alice", ID: [16]byte{1}, Who: "test"}); err != nil {
		t.Fatal(err)
	}
	return db
}

func setSite(t *testing.T, db *DB, site string) {
	t.Helper()
	if _, err := db.Apply(t.Context(), Change{Base: db.Current().N, Text: []byte("version: 1\nsite: {" + site + "}\n"), Who: "test"}); err != nil {
		t.Fatal(err)
	}
}

func account(t *testing.T, db *DB) *Account {
	t.Helper()
	a, err := db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantWeak checks which rule a password breaks; "" = none.
func wantWeak(t *testing.T, secret string, err error, rule string) {
	t.Helper()
	weak, ok := errors.AsType[*policy.WeakPasswordError](err)
	switch {
	case rule == "" && err != nil:
		t.Errorf("%q: %v", secret, err)
	case rule != "" && (!ok || !strings.HasPrefix(weak.Rule, rule)):
		t.Errorf("%q: %v, want %s", secret, err, rule)
	case ok && strings.Contains(err.Error(), secret):
		t.Errorf("the error quotes the password: %v", err)
	}
}

func TestEarlierPasswordsAreRefused(t *testing.T) {
	t.Parallel()
	now := noon
	db := passwordDB(t, &now, "password: {history: 3}")
	for i, c := range []struct{ secret, rule string }{
		{"kestrel-tulip-0", ""}, {"kestrel-tulip-0", "password.history"}, {"kestrel-tulip-1", ""}, {"kestrel-tulip-2", ""},
		{"kestrel-tulip-0", "password.history"}, {"kestrel-tulip-2", "password.history"}, {"kestrel-tulip-3", ""}, {"kestrel-tulip-0", ""},
	} {
		t.Log(i)
		wantWeak(t, c.secret, db.SetPassword(t.Context(), "alice", c.secret, "test"), c.rule)
	}
	if n := len(account(t, db).earlier); n != 2 {
		t.Errorf("%d earlier passwords are kept of a history of 3, which has the present one in it", n)
	}
	setSite(t, db, "password: {history: 0}")
	wantWeak(t, "kestrel-tulip-0", db.SetPassword(t.Context(), "alice", "kestrel-tulip-0", "test"), "")
	err := db.ChangePassword(t.Context(), PasswordChange{Account: "alice", Secret: "kestrel-tulip-0", Who: "test", Other: true})
	wantWeak(t, "kestrel-tulip-0", err, "password.history")
}

func TestPasswordsThatAreTriedFirstAreRefused(t *testing.T) {
	t.Parallel()
	now := noon
	db := passwordDB(t, &now, "password: {min_length: 4, min_nonletters: 0}")
	for secret, rule := range map[string]string{
		"Password1234!": "password.check_breached", "alice-2026!": "password.check_breached", "abc": "password.min_length", "kestrel.tulip.93": "",
		strings.Repeat("x7", 513): "the greatest length",
	} {
		wantWeak(t, secret, db.SetPassword(t.Context(), "alice", secret, "test"), rule)
	}
	setSite(t, db, "password: {min_length: 4, min_nonletters: 0, check_breached: false}")
	wantWeak(t, "Password1234!", db.SetPassword(t.Context(), "alice", "Password1234!", "test"), "")
}

func TestPasswordsAgeAndMustBeChanged(t *testing.T) {
	t.Parallel()
	now := noon
	db := passwordDB(t, &now, "password: {max_age_days: 30}")
	expired := func(what string, want bool) {
		t.Helper()
		if got := account(t, db).PasswordExpired(db.Current().Resolve("alice"), now); got != want {
			t.Errorf("%s: expired %v", what, got)
		}
	}
	if err := db.RequireChange(t.Context(), "alice", "test"); !errors.Is(err, ErrNoPassword) {
		t.Errorf("a change of no password: %v", err)
	}
	expired("without a password", false)
	set := func(secret string) {
		t.Helper()
		if err := db.SetPassword(t.Context(), "alice", secret, "test"); err != nil {
			t.Fatal(err)
		}
	}
	set("kestrel-tulip-1")
	expired("new", false)
	now = noon.Add(30*24*time.Hour - time.Second)
	expired("29 days old", false)
	now = noon.Add(30 * 24 * time.Hour)
	expired("30 days old", true)
	set("kestrel-tulip-2")
	expired("changed", false)
	if err := db.RequireChange(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	expired("the operator asked", true)
	set("kestrel-tulip-3")
	expired("changed again", false)
}

// Hashes of every kind verify; those that are not what the policy asks for are stored anew, and only then.
func TestHashesAreUpgraded(t *testing.T) {
	t.Parallel()
	now := noon
	db := passwordDB(t, &now, "password: {hash: bcrypt}")
	const secret = "kestrel-tulip-93"
	if approved.Only() {
		t.Skip("only one kind of hash exists there: TestUnderFIPS")
	}
	foreign, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	salt := []byte("0123456789abcdef")
	argon := formatArgon(argonTests, salt, argonKey(argonTests, salt, secret, 32))
	for _, hash := range []string{string(foreign), "$2y$" + string(foreign[4:]), "$2b$" + string(foreign[4:]), argon} {
		for _, kind := range []string{"bcrypt", "argon2id", "pbkdf2"} {
			setSite(t, db, "password: {hash: "+kind+"}")
			if err := db.ChangePassword(t.Context(), PasswordChange{Account: "alice", Hash: hash, Who: "test"}); err != nil {
				t.Fatalf("%.8s: %v", hash, err)
			}
			a := account(t, db)
			if a.CheckPassword("kestrel-tulip-94") || !a.CheckPassword(secret) {
				t.Fatalf("%.8s does not verify as it should", hash)
			}
			version := a.PasswordVersion
			if err := db.Upgrade(t.Context(), a, secret); err != nil {
				t.Fatal(err)
			}
			a = account(t, db)
			want := map[string]string{"bcrypt": "$2b$04$", "argon2id": "$argon2id$v=19$", "pbkdf2": "$pbkdf2-sha256$i=1000$"}[kind]
			if !strings.HasPrefix(a.hash, want) || !a.CheckPassword(secret) || a.CheckPassword(secret+"x") || a.PasswordVersion != version {
				t.Errorf("%.8s upgraded to %.16s, version %d to %d", hash, a.hash, version, a.PasswordVersion)
			}
			before := a.hash
			if err := db.Upgrade(t.Context(), a, secret); err != nil || account(t, db).hash != before {
				t.Errorf("upgraded twice: %v", err)
			}
		}
	}
	// A change that came between the check and the upgrade is not undone.
	old := account(t, db)
	setSite(t, db, "password: {hash: bcrypt}")
	if err := db.SetPassword(t.Context(), "alice", "other-tulip-77", "test"); err != nil {
		t.Fatal(err)
	}
	if err := db.Upgrade(t.Context(), old, secret); err != nil || !account(t, db).CheckPassword("other-tulip-77") {
		t.Errorf("an upgrade undid a change: %v", err)
	}
}

func TestBadHashesAreNotImported(t *testing.T) {
	t.Parallel()
	now := noon
	db := passwordDB(t, &now, "")
	long := hex.EncodeToString(make([]byte, 60))
	for _, h := range []string{"", "secret", "$1$salt$hash", "$6$rounds=5000$a$b", "$2b$31$" + strings.Repeat("a", 53), "$2b$xx$" + strings.Repeat("a", 53),
		"$argon2id$v=19$m=4194304,t=3,p=1$c2FsdHNhbHQ$" + "a2V5a2V5a2V5a2V5a2V5", "$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5", "$argon2id$" + long} {
		if h == "" {
			continue
		}
		if err := db.ChangePassword(t.Context(), PasswordChange{Account: "alice", Hash: h, Who: "test"}); !errors.Is(err, ErrBadHash) {
			t.Errorf("%.20s: %v", h, err)
		}
	}
}

// Nothing of a password is on the disk, whatever its kind of hash.
func TestNoPasswordInTheRecord(t *testing.T) {
	t.Parallel()
	now := noon
	for _, kind := range []string{"bcrypt", "argon2id", "pbkdf2"} {
		db := passwordDB(t, &now, "password: {hash: "+kind+"}")
		secret := "canary-" + rand.Text() + "-1"
		if err := db.SetPassword(t.Context(), "alice", secret, "test"); err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%s %+v", account(t, db).encode(), account(t, db)); strings.Contains(text, "canary") {
			t.Error("the password is in the record")
		}
	}
}
