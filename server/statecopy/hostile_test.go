package statecopy

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// TestNoDirectoryOfACopyLeadsElsewhere: each directory of a copy in turn is moved away and replaced by a symlink to it, so that everything seems to
// be there. Whatever becomes of the next copy and of a restore, nothing changes at the other place, and what comes in force is right.
func TestNoDirectoryOfACopyLeadsElsewhere(t *testing.T) {
	t.Parallel()
	var dirs []string
	f, _ := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	meta := filepath.Base(must(filepath.Glob(filepath.Join(path, "meta-*")))[0])
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && at != path {
			dirs = append(dirs, strings.Replace(strings.TrimPrefix(at, path+"/"), meta, "META", 1))
		}
		return err
	})
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%q, %v", dirs, err)
	}
	for _, dir := range dirs {
		leadElsewhere(t, dir, false, false)
		leadElsewhere(t, dir, true, false)
		leadElsewhere(t, dir, true, true)
	}
}

func leadElsewhere(t *testing.T, dir string, changed, inside bool) {
	t.Helper()
	f, ids := someState()
	path, elsewhere := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "elsewhere")
	f.wantCopy(t, path)
	before := f.want()
	at := filepath.Join(path, strings.Replace(dir, "META", filepath.Base(must(filepath.Glob(filepath.Join(path, "meta-*")))[0]), 1))
	link := elsewhere
	if inside { // os.Root follows that one
		elsewhere = filepath.Join(path, "drill-of-somebody")
		link = must(filepath.Rel(filepath.Dir(at), elsewhere))
	}
	if err := errors.Join(os.Rename(at, elsewhere), os.Symlink(link, at), os.WriteFile(filepath.Join(elsewhere, "canary"), []byte("canary"), 0o600)); err != nil {
		t.Fatal(err)
	}
	there := filesIn(t, elsewhere)
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{Report: func(string) {}})
	if err == nil {
		for name, data := range got { // what is missing was reported
			if !bytes.Equal(before[name], data) {
				t.Errorf("%s: restored %s with %d bytes", dir, name, len(data))
			}
		}
	}
	if changed {
		f.accounts[ids[0]].tree = []byte("another tree")
		delete(f.accounts[ids[0]].blobs, must(firstBlob(f, ids[0]), nil))
	}
	d, err := OpenDir(path, true)
	if err == nil {
		_, err = Run(t.Context(), f.again(), d, Options{})
		if err == nil {
			err = d.Clean(t.Context())
		}
		err = errors.Join(err, d.Close())
	}
	if !inside { // inside, it is a leftover of the copy and may be removed
		same(t, filesIn(t, elsewhere), there)
	}
	if err == nil {
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
		if err != nil {
			t.Errorf("%s (changed %v, inside %v): a copy came in force, and: %v", dir, changed, inside, err)
			return
		}
		same(t, got, f.want())
	}
}

func firstBlob(f *fake, id AccountID) (first [16]byte) {
	for b := range f.accounts[id].blobs {
		if !f.accounts[id].open[b] && b[0] == 1 {
			first = b
		}
	}
	return first
}

// TestHardLinksToOthersAreNotWrittenTo: a file of the copy that has another name elsewhere gets a new file at its place.
func TestHardLinksToOthersAreNotWrittenTo(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path, elsewhere := filepath.Join(t.TempDir(), "copy"), t.TempDir()
	f.wantCopy(t, path)
	n := 0
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n++
		return os.Link(at, filepath.Join(elsewhere, strings.ReplaceAll(strings.TrimPrefix(at, path), "/", "_")))
	})
	if err != nil || n < 10 {
		t.Fatalf("%d, %v", n, err)
	}
	there := filesIn(t, elsewhere)
	f.change(ids)
	for name := range f.small {
		f.small[name] = append([]byte("changed "), f.small[name]...)
	}
	f.wantCopy(t, path)
	same(t, filesIn(t, elsewhere), there)
}

// TestAnArchiveHasFilesOnly: links, devices, directories and names that climb are refused before anything is made of them, wherever in the
// archive they come, and what follows the manifest is not looked at.
func TestAnArchiveHasFilesOnly(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	var whole bytes.Buffer
	if _, err := Run(t.Context(), f.again(), NewStream(&whole), Options{}); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.WriteFile(outside, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ab", 16)
	for i, h := range []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "policy.db", Linkname: outside},
		{Typeflag: tar.TypeLink, Name: "policy.db", Linkname: outside},
		{Typeflag: tar.TypeSymlink, Name: "audit", Linkname: base},
		{Typeflag: tar.TypeChar, Name: "keyring", Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeBlock, Name: "keyring", Devmajor: 8},
		{Typeflag: tar.TypeFifo, Name: "clock"},
		{Typeflag: tar.TypeDir, Name: "blobs/"},
		{Typeflag: tar.TypeReg, Name: "../outside"},
		{Typeflag: tar.TypeReg, Name: outside},
		{Typeflag: tar.TypeReg, Name: "blobs/" + id + "/../../outside"},
		{Typeflag: tar.TypeReg, Name: "blobs/" + id + "/ab/../../../outside"},
		{Typeflag: tar.TypeReg, Name: "audit/../../outside"},
		{Typeflag: tar.TypeReg, Name: "lock"},
		{Typeflag: tar.TypeReg, Name: "meta-new/keyring"},
		{Typeflag: tar.TypeReg, Name: "keyring\x00.log", Format: tar.FormatPAX},
		{Typeflag: tar.TypeReg, Name: strings.Repeat("a/", 2000) + "x", Format: tar.FormatPAX},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&h), w.Flush()); err != nil {
			if strings.Contains(h.Name, "\x00") {
				continue // not even written
			}
			t.Fatal(err)
		}
		target := filepath.Join(base, "copy-"+string(rune('a'+i)))
		d := must(OpenDir(target, true))
		err := Unpack(t.Context(), bytes.NewReader(append(b.Bytes(), whole.Bytes()...)), d)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%c %s: %v", h.Typeflag, h.Name, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for name := range filesIn(t, target) {
			if name != lockName {
				t.Errorf("%c %s: %s is left", h.Typeflag, h.Name, name)
			}
		}
	}
	if data := must(os.ReadFile(outside)); string(data) != "canary" {
		t.Errorf("outside: %q", data)
	}
	d := must(OpenDir(filepath.Join(base, "good"), true))
	if err := errors.Join(Unpack(t.Context(), bytes.NewReader(append(whole.Bytes(), bytes.Repeat([]byte("more"), 5000)...)), d), d.Close()); err != nil {
		t.Errorf("something behind the manifest: %v", err)
	}
}

// TestAPlaceThatCannotBeWritten: a copy on a disk that is mounted to be read is restored, and tried elsewhere; to copy there says why not.
func TestAPlaceThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	disk := smallDisk(t, 8<<20)
	path := filepath.Join(disk, "copy")
	f.wantCopy(t, path)
	for _, lock := range []bool{true, false} {
		if !lock {
			if err := os.Remove(filepath.Join(path, lockName)); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mount("none", disk, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(path, true); !errors.Is(err, unix.EROFS) {
			t.Errorf("to be written: %v", err)
		}
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, f.want())
		d := must(OpenDir(path, false))
		if at, err := d.Drill(""); !errors.Is(err, unix.EROFS) {
			t.Errorf("a trial beside it: %s, %v", at, err)
		}
		if _, err := OpenDir(path, false); !errors.Is(err, ErrInUse) {
			t.Errorf("twice: %v", err)
		}
		elsewhere := t.TempDir()
		if at, err := d.Drill(elsewhere); err != nil || filepath.Dir(at) != elsewhere {
			t.Errorf("a trial elsewhere: %s, %v", at, err)
		}
		if err := errors.Join(d.Close(), unix.Mount("none", disk, "tmpfs", unix.MS_REMOUNT, "size=8m")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoFileOfACopyIsASymlink: not even one that stays in the directory.
func TestNoFileOfACopyIsASymlink(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	moved := filepath.Join(path, "drill-of-somebody")
	if err := os.Mkdir(moved, 0o700); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range filesIn(t, path) {
		if name == lockName || name == manifestName {
			continue
		}
		n++
		at, to := filepath.Join(path, name), filepath.Join(moved, "part")
		if err := errors.Join(os.Rename(at, to), os.Symlink(to, at)); err != nil {
			t.Fatal(err)
		}
		rel := must(filepath.Rel(filepath.Dir(at), to))
		for _, link := range []string{to, rel} { // os.Root follows the second one
			if err := errors.Join(os.Remove(at), os.Symlink(link, at)); err != nil {
				t.Fatal(err)
			}
			var found []string
			_, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{Report: func(s string) { found = append(found, s) }})
			if !errors.Is(err, ErrDamaged) && (err != nil || len(found) != 1) {
				t.Errorf("%s is a symlink to %s: %q, %v", name, link, found, err)
			}
		}
		if err := errors.Join(os.Remove(at), os.Rename(to, at)); err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Errorf("only %d files", n)
	}
}

// TestNoAccountIsTakenForAnother: the blobs of one account are a symlink to those of another, among which they lie, too. What is removed as not
// needed by the one is not what the other needs.
func TestNoAccountIsTakenForAnother(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	f.accounts[ids[0]].open = map[blob.ID]bool{}
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	before := f.want()
	a, b := filepath.Join(path, fmt.Sprintf("blobs/%x", ids[0][:])), filepath.Join(path, fmt.Sprintf("blobs/%x", ids[2][:]))
	if err := errors.Join(os.CopyFS(b, os.DirFS(a)), os.RemoveAll(a), os.Symlink(filepath.Base(b), a)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t, path, Options{}); err != nil && !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{Report: func(s string) { t.Errorf("finding: %s", s) }})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, before)
}
