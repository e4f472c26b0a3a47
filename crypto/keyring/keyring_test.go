package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/crypto/record"
)

// newState makes a keyring in a directory beside its key file.
func newState(t testing.TB) (*Keyring, string, *KeyFile) {
	t.Helper()
	base := t.TempDir()
	seal, err := NewKeyFile(filepath.Join(base, "key"))
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(base, "state")
	k, err := Create(t.Context(), state, seal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k, state, seal
}

func mustOpen(t testing.TB, state string, s Seal) *Keyring {
	t.Helper()
	k, err := Open(t.Context(), state, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func TestAccountsSurviveReopening(t *testing.T) {
	t.Parallel()
	k, state, seal := newState(t)
	tokens := map[AccountID][16]byte{}
	for range 5 {
		id, err := k.NewAccount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		keys, err := k.Account(id)
		if err != nil {
			t.Fatal(err)
		}
		if keys.ID() != id || keys.Version() != 1 {
			t.Errorf("account %v: keys of %v, version %d", id, keys.ID(), keys.Version())
		}
		tokens[id] = keys.NameToken(1, "name")
	}
	gone := k.Accounts()[2]
	if err := k.RemoveAccount(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	delete(tokens, gone)
	policy, err := k.Policy()
	if err != nil {
		t.Fatal(err)
	}
	audit, err := k.Audit()
	if err != nil {
		t.Fatal(err)
	}
	sealedPolicy := policy.Seal(nil, record.DomainPolicy, nil, []byte("policy"))
	sealedAudit := audit.Seal(nil, record.DomainAudit, nil, []byte("audit"))
	token := k.PolicyToken("account", "alice")

	again := mustOpen(t, state, seal)
	for _, k := range []*Keyring{k, again} {
		if got := k.Accounts(); len(got) != len(tokens) || !slices.IsSortedFunc(got, func(a, b AccountID) int { return bytes.Compare(a[:], b[:]) }) {
			t.Errorf("accounts: %v", got)
		}
		for id, want := range tokens {
			if keys, err := k.Account(id); err != nil || keys.NameToken(1, "name") != want {
				t.Errorf("account %v: other keys, err %v", id, err)
			}
		}
		if _, err := k.Account(gone); !errors.Is(err, ErrNoAccount) {
			t.Errorf("removed account: got %v, want %v", err, ErrNoAccount)
		}
		if err := k.RemoveAccount(t.Context(), gone); !errors.Is(err, ErrNoAccount) {
			t.Errorf("removing it again: got %v, want %v", err, ErrNoAccount)
		}
	}
	policy, _ = again.Policy()
	audit, _ = again.Audit()
	if got, err := policy.Open(nil, record.DomainPolicy, nil, sealedPolicy); err != nil || string(got) != "policy" {
		t.Errorf("policy: got %q, %v", got, err)
	}
	if got, err := audit.Open(nil, record.DomainAudit, nil, sealedAudit); err != nil || string(got) != "audit" {
		t.Errorf("audit: got %q, %v", got, err)
	}
	if _, err := audit.Open(nil, record.DomainPolicy, nil, sealedPolicy); err == nil {
		t.Error("the audit key opens the policy")
	}
	if again.PolicyToken("account", "alice") != token || again.Epoch() != 1 {
		t.Error("another token or epoch after reopening")
	}
}

func TestPolicyTokensDiffer(t *testing.T) {
	t.Parallel()
	k, _, _ := newState(t)
	seen := map[[16]byte]bool{}
	for _, v := range [][2]string{{"account", "alice"}, {"group", "alice"}, {"account", "bob"}, {"accounta", "lice"}, {"", "accountalice"}} {
		seen[k.PolicyToken(v[0], v[1])] = true
	}
	if len(seen) != 5 {
		t.Errorf("5 names have %d tokens", len(seen))
	}
}

// TestNothingInClear looks for the root and account keys in the files, and at modes.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	k, state, seal := newState(t)
	if _, err := k.NewAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	kek, err := k.root.kek()
	if err != nil {
		t.Fatal(err)
	}
	e := k.ring.accounts[0]
	account, err := kek.Unwrap(e.id, record.DomainAccountKey, versionKey(1), e.wrapped[:])
	if err != nil {
		t.Fatal(err)
	}
	sealKey, err := seal.read()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
		data, err := os.ReadFile(filepath.Join(state, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for what, key := range map[string][]byte{"root": k.root.key(), "account": account[:], "seal": sealKey[:], "token": tokenKey(k)} {
			if bytes.Contains(data, key[:8]) {
				t.Errorf("%s holds the %s key", e.Name(), what)
			}
		}
	}
	if len(entries) != 2 {
		t.Errorf("the state directory holds %v", entries)
	}
	out := ""
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out += fmt.Sprintf(verb+verb, k, k.root)
	}
	for what, key := range map[string][]byte{"root": k.root.key(), "token": tokenKey(k)} {
		for _, form := range []string{"%d", "%x", "%s"} {
			if strings.Contains(out, strings.Trim(fmt.Sprintf(form, key[:8]), "[]")) {
				t.Errorf("printing shows the %s key as %s", what, form)
			}
		}
	}
}

func TestCreateRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	_, state, seal := newState(t)
	before := readState(t, state)
	if _, err := Create(t.Context(), state, seal); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a keyring: got %v, want %v", err, fs.ErrExist)
	}
	if err := os.Remove(filepath.Join(state, sealName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), state, seal); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over half of a keyring: got %v, want %v", err, fs.ErrExist)
	}
	if got := readState(t, state)[keyringName]; !bytes.Equal(got, before[keyringName]) {
		t.Error("the keyring was changed")
	}
	if _, err := Open(t.Context(), t.TempDir(), seal); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening an empty directory: got %v, want %v", err, fs.ErrNotExist)
	}
}

// TestFailedCreateLeavesNothing seals with a seal that fails.
func TestFailedCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	broken := errors.New("the network is down")
	if _, err := Create(t.Context(), state, fakeSeal{wrap: func([]byte) ([]byte, error) { return nil, broken }}); !errors.Is(err, broken) {
		t.Fatalf("got %v, want %v", err, broken)
	}
	if got := readState(t, state); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestFailedChangeIsNotApplied takes the directory away below a keyring.
func TestFailedChangeIsNotApplied(t *testing.T) {
	t.Parallel()
	k, state, _ := newState(t)
	id, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(state, state+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.NewAccount(t.Context()); err == nil {
		t.Error("an account was made without a disk")
	}
	if err := k.RemoveAccount(t.Context(), id); err == nil {
		t.Error("an account was removed without a disk")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.NewAccount(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if got := k.Accounts(); !slices.Equal(got, []AccountID{id}) {
		t.Errorf("accounts are %v, want only %v", got, id)
	}
	if _, err := k.Account(id); err != nil {
		t.Errorf("the account that could not be removed: %v", err)
	}
}

func TestClosedIsSealed(t *testing.T) {
	t.Parallel()
	k, _, _ := newState(t)
	id, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, account := k.Account(id)
	_, policy := k.Policy()
	_, audit := k.Audit()
	_, create := k.NewAccount(t.Context())
	for what, err := range map[string]error{"Account": account, "Policy": policy, "Audit": audit, "NewAccount": create, "RemoveAccount": k.RemoveAccount(t.Context(), id)} {
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: got %v, want %v", what, err, ErrSealed)
		}
	}
	if k.Accounts() != nil || k.Epoch() != 0 {
		t.Error("a closed keyring tells of accounts or an epoch")
	}
	defer func() {
		if recover() == nil {
			t.Error("a closed keyring makes tokens")
		}
	}()
	k.PolicyToken("account", "alice")
}

// TestCacheLetsGo checks that derived keys are shared while in use and dropped after.
func TestCacheLetsGo(t *testing.T) {
	t.Parallel()
	k, _, _ := newState(t)
	id, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := k.Account(id)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if b, err := k.Account(id); err != nil || a != b {
		t.Fatalf("two callers got different keys: %p, %p, %v", a, b, err)
	}
	runtime.KeepAlive(a)
	for deadline := time.Now().Add(time.Minute); ; runtime.GC() {
		k.cache.mu.Lock()
		n := len(k.cache.keys)
		k.cache.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the keys of an idle account stay")
		}
	}
	if _, err := k.Account(id); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestConcurrentUse adds, looks up and removes from many goroutines; it is for -race.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	k, state, seal := newState(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 4 {
				id, err := k.NewAccount(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := k.Account(id); err != nil {
					t.Error(err)
				}
				k.PolicyToken("account", id.String())
				if i%2 == 0 {
					if err := k.RemoveAccount(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := mustOpen(t, state, seal).Accounts(); len(got) != 8 || !slices.Equal(got, k.Accounts()) {
		t.Errorf("%d accounts on the disk, %d in memory, want 8", len(got), len(k.Accounts()))
	}
}

// TestOpenClearsLeftovers leaves a half-written keyring as a crash would.
func TestOpenClearsLeftovers(t *testing.T) {
	t.Parallel()
	_, state, seal := newState(t)
	for _, name := range []string{"keyring.tmp-1", "seal.json.tmp-2"} {
		if err := os.WriteFile(filepath.Join(state, name), []byte("SPKE"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, state, seal)
	if got := readState(t, state); len(got) != 2 {
		t.Errorf("the state directory holds %d files, want 2", len(got))
	}
}

// readState reads every file of a directory.
func readState(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

// fakeSeal is a seal in clear, or a broken one.
type fakeSeal struct {
	wrap, unwrap func([]byte) ([]byte, error)
}

func (fakeSeal) Kind() string  { return KindHelper }
func (fakeSeal) Label() string { return "fake" }

func (s fakeSeal) Wrap(_ context.Context, root []byte) ([]byte, error) {
	if s.wrap != nil {
		return s.wrap(root)
	}
	return slices.Clone(root), nil
}

func (s fakeSeal) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	if s.unwrap != nil {
		return s.unwrap(wrapped)
	}
	return slices.Clone(wrapped), nil
}

// BenchmarkNewAccount grows a keyring that is already large: what a change
// costs besides the file is copying, not cryptography.
func BenchmarkNewAccount(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k, _, _ := newState(b)
			r := *k.ring
			for i := range n {
				r.accounts = append(r.accounts, entry{id: AccountID{byte(i >> 16), byte(i >> 8), byte(i)}})
			}
			r.sum = r.compute(k.root)
			for b.Loop() {
				id := AccountID(record.NewKey()[:16])
				next := r.with(entry{id: id}, k.root)
				if err := k.store(k.root, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// tokenKey is a copy of it.
func tokenKey(k *Keyring) (key []byte) {
	k.site.token.Use(func(b []byte) { key = append(key, b...) })
	return key
}
