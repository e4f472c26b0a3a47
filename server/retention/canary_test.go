package retention

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/vfs"
)

// raw is every byte of a state directory, its names included, as one who takes the disk has it.
func (s *site) raw() map[string][]byte {
	s.t.Helper()
	files := map[string][]byte{}
	s.must(filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = data
		return err
	}))
	return files
}

// find tells in which files, or in which of their names, some bytes are.
func find(files map[string][]byte, what []byte) (in []string) {
	for path, data := range files {
		if bytes.Contains(data, what) || strings.Contains(path, string(what)) {
			in = append(in, path)
		}
	}
	return in
}

// sealedKeys finds the record of each blob's wrapped key in the bytes of the database, free pages included: the blob's id, and behind
// it what begins with a record's version, 1, and the account key's (FORMAT.md). 109 bytes are header, nonce, tag and the smallest text.
func (s *site) sealedKeys(files map[string][]byte) map[string][][]byte {
	s.t.Helper()
	keys := map[string][][]byte{}
	for path := range files {
		dir, name := filepath.Split(path)
		id, err := hex.DecodeString(filepath.Base(dir) + name)
		if err != nil || len(id) != 16 || !strings.Contains(dir, "/blobs/") {
			continue
		}
		for tree, data := range files {
			if !strings.HasPrefix(filepath.Base(tree), "tree-") {
				continue
			}
			begins := append(bytes.Clone(id), 1, 0, 0, 0)
			for at := bytes.Index(data, begins); at >= 0 && at+16+109 <= len(data); { // earlier forms of it lie in free pages
				keys[string(id)] = append(keys[string(id)], bytes.Clone(data[at+16:at+16+109]))
				next := bytes.Index(data[at+1:], begins)
				if next < 0 {
					break
				}
				at += 1 + next
			}
		}
		if keys[string(id)] == nil {
			s.t.Errorf("the wrapped key of blob %x is not found: the scan proves nothing", id)
		}
	}
	return keys
}

// Retention is lowered from 30 days to 7 and to 0. At no time is a name or a content in clear in any byte of the state, and
// after the shred epoch the wrapped keys of what was purged are in none either, free pages of the database included.
func TestLoweredRetentionLeavesNeitherCanariesNorWrappedKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, Options{}, "acme")
		s.set("backup.retention_days", "30")
		put := func(w *vfs.View, name string, size int) {
			f, err := w.OpenHandle(t.Context(), name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
			s.must(err)
			text := []byte("content-canary of " + name + "\n")
			_, err = f.Write(bytes.Repeat(text, size/len(text)+1))
			s.must(err)
			s.must(f.Close())
		}
		unseen := func(when string) map[string][]byte {
			t.Helper()
			files := s.raw()
			for _, canary := range []string{"content-canary", "name-canary"} {
				if in := find(files, []byte(canary)); len(in) > 0 {
					t.Errorf("%s: %s is in clear in %q", when, canary, in)
				}
			}
			return files
		}
		lose := func(age string) {
			s.with("acme", func(w *vfs.View) {
				for _, size := range []int{60, 100_000} { // in the metadata, and in a blob
					name := fmt.Sprintf("/name-canary-%s-%d", age, size)
					put(w, name, size)
					unseen("open volume, " + name)
					put(w, name, size+1)
					s.must(w.Remove(name))
				}
			})
		}
		s.with("acme", func(w *vfs.View) { put(w, "/name-canary-kept", 100_000) })
		lose("old")
		later(15 * day)
		lose("young")

		files := unseen("30 days")
		keys := s.sealedKeys(files)
		if len(keys) != 5 {
			t.Fatalf("%d wrapped keys are found, want one of the live file and two of each large one that was removed", len(keys))
		}
		control := filepath.Join(s.dir, "control name-canary")
		s.must(os.WriteFile(control, []byte("some content-canary here"), 0o600))
		for _, canary := range []string{"content-canary", "name-canary"} {
			if in := find(s.raw(), []byte(canary)); len(in) != 1 || in[0] != control {
				t.Fatalf("the scan finds %s in %q, want it in the control file only", canary, in)
			}
		}
		s.must(os.Remove(control))

		for _, c := range []struct {
			days  string
			blobs int
		}{{"7", 3}, {"0", 1}} {
			s.set("backup.retention_days", c.days)
			later(time.Minute)
			files = unseen(c.days + " days, purged")
			live := s.sealedKeys(files) // of the blobs that are still on disk
			if len(live) != c.blobs {
				t.Errorf("%d blobs are left a minute after %s days, want %d", len(live), c.days, c.blobs)
			}
			for id, forms := range keys {
				if live[id] != nil && !slices.ContainsFunc(forms, func(key []byte) bool { return len(find(files, key)) > 0 }) {
					t.Errorf("the wrapped key of %x, which is in use, is not found: the scan proves nothing", id)
				}
			}
			got, err := s.fs.Shred(t.Context(), vfs.ShredOptions{Repack: vfs.Repack})
			s.must(err)
			if !got.NewRoot || len(got.Accounts) != 1 || got.Accounts[0].Err != nil {
				t.Errorf("receipt %+v", got)
			}
			files = unseen(c.days + " days, shredded")
			for id, forms := range keys {
				for _, key := range forms {
					if in := find(files, key); len(in) > 0 {
						t.Errorf("after %s days and the epoch the wrapped key of %x is still in %q", c.days, id, in)
					}
				}
				if in := find(files, []byte(id)); (len(in) > 0) != (live[id] != nil) {
					t.Errorf("after %s days and the epoch blob %x is named in %q; in use: %v", c.days, id, in, live[id] != nil)
				}
			}
			keys = s.sealedKeys(files)
		}
		s.with("acme", func(w *vfs.View) {
			f, err := w.OpenHandle(t.Context(), "/name-canary-kept", os.O_RDONLY, 0)
			s.must(err)
			buf := make([]byte, 14)
			if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "content-canary" {
				t.Errorf("the live file reads %q, %v", buf, err)
			}
			s.must(f.Close())
		})
		s.end()
	})
}
