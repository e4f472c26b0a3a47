package copier

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// trial restores a copy and verifies it, and returns everything that is wrong with it.
func (h *house) trial(from, to string) (wrong []string) {
	h.t.Helper()
	err := func() error {
		dir, err := statecopy.OpenDir(from, false)
		if err != nil {
			return err
		}
		defer dir.Close()
		copied, err := dir.Current()
		if err != nil {
			return err
		}
		where, err := copied.Keys(h.t.Context())
		if err != nil {
			return err
		}
		keys, err := keyring.Open(h.t.Context(), where, h.key)
		if err != nil {
			return err
		}
		defer keys.Close()
		signer, _, err := keys.AuditSigner()
		if err != nil {
			return err
		}
		if !copied.SignedBy(signer.Public().(ed25519.PublicKey)) {
			return errors.New("the signature is not that of the keys")
		}
		if err := statecopy.Prepare(to, copied.ID); err != nil {
			return err
		}
		if err := copied.Restore(h.t.Context(), to, statecopy.RestoreOptions{Report: func(f string) { wrong = append(wrong, f) }}); err != nil {
			return err
		}
		return verifyVolumes(h.t.Context(), keys, to, func(f string) { wrong = append(wrong, f) })
	}()
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

func verifyVolumes(ctx context.Context, keys *keyring.Keyring, state string, report func(string)) error {
	volumes, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(state, "accounts"), Keyring: keys})
	if err != nil {
		return err
	}
	for _, id := range keys.Accounts() {
		v, err := volumes.Volume(ctx, id)
		if err != nil {
			report(err.Error())
			continue
		}
		if _, err := v.Verify(ctx, report); err != nil {
			return errors.Join(err, volumes.Close())
		}
	}
	return volumes.Close()
}

// filesOf lists the files of a copy, relative to it, but for its lock.
func filesOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "lock" {
			list = append(list, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestEveryChangeOfACopyIsFound flips a byte of every file of a copy, cuts its end off, and removes it.
func TestEveryChangeOfACopyIsFound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(300_000, 1), "two": noise(5_000, 2)})
	h.account(map[string][]byte{"three": noise(70_000, 3)})
	copied := filepath.Join(t.TempDir(), "copy")
	must(h.copyTo(copied, statecopy.Options{}, nil))(t)
	if wrong := h.trial(copied, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("the copy itself: %q", wrong)
	}
	files := filesOf(t, copied)
	if len(files) < 14 {
		t.Fatalf("only %q", files)
	}
	for _, name := range files {
		path := filepath.Join(copied, name)
		data := must(os.ReadFile(path))(t)
		flipped := bytes.Clone(data)
		flipped[len(data)/2] ^= 1
		for what, bad := range map[string][]byte{"flipped": flipped, "cut": data[:len(data)-1], "empty": {}, "removed": nil} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if bad != nil {
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			wrong := h.trial(copied, filepath.Join(t.TempDir(), "new"))
			if len(wrong) == 0 {
				t.Errorf("%s %s: nothing is wrong", name, what)
			} else if strings.HasPrefix(name, "blobs/") && what != "flipped" && !strings.Contains(wrong[0], "bytes and not") && !strings.Contains(wrong[0], "is missing") {
				t.Errorf("%s %s: the restore does not say so: %q", name, what, wrong)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if wrong := h.trial(copied, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("after all: %q", wrong)
	}
}

// TestPartsOfOtherCopiesAreRefused puts authentic parts of an earlier copy of the same server into a later one.
func TestPartsOfOtherCopiesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1)})
	old, latest := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "copy")
	must(h.copyTo(old, statecopy.Options{}, nil))(t)
	h.write(a, map[string][]byte{"two": noise(300_000, 2)})
	h.account(nil)
	if err := h.ring.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(h.copyTo(latest, statecopy.Options{}, nil))(t)
	oldMeta, meta := must(filepath.Glob(filepath.Join(old, "meta-*")))(t)[0], must(filepath.Glob(filepath.Join(latest, "meta-*")))(t)[0]
	for _, name := range filesOf(t, oldMeta) {
		if strings.HasPrefix(name, "identity/") {
			continue
		}
		data := must(os.ReadFile(filepath.Join(meta, name)))(t)
		if err := os.WriteFile(filepath.Join(meta, name), must(os.ReadFile(filepath.Join(oldMeta, name)))(t), 0o600); err != nil {
			t.Fatal(err)
		}
		wrong := strings.Join(h.trial(latest, filepath.Join(t.TempDir(), "new")), "; ")
		if !strings.Contains(wrong, "is not the one that the manifest names") && !strings.Contains(wrong, "ends") {
			t.Errorf("%s of the earlier copy: %q", name, wrong)
		}
		if err := os.WriteFile(filepath.Join(meta, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// a manifest that somebody without the keys made to fit
	manifest := filepath.Join(latest, "manifest")
	text := must(os.ReadFile(manifest))(t)
	if err := os.WriteFile(manifest, bytes.Replace(text, []byte("accounts 2\n"), []byte("accounts 3\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if wrong := h.trial(latest, filepath.Join(t.TempDir(), "new")); len(wrong) != 1 || !strings.Contains(wrong[0], "signature") {
		t.Errorf("another manifest: %q", wrong)
	}
}

// archive makes a copy as a tar archive.
func (h *house) archive() []byte {
	h.t.Helper()
	l := must(h.c.Begin(h.t.Context(), "test", ""))(h.t)
	defer l.End()
	var b bytes.Buffer
	must(statecopy.Run(h.t.Context(), &direct{l: l}, statecopy.NewStream(&b), statecopy.Options{}))(h.t)
	return b.Bytes()
}

// TestATornArchiveIsNone cuts an archive at many places, and unpacks what holds strange names.
func TestATornArchiveIsNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(100_000, 1)})
	archive := h.archive()
	unpack := func(data []byte) (string, error) {
		path := filepath.Join(t.TempDir(), "copy")
		dir := must(statecopy.OpenDir(path, true))(t)
		return path, errors.Join(statecopy.Unpack(t.Context(), bytes.NewReader(data), dir), dir.Close())
	}
	path, err := unpack(archive)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := h.trial(path, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("the archive itself: %q", wrong)
	}
	r := h.restore(path)
	if !bytes.Equal(r.content(a, "one"), noise(100_000, 1)) {
		t.Error("other contents")
	}
	end := bytes.LastIndex(archive, []byte("signature "))
	for at := 0; at < end+20; at += max(1, end/37) {
		path, err := unpack(archive[:at])
		if !errors.Is(err, statecopy.ErrDamaged) && !errors.Is(err, statecopy.ErrNoCopy) {
			t.Errorf("cut at %d of %d: %v", at, len(archive), err)
		}
		if _, err := statecopy.OpenDir(path, false); !errors.Is(err, statecopy.ErrNoCopy) {
			t.Errorf("cut at %d: a copy is in force: %v", at, err)
		}
	}
	for _, hdr := range []tar.Header{
		{Name: "../escape", Typeflag: tar.TypeReg}, {Name: "/etc/passwd", Typeflag: tar.TypeReg}, {Name: "accounts/../../x", Typeflag: tar.TypeReg},
		{Name: "seal.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "policy.db", Typeflag: tar.TypeDir},
		{Name: fmt.Sprintf("blobs/%032x/zz/%030x", 1, 1), Typeflag: tar.TypeReg}, {Name: "lock", Typeflag: tar.TypeReg},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&hdr), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(b.Bytes()); !errors.Is(err, statecopy.ErrDamaged) {
			t.Errorf("%s: %v", hdr.Name, err)
		}
	}
}

// TestADamagedBlobOfTheCopyIsFoundByDeep: one that was copied before is authenticated as a whole with Deep, and copied anew if it is
// not what was written; without Deep only its size is looked at, and new ones are read back at their ends.
func TestADamagedBlobOfTheCopyIsFoundByDeep(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(700_000, 1)})
	to := filepath.Join(t.TempDir(), "copy")
	must(h.copyTo(to, statecopy.Options{}, nil))(t)
	path := must(filepath.Glob(filepath.Join(to, "blobs/*/*/*")))(t)[0]
	data := must(os.ReadFile(path))(t)
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.copyTo(to, statecopy.Options{}, nil); err != nil {
		t.Fatalf("not deep: %v", err)
	}
	mended := must(h.copyTo(to, statecopy.Options{Deep: true}, nil))(t)
	if mended.Mended != 1 || mended.Copied != 1 || mended.Had != 0 || mended.Damaged != 0 {
		t.Fatalf("deep: %+v", mended)
	}
	if got := must(os.ReadFile(path))(t); bytes.Equal(got, data) {
		t.Fatal("deep: the damaged one is still there")
	}
	if wrong := h.trial(to, filepath.Join(t.TempDir(), "new")); len(wrong) > 0 {
		t.Fatalf("deep: %q", wrong)
	}
	if err := os.WriteFile(path, data[:len(data)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	done := must(h.copyTo(to, statecopy.Options{Deep: true}, nil))(t)
	if done.Copied != 1 || done.Had != 0 {
		t.Errorf("a blob that was cut is not copied again: %+v", done)
	}
}

// TestCheckJudgesWhatWasReadBack: the end of a blob as the copy has it is authenticated by the server.
func TestCheckJudgesWhatWasReadBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1)})
	l := must(h.c.Begin(t.Context(), "test", ""))(t)
	defer l.End()
	p := must(l.Account(t.Context(), a))(t)
	var list bytes.Buffer
	must(io.CopyN(io.Discard, p.Read, p.TreeSize))(t)
	must(io.Copy(&list, p.Read))(t)
	err := statecopy.ReadList(&list, func(b statecopy.Blob) error {
		_, r, err := l.Blob(t.Context(), a, b.ID)
		if err != nil {
			return err
		}
		defer r.Close()
		data := must(io.ReadAll(r))(t)
		last := (len(data) - 128) / 65568
		ok := l.Check(t.Context(), a, b.ID, data[:128], data[128+last*65568:], uint64(last), true)
		data[len(data)-1] ^= 1
		bad := l.Check(t.Context(), a, b.ID, data[:128], data[128+last*65568:], uint64(last), true)
		if ok != nil || !errors.Is(bad, vfs.ErrIntegrity) {
			t.Errorf("whole: %v, damaged: %v", ok, bad)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
