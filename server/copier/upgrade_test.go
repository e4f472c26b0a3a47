package copier

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// houseOf opens the frozen state of a format.
func houseOf(t *testing.T, version string) *house {
	t.Helper()
	base := t.TempDir()
	packed := must(os.Open(filepath.Join("../../testdata/fixtures", version, "state.tar.gz")))(t)
	defer packed.Close()
	files := tar.NewReader(must(gzip.NewReader(packed))(t))
	for {
		x, err := files.Next()
		if err == io.EOF {
			break
		}
		path := filepath.Join(base, must(x, err)(t).Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if x.Typeflag == tar.TypeReg {
			err = os.WriteFile(path, must(io.ReadAll(files))(t), 0o600)
		} else {
			err = os.MkdirAll(path, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := &house{t: t, dir: filepath.Join(base, "state"), key: &keyring.KeyFile{Path: filepath.Join(base, "key")}}
	h.ring = must(keyring.Open(t.Context(), h.dir, h.key))(t)
	t.Cleanup(func() { h.ring.Close() })
	h.db = openPolicy(t, h.ring, filepath.Join(h.dir, "policy.db"))
	h.openLog()
	h.fs = must(vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(h.dir, "accounts"), Keyring: h.ring}))(t)
	h.restart(0)
	return h
}

// copiedThen makes the copy that the program of then made of the accounts: their databases and blobs as they are.
func (h *house) copiedThen(to string) {
	h.t.Helper()
	t := h.t
	head := statecopy.Head{ID: strings.Repeat("0a", 16), Made: time.Now(), Program: "then", Seal: "keyfile", Epoch: 1, Records: 1}
	meta := filepath.Join(to, "meta-"+head.ID)
	var files []statecopy.Entry
	put := func(name string, data []byte) {
		path := filepath.Join(meta, name)
		if strings.HasSuffix(name, ".log") || strings.HasPrefix(name, "blobs/") {
			path = filepath.Join(to, name)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, "blobs/") {
			files = append(files, statecopy.Entry{Name: name, Size: int64(len(data)), Sum: sha256.Sum256(data)})
		}
	}
	for _, name := range []string{"seal.json", "keyring", "policy.db"} {
		put(name, must(os.ReadFile(filepath.Join(h.dir, name)))(t))
	}
	for _, path := range must(filepath.Glob(filepath.Join(h.dir, "audit/*")))(t) {
		put("audit/"+filepath.Base(path), must(os.ReadFile(path))(t))
	}
	var accounts []statecopy.Account
	for _, id := range h.ring.Accounts() {
		version := must(h.ring.Age(id))(t).Version
		put(statecopy.TreeFile(id, version), must(os.ReadFile(filepath.Join(h.dir, "accounts", id.String(), fmt.Sprintf("tree-%d.db", version))))(t))
		list := filepath.Join(t.TempDir(), "list")
		f := must(os.Create(list))(t)
		w := must(statecopy.NewList(f))(t)
		for _, path := range must(filepath.Glob(filepath.Join(h.dir, "accounts", id.String(), "blobs/*/*")))(t) { // in order
			data, name := must(os.ReadFile(path))(t), filepath.Base(filepath.Dir(path))+filepath.Base(path)
			if err := w.Add(statecopy.Blob{ID: must(blob.ParseID(name))(t), Size: int64(len(data))}); err != nil {
				t.Fatal(err)
			}
			put(fmt.Sprintf("blobs/%s/%s/%s", id, name[:2], name[2:]), data)
		}
		if err := errors.Join(w.Flush(), f.Close()); err != nil {
			t.Fatal(err)
		}
		put(statecopy.ListFile(id), must(os.ReadFile(list))(t))
		accounts = append(accounts, statecopy.Account{ID: id, Commit: must(h.fs.PeekCommit(id, version))(t)})
	}
	slices.SortFunc(accounts, func(a, b statecopy.Account) int { return slices.Compare(a.ID[:], b.ID[:]) })
	slices.SortFunc(files, func(a, b statecopy.Entry) int { return cmp.Compare(a.Name, b.Name) })
	out := must(os.Create(filepath.Join(to, "manifest")))(t)
	m := must(statecopy.NewManifest(out, &head))(t)
	for _, a := range accounts {
		if err := m.Account(a); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range files {
		if err := m.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	key, _, err := h.ring.AuditSigner()
	if err := errors.Join(err, m.Sign(key), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestAnUpgradeBetweenTwoCopies: the copy before was made by the program of an earlier format. Accounts that nobody opened since are taken over as they
// are, in that format, and the restore brings them up; those that were opened, and with it brought up, are copied anew.
func TestAnUpgradeBetweenTwoCopies(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2", "v3", "v4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := houseOf(t, version)
			to := filepath.Join(t.TempDir(), "copy")
			h.copiedThen(to)
			ids := h.ring.Accounts()
			whole := func() {
				t.Helper()
				r := h.restore(to)
				for _, id := range ids {
					v := must(r.fs.Volume(t.Context(), id))(t)
					res := must(v.Verify(t.Context(), func(f string) { t.Errorf("finding: %s", f) }))(t)
					if here := must(must(h.fs.Volume(t.Context(), id))(t).Verify(t.Context(), func(string) {}))(t); *here != *res {
						t.Errorf("restored: %+v, and here %+v", res, here)
					}
				}
			}
			if asked, done := h.again(to, statecopy.Options{}); asked != 0 || done.Same != uint64(len(ids)) || len(ids) == 0 {
				t.Fatalf("before any was opened: asked for %d of %d, %+v", asked, len(ids), done)
			}
			whole() // and opens all here
			asked, done := h.again(to, statecopy.Options{})
			if old := version != "v4"; old != (asked == len(ids)) || done.Damaged != 0 {
				t.Errorf("after all were opened: asked for %d of %d, %+v", asked, len(ids), done)
			}
			whole()
			if asked, _ := h.again(to, statecopy.Options{Deep: true}); asked != 0 {
				t.Errorf("and then: asked for %d", asked)
			}
			if left := must(fs.Glob(os.DirFS(to), "meta-*"))(t); len(left) != 1 {
				t.Errorf("left: %q", left)
			}
		})
	}
}
