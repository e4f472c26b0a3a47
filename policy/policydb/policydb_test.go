package policydb

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
	"sallyport/crypto/record"
	"sallyport/policy"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// options of a database under a fresh key.
func options(t testing.TB) Options {
	t.Helper()
	key, namesKey := record.NewKey(), record.NewKey()
	box, err := record.NewBox(key, record.AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	names, err := record.NewBox(namesKey, record.AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	token := func(key *record.Key) func(kind, name string) [16]byte {
		return func(kind, name string) [16]byte {
			m := hmac.New(sha256.New, key[:])
			m.Write([]byte(kind + "\x00" + name))
			return [16]byte(m.Sum(nil))
		}
	}
	return Options{Path: filepath.Join(t.TempDir(), "policy.db"), Box: box, Now: func() time.Time { return noon }, PasswordCost: bcrypt.MinCost,
		LockTimeout: 50 * time.Millisecond, Token: token(key), Names: names, NameToken: token(namesKey)}
}

func open(t testing.TB, o Options) *DB {
	t.Helper()
	db, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func sshKey(t testing.TB) []byte {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return p.Marshal()
}

func id(n byte) record.AccountID { return record.AccountID{n, 15: 1} }

// fill makes two accounts with credentials and three revisions.
func fill(t testing.TB, db *DB) {
	t.Helper()
	ctx := context.Background()
	for i, name := range []string{"alice-canary", "bob-canary"} {
		_, err := db.CreateAccount(ctx, NewAccount{Name: name, ID: id(byte(i + 1)), Who: "root-canary",
			Grants: map[string]string{"protocols": "[sftp]", "allow_from": "[198.51.100.77/32]"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.SetPassword(ctx, name, "password-canary-12", "root"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.AddKey(ctx, name, PublicKey{Blob: sshKey(t), Comment: "comment-canary"}, "root"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Apply(ctx, Change{Base: 2, Text: append(bytes.Clone(db.Current().Document.Text()), "# remark-canary\n"...), Who: "root", Why: "reason-canary"}); err != nil {
		t.Fatal(err)
	}
}

func TestSurvivesReopening(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	if r := db.Current(); r.N != 3 || r.Who != "root" || r.Why != "reason-canary" || !bytes.Contains(r.Document.Text(), []byte("remark")) {
		t.Errorf("revision %+v", r)
	}
	list, err := db.Accounts()
	if err != nil || len(list) != 2 || list[0].Name != "alice-canary" || !list[0].CheckPassword("password-canary-12") || list[0].CheckPassword("password-canary-13") {
		t.Fatalf("accounts %+v, %v", list, err)
	}
	a, err := db.AccountByID(id(2))
	if err != nil || a.Name != "bob-canary" || len(a.Keys) != 1 || a.findKey(a.Keys[0].Blob, netip.Addr{}, noon) == nil {
		t.Errorf("by id: %+v, %v", a, err)
	}
	if got := db.Current().Resolve("bob-canary").Protocols; len(got) != 1 || got[0] != policy.SFTP {
		t.Errorf("grants %v", got)
	}
	old, err := db.History(3, 10)
	if err != nil || len(old) != 2 || old[0].N != 2 || old[1].N != 1 {
		t.Errorf("history %v, %v", old, err)
	}
	if _, err := db.Revision(4); !errors.Is(err, ErrNoRevision) {
		t.Errorf("revision 4: %v", err)
	}
}

// A copied disk shows no name, no network, no hash, no key.
func TestRawFileShowsNothing(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	a, err := db.Account("alice-canary")
	if err != nil {
		t.Fatal(err)
	}
	key := a.Keys[0].Blob
	if _, err := db.RemoveAccount(t.Context(), "bob-canary", "root"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	i1 := id(1)
	// None of them is so short that ciphertext could hold it by chance.
	for _, secret := range [][]byte{[]byte("canary"), []byte("198.51.100"), []byte("$2b$04$"), []byte("$2a$04$"), []byte("ssh-ed25519"), key[20:], []byte(a.hash), []byte("version: 1"), []byte("protocols"), []byte(": [sftp]"), i1[:], []byte(i1.String())} {
		if bytes.Contains(raw, secret) {
			t.Errorf("%q stands in the file", secret)
		}
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	var told sync.Map
	db.OnChange(func(r *policy.Revision) { told.Store(r.N, true) })
	if _, err := db.Apply(t.Context(), Change{Base: 1, Text: []byte("version: 1\n")}); !errors.Is(err, ErrConflict) {
		t.Fatalf("base 1 of an empty database: %v", err)
	}
	if _, err := db.Apply(t.Context(), Change{Text: []byte("version: 1\nsitte: {}\n")}); err == nil || errors.Is(err, ErrConflict) {
		t.Fatalf("a bad document: %v", err)
	}
	// Of 20 changes of one base exactly one wins, in each of 5 rounds.
	for round := range uint64(5) {
		var wg sync.WaitGroup
		wins := make(chan uint64, 20)
		for range 20 {
			wg.Go(func() {
				r, err := db.Apply(t.Context(), Change{Base: round, Text: []byte("version: 1\n")})
				if err == nil {
					wins <- r.N
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(wins) != 1 || <-wins != round+1 || db.Current().N != round+1 {
			t.Fatalf("round %d: %d winners, now at %d", round, len(wins), db.Current().N)
		}
		if _, ok := told.Load(round + 1); !ok {
			t.Errorf("revision %d was not told", round+1)
		}
	}
}

// What follows the commit may use the database: no lock is held.
func TestCallbacksHoldNoLock(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	nested := 0
	db.OnChange(func(r *policy.Revision) {
		if r.N == 1 {
			nested++
			if _, err := db.Apply(t.Context(), Change{Base: 1, Text: []byte("version: 1\n")}); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := db.Apply(t.Context(), Change{Text: []byte("version: 1\n")}); err != nil || nested != 1 {
		t.Fatal(nested, err)
	}
}

func TestNameIsInheritedByNobody(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	ctx := t.Context()
	var events []string
	db.OnAccount(func(a *Account) {
		if a.Removed {
			events = append(events, "removed "+a.Name)
		}
	})
	n := NewAccount{Name: "alice", ID: id(1), Who: "root", Grants: map[string]string{"protocols": "[sftp]", "paths": "[{path: /, allow: [all]}]"}}
	if _, err := db.CreateAccount(ctx, n); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateAccount(ctx, NewAccount{Name: "alice", ID: id(2)}); !errors.Is(err, ErrExists) {
		t.Errorf("second account of the name: %v", err)
	}
	if _, err := db.CreateAccount(ctx, NewAccount{Name: "other", ID: id(1)}); !errors.Is(err, ErrExists) {
		t.Errorf("second account of the id: %v", err)
	}
	if _, err := db.RemoveAccount(ctx, "alice", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.AccountByID(id(1)); !errors.Is(err, ErrNoAccount) {
		t.Errorf("id of a removed account: %v", err)
	}
	if _, err := db.CreateAccount(ctx, NewAccount{Name: "alice", ID: id(3), Who: "root"}); err != nil {
		t.Fatal(err)
	}
	if e := db.Current().Resolve("alice"); len(e.Protocols) != 0 || policy.Permit(e, policy.OpRead, "/x") == nil {
		t.Error("the new alice has the rights of the old one")
	}
	if len(events) != 1 || events[0] != "removed alice" {
		t.Errorf("told %v", events)
	}
	// A section written before the account must be taken over knowingly.
	if _, err := db.Apply(ctx, Change{Base: db.Current().N, Text: []byte("version: 1\naccounts: {carol: {protocols: [sftp]}}\n")}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateAccount(ctx, NewAccount{Name: "carol", ID: id(4)}); !errors.Is(err, ErrHasPolicy) {
		t.Errorf("forgotten section: %v", err)
	}
	if _, err := db.CreateAccount(ctx, NewAccount{Name: "carol", ID: id(4), Adopt: true}); err != nil {
		t.Errorf("adopting: %v", err)
	}
}

func TestCreateIsAllOrNothing(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	for _, n := range []NewAccount{
		{Name: "a b", ID: id(1)}, {Name: "", ID: id(1)}, {Name: strings.Repeat("a", 65), ID: id(1)}, {Name: "ä", ID: id(1)}, {Name: "../x", ID: id(1)},
		{Name: "ok", ID: id(1), Groups: []string{"none"}}, {Name: "ok", ID: id(1), Grants: map[string]string{"nonsense": "1"}},
	} {
		if _, err := db.CreateAccount(t.Context(), n); err == nil {
			t.Errorf("%+v was accepted", n)
		}
	}
	if list, err := db.Accounts(); err != nil || len(list) != 0 || db.Current().N != 0 {
		t.Errorf("left behind: %v, revision %d, %v", list, db.Current().N, err)
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "a", ID: id(1)}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 72) + "12"
	set := func(secret string) *Account {
		t.Helper()
		if err := db.SetPassword(t.Context(), "a", secret, "root"); err != nil {
			t.Fatal(err)
		}
		a, err := db.Account("a")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := set(long + "A")
	if !a.CheckPassword(long+"A") || a.CheckPassword(long+"B") || a.CheckPassword(long) {
		t.Error("characters beyond 72 do not count")
	}
	if !strings.HasPrefix(a.hash, "$2b$") && !approved.Only() {
		t.Errorf("stored as %.4s", a.hash)
	}
	b := set("before\x00after12")
	if b.CheckPassword("before\x00other12") || !b.CheckPassword("before\x00after12") || b.PasswordVersion != a.PasswordVersion+1 {
		t.Error("NUL ends the password, or the version does not count")
	}
	var weak *policy.WeakPasswordError
	if err := db.SetPassword(t.Context(), "a", "short1", "root"); !errors.As(err, &weak) {
		t.Errorf("short password: %v", err)
	}
	if err := db.SetPassword(t.Context(), "nobody", "long-enough-12", "root"); !errors.Is(err, ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	if err := db.ClearPassword(t.Context(), "a", "root"); err != nil {
		t.Fatal(err)
	}
	if c, _ := db.Account("a"); c.HasPassword() || c.CheckPassword("") || !c.PasswordAt.IsZero() {
		t.Error("a cleared password still works")
	}
}

// TestDecoysCostWhatPasswordsCost: a check against a decoy does all the work, and ends in "another password" rather than in "not a hash".
func TestDecoysCostWhatPasswordsCost(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	for _, kind := range policy.Lookup("password.hash").Values {
		decoy, another := db.Decoy(kind), db.Decoy(kind)
		real, err := db.hash(kind, "a password")
		if err != nil {
			t.Fatal(err)
		}
		if len(decoy.hash) != len(real) || !db.fresh(kind, decoy.hash) || decoy.hash == another.hash || decoy.PasswordUsable() != nil {
			t.Errorf("%s: %q is not like %q", kind, decoy.hash, real)
		}
		if decoy.CheckPassword("") || decoy.CheckPassword("a password") {
			t.Errorf("the decoy of %s opens", kind)
		}
		if strings.HasPrefix(decoy.hash, "$2b$") {
			if err := bcrypt.CompareHashAndPassword([]byte(decoy.hash), prehash("a password")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
				t.Errorf("bcrypt does not do its work: %v", err)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "a", ID: id(1)}); err != nil {
		t.Fatal(err)
	}
	blob := sshKey(t)
	k, err := db.AddKey(t.Context(), "a", PublicKey{Blob: blob, Comment: "one", Expires: noon.Add(time.Hour)}, "root")
	if err != nil || k.Type != "ssh-ed25519" || !strings.HasPrefix(k.Fingerprint(), "SHA256:") {
		t.Fatal(k, err)
	}
	if _, err := db.AddKey(t.Context(), "a", PublicKey{Blob: blob, Comment: "two", Expires: noon.Add(time.Hour)}, "root"); err != nil {
		t.Fatal(err)
	}
	a, err := db.Account("a")
	if err != nil || len(a.Keys) != 1 || a.Keys[0].Comment != "two" {
		t.Fatalf("%+v %v", a.Keys, err)
	}
	if a.findKey(blob, netip.Addr{}, noon) == nil || a.findKey(blob, netip.Addr{}, noon.Add(time.Hour)) != nil || a.findKey(sshKey(t), netip.Addr{}, noon) != nil {
		t.Error("findKey is wrong about expiry or identity")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		p, err := ssh.NewPublicKey(&small.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.AddKey(t.Context(), "a", PublicKey{Blob: p.Marshal()}, "root"); !errors.Is(err, ErrBadKey) {
			t.Errorf("RSA 1024: %v", err)
		}
	}
	if _, err := db.AddKey(t.Context(), "a", PublicKey{Blob: []byte("ssh-ed25519")}, "root"); !errors.Is(err, ErrBadKey) {
		t.Errorf("nonsense: %v", err)
	}
	if err := db.RemoveKey(t.Context(), "a", "SHA256:none", "root"); !errors.Is(err, ErrNoKey) {
		t.Errorf("unknown fingerprint: %v", err)
	}
	if err := db.RemoveKey(t.Context(), "a", k.Fingerprint(), "root"); err != nil {
		t.Error(err)
	}
	if keys, err := db.Keys("a"); err != nil || len(keys) != 0 {
		t.Error(keys, err)
	}
}

func TestFailedCommitStopsWriting(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	db.testOnlyCommit = func(tx *bbolt.Tx) error { return errors.Join(tx.Rollback(), errors.New("fsync: input/output error")) }
	if err := db.SetEnabled(t.Context(), "alice-canary", false, "root"); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("failed commit: %v", err)
	}
	db.testOnlyCommit = nil
	if err := db.SetEnabled(t.Context(), "alice-canary", false, "root"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("after a failed commit: %v", err)
	}
	if a, err := db.Account("alice-canary"); err != nil || !a.Enabled {
		t.Errorf("reading goes on: %+v, %v", a, err)
	}
	db.Close()
	db = open(t, o)
	if err := db.SetEnabled(t.Context(), "alice-canary", false, "root"); err != nil {
		t.Errorf("after reopening: %v", err)
	}
}

func TestSecondOwner(t *testing.T) {
	t.Parallel()
	o := options(t)
	open(t, o)
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrBusy) {
		t.Errorf("second open: %v", err)
	}
}

func TestOtherKey(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	db.Close()
	other := options(t)
	other.Path = o.Path
	if _, err := Open(t.Context(), other); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}
