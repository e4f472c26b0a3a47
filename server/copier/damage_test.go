package copier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// spoil damages the database of an account in place, and returns what mends it.
func (h *house) spoil(id keyring.AccountID) (mend func()) {
	h.t.Helper()
	if err := h.fs.Close(); err != nil {
		h.t.Fatal(err)
	}
	tree := must(filepath.Glob(filepath.Join(h.dir, "accounts", id.String(), "tree-*.db")))(h.t)[0]
	good := must(os.ReadFile(tree))(h.t)
	bad := bytes.Clone(good)
	for i := 2 * 4096; i < len(bad); i += 512 { // both heads of the file stay
		bad[i] ^= 1
	}
	write := func(data []byte) {
		h.t.Helper()
		if err := os.WriteFile(tree, data, 0o600); err != nil {
			h.t.Fatal(err)
		}
		h.reopen()
	}
	write(bad)
	return func() {
		if err := h.fs.Close(); err != nil {
			h.t.Fatal(err)
		}
		write(good)
	}
}

// volumes opens what a restore with a choice makes of an account, and gives a file of it; an error if there is none.
func (h *house) restoredFile(from string, how statecopy.Choice, id keyring.AccountID, name string) ([]byte, error) {
	h.t.Helper()
	dir := must(statecopy.OpenDir(from, false))(h.t)
	defer dir.Close()
	c := must(dir.Current())(h.t)
	to := filepath.Join(h.t.TempDir(), "new")
	if err := statecopy.Prepare(to, c.ID); err != nil {
		h.t.Fatal(err)
	}
	if err := c.Restore(h.t.Context(), to, statecopy.RestoreOptions{Damaged: how, Report: func(string) {}}); err != nil {
		return nil, err
	}
	keys := must(keyring.Open(h.t.Context(), to, h.key))(h.t)
	defer keys.Close()
	volumes := must(vfs.Open(h.t.Context(), vfs.Options{Dir: filepath.Join(to, "accounts"), Keyring: keys}))(h.t)
	defer volumes.Close()
	v, err := volumes.Volume(h.t.Context(), id)
	if err != nil {
		return nil, err
	}
	w := v.View(vfs.ViewOptions{})
	defer w.Close()
	f, err := w.OpenHandle(h.t.Context(), name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (h *house) wantRestored(from string, how statecopy.Choice, id keyring.AccountID, name string, want []byte) {
	h.t.Helper()
	if got, err := h.restoredFile(from, how, id, name); err != nil || !bytes.Equal(got, want) {
		h.t.Errorf("%s of %v, %s: %d bytes, %v", name, id, how, len(got), err)
	}
}

// TestADamagedVolumeDoesNotStopTheCopy: all other accounts are copied as they are now, the copy says what is damaged, and the last whole
// state of that account stays at the target, over as many copies as it takes, until it can be copied again.
func TestADamagedVolumeDoesNotStopTheCopy(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(100_000, 1)})
	b := h.account(map[string][]byte{"other": noise(90_000, 2)})
	to := filepath.Join(t.TempDir(), "copy")
	first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	h.write(a, map[string][]byte{"two": noise(70_000, 3)}) // never copied whole
	mend := h.spoil(a)
	for round := range 3 {
		name := fmt.Sprintf("round-%d", round)
		h.write(b, map[string][]byte{name: noise(80_000, byte(round))})
		done := must(h.copyTo(to, statecopy.Options{Deep: round == 2}, nil))(t)
		if done.Damaged != 1 || len(done.Damage) != 1 || done.Damage[0].Account != a || !done.Damage[0].Last.Equal(first.Made) || done.Accounts != 2 {
			t.Fatalf("round %d: %+v %+v", round, done, done.Damage)
		}
		if what := done.Damage[0].What; !strings.Contains(what, "vfs verify --account NAME --repair") || strings.Contains(what, h.dir) {
			t.Errorf("it says %q", what)
		}
		if _, err := h.restoredFile(to, "", b, name); !errors.Is(err, statecopy.ErrIncomplete) {
			t.Fatalf("restored unasked: %v", err)
		}
		for _, how := range []statecopy.Choice{statecopy.Newest, statecopy.LastGood, statecopy.LeaveOut} {
			h.wantRestored(to, how, b, name, noise(80_000, byte(round)))
		}
		h.wantRestored(to, statecopy.LastGood, a, "one", noise(100_000, 1))
		for _, how := range []statecopy.Choice{statecopy.Newest, statecopy.LeaveOut} {
			if _, err := h.restoredFile(to, how, a, "one"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", how, err)
			}
		}
	}
	if got := h.results(); got[len(got)-1] != "incomplete" {
		t.Errorf("recorded: %q", got)
	}
	mend()
	done := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	if done.Damaged != 0 || len(must(filepath.Glob(filepath.Join(to, "meta-*/kept")))(t)) != 0 {
		t.Fatalf("mended: %+v", done)
	}
	h.wantRestored(to, "", a, "two", noise(70_000, 3))
}

// results are those of the copies in the audit log.
func (h *house) results() (list []string) {
	h.t.Helper()
	err := h.log.Tail(h.t.Context(), 1000, false, func(r audit.Record) error {
		if r.Action == audit.StateCopy {
			list = append(list, r.Result)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// blobOf is the file of an account's only blob that is not in known.
func (h *house) blobOf(id keyring.AccountID, known map[string]bool) string {
	h.t.Helper()
	for _, path := range must(filepath.Glob(filepath.Join(h.dir, "accounts", id.String(), "blobs/*/*")))(h.t) {
		if !known[path] {
			known[path] = true
			return path
		}
	}
	h.t.Fatal("no new blob")
	return ""
}

// TestADamagedBlobCostsItsFileOnly: a blob that is gone, cut or changed at the server is not in the copy, in no form; the newest tree and all
// other files are, and the last whole state beside. A blob that was copied while it was good is not replaced.
func TestADamagedBlobCostsItsFileOnly(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(path string, data []byte) error{
		"gone":    func(path string, _ []byte) error { return os.Remove(path) },
		"cut":     func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)-1], 0o600) },
		"longer":  func(path string, data []byte) error { return os.WriteFile(path, append(data, 1), 0o600) },
		"changed": func(path string, data []byte) error { data[len(data)-1] ^= 1; return os.WriteFile(path, data, 0o600) },
		"no file": func(path string, _ []byte) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			a := h.account(map[string][]byte{"old": noise(200_000, 1)})
			known := map[string]bool{}
			oldBlob := h.blobOf(a, known)
			to := filepath.Join(t.TempDir(), "copy")
			first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
			h.write(a, map[string][]byte{"bad": noise(150_000, 2)})
			bad := h.blobOf(a, known)
			h.write(a, map[string][]byte{"new": noise(160_000, 3)})
			data := must(os.ReadFile(bad))(t)
			if err := errors.Join(spoil(bad, bytes.Clone(data)), os.Truncate(oldBlob, 100)); err != nil { // what was copied is not looked at again
				t.Fatal(err)
			}
			for range 2 {
				done := must(h.copyTo(to, statecopy.Options{}, nil))(t)
				if done.Damaged != 1 || len(done.Damage) != 1 || !done.Damage[0].Last.Equal(first.Made) {
					t.Fatalf("%+v %+v", done, done.Damage)
				}
				if id := strings.ReplaceAll(strings.TrimPrefix(bad, filepath.Dir(filepath.Dir(bad))+"/"), "/", ""); !strings.Contains(done.Damage[0].What, "blob "+id) {
					t.Errorf("it says %q and not %s", done.Damage[0].What, id)
				}
				if left := must(filepath.Glob(filepath.Join(to, "blobs/*/*/*")))(t); len(left) != 2 {
					t.Errorf("%d blobs", len(left))
				}
				h.wantRestored(to, statecopy.Newest, a, "new", noise(160_000, 3))
				h.wantRestored(to, statecopy.Newest, a, "old", noise(200_000, 1))
				if _, err := h.restoredFile(to, statecopy.Newest, a, "bad"); err == nil {
					t.Error("the damaged one can be read")
				}
				h.wantRestored(to, statecopy.LastGood, a, "old", noise(200_000, 1))
				if _, err := h.restoredFile(to, statecopy.LastGood, a, "new"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the last whole state has what came later: %v", err)
				}
			}
			if err := errors.Join(os.RemoveAll(bad), os.WriteFile(bad, data, 0o600)); err != nil {
				t.Fatal(err)
			}
			if done := must(h.copyTo(to, statecopy.Options{}, nil))(t); done.Damaged != 0 {
				t.Fatalf("mended: %+v", done)
			}
			h.wantRestored(to, "", a, "bad", noise(150_000, 2))
		})
	}
}

// TestADiskThatCannotBeReadCostsTheBlob: the middle of a blob fails while it is sent; into a directory and into an archive.
func TestADiskThatCannotBeReadCostsTheBlob(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1), "two": noise(310_000, 2), "three": noise(320_000, 3)})
	for _, archive := range []bool{false, true} {
		to := filepath.Join(t.TempDir(), "copy")
		var b bytes.Buffer
		var dir *statecopy.Dir
		target := statecopy.Target(statecopy.NewStream(&b))
		if !archive {
			dir = must(statecopy.OpenDir(to, true))(t)
			target = dir
		}
		l := must(h.c.Begin(t.Context(), "test", ""))(t)
		n := 0
		source := &direct{l: l, spoil: func(r io.Reader) io.Reader {
			if n++; n != 2 {
				return r
			}
			return io.MultiReader(io.LimitReader(r, 100_000), &failing{brokenDisk{}})
		}}
		done, err := statecopy.Run(t.Context(), source, target, statecopy.Options{})
		if err := errors.Join(err, l.End()); err != nil || done.Damaged != 1 || done.Copied != 2 {
			t.Fatalf("archive %v: %+v, %v", archive, done, err)
		}
		if archive {
			dir = must(statecopy.OpenDir(to, true))(t)
			err = statecopy.Unpack(t.Context(), &b, dir)
		}
		if err := errors.Join(err, dir.Close()); err != nil {
			t.Fatal(err)
		}
		read := 0
		for i, name := range []string{"one", "two", "three"} {
			if got, err := h.restoredFile(to, statecopy.Newest, a, name); err == nil && bytes.Equal(got, noise(300_000+10_000*i, byte(i+1))) {
				read++
			}
		}
		if read != 2 {
			t.Errorf("archive %v: %d files can be read", archive, read)
		}
	}
}

type brokenDisk struct{}

func (brokenDisk) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

// TestWhatWasCopiedOfADamagedAccountStays: a blob was lost before the account was ever copied, and then its database. The tree that the first copy has,
// and every file but the lost one, are in all later ones.
func TestWhatWasCopiedOfADamagedAccountStays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"bad": noise(200_000, 1)})
	bad := h.blobOf(a, map[string]bool{})
	h.write(a, map[string][]byte{"good": noise(150_000, 2)})
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	if first.Damaged != 1 || !first.Damage[0].Last.IsZero() || !first.Damage[0].Newest.IsZero() {
		t.Fatalf("the first: %+v", first.Damage)
	}
	mend := h.spoil(a)
	for range 3 {
		done := must(h.copyTo(to, statecopy.Options{}, nil))(t)
		if done.Damaged != 1 || !done.Damage[0].Last.IsZero() || !done.Damage[0].Newest.Equal(first.Made) {
			t.Fatalf("%+v", done.Damage)
		}
		h.wantRestored(to, statecopy.Newest, a, "good", noise(150_000, 2))
		if _, err := h.restoredFile(to, statecopy.LeaveOut, a, "good"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left out: %v", err)
		}
	}
	// under another key of the account nobody could open it
	mend()
	if err := h.fs.Rotate(t.Context(), []keyring.AccountID{a}, func(r vfs.Rotated) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	h.spoil(a)
	done := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	if done.Damaged != 1 || !done.Damage[0].Newest.IsZero() {
		t.Fatalf("%+v", done.Damage)
	}
	if left := must(filepath.Glob(filepath.Join(to, "meta-*/accounts/*")))(t); len(left) > 0 {
		t.Errorf("not named, and there: %q", left)
	}
}
