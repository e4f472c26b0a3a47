package vfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/meta"
)

// bench is a state directory with one account and its volume.
type bench struct {
	t     testing.TB
	state string
	ring  *keyring.Keyring
	seal  keyring.Seal
	fs    *FS
	id    keyring.AccountID
	vol   *Volume

	crashed bool // it began with what a crash left
}

func newBench(t testing.TB) *bench { return newBenchWith(t, Options{}) }

func newBenchWith(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{t: t, state: t.TempDir()}
	key, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	if b.ring, err = keyring.Create(t.Context(), b.state, key); err != nil {
		t.Fatal(err)
	}
	b.seal = key
	t.Cleanup(func() { b.ring.Close() })
	if b.id, err = b.ring.NewAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.start(o)
	if err := b.fs.Create(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.open()
	t.Cleanup(b.end)
	return b
}

// testClock is the second in which all tests live that bring no clock of their own: a microsecond later each time it is asked. What
// a directory is changed in makes a version in each second, and a test that counts versions must not depend on when it runs.
var testClock = func() *atomic.Int64 {
	var c atomic.Int64
	c.Store(time.Now().Truncate(time.Second).UnixNano())
	return &c
}()

func oneSecond() time.Time { return time.Unix(0, testClock.Add(1000)) }

// end checks everything and closes, once.
func (b *bench) end() {
	if b.fs == nil {
		return
	}
	b.verify()
	b.discard()
}

// discard closes without a check, for a volume that is damaged on purpose.
func (b *bench) discard() {
	if err := b.fs.Close(); err != nil {
		b.t.Errorf("closing: %v", err)
	}
	b.fs = nil
	os.RemoveAll(b.state) // a model test makes hundreds
}

func (b *bench) start(o Options) {
	b.t.Helper()
	o.Dir, o.Keyring = filepath.Join(b.state, "accounts"), b.ring
	if o.Now == nil {
		o.Now = oneSecond
	}
	f, err := Open(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.fs = f
}

func (b *bench) open() {
	b.t.Helper()
	v, err := b.fs.Volume(b.t.Context(), b.id)
	if err != nil {
		b.t.Fatalf("opening the volume: %v", err)
	}
	b.vol = v
}

// reopen closes everything in order and opens it again.
func (b *bench) reopen() {
	b.t.Helper()
	if err := b.fs.Close(); err != nil {
		b.t.Fatalf("closing: %v", err)
	}
	b.start(Options{})
	b.open()
}

// crash opens a copy of the directory as it is now on disk, while the original goes on: what a power loss leaves, less
// what was not synced.
func (b *bench) crash() *bench { return b.crashWith(Options{}) }

func (b *bench) crashWith(o Options) *bench {
	b.t.Helper()
	c := &bench{t: b.t, state: b.t.TempDir(), ring: b.ring, id: b.id, crashed: true}
	if err := os.CopyFS(filepath.Join(c.state, "accounts"), os.DirFS(filepath.Join(b.state, "accounts"))); err != nil {
		b.t.Fatal(err)
	}
	c.start(o)
	c.open()
	b.t.Cleanup(c.end)
	return c
}

func (b *bench) dir() string { return b.fs.dir(b.id) }

func (b *bench) view() *View { return b.viewWith(ViewOptions{Writer: "test"}) }

func (b *bench) viewWith(o ViewOptions) *View {
	w := b.vol.View(o)
	b.t.Cleanup(func() { w.Close() })
	return w
}

// findings is what a full check says.
func (b *bench) findings() []string {
	b.t.Helper()
	var out []string
	if _, err := b.vol.Verify(context.Background(), func(f string) { out = append(out, f) }); err != nil {
		b.t.Errorf("verify: %v", err)
	}
	return out
}

func (b *bench) verify() {
	b.t.Helper()
	if f := b.findings(); len(f) > 0 {
		b.t.Errorf("verify: %q", f)
	}
	b.wantHistory()
	// With nothing open, no blob waits for its end: that would be work for the next opening.
	err := b.vol.do(context.Background(), func(c *core) error {
		if c.handles.Load() > 0 {
			return nil
		}
		return c.db.View(func(tx *meta.Tx) error {
			return tx.Blobs(func(k *meta.BlobKey) bool {
				if c.spares.has(k.ID) { // has no file; what goes wrong with it shows at the end
					return true
				}
				if b.crashed && isSpare(k) { // of a small file that a crash kept from its commit: it stays for a week
					return true
				}
				if k.State == meta.BlobOpen {
					b.t.Errorf("blob %x of inode %d is open", k.ID, k.Inode)
				}
				return true
			})
		})
	})
	if err != nil {
		b.t.Error(err)
	}
}

// blobFiles are the paths of all blobs on disk.
func (b *bench) blobFiles() []string {
	b.t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Join(b.dir(), "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		t.Fatalf("%T is not a *fs.PathError", err)
	}
}

func openFile(t testing.TB, w *View, name string, flag int) *File {
	t.Helper()
	return must(w.OpenHandle(t.Context(), name, flag, 0o644))(t)
}

func put(t testing.TB, w *View, name string, data []byte) {
	t.Helper()
	f := openFile(t, w, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	write(t, f, data)
	ok(t, f.Close())
}

func write(t testing.TB, f *File, data []byte) {
	t.Helper()
	if n, err := f.Write(data); err != nil || n != len(data) {
		t.Fatalf("wrote %d of %d: %v", n, len(data), err)
	}
}

func get(t testing.TB, w *View, name string) []byte {
	t.Helper()
	f := openFile(t, w, name, os.O_RDONLY)
	defer f.Close()
	return must(io.ReadAll(f))(t)
}

func wantContent(t testing.TB, w *View, name string, want []byte) {
	t.Helper()
	got := get(t, w, name)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %s, want %s", name, brief(got), brief(want))
	}
	if i := stat(t, w, name); i.Size() != int64(len(want)) {
		t.Fatalf("%s: size %d in stat, %d read", name, i.Size(), len(want))
	}
}

func brief(b []byte) string {
	if len(b) > 32 {
		return strconv.Quote(string(b[:8])) + "... (" + strconv.Itoa(len(b)) + " bytes)"
	}
	return strconv.Quote(string(b))
}

func stat(t testing.TB, w *View, name string) *Info {
	t.Helper()
	return must(w.Stat(name))(t).(*Info)
}

func names(t testing.TB, w *View, dir string) []string {
	t.Helper()
	var out []string
	ok(t, w.ReadDir(t.Context(), dir, func(batch []*Info) error {
		for _, i := range batch {
			out = append(out, i.Name())
		}
		return nil
	}))
	slices.Sort(out)
	return out
}

func wantNames(t testing.TB, w *View, dir string, want ...string) {
	t.Helper()
	if got := names(t, w, dir); !slices.Equal(got, want) {
		t.Fatalf("%s lists %q, want %q", dir, got, want)
	}
}

// noise is n reproducible random bytes, different for each seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(b)
	return b
}
