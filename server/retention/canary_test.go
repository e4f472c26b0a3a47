package retention

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/vfs"
	"sallyport/vfs/rawtest"
)

// raw is every byte of the state directory, as one who takes the disk has it.
func (s *site) raw() rawtest.Files {
	s.t.Helper()
	files, err := rawtest.Read(s.dir)
	s.must(err)
	return files
}

// sealedKeys are the wrapped keys of the blobs that are there.
func (s *site) sealedKeys(files rawtest.Files) map[string][][]byte {
	s.t.Helper()
	keys, err := files.WrappedKeys()
	s.must(err)
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
		unseen := func(when string) rawtest.Files {
			t.Helper()
			files := s.raw()
			for _, canary := range []string{"content-canary", "name-canary"} {
				if in := files.In([]byte(canary)); len(in) > 0 {
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
			if in := s.raw().In([]byte(canary)); len(in) != 1 || in[0] != filepath.Base(control) {
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
				if live[id] != nil && !slices.ContainsFunc(forms, func(key []byte) bool { return len(files.In(key)) > 0 }) {
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
					if in := files.In(key); len(in) > 0 {
						t.Errorf("after %s days and the epoch the wrapped key of %x is still in %q", c.days, id, in)
					}
				}
				if in := files.In([]byte(id)); (len(in) > 0) != (live[id] != nil) {
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
