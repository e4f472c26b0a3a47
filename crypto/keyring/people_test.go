package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport/crypto/durable"
	"sallyport/crypto/shamir"
)

// cheap is the least that a passphrase may cost.
var cheap = argon2Floor

const goodPhrase = "correct horse battery staple"

func newKeyFile(t *testing.T) *KeyFile {
	t.Helper()
	key, err := NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustCreate(t *testing.T, s Seal) (dir string, k *Keyring) {
	t.Helper()
	dir = t.TempDir()
	k, err := Create(t.Context(), dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return dir, k
}

func mustInfo(t *testing.T, dir string) *SealInfo {
	t.Helper()
	i, err := ReadSeal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// sameKeyring fails unless both give the same policy key.
func sameKeyring(t *testing.T, a, b *Keyring) {
	t.Helper()
	if a.PolicyToken("account", "alice") != b.PolicyToken("account", "alice") {
		t.Fatal("another keyring")
	}
}

func TestPassphraseOpensAndWrongOneDoesNot(t *testing.T) {
	t.Parallel()
	s, err := NewPassphrase([]byte(goodPhrase), cheap)
	if refusedByFIPS(t, err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, k := mustCreate(t, s)
	info := mustInfo(t, dir)
	if info.Kind != KindPassphrase || info.Argon2 != cheap {
		t.Fatalf("info: %+v", info)
	}
	right, err := info.Passphrase([]byte(goodPhrase))
	if err != nil {
		t.Fatal(err)
	}
	sameKeyring(t, k, mustOpen(t, dir, right))
	if _, err := Open(t.Context(), dir, right); !errors.Is(err, ErrSealed) {
		t.Errorf("a seal that was used remembers its secret: %v", err)
	}
	wrong, err := info.Passphrase([]byte(goodPhrase + "r"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, wrong); !errors.Is(err, ErrWrongKey) {
		t.Errorf("wrong passphrase: %v, want ErrWrongKey", err)
	}
	if _, err := info.NewCollector(time.Hour); !errors.Is(err, ErrWrongKey) {
		t.Errorf("collecting shares for a passphrase: %v", err)
	}
}

func TestPassphraseIsOneInEveryUnicodeForm(t *testing.T) {
	t.Parallel()
	s, err := NewPassphrase([]byte("caf\u00e9 au lait demain matin"), cheap)
	if refusedByFIPS(t, err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := mustCreate(t, s)
	typed, err := mustInfo(t, dir).Passphrase([]byte("cafe\u0301 au lait demain matin"))
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, typed)
}

func TestWeakPassphraseIsRefused(t *testing.T) {
	t.Parallel()
	for _, weak := range []string{"", "short", "fifteen chars!!", "aaaaaaaaaaaaaaaaaaaaaaaa", "abcabcabcabcabcabcabc", "abcdefghijklmnopqrstuvwxyz", "12345678901234567890123", "tab\tin the middle of it", "not utf-8 \xff but long enough", strings.Repeat("long enough ", 100)} {
		if err := CheckPassphrase([]byte(weak)); !errors.Is(err, ErrWeakPassphrase) {
			t.Errorf("%q: %v, want ErrWeakPassphrase", weak, err)
		}
	}
	for _, good := range []string{goodPhrase, "Tr0ub4dor&3-Tr0ub4", "ein grünes Fahrrad im Teich", "ключ от старой двери"} {
		if err := CheckPassphrase([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestSharesOpenOneAtATime(t *testing.T) {
	t.Parallel()
	s, shares, err := NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir, k := mustCreate(t, s)
	info := mustInfo(t, dir)
	c, err := info.NewCollector(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := info.Shares(c); !errors.Is(err, shamir.ErrTooFew) {
		t.Errorf("no shares: %v", err)
	}
	if p, err := c.Add(shares[2].Text()); err != nil || p.String() != "1/2" || p.Complete() {
		t.Fatalf("first share: %v, %v", p, err)
	}
	if p, err := c.Add(shares[2].Text()); !errors.Is(err, shamir.ErrDuplicate) || p.Have != 1 {
		t.Errorf("same share: %v, %v", p, err)
	}
	_, others, err := NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Add(others[0].Text()); !errors.Is(err, shamir.ErrMixed) || p.Have != 1 {
		t.Errorf("share of another set: %v, %v", p, err)
	}
	if p, err := c.Add(shares[0].Text()); err != nil || !p.Complete() {
		t.Fatalf("second share: %v, %v", p, err)
	}
	seal, err := info.Shares(c)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Progress(); p.Have != 0 {
		t.Errorf("the collector kept %d shares", p.Have)
	}
	sameKeyring(t, k, mustOpen(t, dir, seal))
}

// A share that was made up passes every check of its own; the commitment tells.
func TestForgedShareDoesNotOpen(t *testing.T) {
	t.Parallel()
	s, shares, err := NewShares(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := mustCreate(t, s)
	info := mustInfo(t, dir)
	c, err := info.NewCollector(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	shares[1].Y[7] ^= 1
	for i := range shares {
		if _, err := c.Add(shares[i].Text()); err != nil {
			t.Fatal(err)
		}
	}
	seal, err := info.Shares(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, seal); !errors.Is(err, ErrWrongKey) {
		t.Errorf("forged share: %v, want ErrWrongKey", err)
	}
}

func TestResealChangesTheSealAndKeepsTheKeys(t *testing.T) {
	t.Parallel()
	key := newKeyFile(t)
	dir, k := mustCreate(t, key)
	id, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to, shares, err := NewShares(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Reseal(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, key); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the old key file: %v, want ErrWrongKey", err)
	}
	info := mustInfo(t, dir)
	c, err := info.NewCollector(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range shares {
		if _, err := c.Add(shares[i].Text()); err != nil {
			t.Fatal(err)
		}
	}
	seal, err := info.Shares(c)
	if err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir, seal)
	sameKeyring(t, k, again)
	if _, err := again.Account(id); err != nil {
		t.Error(err)
	}
	// And back, which must give the same bytes of a format 1 file.
	if err := again.Reseal(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	sameKeyring(t, k, mustOpen(t, dir, key))
}

// brokenSeal wraps what nobody can unwrap.
type brokenSeal struct{ *KeyFile }

func (brokenSeal) Unwrap(context.Context, []byte) ([]byte, error) { return make([]byte, keySize), nil }

func TestResealTriesTheNewSealBeforeItForgetsTheOld(t *testing.T) {
	t.Parallel()
	key := newKeyFile(t)
	dir, k := mustCreate(t, key)
	if err := k.Reseal(t.Context(), brokenSeal{newKeyFile(t)}); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("a seal that gives another key: %v", err)
	}
	mustOpen(t, dir, key)
}

func TestRecoveryKitOpensWhateverTheSeal(t *testing.T) {
	t.Parallel()
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := newKeyFile(t)
	dir, k := mustCreate(t, key)
	ctx := t.Context()
	id, armoured, err := k.ExportRecovery(ctx, person.Recipient().String(), time.Now())
	if refusedByFIPS(t, err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*Keyring, error) {
		s, err := mustInfo(t, dir).Recovery(armoured, []byte(person.String()))
		if err != nil {
			return nil, err
		}
		return Open(ctx, dir, s)
	}
	recovered, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer recovered.Close()
	sameKeyring(t, k, recovered)
	// The key file is lost: re-seal by shares; the kit survives that.
	to, _, err := NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := recovered.Reseal(ctx, to); err != nil {
		t.Fatal(err)
	}
	again, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.RevokeRecovery(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); !errors.Is(err, ErrWrongKey) {
		t.Errorf("a revoked kit: %v, want ErrWrongKey", err)
	}
	if err := again.RevokeRecovery(ctx, id); !errors.Is(err, ErrNoKit) {
		t.Errorf("revoked twice: %v", err)
	}
	if text := mustInfo(t, dir).file.encode(); bytes.Contains(text, []byte("recovery")) {
		t.Error("the last kit left something behind")
	}
}

// TestResealThatTheDiskDoesNotConfirm: the new seal.json is in its place, and
// whether it stays there after power loss is not known. Whoever threw the new
// secret away because of the error must still be able to open the keyring.
func TestResealThatTheDiskDoesNotConfirm(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk failed")
	for _, lasting := range []bool{false, true} {
		old, fresh := newKeyFile(t), newKeyFile(t)
		dir, k := mustCreate(t, old)
		n := 0
		k.replace = func(path string, data []byte, perm fs.FileMode) error {
			if err := durable.WriteFile(path, data, perm); err != nil {
				return err
			}
			if n++; n == 1 || lasting {
				return fmt.Errorf("%w: %w", durable.ErrUncertain, broken)
			}
			return nil
		}
		err := k.Reseal(t.Context(), fresh)
		if !errors.Is(err, broken) || errors.Is(err, ErrUnsure) != lasting {
			t.Errorf("lasting %v: %v", lasting, err)
		}
		if !lasting {
			sameKeyring(t, k, mustOpen(t, dir, old))
			continue
		}
		k.replace = durable.WriteFile
		if err := k.Reseal(t.Context(), fresh); err != nil { // said which to keep
			t.Fatal(err)
		}
		sameKeyring(t, k, mustOpen(t, dir, fresh))
	}
}

// TestWhatAnOlderRootHoldsUpDoesNotSayThatItWasDone: an error that said so
// would have the old secret thrown away, or an account called destroyed.
func TestWhatAnOlderRootHoldsUpDoesNotSayThatItWasDone(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, dir, tokens := filled(t, seal, 1)
	seal.refuse = errors.New("the vault is away")
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) || errors.Is(err, ErrPending) {
		t.Fatalf("rotated, and the old root stays: %v", err)
	}
	for what, err := range map[string]error{
		"reseal":  k.Reseal(t.Context(), newKeyFile(t)),
		"rotate":  k.RotateRoot(t.Context()),
		"destroy": k.DestroyAccount(t.Context(), k.Accounts()[0]),
	} {
		if !errors.Is(err, ErrPending) || errors.Is(err, ErrOldRoot) || !errors.Is(err, seal.refuse) {
			t.Errorf("%s: %v, want ErrPending with its cause", what, err)
		}
	}
	sameTokens(t, "after all that", mustOpen(t, dir, seal), tokens)
}

// TestAPassphraseIsNotUsedUp: the seal derives from it again, whether it had to be composed first or not, and the caller's bytes stay
// the caller's.
func TestAPassphraseIsNotUsedUp(t *testing.T) {
	t.Parallel()
	for _, phrase := range []string{"only ASCII in these five words", "cafe\u0301 au lait demain matin"} {
		pass := []byte(phrase)
		s, err := NewPassphrase(pass, cheap)
		if refusedByFIPS(t, err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(pass) != phrase {
			t.Errorf("the caller's passphrase became %q", pass)
		}
		root := bytes.Repeat([]byte{7}, 32)
		wrapped, err := s.Wrap(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := s.Unwrap(t.Context(), wrapped); err != nil || !bytes.Equal(got, root) {
				t.Errorf("%q: unwrapped %x, %v", phrase, got, err)
			}
		}
		forget(s)
	}
}
