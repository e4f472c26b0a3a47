package server

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/server/statecopy"
)

// clinging is a seal that cannot destroy what it should, so that seal.json keeps two roots.
type clinging struct {
	*keyring.KeyFile
	asked *int
}

func (c clinging) DestroyOld(context.Context, []byte, []byte) error {
	*c.asked++
	return errors.New("not now")
}

// TestACopyWithTwoRootsDestroysNone: nothing authenticates the roots of seal.json as a set, so whoever can write to a copy could
// put one beside the other that is still in use elsewhere.
func TestACopyWithTwoRootsDestroysNone(t *testing.T) {
	t.Parallel()
	dir, asked := t.TempDir(), 0
	file, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	check(t, err)
	seal := clinging{file, &asked}
	k, err := keyring.Create(t.Context(), dir, seal)
	check(t, err)
	r := &restorer{o: RestoreOptions{Seal: func(context.Context, *keyring.SealInfo) (keyring.Seal, error) { return seal, nil }}}
	check(t, r.open(t.Context(), dir))
	check(t, r.keys.Close())
	if err := k.RotateRoot(t.Context()); err != nil && !errors.Is(err, keyring.ErrOldRoot) {
		t.Fatal(err)
	}
	check(t, k.Close())
	asked = 0
	if err := r.open(t.Context(), dir); !errors.Is(err, statecopy.ErrDamaged) {
		t.Errorf("a copy with two roots: %v", err)
	}
	if asked != 0 {
		t.Error("a root was to be destroyed")
	}
}

// TestATrialPutsNoHostKeyBesideTheCopy: the trial's directory is on the medium of the copy, where nothing is in clear.
func TestATrialPutsNoHostKeyBesideTheCopy(t *testing.T) {
	t.Parallel()
	k, _ := noted(t)
	box, err := k.Policy()
	check(t, err)
	name := statecopy.IdentityFile("ssh_host_ed25519_key")
	sealed := box.Seal(nil, record.DomainIdentity, []byte(name), []byte("a private key"))
	for _, trial := range []bool{true, false} {
		c := &Config{}
		c.State.Dir = t.TempDir()
		r := &restorer{c: c, keys: k, trial: trial, out: &Restored{}}
		check(t, r.identity(name, sealed))
		var written []string
		check(t, filepath.WalkDir(c.State.Dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				written = append(written, path)
			}
			return err
		}))
		if trial != (len(written) == 0) {
			t.Errorf("trial %v: wrote %q", trial, written)
		}
		sealed := append([]byte(nil), sealed...)
		sealed[len(sealed)-1] ^= 1
		if r.identity(name, sealed) == nil {
			t.Errorf("trial %v: a damaged one is good", trial)
		}
	}
}
