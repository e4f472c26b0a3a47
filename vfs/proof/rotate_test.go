package proof

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/vfs"
)

// age is a state directory at one time: its seal.json, keyring and tree, and what the account's file said.
type age struct {
	seal, ring, tree []byte
	version          uint32
	content          string
}

// TestTamperAges puts together seal.json, keyring and tree of different times, between which the account and the root got
// new keys: what opens is exactly what that tree said in its time, under its own key; all else is refused.
func TestTamperAges(t *testing.T) {
	t.Parallel()
	c := emptyCorpus(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	accounts := filepath.Join(c.state, "accounts")
	id, err := c.ring.NewAccount(t.Context())
	must(err)
	f, err := vfs.Open(t.Context(), vfs.Options{Dir: accounts, Keyring: c.ring, IdleClose: -1})
	must(err)
	must(f.Create(t.Context(), id))
	must(f.Close())
	dir := filepath.Join(accounts, id.String())

	var ages []age
	take := func() {
		t.Helper()
		n, err := c.ring.Age(id)
		must(err)
		a := age{version: n.Version, content: fmt.Sprint("content ", len(ages))}
		f, err := vfs.Open(t.Context(), vfs.Options{Dir: accounts, Keyring: c.ring, IdleClose: -1})
		must(err)
		v, err := f.Volume(t.Context(), id)
		must(err)
		w := v.View(vfs.ViewOptions{})
		must(upload("/f", []byte(a.content), 0)(w, func() {}))
		must(w.Close())
		must(f.Close())
		for _, x := range []struct {
			to   *[]byte
			path string
		}{{&a.seal, filepath.Join(c.state, "seal.json")}, {&a.ring, filepath.Join(c.state, "keyring")}, {&a.tree, filepath.Join(dir, fmt.Sprintf("tree-%d.db", n.Version))}} {
			*x.to, err = os.ReadFile(x.path)
			must(err)
		}
		ages = append(ages, a)
	}
	rotate := func() {
		t.Helper()
		f, err := vfs.Open(t.Context(), vfs.Options{Dir: accounts, Keyring: c.ring, IdleClose: -1})
		must(err)
		must(f.Rotate(t.Context(), []keyring.AccountID{id}, func(r vfs.Rotated) { must(r.Err) }))
		must(f.Close())
	}
	take()
	take() // the same keys, another tree
	rotate()
	take()
	must(c.ring.RotateRoot(t.Context()))
	take()
	rotate()
	take()

	opened, refused := 0, 0
	for i, seal := range ages {
		for j, ring := range ages {
			for k, tree := range ages {
				names := []uint32{tree.version}
				if ring.version != tree.version {
					names = append(names, ring.version) // under its own name, and under that which is wanted
				}
				for _, name := range names {
					got, err := openAge(t, c.key, id, seal.seal, ring.ring, tree.tree, name)
					if err != nil {
						refused++
						continue
					}
					opened++
					if got != tree.content || ring.version != tree.version {
						t.Errorf("seal.json of %d, keyring of %d, tree of %d as tree-%d.db: got %q", i, j, k, name, got)
					}
				}
			}
			if now := ages[j]; i == j {
				if got, err := openAge(t, c.key, id, now.seal, now.ring, now.tree, now.version); err != nil || got != now.content {
					t.Errorf("all of time %d: got %q, %v", i, got, err)
				}
			}
		}
	}
	t.Logf("%d combinations were refused, %d opened as what they were", refused, opened)
	if opened == 0 || refused < opened {
		t.Errorf("%d opened, %d were refused: the test does not look at what it should", opened, refused)
	}
}

// openAge puts a state directory together and reads its file.
func openAge(t testing.TB, key keyring.Seal, id keyring.AccountID, seal, ring, tree []byte, name uint32) (string, error) {
	t.Helper()
	dir := scratch(t)
	defer os.RemoveAll(dir)
	account := filepath.Join(dir, "accounts", id.String())
	if err := os.MkdirAll(filepath.Join(account, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{filepath.Join(dir, "seal.json"): seal, filepath.Join(dir, "keyring"): ring, filepath.Join(account, fmt.Sprintf("tree-%d.db", name)): tree} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := keyring.Open(t.Context(), dir, key)
	if err != nil {
		return "", err
	}
	defer k.Close()
	f, err := vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: k, IdleClose: -1})
	if err != nil {
		return "", err
	}
	defer f.Close()
	v, err := f.Volume(t.Context(), id)
	if err != nil {
		return "", err
	}
	w := v.View(vfs.ViewOptions{})
	defer w.Close()
	r, err := open(w, "/f", os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}
