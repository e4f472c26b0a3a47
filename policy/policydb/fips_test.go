package policydb

import (
	"crypto/fips140"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/approved"
	"sallyport/crypto/approved/approvedtest"
)

func TestUnderFIPS(t *testing.T) {
	t.Parallel()
	approvedtest.Run(t, 2)
}

// Passwords are made with PBKDF2 whatever the policy says; what was made otherwise does not open, and says why.
func TestFIPSPasswords(t *testing.T) {
	approvedtest.Need(t)
	now := noon
	const secret = "kestrel-tulip-93"
	for _, kind := range []string{"pbkdf2", "bcrypt", "argon2id"} {
		db := passwordDB(t, &now, "password: {hash: "+kind+"}")
		if err := db.SetPassword(t.Context(), "alice", secret, "test"); err != nil {
			t.Fatal(err)
		}
		a := account(t, db)
		if !strings.HasPrefix(a.hash, "$pbkdf2-sha256$i=") || a.PasswordUsable() != nil || !a.CheckPassword(secret) || a.CheckPassword(secret+"x") {
			t.Errorf("policy says %s: %.20s", kind, a.hash)
		}
		if decoy := db.Decoy(kind); !strings.HasPrefix(decoy.hash, pbkdf2Prefix) {
			t.Errorf("the decoy of %s is no PBKDF2: %.20s", kind, decoy.hash)
		}
		if err := db.Upgrade(t.Context(), a, secret); err != nil || account(t, db).hash != a.hash {
			t.Errorf("stored anew without need: %v", err)
		}
	}
	db := passwordDB(t, &now, "")
	salt := []byte("0123456789abcdef")
	var foreign []byte
	var argon []byte
	fips140.WithoutEnforcement(func() {
		foreign, _ = bcrypt.GenerateFromPassword(prehash(secret), bcrypt.MinCost)
		argon = argonKey(argonTests, salt, secret, 32)
	})
	for _, hash := range []string{string(foreign), formatArgon(argonTests, salt, argon), imported + string(foreign)} {
		if err := db.edit(t.Context(), "alice", "test", func(a *Account) error { a.hash = hash; return nil }); err != nil {
			t.Fatal(err)
		}
		a := account(t, db)
		if a.CheckPassword(secret) || !errors.Is(a.PasswordUsable(), approved.ErrNotFIPS) {
			t.Errorf("%.12s: opens, or does not say why not: %v", hash, a.PasswordUsable())
		}
		if plain := strings.TrimPrefix(hash, imported); !errors.Is(db.ChangePassword(t.Context(), PasswordChange{Account: "alice", Hash: plain, Who: "test"}), approved.ErrNotFIPS) {
			t.Errorf("%.12s was imported", hash)
		}
		setSite(t, db, "password: {history: 3}") // that hash is of before, too, and cannot be compared with
		if err := db.SetPassword(t.Context(), "alice", secret, "test"); err != nil || !account(t, db).CheckPassword(secret) {
			t.Errorf("a new password after %.12s: %v", hash, err)
		}
	}
	wantWeak(t, "one that can be compared", db.SetPassword(t.Context(), "alice", secret, "test"), "password.history")
}

// A second factor is of HMAC-SHA-256 there; one of HMAC-SHA-1 is refused with a sentence, and its recovery codes work.
func TestFIPSSecondFactor(t *testing.T) {
	approvedtest.Need(t)
	now := time.Date(2026, 11, 27, 12, 0, 10, 0, time.UTC)
	db := passwordDB(t, &now, "")
	e, err := db.EnableSecond(t.Context(), "alice", "test", "test")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(e.URI, "&algorithm=SHA256") {
		t.Errorf("URI %s", e.URI)
	}
	s := account(t, db).Second
	if _, _, err := db.UseCode(t.Context(), "alice", s.code(uint64(now.Unix())/codePeriod)); err != nil {
		t.Errorf("a code of HMAC-SHA-256: %v", err)
	}
	if err := db.edit(t.Context(), "alice", "test", func(a *Account) error {
		old := *a.Second
		old.Algorithm = "SHA1"
		a.Second = &old
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.UseCode(t.Context(), "alice", "123456"); !errors.Is(err, approved.ErrNotFIPS) {
		t.Errorf("a code of HMAC-SHA-1: %v", err)
	}
	if recovery, _, err := db.UseCode(t.Context(), "alice", e.Recovery[0]); err != nil || !recovery {
		t.Errorf("a recovery code: %v", err)
	}
}
