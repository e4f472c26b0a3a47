package copier

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// perishing is a seal that destroys what it wrapped before.
type perishing struct {
	keyring.Seal
	gone map[string]bool
}

var errDestroyed = errors.New("destroyed")

func (p *perishing) DestroyOld(_ context.Context, wrapped, _ []byte) error {
	p.gone[string(wrapped)] = true
	return nil
}

func (p *perishing) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	if p.gone[string(wrapped)] {
		return nil, errDestroyed
	}
	return p.Seal.Unwrap(ctx, wrapped)
}

// TestWhatAnOldCopyCanRead is the table of the threat model, for a file that was purged before a copy, one that was purged after
// it, and one that lives: before and after the shred epoch, with a seal that destroys old roots and with one that cannot.
func TestWhatAnOldCopyCanRead(t *testing.T) {
	t.Parallel()
	for name, destroys := range map[string]bool{"a key file": false, "a seal that destroys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			seal := keyring.Seal(h.key)
			p := &perishing{Seal: h.key, gone: map[string]bool{}}
			if destroys {
				seal = p
				if err := h.ring.Reseal(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			a := h.account(map[string][]byte{"before": noise(100_000, 1), "after": noise(110_000, 2), "lives": noise(120_000, 3)})
			blobs := func(dir string) map[string]bool {
				found := map[string]bool{}
				for _, f := range must(filepath.Glob(filepath.Join(dir, "*/*")))(t) {
					found[filepath.Base(f)] = true
				}
				return found
			}
			all := blobs(filepath.Join(h.dir, "accounts", a.String(), "blobs"))
			h.remove(a, "before")
			copied := filepath.Join(t.TempDir(), "copy")
			must(h.copyTo(copied, statecopy.Options{}, nil))(t)
			if n := len(blobs(filepath.Join(copied, "blobs", a.String()))); n != len(all)-1 {
				t.Errorf("%d blobs in the copy, want %d: what was purged before it is not in it", n, len(all)-1)
			}
			read := func(what string) (names []string, err error) {
				dir := must(statecopy.OpenDir(copied, false))(t)
				defer dir.Close()
				c := must(dir.Current())(t)
				keys, err := keyring.Open(t.Context(), must(c.Keys(t.Context()))(t), seal)
				if err != nil {
					return nil, err
				}
				defer keys.Close()
				to := filepath.Join(t.TempDir(), what)
				if err := errors.Join(statecopy.Prepare(to, c.ID), c.Restore(t.Context(), to, statecopy.RestoreOptions{})); err != nil {
					return nil, err
				}
				r := &restored{t: t, dir: to, ring: keys, fs: must(vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(to, "accounts"), Keyring: keys}))(t)}
				defer r.fs.Close()
				for file, want := range map[string][]byte{"before": noise(100_000, 1), "after": noise(110_000, 2), "lives": noise(120_000, 3)} {
					w := must(r.fs.Volume(t.Context(), a))(t).View(vfs.ViewOptions{})
					if _, err := w.Stat(file); err == nil && bytes.Equal(r.content(a, file), want) {
						names = append(names, file)
					}
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
				}
				return names, nil
			}
			if names, err := read("at once"); err != nil || len(names) != 2 {
				t.Fatalf("read %q, %v", names, err)
			}
			h.remove(a, "after")
			shredded := must(h.fs.Shred(t.Context(), vfs.ShredOptions{Repack: vfs.Repack}))(t)
			if !shredded.NewRoot || shredded.Destroyed != destroys {
				t.Fatalf("%+v", shredded)
			}
			names, err := read("after the epoch")
			if destroys && !errors.Is(err, errDestroyed) {
				t.Errorf("an old copy opens after its root was destroyed: %q, %v", names, err)
			}
			if !destroys && (err != nil || len(names) != 2) {
				t.Errorf("with the old secret: %q, %v", names, err)
			}
			must(h.copyTo(copied, statecopy.Options{}, nil))(t)
			if names, err := read("the next copy"); err != nil || len(names) != 1 || names[0] != "lives" {
				t.Errorf("the next copy: %q, %v", names, err)
			}
			if n := len(blobs(filepath.Join(copied, "blobs", a.String()))); n != 1 {
				t.Errorf("%d blobs are left in the directory", n)
			}
		})
	}
}

// remove removes a file and purges all history.
func (h *house) remove(id keyring.AccountID, name string) {
	h.t.Helper()
	v := must(h.fs.Volume(h.t.Context(), id))(h.t)
	w := v.View(vfs.ViewOptions{Writer: "test"})
	if err := errors.Join(w.Remove(name), w.Close()); err != nil {
		h.t.Fatal(err)
	}
	p := must(v.PlanPurge(h.t.Context(), func(vfs.Superseded) bool { return true }))(h.t)
	if err := p.Execute(h.t.Context(), nil); err != nil {
		h.t.Fatal(err)
	}
}
