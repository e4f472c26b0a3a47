package copier

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
)

// TestAnInterruptedRestoreGoesOn cuts a restore off after each account: the target is no state directory then, the same copy
// goes on there with what it has, another copy is refused, and so is a directory that holds something else.
func TestAnInterruptedRestoreGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(200_000, 1)})
	h.account(map[string][]byte{"two": noise(200_000, 2)})
	copied, other := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "copy")
	must(h.copyTo(copied, statecopy.Options{}, nil))(t)
	second := must(h.copyTo(other, statecopy.Options{}, nil))(t)
	dir := must(statecopy.OpenDir(copied, false))(t)
	defer dir.Close()
	c := must(dir.Current())(t)
	to := filepath.Join(t.TempDir(), "new")
	for accounts := 1; accounts <= 2; accounts++ {
		if err := statecopy.Prepare(to, c.ID); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := c.Restore(ctx, to, statecopy.RestoreOptions{Progress: func(keyring.AccountID) {
			if n++; n == accounts {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cut after %d accounts: %v", accounts, err)
		}
		if _, err := os.Stat(filepath.Join(to, statecopy.SealFile)); err == nil {
			t.Fatal("it looks like a state directory")
		}
	}
	if err := statecopy.Prepare(to, second.ID); !errors.Is(err, statecopy.ErrOtherRestore) {
		t.Errorf("another copy on top: %v", err)
	}
	if err := statecopy.Prepare(to, c.ID); err != nil {
		t.Fatal(err)
	}
	blobs := must(filepath.Glob(filepath.Join(to, "accounts/*/blobs/*/*")))(t)
	before := must(os.Stat(blobs[0]))(t)
	if err := c.Restore(t.Context(), to, statecopy.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if after := must(os.Stat(blobs[0]))(t); !os.SameFile(before, after) {
		t.Error("a blob that was there was written again")
	}
	keys := must(keyring.Open(t.Context(), to, h.key))(t)
	defer keys.Close()
	if err := verifyVolumes(t.Context(), keys, to, func(f string) { t.Errorf("finding: %s", f) }); err != nil {
		t.Fatal(err)
	}
	if err := statecopy.Prepare(to, c.ID); !errors.Is(err, statecopy.ErrNotEmpty) {
		t.Errorf("over a state directory: %v", err)
	}
}
