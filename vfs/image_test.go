package vfs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestNothingInClear looks for a canary, in contents and in names, in every file below the state directory and the
// directory of temporary files: during uploads and downloads, after them, and in history (docs/FORMAT.md "Tests").
func TestNothingInClear(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp) // which forbids t.Parallel
	b := newBench(t)
	const word = "CANARY-b7c1f0"
	canary := bytes.Repeat([]byte(word+" "), 40_000)
	looked := 0
	clean := func(when string) {
		t.Helper()
		for _, dir := range []string{b.state, tmp} {
			err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				raw, err := os.ReadFile(p)
				looked += len(raw)
				if bytes.Contains(raw, []byte(word)) || bytes.Contains([]byte(p), []byte(word)) {
					t.Errorf("%s: the canary stands in %s", when, p)
				}
				return err
			})
			ok(t, err)
		}
	}
	w := b.viewWith(ViewOptions{Writer: word, Note: func(Change) []byte { return []byte(word) }})
	f := openFile(t, w, word+"-big", wr)
	write(t, f, canary)
	clean("during an upload")
	ok(t, f.Sync())
	clean("after a sync")
	write(t, f, canary)
	ok(t, f.Close())
	put(t, w, word+"-small", canary[:3000])
	ok(t, w.Mkdir(word+"-dir", 0))
	ok(t, w.Symlink(word+"-target", word+"-link"))
	cutUpload(t, w, word+"-cut", wr, canary)
	r := openFile(t, w, word+"-big", os.O_RDONLY)
	buf := make([]byte, 100_000)
	must(r.ReadAt(buf, 0))(t)
	clean("during a download")
	ok(t, r.Close())
	ok(t, w.Rename(word+"-big", word+"-renamed"))
	ok(t, w.Remove(word+"-renamed"))
	clean("in history")
	ok(t, w.Close())
	b.reopen()
	clean("after reopening")
	if looked < 5*len(canary) {
		t.Fatalf("only %d bytes looked at", looked)
	}
}

// TestErrorsNameNoHostPath lets the storage fail and looks at what a client could be told.
func TestErrorsNameNoHostPath(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "a", noise(1, 200_000))
	ok(t, os.RemoveAll(filepath.Join(b.dir(), "blobs")))
	_, err := w.Open("a")
	wantErr(t, err, ErrIntegrity)
	f := openFile(t, w, "b", wr)
	_, werr := f.Write(noise(1, 4<<20))
	cerr := f.Close()
	for _, err := range []error{err, werr, cerr} {
		if err == nil || bytes.Contains([]byte(err.Error()), []byte(b.state)) || bytes.Contains([]byte(err.Error()), []byte("blobs")) {
			t.Errorf("error text: %v", err)
		}
	}
	w.Close()
	b.discard()
}
