package copier

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// house is a state directory with everything that a server opens of it.
type house struct {
	t     *testing.T
	dir   string
	key   *keyring.KeyFile
	ring  *keyring.Keyring
	db    *policydb.DB
	log   *audit.Log
	fs    *vfs.FS
	c     *Copier
	names int

	damaged statecopy.Choice // of restore
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	var err error
	if h.key, err = keyring.NewKeyFile(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	h.ring = must(keyring.Create(t.Context(), h.dir, h.key))(t)
	t.Cleanup(func() { h.ring.Close() })
	h.db = openPolicy(t, h.ring, filepath.Join(h.dir, "policy.db"))
	h.openLog()
	h.fs = must(vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(h.dir, "accounts"), Keyring: h.ring}))(t)
	t.Cleanup(func() { h.fs.Close() })
	h.restart(0)
	return h
}

// openLog opens the audit log.
func (h *house) openLog() {
	h.t.Helper()
	signer, version, err := h.ring.AuditSigner()
	if err != nil {
		h.t.Fatal(err)
	}
	h.log = must(audit.Open(audit.Options{Dir: filepath.Join(h.dir, "audit"), Box: must(h.ring.Audit())(h.t), Signer: signer, KeyVersion: version}))(h.t)
	log := h.log
	h.t.Cleanup(func() { log.Close() })
}

func openPolicy(t *testing.T, k *keyring.Keyring, path string) *policydb.DB {
	t.Helper()
	db := must(policydb.Open(t.Context(), policydb.Options{
		Path: path, Box: must(k.Policy())(t), Token: k.PolicyToken, Names: must(k.Names())(t), NameToken: k.NameToken,
	}))(t)
	t.Cleanup(func() { db.Close() })
	return db
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// restart makes the copier anew.
func (h *house) restart(idle time.Duration) {
	h.t.Helper()
	h.c = must(New(Options{
		Keyring: h.ring, Policy: h.db, Volumes: h.fs, Audit: h.log, Dir: h.dir, Program: "test 1", Idle: idle, Log: slog.New(slog.DiscardHandler),
		Identity: func() (map[string][]byte, error) {
			return map[string][]byte{"ssh_host_ed25519_key": []byte("canary host key")}, nil
		},
		Clock: func() []byte { return []byte(time.Now().String()) },
	}))(h.t)
}

// account makes an account with some files.
func (h *house) account(files map[string][]byte) keyring.AccountID {
	h.t.Helper()
	id := must(h.ring.NewAccount(h.t.Context()))(h.t)
	if err := h.fs.Create(h.t.Context(), id); err != nil {
		h.t.Fatal(err)
	}
	h.names++
	if _, err := h.db.CreateAccount(h.t.Context(), policydb.NewAccount{Name: fmt.Sprintf("account-%d", h.names), ID: id, Who: "test"}); err != nil {
		h.t.Fatal(err)
	}
	h.write(id, files)
	return id
}

func (h *house) write(id keyring.AccountID, files map[string][]byte) {
	h.t.Helper()
	w := must(h.fs.Volume(h.t.Context(), id))(h.t).View(vfs.ViewOptions{Writer: "test"})
	for name, data := range files {
		f := must(w.OpenHandle(h.t.Context(), name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600))(h.t)
		if _, err := f.Write(data); err != nil {
			h.t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// direct is the Source of a Lease, without a socket, and where a test can step in.
type direct struct {
	l *Lease
	// before is called before each step, with its name; nil = nothing.
	before func(step string) error
	// spoil is between the blobs and the target.
	spoil func(io.Reader) io.Reader
}

func (d *direct) step(name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(name)
}

func (d *direct) Have(ctx context.Context, manifest io.Reader) error { return d.l.Have(ctx, manifest) }

func (d *direct) Note(ctx context.Context, notes []statecopy.Note) error { return d.l.Note(ctx, notes) }

func (d *direct) Next(ctx context.Context) ([]statecopy.Todo, error) {
	if err := d.step("next"); err != nil {
		return nil, err
	}
	return d.l.Next(ctx)
}

func (d *direct) Account(ctx context.Context, id keyring.AccountID, fn func(uint32, int64, io.Reader, int64, io.Reader) error) error {
	if err := d.step("account"); err != nil {
		return err
	}
	p, err := d.l.Account(ctx, id)
	if err != nil {
		return err
	}
	return fn(p.Version, p.TreeSize, io.LimitReader(p.Read, p.TreeSize), p.ListSize, p.Read)
}

func (d *direct) Blobs(ctx context.Context, account keyring.AccountID, ids []blob.ID, fn func(blob.ID, int64, io.Reader) error) error {
	if err := d.step("blobs"); err != nil {
		return err
	}
	for _, id := range ids {
		size, r, err := d.l.Blob(ctx, account, id)
		if errors.Is(err, os.ErrNotExist) {
			size, r = -1, io.NopCloser(strings.NewReader(""))
		} else if errors.Is(err, statecopy.ErrAtSource) {
			r = &passing{failedReader{err}, io.NopCloser(nil)}
		} else if err != nil {
			return err
		}
		body := io.Reader(r)
		if d.spoil != nil {
			body = d.spoil(r)
		}
		if err := errors.Join(fn(id, size, body), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

type failedReader struct{ err error }

func (f failedReader) Read([]byte) (int, error) { return 0, f.err }

func (d *direct) Check(ctx context.Context, account keyring.AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	err := d.l.Check(ctx, account, id, header, sealed, first, final)
	switch {
	case errors.Is(err, vfs.ErrIntegrity):
		return statecopy.ErrDamaged
	case errors.Is(err, vfs.ErrPurged):
		return statecopy.ErrPurged
	}
	return err
}

func (d *direct) File(ctx context.Context, name string, fn func(int64, io.Reader) error) error {
	if err := d.step("file"); err != nil {
		return err
	}
	size, r, err := d.l.File(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(fn(size, r), r.Close())
}

// copyTo makes a copy into a directory.
func (h *house) copyTo(to string, o statecopy.Options, before func(string) error) (*statecopy.Done, error) {
	h.t.Helper()
	dir := must(statecopy.OpenDir(to, true))(h.t)
	defer dir.Close()
	l := must(h.c.Begin(h.t.Context(), "test", "why"))(h.t)
	defer l.End()
	done, err := statecopy.Run(h.t.Context(), &direct{l: l, before: before}, dir, o)
	if err != nil {
		return done, err
	}
	if done.Audit, _, err = l.Finish(h.t.Context(), Result{Blobs: done.Copied, Place: to}); err != nil {
		return done, err
	}
	return done, dir.Clean(h.t.Context())
}

// restored is a copy brought up in a directory of its own.
type restored struct {
	t    *testing.T
	dir  string
	ring *keyring.Keyring
	db   *policydb.DB
	fs   *vfs.FS
}

// restore brings the copy up and fails on any finding.
func (h *house) restore(from string) *restored {
	h.t.Helper()
	dir := must(statecopy.OpenDir(from, false))(h.t)
	defer dir.Close()
	copied := must(dir.Current())(h.t)
	keys := must(keyring.Open(h.t.Context(), must(copied.Keys(h.t.Context()))(h.t), h.key))(h.t)
	h.t.Cleanup(func() { keys.Close() })
	signer, _, err := keys.AuditSigner()
	if err != nil || !copied.SignedBy(signer.Public().(ed25519.PublicKey)) {
		h.t.Fatalf("the manifest is not signed: %v", err)
	}
	r := &restored{t: h.t, dir: filepath.Join(h.t.TempDir(), "new"), ring: keys}
	if err := statecopy.Prepare(r.dir, copied.ID); err != nil {
		h.t.Fatal(err)
	}
	err = copied.Restore(h.t.Context(), r.dir, statecopy.RestoreOptions{Damaged: h.damaged, Report: func(f string) { h.t.Errorf("finding: %s", f) }})
	if err != nil {
		h.t.Fatal(err)
	}
	r.db = openPolicy(h.t, keys, filepath.Join(r.dir, "policy.db"))
	if _, err := audit.Verify(filepath.Join(r.dir, "audit"), must(keys.Audit())(h.t), signer.Public().(ed25519.PublicKey)); err != nil {
		h.t.Error(err)
	}
	r.fs = must(vfs.Open(h.t.Context(), vfs.Options{Dir: filepath.Join(r.dir, "accounts"), Keyring: keys}))(h.t)
	h.t.Cleanup(func() { r.fs.Close() })
	return r
}

// content reads a file, and has the whole volume verified.
func (r *restored) content(id keyring.AccountID, name string) []byte {
	r.t.Helper()
	v := must(r.fs.Volume(r.t.Context(), id))(r.t)
	if _, err := v.Verify(r.t.Context(), func(f string) { r.t.Errorf("finding: %s", f) }); err != nil {
		r.t.Fatal(err)
	}
	w := v.View(vfs.ViewOptions{})
	defer w.Close()
	f := must(w.OpenHandle(r.t.Context(), name, os.O_RDONLY, 0))(r.t)
	defer f.Close()
	return must(io.ReadAll(f))(r.t)
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8*13) ^ seed
	}
	return b
}

// TestACopyFitsTogetherWhateverHappensMeanwhile rotates keys, purges, adds and destroys accounts at every step of a copy; what
// is restored opens with one keyring, has every account of it, and each file is that of an instant.
func TestACopyFitsTogetherWhateverHappensMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"keep": noise(300_000, 1), "old": noise(200_000, 2)})
	b := h.account(map[string][]byte{"x": noise(150_000, 3)})
	victim := h.account(map[string][]byte{"y": noise(150_000, 4)})
	var added keyring.AccountID
	steps := map[string]int{}
	done, err := h.copyTo(filepath.Join(t.TempDir(), "copy"), statecopy.Options{}, nil)
	if err != nil || done.Rounds != 2 || done.Accounts != 3 {
		t.Fatalf("an undisturbed copy: %+v, %v", done, err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	done, err = h.copyTo(to, statecopy.Options{}, func(step string) error {
		steps[step]++
		switch {
		case step == "blobs" && steps[step] == 1:
			h.write(a, map[string][]byte{"old": noise(100_000, 5)})
			v := must(h.fs.Volume(t.Context(), a))(t)
			p := must(v.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true }))(t)
			return errors.Join(p.Execute(t.Context(), nil), h.fs.Rotate(t.Context(), []keyring.AccountID{a, b}, func(r vfs.Rotated) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}))
		case step == "blobs" && steps[step] == 3:
			added = h.account(map[string][]byte{"z": noise(90_000, 6)})
			if _, err := h.db.RemoveAccount(t.Context(), "account-3", "test"); err != nil {
				return err
			}
			return errors.Join(h.ring.DestroyAccount(t.Context(), victim), h.fs.Destroy(t.Context(), victim))
		case step == "next" && steps[step] == 3:
			return h.ring.RotateRoot(t.Context())
		}
		return nil
	})
	if err != nil || done.Rounds < 3 || done.Accounts != 3 || done.Epoch != 3 {
		t.Fatalf("%+v, %v, %v", done, err, steps)
	}
	r := h.restore(to)
	if !bytes.Equal(r.content(a, "keep"), noise(300_000, 1)) || !bytes.Equal(r.content(a, "old"), noise(100_000, 5)) {
		t.Error("other contents in the first account")
	}
	if !bytes.Equal(r.content(b, "x"), noise(150_000, 3)) || !bytes.Equal(r.content(added, "z"), noise(90_000, 6)) {
		t.Error("other contents")
	}
	accounts := must(r.db.Accounts())(t)
	if len(accounts) != 3 || len(r.ring.Accounts()) != 3 {
		t.Errorf("%d accounts, %d keys", len(accounts), len(r.ring.Accounts()))
	}
	if _, err := r.fs.Volume(t.Context(), victim); !errors.Is(err, keyring.ErrNoAccount) {
		t.Errorf("the destroyed account: %v", err)
	}
	left := must(filepath.Glob(filepath.Join(h.dir, "statecopy*")))(t)
	if len(left) > 0 {
		t.Errorf("left in the state directory: %q", left)
	}
}

// TestASecondCopyCopiesWhatIsNewAndForgetsTheRest.
func TestASecondCopyCopiesWhatIsNewAndForgetsTheRest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1), "two": noise(200_000, 2)})
	to := filepath.Join(t.TempDir(), "copy")
	first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	h.write(a, map[string][]byte{"two": noise(120_000, 7), "three": noise(80_000, 8)})
	v := must(h.fs.Volume(t.Context(), a))(t)
	p := must(v.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true }))(t)
	if err := p.Execute(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	second := must(h.copyTo(to, statecopy.Options{Deep: true}, nil))(t)
	if first.Copied != 2 || second.Copied != 2 || second.Had != 1 || second.Checked != 3 {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	blobs := must(filepath.Glob(filepath.Join(to, "blobs/*/*/*")))(t)
	metas := must(filepath.Glob(filepath.Join(to, "meta-*")))(t)
	if len(blobs) != 3 || len(metas) != 1 {
		t.Fatalf("%d blobs, parts of %d copies are left", len(blobs), len(metas))
	}
	r := h.restore(to)
	if !bytes.Equal(r.content(a, "two"), noise(120_000, 7)) || !bytes.Equal(r.content(a, "one"), noise(300_000, 1)) {
		t.Error("other contents")
	}
}

// TestABrokenCopyLeavesTheOneBefore breaks a second copy off at each of its steps: the first stays in force, and the next
// attempt takes up the blobs that came.
func TestABrokenCopyLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1)})
	to := filepath.Join(t.TempDir(), "copy")
	first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	h.write(a, map[string][]byte{"two": noise(400_000, 2)})
	broken := errors.New("the client is gone")
	for n := 1; ; n++ {
		calls := 0
		_, err := h.copyTo(to, statecopy.Options{}, func(string) error {
			if calls++; calls == n {
				return broken
			}
			return nil
		})
		if err == nil {
			if n < 6 {
				t.Fatalf("only %d steps", n)
			}
			break
		}
		if !errors.Is(err, broken) {
			t.Fatalf("step %d: %v", n, err)
		}
		dir := must(statecopy.OpenDir(to, false))(t)
		if c := must(dir.Current())(t); c.ID != first.ID {
			t.Fatalf("step %d: copy %s is in force, not %s", n, c.ID, first.ID)
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := h.restore(to)
	if !bytes.Equal(r.content(a, "two"), noise(400_000, 2)) {
		t.Error("other contents")
	}
}

// TestALeaseEndsWithItsOwner: one copy at a time; the end of its context, or silence, ends it, lets go of the blobs, and is recorded.
func TestALeaseEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(300_000, 1)})
	ctx, cancel := context.WithCancel(t.Context())
	l := must(h.c.Begin(ctx, "uid:7", "why"))(t)
	if _, err := h.c.Begin(t.Context(), "uid:8", ""); !errors.Is(err, ErrRunning) {
		t.Fatalf("a second one: %v", err)
	}
	p := must(l.Account(t.Context(), a))(t)
	if _, err := io.Copy(io.Discard, p.Read); err != nil {
		t.Fatal(err)
	}
	h.write(a, map[string][]byte{"one": noise(10, 1)})
	v := must(h.fs.Volume(t.Context(), a))(t)
	purge := must(v.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true }))(t)
	if err := purge.Execute(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	count := func() int { return len(must(filepath.Glob(filepath.Join(h.dir, "accounts/*/blobs/*/*")))(t)) }
	if count() != 1 {
		t.Fatalf("%d blobs while the lease lives", count())
	}
	cancel()
	<-l.Context().Done()
	if err := l.End(); err != nil {
		t.Fatal(err)
	}
	if count() != 0 {
		t.Fatalf("%d blobs after it", count())
	}
	if _, err := l.Next(t.Context()); err == nil {
		t.Error("it goes on after its end")
	}
	h.restart(time.Millisecond)
	silent := must(h.c.Begin(t.Context(), "uid:8", ""))(t)
	<-silent.Context().Done()
	if _, err := h.c.Lease(silent.Token); !errors.Is(err, ErrNoLease) {
		t.Errorf("after its time: %v", err)
	}
	if err := silent.End(); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := h.log.Tail(t.Context(), 10, false, func(r audit.Record) error {
		got = append(got, r.Who+" "+r.Result)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "uid:7 begun|uid:7 interrupted|uid:8 begun|uid:8 interrupted"; strings.Join(got, "|") != want {
		t.Errorf("recorded: %q", got)
	}
}

// TestAKeyThatIsNobodysDoesNotStopACopy: an account that is being made, and the rest of one whose removal was cut short, have a
// key and no volume; the first is copied as soon as there is one.
func TestAKeyThatIsNobodysDoesNotStopACopy(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(h.ring.NewAccount(t.Context()))(t)
	coming := must(h.ring.NewAccount(t.Context()))(t)
	to := filepath.Join(t.TempDir(), "copy")
	rounds := 0
	done, err := h.copyTo(to, statecopy.Options{}, func(step string) error {
		if step != "next" {
			return nil
		}
		if rounds++; rounds != 2 {
			return nil
		}
		if err := h.fs.Create(t.Context(), coming); err != nil {
			return err
		}
		_, err := h.db.CreateAccount(t.Context(), policydb.NewAccount{Name: "coming", ID: coming, Who: "test"})
		h.write(coming, map[string][]byte{"x": noise(100_000, 1)})
		return err
	})
	if err != nil || done.Accounts != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	r := h.restore(to)
	if !bytes.Equal(r.content(coming, "x"), noise(100_000, 1)) {
		t.Error("other contents")
	}
	// one that somebody has, and that lost its volume, is damaged
	if err := h.fs.Destroy(t.Context(), coming); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	done = must(h.copyTo(to, statecopy.Options{}, nil))(t)
	if done.Damaged != 1 || len(done.Damage) != 1 || done.Damage[0].Account != coming || done.Damage[0].Last.IsZero() {
		t.Fatalf("without its volume: %+v", done)
	}
}

// reopen closes all volumes and opens them again.
func (h *house) reopen() {
	h.t.Helper()
	if err := h.fs.Close(); err != nil {
		h.t.Fatal(err)
	}
	fs := must(vfs.Open(h.t.Context(), vfs.Options{Dir: filepath.Join(h.dir, "accounts"), Keyring: h.ring}))(h.t)
	h.fs = fs
	h.t.Cleanup(func() { fs.Close() })
	h.restart(0)
}
