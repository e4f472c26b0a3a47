package session

import (
	"errors"
	"testing"

	"sallyport/policy"
	"sallyport/policy/policydb"
)

const other = "kestrel-tulip-93"

func TestAPasswordThatMustBeChangedOpensNothing(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	if err := h.db.RequireChange(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	l := h.connect(t, sftpFrom("198.51.100.7"))
	_, err := l.Login(t.Context(), "alice", Credential{Password: secret})
	wantCode(t, "the password that must be changed", err, policy.CodeMustChange)
	if _, err := l.Login(t.Context(), "alice", Credential{Password: secret, NewPassword: secret}); !isWeak(err) {
		t.Errorf("the same password again: %v", err)
	}
	if _, err := l.Login(t.Context(), "alice", Credential{Password: "wrong-horse-12", NewPassword: other}); !errors.Is(err, ErrAuth) {
		t.Errorf("a wrong one: %v", err)
	}
	if _, err := l.Login(t.Context(), "alice", Credential{Password: secret, NewPassword: other}); err != nil {
		t.Errorf("with another one: %v", err)
	}
	k := h.connect(t, sftpFrom("198.51.100.7"))
	if err := h.db.RequireChange(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Login(t.Context(), "alice", Credential{PublicKey: h.key}); err != nil {
		t.Errorf("a key is not concerned: %v", err)
	}
}

func isWeak(err error) bool {
	_, ok := errors.AsType[*policy.WeakPasswordError](err)
	return ok
}

// A change before login wants the old password, the code, and the right to come in at all.
func TestChangeBeforeLogin(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	code, _ := h.enrol(t, "alice")
	l := h.connect(t, sftpFrom("198.51.100.7"))
	if err := l.ChangePassword(t.Context(), "alice", "wrong-horse-12", other); !errors.Is(err, ErrAuth) {
		t.Errorf("wrong old password: %v", err)
	}
	wantCode(t, "without a code", l.ChangePassword(t.Context(), "alice", secret, other), policy.CodeCodeNeeded)
	if err := h.db.RequireChange(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	_, err := l.Login(t.Context(), "alice", Credential{Password: Secret(secret + string(code(h.codesAt()))), CodeAppended: true})
	wantCode(t, "with the code", err, policy.CodeMustChange)
	if err := l.ChangePassword(t.Context(), "nobody", secret, other); !errors.Is(err, ErrAuth) {
		t.Errorf("of nobody: %v", err)
	}
	if err := l.ChangePassword(t.Context(), "alice", secret, "short"); !isWeak(err) {
		t.Errorf("a weak one: %v", err)
	}
	h.set(t, policy.AccountTarget("alice"), "allow_from", "[203.0.113.0/24]")
	wantCode(t, "from another network", l.ChangePassword(t.Context(), "alice", secret, other), policy.CodeNotAllowed)
	h.set(t, policy.AccountTarget("alice"), "allow_from", "[]")
	if err := l.ChangePassword(t.Context(), "alice", secret, other); err != nil {
		t.Errorf("good: %v", err)
	}
	wantCode(t, "the code of before does not serve twice", l.ChangePassword(t.Context(), "alice", other, secret), policy.CodeCodeNeeded)
}

// The session that changes the password goes on; others that came in with the old one end.
func TestChangeOnASession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "bob", everything)
	mine, yours := h.connect(t, sftpFrom("198.51.100.7")), h.connect(t, sftpFrom("198.51.100.8"))
	s, err := mine.Login(t.Context(), "alice", Credential{Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := yours.Login(t.Context(), "alice", Credential{Password: secret}); err != nil {
		t.Fatal(err)
	}
	if err := mine.ChangePassword(t.Context(), "bob", secret, other); !errors.Is(err, ErrAuth) {
		t.Errorf("of somebody else: %v", err)
	}
	if err := mine.ChangePassword(t.Context(), "alice", secret, other); err != nil {
		t.Fatal(err)
	}
	if d := <-yours.hung; d.Code != policy.CodeCredential {
		t.Errorf("the other session: %v", d)
	}
	if _, err := s.Files().Stat("/"); err != nil {
		t.Errorf("the session that changed it: %v", err)
	}
	if err := h.db.SetPassword(t.Context(), "alice", "operators-choice-7", "test"); err != nil {
		t.Fatal(err)
	}
	if d := <-mine.hung; d.Code != policy.CodeCredential {
		t.Errorf("after the operator's change: %v", d)
	}
}

// A change that was refused leaves no door open: the operator's next password ends the session all the same.
func TestRefusedChangeDoesNotSpareTheSession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	mine := h.connect(t, sftpFrom("198.51.100.7"))
	s, err := mine.Login(t.Context(), "alice", Credential{Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := mine.ChangePassword(t.Context(), "alice", secret, "short"); !isWeak(err) {
		t.Fatal(err)
	}
	if _, err := s.Files().Stat("/"); err != nil {
		t.Fatalf("after a refused change: %v", err)
	}
	if err := h.db.SetPassword(t.Context(), "alice", "operators-choice-7", "test"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Files().Stat("/")
	wantCode(t, "after the operator's change", err, policy.CodeCredential)
}

// An owner's change that was proven with the password of before does not undo the operator's.
func TestOwnersChangeDoesNotUndoTheOperators(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	mine := h.connect(t, sftpFrom("198.51.100.7"))
	proven, err := h.db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.db.SetPassword(t.Context(), "alice", "operators-choice-7", "test"); err != nil {
		t.Fatal(err)
	}
	if err := mine.m.setOwn(t.Context(), mine.Conn, proven, other); !errors.Is(err, ErrAuth) {
		t.Errorf("changed all the same: %v", err)
	}
	a, err := h.db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	if !a.CheckPassword("operators-choice-7") {
		t.Error("the operator's password is gone")
	}
}

// A login with a hash of another system stores its own; the work for nobody is that of the policy's kind.
func TestLoginUpgradesHashes(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "password.hash", "argon2id")
	l := h.connect(t, sftpFrom("198.51.100.7"))
	if _, err := l.Login(t.Context(), "alice", Credential{Password: secret}); err != nil {
		t.Fatal(err)
	}
	a, err := h.db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.db.Upgrade(t.Context(), a, "something else"); err != nil { // a no-op, or the password would be lost
		t.Fatal(err)
	}
	if a, err = h.db.Account("alice"); err != nil || !a.CheckPassword(secret) {
		t.Errorf("after the login: %v", err)
	}
	var against []*policydb.Account
	h.m.check = func(a *policydb.Account, secret string) bool {
		against = append(against, a)
		return a.CheckPassword(secret)
	}
	l = h.connect(t, sftpFrom("198.51.100.7"))
	if _, err := l.Login(t.Context(), "nobody", Credential{Password: secret}); !errors.Is(err, ErrAuth) {
		t.Fatal(err)
	}
	if len(against) != 1 || against[0] != h.m.decoys["argon2id"] {
		t.Errorf("nobody's password was checked %d times", len(against))
	}
}
