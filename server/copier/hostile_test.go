package copier

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/server/statecopy"
)

// TestACopyLeadsNowhereElse: whoever can write to the directory of a copy cannot have anything written or removed elsewhere.
func TestACopyLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(100_000, 1)})
	for _, at := range []string{"blobs", "audit", "blobs/account"} {
		copied, elsewhere := filepath.Join(t.TempDir(), "copy"), t.TempDir()
		must(h.copyTo(copied, statecopy.Options{}, nil))(t)
		if dir, ok := strings.CutSuffix(at, "account"); ok {
			at = dir + must(os.ReadDir(filepath.Join(copied, dir)))(t)[0].Name()
		}
		kept := filepath.Join(elsewhere, "kept")
		if err := errors.Join(os.WriteFile(kept, nil, 0o600), os.RemoveAll(filepath.Join(copied, at)), os.Symlink(elsewhere, filepath.Join(copied, at))); err != nil {
			t.Fatal(err)
		}
		dir, err := statecopy.OpenDir(copied, true)
		if err == nil {
			l := must(h.c.Begin(t.Context(), "test", ""))(t)
			_, err = statecopy.Run(t.Context(), &direct{l: l}, dir, statecopy.Options{})
			err = errors.Join(err, l.End(), dir.Clean(t.Context()), dir.Close())
		}
		if err == nil {
			t.Errorf("%s is a symlink: no error", at)
		}
		if list := must(os.ReadDir(elsewhere))(t); len(list) != 1 || list[0].Name() != "kept" {
			t.Errorf("%s is a symlink: %v is there now", at, list)
		}
	}
	target, named := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "name") // the operator's own is another matter
	if err := errors.Join(os.Mkdir(target, 0o700), os.Symlink(target, named)); err != nil {
		t.Fatal(err)
	}
	must(h.copyTo(named, statecopy.Options{}, nil))(t)
}

// TestPartsThatAreNoFilesAreDamage: none is waited for, read into memory as a whole, or looked at behind its end.
func TestPartsThatAreNoFilesAreDamage(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(100_000, 1)})
	copied := filepath.Join(t.TempDir(), "copy")
	must(h.copyTo(copied, statecopy.Options{}, nil))(t)
	for _, name := range filesOf(t, copied) {
		path := filepath.Join(copied, name)
		data := must(os.ReadFile(path))(t)
		for what, spoil := range map[string]func() error{
			"a pipe":    func() error { return unix.Mkfifo(path, 0o600) },
			"a symlink": func() error { return os.Symlink("/dev/zero", path) },
			"longer":    func() error { return os.WriteFile(path, append(bytes.Clone(data), "more"...), 0o600) },
		} {
			if what == "longer" && strings.HasPrefix(name, "audit/") {
				continue
			}
			if err := errors.Join(os.Remove(path), spoil()); err != nil {
				t.Fatal(err)
			}
			if wrong := h.trial(copied, filepath.Join(t.TempDir(), "new")); len(wrong) == 0 {
				t.Errorf("%s is %s: nothing found", name, what)
			}
			if err := errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if wrong := h.trial(copied, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Errorf("put back: %q", wrong)
	}
}

// TestAnArchiveHasNoHoles: a kilobyte of it could else become a terabyte of zeroes on the disk.
func TestAnArchiveHasNoHoles(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The writer of archive/tar makes no sparse files, so the records of GNU tar's format 1.0 go under other names and are renamed.
	const block = "1\n1048575\n1\n"
	body := append([]byte(block), make([]byte, 512-len(block)+1)...)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "policy.db", Size: int64(len(body)), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.name": "policy.db", "XNU.sparse.realsize": "1048576"}})
	if err != nil {
		t.Fatal(err)
	}
	must(w.Write(body))(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	archive := bytes.ReplaceAll(b.Bytes(), []byte("XNU.sparse."), []byte("GNU.sparse."))
	r := tar.NewReader(bytes.NewReader(archive))
	if hdr := must(r.Next())(t); hdr.Size != 1<<20 {
		t.Fatalf("this is no sparse file: %+v", hdr)
	}
	must(io.Copy(io.Discard, r))(t)
	path := filepath.Join(t.TempDir(), "copy")
	dir := must(statecopy.OpenDir(path, true))(t)
	defer dir.Close()
	if err := statecopy.Unpack(t.Context(), bytes.NewReader(archive), dir); !errors.Is(err, statecopy.ErrDamaged) {
		t.Errorf("unpacking: %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, "meta-new/policy.db")); err == nil {
		t.Error("it was unpacked")
	}
}
