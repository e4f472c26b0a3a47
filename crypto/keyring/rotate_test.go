package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// vaultSeal is a seal that can destroy: what was wrapped is of use only while
// it remembers the key for it.
type vaultSeal struct {
	mu        sync.Mutex
	roots     map[string][]byte
	destroyed []string
	refuse    error  // of DestroyOld
	onDestroy func() // called before anything is destroyed
}

func (*vaultSeal) Kind() string  { return KindTransit }
func (*vaultSeal) Label() string { return "vault" }

func (s *vaultSeal) Wrap(_ context.Context, root []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roots == nil {
		s.roots = map[string][]byte{}
	}
	handle := record.NewKey()
	s.roots[string(handle[:])] = slices.Clone(root)
	return handle[:], nil
}

func (s *vaultSeal) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if root := s.roots[string(wrapped)]; root != nil {
		return slices.Clone(root), nil
	}
	return nil, ErrWrongKey
}

func (s *vaultSeal) DestroyOld(_ context.Context, wrapped, keep []byte) error {
	if bytes.Equal(wrapped, keep) {
		return ErrDamaged
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onDestroy != nil {
		s.onDestroy()
	}
	if s.refuse != nil {
		return s.refuse
	}
	delete(s.roots, string(wrapped))
	s.destroyed = append(s.destroyed, string(wrapped))
	return nil
}

// filled is a keyring with some accounts, and a token of each that only its key makes.
func filled(t testing.TB, s Seal, accounts int) (*Keyring, string, map[AccountID][16]byte) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	k, err := Create(t.Context(), state, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	for range accounts {
		if _, err := k.NewAccount(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return k, state, tokensOf(t, k)
}

func tokensOf(t testing.TB, k *Keyring) map[AccountID][16]byte {
	t.Helper()
	tokens := map[AccountID][16]byte{}
	for _, id := range k.Accounts() {
		keys, err := k.Account(id)
		if err != nil {
			t.Fatal(err)
		}
		tokens[id] = keys.NameToken(1, "a")
	}
	return tokens
}

func sameTokens(t testing.TB, when string, k *Keyring, want map[AccountID][16]byte) {
	t.Helper()
	got := tokensOf(t, k)
	if len(got) != len(want) {
		t.Errorf("%s: %d accounts, want %d", when, len(got), len(want))
	}
	for id, token := range want {
		if got[id] != token {
			t.Errorf("%s: account %v has another key", when, id)
		}
	}
}

func writeState(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stateOf is a new state directory with the given seal.json and keyring.
func stateOf(t testing.TB, seal, ring []byte) string {
	t.Helper()
	dir := t.TempDir()
	writeState(t, dir, map[string][]byte{sealName: seal, keyringName: ring})
	return dir
}

func TestRootRotationKeepsEveryKeyAndEndsTheOldRoot(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	seal, err := NewKeyFile(filepath.Join(base, "key"))
	if err != nil {
		t.Fatal(err)
	}
	k, state, tokens := filled(t, seal, 5)
	policy := k.PolicyToken("account", "alice")
	before := readState(t, state)
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := readState(t, state)
	if k.Epoch() != 2 || k.PolicyToken("account", "alice") != policy {
		t.Errorf("epoch %d, want 2, with the policy key as it was", k.Epoch())
	}
	sameTokens(t, "after", k, tokens)
	again := mustOpen(t, state, seal)
	sameTokens(t, "reopened", again, tokens)
	if st := again.Status(); st.Epoch != 2 || st.OldRoot != 0 || st.Created.IsZero() || st.Accounts[k.Accounts()[0]].Created.IsZero() {
		t.Errorf("status %+v", st)
	}
	for i := range 5 {
		at := ringFixed + i*entrySize + 28
		if bytes.Equal(before[keyringName][at:at+141], after[keyringName][at:at+141]) {
			t.Errorf("account %d is wrapped as it was", i)
		}
	}
	// Neither half of the old state goes with the new one.
	for what, dir := range map[string]string{
		"old keyring under the new root": stateOf(t, after[sealName], before[keyringName]),
		"new keyring under the old root": stateOf(t, before[sealName], after[keyringName]),
	} {
		if _, err := Open(t.Context(), dir, seal); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", what, err, ErrDamaged)
		}
	}
	// It goes on living.
	if _, err := k.NewAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context()); err != nil || k.Epoch() != 3 {
		t.Errorf("second rotation: epoch %d, %v", k.Epoch(), err)
	}
	if got := len(mustOpen(t, state, seal).Accounts()); got != 6 {
		t.Errorf("%d accounts after both, want 6", got)
	}
}

// TestRootRotationSurvivesACrashAtEachStep takes the state directory as each
// step of a rotation leaves it, and opens that.
func TestRootRotationSurvivesACrashAtEachStep(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, tokens := filled(t, seal, 3)
	type step struct {
		files map[string][]byte
		roots map[string][]byte // what the vault holds at that time
	}
	var steps []step
	take := func(leftover []byte, path string) {
		files := readState(t, state)
		if leftover != nil {
			files[filepath.Base(path)+".tmp-1"] = leftover[:len(leftover)/2]
		}
		steps = append(steps, step{files, maps.Clone(seal.roots)})
	}
	k.replace = func(path string, data []byte, perm fs.FileMode) error {
		take(nil, path)
		take(data, path)
		err := durable.WriteFile(path, data, perm)
		take(nil, path)
		return err
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 9 {
		t.Fatalf("%d states, want 9: seal.json, keyring, seal.json, three of each", len(steps))
	}
	for i, s := range steps {
		when := fmt.Sprintf("step %d", i)
		vault := &vaultSeal{roots: maps.Clone(s.roots)}
		dir := t.TempDir()
		writeState(t, dir, s.files)
		k := mustOpen(t, dir, vault)
		sameTokens(t, when, k, tokens)
		want, destroyed := uint32(1), 0
		if i >= 5 { // the rename of keyring is the commit point
			want, destroyed = 2, 1
		}
		if len(vault.destroyed) != 0 {
			t.Errorf("%s: opening it destroyed something, and nobody could be told", when)
		}
		if _, err := k.Finish(t.Context()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if st := k.Status(); st.Epoch != want || st.OldRoot != 0 || len(k.sealed.Roots) != 1 {
			t.Errorf("%s: %+v", when, st)
		}
		if i < 8 && len(vault.destroyed) != destroyed {
			t.Errorf("%s: %d roots were destroyed, want %d", when, len(vault.destroyed), destroyed)
		}
		if files := readState(t, dir); len(files) != 2 {
			t.Errorf("%s: %d files are left, want 2", when, len(files))
		}
		if err := k.RotateRoot(t.Context()); err != nil {
			t.Errorf("%s: rotating again: %v", when, err)
		}
		sameTokens(t, when+", rotated again", mustOpen(t, dir, vault), tokens)
	}
}

func TestOldRootStaysPendingUntilTheSealDestroysIt(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{refuse: errors.New("vault is down")}
	k, state, tokens := filled(t, seal, 2)
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) {
		t.Fatalf("got %v, want %v", err, ErrOldRoot)
	}
	if st := k.Status(); st.Epoch != 2 || st.OldRoot != 1 || !errors.Is(st.OldRootError, ErrOldRoot) || !st.Destroys {
		t.Errorf("status %+v: the new root is in force, the old one pending", st)
	}
	sameTokens(t, "pending", k, tokens)
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrPending) || k.Epoch() != 2 {
		t.Errorf("a third root beside the pending one: epoch %d, %v", k.Epoch(), err)
	}
	if st := mustOpen(t, state, seal).Status(); st.Epoch != 2 || st.OldRoot != 1 {
		t.Errorf("opened with the vault down: %+v", st)
	}
	seal.refuse = nil
	k = mustOpen(t, state, seal)
	if st := k.Status(); st.OldRoot != 1 || !errors.Is(st.OldRootError, ErrOldRoot) {
		t.Errorf("opened, and not finished: %+v", st)
	}
	if _, err := k.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	if st := k.Status(); st.OldRoot != 0 || len(seal.roots) != 1 || len(seal.destroyed) != 1 {
		t.Errorf("opened with the vault up: %+v, %d roots", st, len(seal.roots))
	}
}

// TestFailedRootRotation has each write fail in both ways: without effect, and
// with the effect that the disk then does not confirm.
func TestFailedRootRotation(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk failed")
	for fail := range 3 {
		for _, applied := range []bool{false, true} {
			for _, lasting := range []bool{false, true} {
				name := fmt.Sprintf("write %d, applied %v, lasting %v", fail, applied, lasting)
				seal := &vaultSeal{}
				k, state, tokens := filled(t, seal, 2)
				n := 0
				k.replace = func(path string, data []byte, perm fs.FileMode) error {
					n++
					if n-1 == fail || lasting && n > fail {
						if !applied {
							return broken
						}
						return errors.Join(fmt.Errorf("%w: %w", durable.ErrUncertain, broken), durable.WriteFile(path, data, perm))
					}
					return durable.WriteFile(path, data, perm)
				}
				err := k.RotateRoot(t.Context())
				if !errors.Is(err, broken) {
					t.Errorf("%s: got %v", name, err)
				}
				sameTokens(t, name, k, tokens)
				// Whatever the disk has now, it opens.
				copied := t.TempDir()
				writeState(t, copied, readState(t, state))
				crashed := &vaultSeal{roots: maps.Clone(seal.roots)}
				sameTokens(t, name+", crashed", mustOpen(t, copied, crashed), tokens)
				// And when the disk works again, everything does.
				k.replace = durable.WriteFile
				if err := k.Settle(); err != nil {
					t.Errorf("%s: settling: %v", name, err)
				}
				if _, err := k.NewAccount(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if err := k.RotateRoot(t.Context()); err != nil {
					t.Errorf("%s: rotating again: %v", name, err)
				}
				if got := len(mustOpen(t, state, seal).Accounts()); got != 3 {
					t.Errorf("%s: %d accounts in the end, want 3", name, got)
				}
			}
		}
	}
}

func TestRootRotationToAnotherKeyFile(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	old, err := NewKeyFile(filepath.Join(base, "old"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := NewKeyFile(filepath.Join(base, "new"))
	if err != nil {
		t.Fatal(err)
	}
	k, state, tokens := filled(t, old, 2)
	if err := k.RotateRootTo(t.Context(), &vaultSeal{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("to another kind: got %v", err)
	}
	if err := k.RotateRootTo(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), state, old); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the old key file: got %v, want %v", err, ErrWrongKey)
	}
	sameTokens(t, "new key file", mustOpen(t, state, fresh), tokens)
	if err := k.RotateRoot(t.Context()); err != nil { // stays with the new one
		t.Fatal(err)
	}
	sameTokens(t, "rotated again", mustOpen(t, state, fresh), tokens)
}

func TestSwitchPutsManyKeysInForceAtOnce(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, before := filled(t, seal, 4)
	ids := k.Accounts()
	var next []*NextKey
	for _, id := range ids[:3] {
		n, err := k.NextKey(id)
		if err != nil {
			t.Fatal(err)
		}
		next = append(next, n)
	}
	if err := k.RotateRoot(t.Context()); err != nil { // in between: next keys are under no root yet
		t.Fatal(err)
	}
	sameTokens(t, "before the switch", k, before)
	writes := 0
	k.replace = func(path string, data []byte, perm fs.FileMode) error {
		writes++
		return durable.WriteFile(path, data, perm)
	}
	stale, err := k.NextKey(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Switch(t.Context(), next...); err != nil || writes != 1 {
		t.Fatalf("%d writes of the keyring, want 1; %v", writes, err)
	}
	want := map[AccountID][16]byte{ids[3]: before[ids[3]]}
	for _, n := range next {
		want[n.id] = n.Keys().NameToken(1, "a")
		n.key.Use(func(b []byte) {
			if !bytes.Equal(b, make([]byte, keySize)) {
				t.Error("a key that was switched to is still in memory")
			}
		})
	}
	sameTokens(t, "switched", k, want)
	again := mustOpen(t, state, seal)
	sameTokens(t, "reopened", again, want)
	if a, err := again.Age(ids[0]); err != nil || a.Version != 2 || a.Created.IsZero() {
		t.Errorf("age %+v, %v", a, err)
	}
	if err := k.Switch(t.Context(), stale); !errors.Is(err, ErrMoved) {
		t.Errorf("a key for a version that is past: got %v, want %v", err, ErrMoved)
	}
	if err := k.RemoveAccount(t.Context(), ids[3]); err != nil {
		t.Fatal(err)
	}
	if _, err := k.NextKey(ids[3]); !errors.Is(err, ErrNoAccount) {
		t.Errorf("next key of a removed account: got %v", err)
	}
}

// TestWhatTakesKeysAwayHasThemOverwritten: nobody else may come to say that they are not used any more.
func TestWhatTakesKeysAwayHasThemOverwritten(t *testing.T) {
	t.Parallel()
	k, _, _ := filled(t, &vaultSeal{}, 3)
	ids := k.Accounts()
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"an account is removed", func() error { return k.RemoveAccount(t.Context(), ids[0]) }},
		{"an account is destroyed", func() error { return k.DestroyAccount(t.Context(), ids[1]) }},
		{"the root is replaced", func() error { return k.RotateRoot(t.Context()) }},
		{"an account gets another key", func() error {
			n, err := k.NextKey(ids[2])
			if err != nil {
				return err
			}
			return k.Switch(t.Context(), n)
		}},
	} {
		k.sweep.stop() // of the step before
		k.sweep.off = false
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		k.sweep.mu.Lock()
		waits := k.sweep.timer != nil
		k.sweep.mu.Unlock()
		if !waits {
			t.Errorf("%s, and the garbage collector is not told", c.what)
		}
	}
}

func TestForgottenKeysAreOwedUntilTheRootIsReplaced(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, _ := filled(t, seal, 4)
	ids := k.Accounts()
	owed := func(want int) {
		t.Helper()
		for _, k := range []*Keyring{k, mustOpen(t, state, seal)} {
			if got := k.Status().Owed; got != want {
				t.Errorf("%d keys are owed, want %d", got, want)
			}
		}
	}
	owed(0)
	n, err := k.NextKey(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Switch(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	owed(1)
	if err := k.RemoveAccount(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	owed(2)
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	owed(0)
	before := readState(t, state)[keyringName]
	if err := k.DestroyAccount(t.Context(), ids[2]); err != nil {
		t.Fatal(err)
	}
	owed(0)
	if _, err := k.Account(ids[2]); !errors.Is(err, ErrNoAccount) || k.Epoch() != 3 {
		t.Errorf("destroyed account: %v at epoch %d", err, k.Epoch())
	}
	if err := k.DestroyAccount(t.Context(), ids[2]); !errors.Is(err, ErrNoAccount) || k.Epoch() != 3 {
		t.Errorf("destroyed twice: %v at epoch %d", err, k.Epoch())
	}
	again := mustOpen(t, state, seal)
	if _, err := decodeRing(before, again.root); !errors.Is(err, ErrDamaged) {
		t.Errorf("the keyring that had the key, under the root in force: %v", err)
	}
	if got := again.Accounts(); !slices.Equal(got, []AccountID{ids[0], ids[3]}) {
		t.Errorf("accounts are %v", got)
	}
}

// TestRootRotationDisturbsNobody looks keys up and makes accounts while roots come and go.
func TestRootRotationDisturbsNobody(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, tokens := filled(t, seal, 4)
	ids := k.Accounts()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				id := ids[(i+n)%len(ids)]
				keys, err := k.Account(id)
				if err != nil || keys.NameToken(1, "a") != tokens[id] {
					t.Errorf("lookup: %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		if err := k.RotateRoot(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := k.NewAccount(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	if got := mustOpen(t, state, seal); got.Epoch() != 11 || len(got.Accounts()) != 14 {
		t.Errorf("epoch %d with %d accounts, want 11 with 14", got.Epoch(), len(got.Accounts()))
	}
}

func TestRootRotationOfAClosedKeyring(t *testing.T) {
	t.Parallel()
	k, state, _ := filled(t, &vaultSeal{}, 1)
	before := readState(t, state)
	k.Close()
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrSealed) {
		t.Errorf("got %v, want %v", err, ErrSealed)
	}
	for name, data := range readState(t, state) {
		if !bytes.Equal(data, before[name]) {
			t.Errorf("%s changed", name)
		}
	}
}

// BenchmarkRotateRoot is docs/PERFORMANCE.md "Keys".
func BenchmarkRotateRoot(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k, _, _ := filled(b, &vaultSeal{}, 0)
			kek, err := k.root.kek()
			if err != nil {
				b.Fatal(err)
			}
			r := k.ring.clone()
			for i := range n {
				e := entry{id: AccountID{byte(i >> 16), byte(i >> 8), byte(i)}, siteKey: siteKey{version: 1}}
				copy(e.wrapped[:], kek.Wrap(e.id, record.DomainAccountKey, versionKey(1), record.NewKey()))
				r.accounts = append(r.accounts, e)
			}
			r.sum = r.compute(k.root)
			k.ring = r
			for b.Loop() {
				if err := k.RotateRoot(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestStatusWaitsForNobody: a key service that does not answer holds a change up, and not who asks how things are.
func TestStatusWaitsForNobody(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	blocked := false
	_, k := mustCreate(t, fakeSeal{wrap: func(root []byte) ([]byte, error) {
		if blocked {
			close(asked)
			<-answer
		}
		return slices.Clone(root), nil
	}})
	if st := k.Status(); st.Changing || st.Epoch != 1 {
		t.Errorf("before: %+v", st)
	}
	blocked = true
	done := make(chan error)
	go func() { done <- k.RotateRoot(t.Context()) }()
	<-asked
	if st := k.Status(); !st.Changing || st.Epoch != 1 || st.Seal != KindHelper {
		t.Errorf("during a change: %+v", st)
	}
	close(answer)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := k.Status(); st.Changing || st.Epoch != 2 || st.OldRoot != 0 {
		t.Errorf("after it: %+v", st)
	}
}
