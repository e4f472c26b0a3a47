package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport/crypto/durable"
)

// finds is a Finder that knows one seal.
func finds(s Seal) Finder {
	return func(context.Context, string, string) (Seal, error) { return s, nil }
}

// elsewhere is a vault of another label.
type elsewhere struct{ *vaultSeal }

func (elsewhere) Label() string { return "elsewhere" }

// TestAFormerSealDestroysLaterWhatItWrapped: the vault is away when another seal takes its place. Later processes know of it, also
// after new roots, ask nobody but that vault, and forget it when it is done. A copy of the state never asks.
func TestAFormerSealDestroysLaterWhatItWrapped(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{refuse: errors.New("the vault is away")}
	k, dir, tokens := filled(t, vault, 1)
	file := newKeyFile(t)
	if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) || errors.Is(err, ErrNeeded) || !errors.Is(err, vault.refuse) {
		t.Fatalf("%v, want ErrOldRoot with its cause", err)
	}
	if st := k.Status(); st.Seal != KindKeyFile || st.Former != KindTransit || st.FormerLabel != "vault" || !errors.Is(st.FormerError, vault.refuse) || !k.Pending() {
		t.Errorf("status %+v", st)
	}
	image, err := k.Image()
	if err != nil {
		t.Fatal(err)
	}
	copied := mustOpen(t, stateOf(t, image.Seal, image.Ring), file)
	if copied.Pending() {
		t.Error("a copy would destroy something")
	}
	sameTokens(t, "copy", copied, tokens)

	k = mustOpen(t, dir, file)
	if err := k.Reseal(t.Context(), newKeyFile(t)); !errors.Is(err, ErrPending) {
		t.Errorf("a third seal: %v", err)
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Errorf("a new root: %v", err)
	}
	k = mustOpen(t, dir, file)
	sameTokens(t, "pending", k, tokens)
	vault.refuse = nil
	for what, find := range map[string]Finder{"nobody": nil, "another vault": finds(elsewhere{vault}), "a key file": finds(file)} {
		k.FindSeals(find)
		if done, err := k.Finish(t.Context()); !errors.Is(err, ErrOldRoot) || done != (Finished{}) || len(vault.destroyed) != 0 {
			t.Errorf("found %s: %+v, %v, %d destroyed", what, done, err, len(vault.destroyed))
		}
	}
	k.FindSeals(finds(vault))
	if done, err := k.Finish(t.Context()); err != nil || done != (Finished{Former: KindTransit, FormerLabel: "vault"}) || len(vault.roots) != 0 {
		t.Errorf("finished %+v, %v; the vault has %d roots", done, err, len(vault.roots))
	}
	if done, err := k.Finish(t.Context()); err != nil || done != (Finished{}) || k.Pending() {
		t.Errorf("finished twice: %+v, %v", done, err)
	}
	if text := readState(t, dir)[sealName]; bytes.Contains(text, []byte("former")) || !bytes.Contains(text, []byte(sealFormat+`"`)) {
		t.Errorf("seal.json in the end: %s", text)
	}
	sameTokens(t, "in the end", mustOpen(t, dir, file), tokens)
}

// TestResealOutOfAVaultSurvivesACrashAtEachStep: whatever a crash left, the next process opens it with the seal that it names, and
// has the vault destroy what it wrapped if and only if another seal is in force.
func TestResealOutOfAVaultSurvivesACrashAtEachStep(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{}
	k, dir, tokens := filled(t, vault, 1)
	file := newKeyFile(t)
	type step struct {
		files map[string][]byte
		roots map[string][]byte
	}
	var steps []step
	take := func() { steps = append(steps, step{readState(t, dir), maps.Clone(vault.roots)}) }
	k.replace = func(path string, data []byte, perm fs.FileMode) error {
		take()
		err := durable.WriteFile(path, data, perm)
		take()
		return err
	}
	vault.onDestroy = func() { steps = append(steps, step{readState(t, dir), maps.Clone(vault.roots)}) }
	if err := k.Reseal(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 5 {
		t.Fatalf("%d states, want 5: seal.json with the former seal, its destruction, seal.json without", len(steps))
	}
	for i, s := range steps {
		left := &vaultSeal{roots: s.roots}
		state := t.TempDir()
		writeState(t, state, s.files)
		var seal Seal = left
		want := 1
		if i > 0 {
			seal, want = file, 0
		}
		again := mustOpen(t, state, seal)
		again.FindSeals(finds(left))
		if _, err := again.Finish(t.Context()); err != nil || len(left.roots) != want || again.Pending() {
			t.Errorf("step %d: %v; the vault has %d roots, want %d", i, err, len(left.roots), want)
		}
		sameTokens(t, "crashed", mustOpen(t, state, seal), tokens)
	}
}

// TestAFormerSealIsAuthentic: who can write to the disk cannot choose what a key service destroys.
func TestAFormerSealIsAuthentic(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{refuse: errors.New("away")}
	k, dir, _ := filled(t, vault, 1)
	file := newKeyFile(t)
	if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	files := readState(t, dir)
	for what, change := range map[string]func(*formerSeal){
		"kind":    func(f *formerSeal) { f.Kind = KindHelper },
		"label":   func(f *formerSeal) { f.Label = "prod/payments" },
		"wrapped": func(f *formerSeal) { f.Wrapped[0][0] ^= 1 },
		"another": func(f *formerSeal) { f.Wrapped = append(f.Wrapped, []byte("vault:v9:AAAA")) },
		"none":    func(f *formerSeal) { f.Wrapped = nil },
		"three":   func(f *formerSeal) { f.Wrapped = append(f.Wrapped, f.Wrapped[0], f.Wrapped[0]) },
		"keyfile": func(f *formerSeal) { f.Kind = KindKeyFile },
	} {
		var f sealFile
		if err := json.Unmarshal(files[sealName], &f); err != nil {
			t.Fatal(err)
		}
		change(f.Former)
		f.Check = f.check() // anybody can
		if _, err := Open(t.Context(), stateOf(t, f.encode(), files[keyringName]), file); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", what, err, ErrDamaged)
		}
	}
	older := strings.Replace(string(files[sealName]), sealFormat3, sealFormat2, 1)
	if _, err := Open(t.Context(), stateOf(t, []byte(older), files[keyringName]), file); !errors.Is(err, ErrDamaged) {
		t.Errorf("as an older format: %v", err)
	}
}

// TestGivingUpAFormerSeal: a vault that is gone for good must not hold anything up for ever.
func TestGivingUpAFormerSeal(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{refuse: errors.New("gone for good")}
	k, dir, tokens := filled(t, vault, 1)
	if err := k.Reseal(t.Context(), newKeyFile(t)); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	if err := k.GiveUpFormer(t.Context()); err != nil || k.Pending() || len(vault.destroyed) != 0 {
		t.Errorf("given up: %v", err)
	}
	next := newKeyFile(t)
	if err := k.Reseal(t.Context(), next); err != nil {
		t.Errorf("the next seal: %v", err)
	}
	sameTokens(t, "in the end", mustOpen(t, dir, next), tokens)
}

// TestAnOldRootIsNotForgottenBecauseAKitOpensIt: an old root waits at a vault for its destruction, and a recovery kit opens the state,
// which cannot destroy there. It waits still, moves to another seal with what is in force, and goes when the vault is back.
func TestAnOldRootIsNotForgottenBecauseAKitOpensIt(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{}
	k, dir, tokens := filled(t, vault, 1)
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, armoured, err := k.ExportRecovery(t.Context(), person.Recipient().String(), time.Now())
	if refusedByFIPS(t, err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	vault.refuse = errors.New("away")
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	kit, err := mustInfo(t, dir).Recovery(armoured, []byte(person.String()))
	if err != nil {
		t.Fatal(err)
	}
	recovered := mustOpen(t, dir, kit)
	sameTokens(t, "recovered", recovered, tokens)
	if st := recovered.Status(); st.OldRoot != 1 || st.Epoch != 2 {
		t.Errorf("opened by a kit: %+v", st)
	}
	file := newKeyFile(t)
	if err := recovered.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
		t.Errorf("to a key file: %v, want %v", err, ErrOldRoot)
	}
	again := mustOpen(t, dir, file)
	sameTokens(t, "sealed again", again, tokens)
	vault.refuse = nil
	again.FindSeals(finds(vault))
	if _, err := again.Finish(t.Context()); err != nil || len(vault.roots) != 0 || again.Pending() {
		t.Errorf("finished: %v; the vault has %d roots", err, len(vault.roots))
	}
}
