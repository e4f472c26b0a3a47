package keyring

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// forgetful is a seal that cannot destroy what it wrapped, so that an old root stays in seal.json.
type forgetful struct{ *KeyFile }

func (forgetful) DestroyOld(context.Context, []byte, []byte) error { return errors.New("not now") }

// TestAnImageOpensWithTheSealAlone writes an image into an empty directory, also while an old root waits for its
// destruction: it opens with the secret, has the keys of its instant, and holds one root.
func TestAnImageOpensWithTheSealAlone(t *testing.T) {
	t.Parallel()
	key, err := NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k, err := Create(t.Context(), dir, forgetful{key})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	a, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) {
		t.Fatalf("rotating: %v", err)
	}
	image, err := k.Image()
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.NewAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(image.Accounts) != 1 || image.Accounts[0] != (ImageAccount{a, 1}) || image.Epoch != 2 {
		t.Fatalf("image of epoch %d with %v", image.Epoch, image.Accounts)
	}
	copied := t.TempDir()
	for name, data := range map[string][]byte{sealName: image.Seal, keyringName: image.Ring} {
		if err := os.WriteFile(filepath.Join(copied, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := ReadSeal(copied)
	if err != nil || len(info.Epochs) != 1 || info.Epochs[0] != 2 {
		t.Fatalf("roots %v, %v", info, err)
	}
	r, err := Open(t.Context(), copied, key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Account(a); err != nil {
		t.Error(err)
	}
	if _, err := r.Account(b); !errors.Is(err, ErrNoAccount) {
		t.Errorf("a later account: %v", err)
	}
	if r.PolicyToken("x", "y") != k.PolicyToken("x", "y") {
		t.Error("another policy key")
	}
}

func TestNoImageAfterClose(t *testing.T) {
	t.Parallel()
	key, err := NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := Create(t.Context(), t.TempDir(), key)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	if _, err := k.Image(); !errors.Is(err, ErrSealed) {
		t.Fatal(err)
	}
}
