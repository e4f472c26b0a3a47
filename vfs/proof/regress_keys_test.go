package proof

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/vfs"
)

// TestPeersFailureWrappingKeyStoredBesideWhatItWraps: a peer derives its wrapping key from fields that stand beside what it wraps. Here no
// 32 bytes of the state directory, as they are, in hexadecimal or in Base64, open it.
func TestPeersFailureWrappingKeyStoredBesideWhatItWraps(t *testing.T) {
	t.Parallel()
	c := withAccounts(t)
	names := []string{"seal.json", "keyring"}
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(c.state, name))
		check(t, err)
		files[name] = data
	}
	path := filepath.Join(scratch(t), "key")
	opens := func(key []byte) bool {
		check(t, os.WriteFile(path, []byte(hex.EncodeToString(key)+"\n"), 0o600))
		ring, err := keyring.Open(t.Context(), c.state, &keyring.KeyFile{Path: path})
		if err == nil {
			ring.Close()
		}
		return err == nil
	}
	tried := map[string]bool{}
	search := func(data []byte) (found bool) {
		try := func(key []byte) {
			if len(key) == 32 && !tried[string(key)] {
				tried[string(key)] = true
				found = found || opens(key)
			}
		}
		for i := range data {
			if i+32 <= len(data) {
				try(data[i : i+32])
			}
			if i+64 <= len(data) {
				key, _ := hex.DecodeString(string(data[i : i+64]))
				try(key)
			}
			if i+44 <= len(data) {
				key, _ := base64.StdEncoding.DecodeString(string(data[i : i+44]))
				try(key)
			}
		}
		return found
	}
	for _, name := range names {
		if search(files[name]) {
			t.Errorf("%s holds the key that opens it", name)
		}
	}
	n := len(tried)
	if n < 800 {
		t.Errorf("only %d keys tried", n)
	}
	key, err := os.ReadFile(c.key.Path)
	check(t, err)
	if !search(append([]byte("where it was copied to: "), key...)) {
		t.Error("the search does not even find the key where it is: it proves nothing")
	}
	beside := filepath.Join(c.state, "key")
	check(t, os.WriteFile(beside, key, 0o600))
	defer os.Remove(beside)
	if _, err := keyring.Open(t.Context(), c.state, &keyring.KeyFile{Path: beside}); err == nil {
		t.Error("a key file within the state directory is taken")
	}
	t.Logf("%d keys tried", n)
}

// TestPeersFailurePlaintextTempFiles: a peer writes uploads in clear to the volume or to the directory of temporary files. Here no file
// in either, named or already unlinked and still open, has anything of what goes up or comes down.
func TestPeersFailurePlaintextTempFiles(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp) // which forbids t.Parallel
	c := emptyCorpus(t)
	id, err := c.ring.NewAccount(t.Context())
	check(t, err)
	dir := filepath.Join(c.state, "accounts")
	f, err := vfs.Open(t.Context(), vfs.Options{Dir: dir, Keyring: c.ring, IdleClose: -1})
	check(t, err)
	defer f.Close()
	check(t, f.Create(t.Context(), id))
	v, err := f.Volume(t.Context(), id)
	check(t, err)
	w := v.View(vfs.ViewOptions{Writer: "client"})
	defer w.Close()
	word := record.NewKey()
	looked := 0
	look := func(path string) bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		looked++
		return bytes.Contains(data, word[:])
	}
	clean := func(when string) {
		t.Helper()
		for _, root := range []string{c.state, tmp} {
			check(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && look(p) {
					t.Errorf("%s: %s has the content in clear", when, p)
				}
				return err
			}))
		}
		open, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		for _, d := range open {
			p := filepath.Join("/proc/self/fd", d.Name())
			if to, err := os.Readlink(p); err == nil && strings.HasSuffix(to, " (deleted)") && strings.HasPrefix(to, "/") && look(p) {
				t.Errorf("%s: the unlinked file %s has the content in clear", when, to)
			}
		}
	}
	content := bytes.Repeat(append(bytes.Clone(word[:]), "a record of somebody"...), 20_000)
	up, err := open(w, "/f", os.O_RDWR|os.O_CREATE)
	check(t, err)
	for at := 0; at < len(content); at += len(content) / 4 {
		check(t, writeAll(up, content[at:min(len(content), at+len(content)/4)]))
		clean("during the upload")
	}
	check(t, up.Sync())
	_, err = up.WriteAt(content[:1000], 500_000) // out of order
	check(t, err)
	clean("after a write out of order")
	check(t, up.Close())
	clean("after the upload")
	down, err := open(w, "/f", os.O_RDONLY)
	check(t, err)
	_, err = down.ReadAt(make([]byte, 300_000), 100_000)
	check(t, err)
	clean("during the download")
	check(t, down.Close())
	clean("after the download")
	clear := filepath.Join(tmp, "clear")
	check(t, os.WriteFile(clear, content[:100], 0o600))
	if !look(clear) || looked < 20 {
		t.Errorf("%d files looked at, and a plaintext one is not noticed: the test proves nothing", looked)
	}
}
