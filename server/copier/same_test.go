package copier

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// again makes the next copy and says how many accounts the server was asked for.
func (h *house) again(to string, o statecopy.Options) (asked int, done *statecopy.Done) {
	h.t.Helper()
	done = must(h.copyTo(to, o, func(step string) error {
		if step == "account" {
			asked++
		}
		return nil
	}))(h.t)
	return asked, done
}

// TestWhatDidNotChangeIsNotReadAgain: the next copy asks for those accounts only that had a commit, or got another key, also after a
// restart of the server; and it is whole.
func TestWhatDidNotChangeIsNotReadAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var ids []keyring.AccountID
	for i := range 6 {
		ids = append(ids, h.account(map[string][]byte{"f": noise(70_000+i, byte(i)), "small": []byte("x")}))
	}
	to := filepath.Join(t.TempDir(), "copy")
	h.again(to, statecopy.Options{})
	for step, x := range []struct {
		what string
		do   func()
		deep bool
		want int
	}{
		{"nothing", func() {}, false, 0},
		{"a restart", h.reopen, false, 0},
		{"reading", func() { must(h.fs.Volume(t.Context(), ids[0]))(t) }, true, 0},
		{"a file of an account", func() { h.write(ids[2], map[string][]byte{"g": noise(80_000, 9)}) }, false, 1},
		{"nothing", func() {}, true, 0},
		{"a small file", func() { h.write(ids[3], map[string][]byte{"small": []byte("y")}) }, false, 1},
		{"a new key", func() {
			if err := h.fs.Rotate(t.Context(), ids[4:5], func(vfs.Rotated) {}); err != nil {
				t.Fatal(err)
			}
		}, false, 1},
		{"a new root", func() {
			if err := h.ring.RotateRoot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, false, 0},
		{"a new account", func() { ids = append(ids, h.account(nil)) }, false, 1},
	} {
		x.do()
		asked, done := h.again(to, statecopy.Options{Deep: x.deep})
		if asked != x.want || int(done.Same) != len(ids)-x.want || int(done.Accounts) != len(ids) {
			t.Fatalf("step %d, %s: %d accounts were asked for, want %d; %+v", step, x.what, asked, x.want, done)
		}
		if blobs := len(must(filepath.Glob(filepath.Join(h.dir, "accounts/*/blobs/*/*")))(t)); int(done.Blobs) != blobs || x.deep && int(done.Checked) != blobs {
			t.Errorf("step %d, %s: %d blobs, %+v", step, x.what, blobs, done)
		}
		if wrong := h.trial(to, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
			t.Fatalf("step %d, %s: %q", step, x.what, wrong)
		}
	}
	r := h.restore(to)
	if !bytes.Equal(r.content(ids[2], "g"), noise(80_000, 9)) || string(r.content(ids[3], "small")) != "y" || !bytes.Equal(r.content(ids[0], "f"), noise(70_000, 0)) {
		t.Error("other contents")
	}
}

// TestWhatTheCopyLostIsCopiedAgain: what did not change at the server and is not whole at the target is asked for, and is whole then.
func TestWhatTheCopyLostIsCopiedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(300_000, 1)})
	to := filepath.Join(t.TempDir(), "copy")
	h.again(to, statecopy.Options{})
	flip := func(path string) error {
		data, err := os.ReadFile(path)
		if err == nil {
			data[len(data)/2] ^= 1
			err = errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)) // another inode: links to the old one stay good
		}
		return err
	}
	cut := func(path string) error {
		info, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, info.Size()-1)
		}
		return err
	}
	for _, x := range []struct {
		what, glob string
		spoil      func(string) error
		deep       bool
	}{
		{"no database", "meta-*/accounts/*/tree-1.db", os.Remove, false},
		{"a database that was cut", "meta-*/accounts/*/tree-1.db", cut, false},
		{"a database that was changed", "meta-*/accounts/*/tree-1.db", flip, true},
		{"no list", "meta-*/accounts/*/blobs.list", os.Remove, false},
		{"a list that was changed", "meta-*/accounts/*/blobs.list", flip, false},
		{"no blob", "blobs/*/*/*", os.Remove, false},
		{"a blob that was changed", "blobs/*/*/*", flip, true},
		{"no manifest", "manifest", os.Remove, false},
		{"a manifest that was changed", "manifest", flip, false},
		{"a manifest that says something else", "manifest", func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(data, []byte("records "), []byte("records 9"), 1), 0o600)
		}, false},
	} {
		files := must(filepath.Glob(filepath.Join(to, x.glob)))(t)
		if len(files) != 1 {
			t.Fatalf("%s: %q", x.glob, files)
		}
		if err := x.spoil(files[0]); err != nil {
			t.Fatal(err)
		}
		if asked, done := h.again(to, statecopy.Options{Deep: x.deep}); asked != 1 || done.Same != 0 || done.Damaged != 0 {
			t.Errorf("%s: asked for %d, %+v", x.what, asked, done)
		}
		if wrong := h.trial(to, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
			t.Fatalf("%s: %q", x.what, wrong)
		}
	}
}

// TestAServerThatWentBackIsCopiedAsItIs: after a restore of an older state the database comes to the same number of commits, with other
// contents; a copy must not take it for the one that it has.
func TestAServerThatWentBackIsCopiedAsItIs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(70_000, 1)})
	if err := h.fs.Close(); err != nil {
		t.Fatal(err)
	}
	tree := must(filepath.Glob(filepath.Join(h.dir, "accounts", a.String(), "tree-*.db")))(t)[0]
	old := must(os.ReadFile(tree))(t)
	h.reopen()
	h.write(a, map[string][]byte{"small": []byte("then")})
	to := filepath.Join(t.TempDir(), "copy")
	h.again(to, statecopy.Options{})
	if err := errors.Join(h.fs.Close(), os.WriteFile(tree, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	h.write(a, map[string][]byte{"small": []byte("now!")})
	if asked, _ := h.again(to, statecopy.Options{}); asked != 1 {
		t.Errorf("asked for %d accounts", asked)
	}
	if got := string(h.restore(to).content(a, "small")); got != "now!" {
		t.Errorf("restored: %q", got)
	}
}

// TestACopyOfAnotherServerIsNoHelp: a directory in which another server has its copy, which stays unless one asks; and nothing of it
// counts then.
func TestACopyOfAnotherServerIsNoHelp(t *testing.T) {
	t.Parallel()
	one, two := newHouse(t), newHouse(t)
	one.account(map[string][]byte{"one": noise(70_000, 1)})
	b := two.account(map[string][]byte{"two": noise(80_000, 2)})
	to := filepath.Join(t.TempDir(), "copy")
	one.again(to, statecopy.Options{})
	l := must(two.c.Begin(t.Context(), "test", ""))(t)
	defer l.End()
	text := must(os.ReadFile(filepath.Join(to, "manifest")))(t)
	for i, manifest := range [][]byte{text, text[:len(text)/2], {}, []byte("sallyport state copy 9\n")} {
		if err := l.Have(t.Context(), bytes.NewReader(manifest)); errors.Is(err, statecopy.ErrOther) != (i == 0) || i > 0 && err != nil || len(l.have) != 0 {
			t.Errorf("a manifest of %d bytes: %v, %d accounts", len(manifest), err, len(l.have))
		}
	}
	if err := l.Note(t.Context(), []statecopy.Note{{Account: b, Kept: true}}); err == nil {
		t.Error("an account is taken for copied that the target cannot have")
	}
	if err := l.End(); err != nil {
		t.Fatal(err)
	}
	if _, err := two.copyTo(to, statecopy.Options{}, nil); !errors.Is(err, statecopy.ErrOther) {
		t.Fatalf("over the copy of another server: %v", err)
	}
	if wrong := one.trial(to, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("the copy of the other server after that: %q", wrong)
	}
	if asked, done := two.again(to, statecopy.Options{Replace: true}); asked != 1 || done.Same != 0 {
		t.Fatalf("asked for %d, %+v", asked, done)
	}
	for _, dir := range must(filepath.Glob(filepath.Join(to, "blobs/*")))(t) {
		if !strings.HasSuffix(dir, b.String()) {
			t.Errorf("%s of the other server is left", dir)
		}
	}
	if got := two.restore(to).content(b, "two"); !bytes.Equal(got, noise(80_000, 2)) {
		t.Error("other contents")
	}
}

// TestACopyOfALaterStateStays: a server that was restored from an older copy does not destroy a newer one by its next copy, neither
// while it has fewer records than that nor when it has more; the one that it was restored from it goes on with.
func TestACopyOfALaterStateStays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(70_000, 1)})
	monday, tuesday := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "copy")
	h.again(monday, statecopy.Options{})
	logs := func() (name string, data []byte) {
		name = must(filepath.Glob(filepath.Join(h.dir, "audit/*.log")))(t)[0]
		return name, must(os.ReadFile(name))(t)
	}
	aside := t.TempDir()
	if err := os.CopyFS(aside, os.DirFS(filepath.Join(h.dir, "audit"))); err != nil {
		t.Fatal(err)
	}
	b := h.account(map[string][]byte{"two": noise(80_000, 2)})
	h.again(tuesday, statecopy.Options{})
	_, long := logs()
	audits := filepath.Join(h.dir, "audit")
	if err := errors.Join(h.log.Close(), os.RemoveAll(audits), os.CopyFS(audits, os.DirFS(aside))); err != nil {
		t.Fatal(err)
	}
	h.openLog()
	h.restart(0)
	for longer := false; !longer; {
		if _, err := h.copyTo(tuesday, statecopy.Options{}, nil); !errors.Is(err, statecopy.ErrOther) {
			t.Fatalf("over the copy of a later state: %v", err)
		}
		h.again(monday, statecopy.Options{})
		_, now := logs()
		longer = len(now) > len(long)
	}
	if _, err := h.copyTo(tuesday, statecopy.Options{}, nil); !errors.Is(err, statecopy.ErrOther) {
		t.Fatalf("over the copy of another past: %v", err)
	}
	if wrong := h.trial(tuesday, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("the copy of the later state after that: %q", wrong)
	}
	if _, err := h.copyTo(tuesday, statecopy.Options{Replace: true}, nil); err != nil {
		t.Fatal(err)
	}
	if got := h.restore(tuesday).content(b, "two"); !bytes.Equal(got, noise(80_000, 2)) {
		t.Error("other contents")
	}
}
