package statecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// wantNewest restores the newest of everything and compares an account with a tree and as many of its blobs.
func wantNewest(t *testing.T, path string, how Choice, id AccountID, tree []byte, blobs int) {
	t.Helper()
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{Damaged: how, Report: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range got {
		if strings.HasPrefix(name, accountDir(accountsDir, id)+"/blobs/") {
			n++
		}
	}
	if have := got[TreeFile(id, 1)]; !bytes.Equal(have, tree) || n != blobs {
		t.Errorf("%s: a tree of %d bytes and %d blobs, want %d and %d", how, len(have), n, len(tree), blobs)
	}
}

// TestTheNewestTreeStaysWhenNothingCanBeCopied: an account that was damaged already when it was last copied, and of which then nothing can be
// read any more: what could be copied stays, over as many copies as it takes, beside the last whole state if there ever was one.
func TestTheNewestTreeStaysWhenNothingCanBeCopied(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		f, ids := someState()
		a, id := f.accounts[ids[0]], ids[0]
		a.open = map[blob.ID]bool{}
		path := filepath.Join(t.TempDir(), "copy")
		old := a.tree
		if whole {
			if _, err := f.run(t, path, Options{}); err != nil {
				t.Fatal(err)
			}
			a.tree = []byte("a newer tree")
		}
		lost, now := blob.ID{9, 9}, blob.ID{8, 8}
		a.blobs[lost], a.lost[lost], a.blobs[now] = make([]byte, 2000), 100, bytes.Repeat([]byte{4}, 900)
		partial, err := f.run(t, path, Options{})
		if err != nil || len(partial.Damage) != 1 || !partial.Damage[0].Newest.IsZero() {
			t.Fatalf("%+v, %v", partial, err)
		}
		tree := a.tree
		a.broken = true
		for round := range 3 {
			f.accounts[ids[2]].tree = fmt.Appendf(nil, "round %d", round)
			done, err := f.run(t, path, Options{Deep: round == 1})
			if err != nil || len(done.Damage) != 1 || !done.Damage[0].Newest.Equal(partial.Made) || done.Damage[0].Last.IsZero() == whole {
				t.Fatalf("whole %v, round %d: %+v, %v", whole, round, done.Damage, err)
			}
			wantNewest(t, path, Newest, id, tree, 4)
			if whole {
				wantNewest(t, path, LastGood, id, old, 3)
			} else {
				wantNewest(t, path, LastGood, id, nil, 0)
			}
			wantNewest(t, path, LeaveOut, id, nil, 0)
		}
		a.broken = false // what can be copied again takes its place
		a.tree = []byte("the newest tree")
		if done, err := f.run(t, path, Options{}); err != nil || !done.Damage[0].Newest.IsZero() {
			t.Fatalf("%+v, %v", done, err)
		}
		wantNewest(t, path, Newest, id, a.tree, 4)
		delete(a.lost, lost)
		if done, err := f.run(t, path, Options{}); err != nil || len(done.Damage) != 0 {
			t.Fatalf("mended: %+v, %v", done, err)
		}
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, f.want())
	}
}

// TestNothingUnnamedComesInForce: what was kept of an account, and the server then has no use for, and an account that was destroyed when the others
// were copied, are not in the copy at all, and not only not in its manifest.
func TestNothingUnnamedComesInForce(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	f.accounts[ids[0]].broken, f.accounts[ids[0]].tree = true, []byte("another tree")
	d := must(OpenDir(path, true))
	g := &forgetful{fake: f.again(), gone: ids[2]}
	g.accounts = maps.Clone(f.accounts)
	done, err := Run(t.Context(), g, d, Options{})
	if err := errors.Join(err, d.Close()); err != nil || len(done.Damage) != 1 || !done.Damage[0].Last.IsZero() { // and no Clean
		t.Fatalf("%+v, %v", done, err)
	}
	meta := filepath.Join(path, metaPrefix+done.ID)
	if left := must(filepath.Glob(meta + "/kept/*")); len(left) > 0 {
		t.Errorf("kept and not named: %q", left)
	}
	left := must(filepath.Glob(meta + "/accounts/*"))
	if len(left) != 1 || left[0] != filepath.Join(meta, accountDir(accountsDir, ids[1])) {
		t.Errorf("accounts: %q", left)
	}
}

// forgetful is a source that has no use for what the target keeps, and loses an account when everything is copied.
type forgetful struct {
	*fake
	gone AccountID
}

func (f *forgetful) Next(ctx context.Context) ([]Todo, error) {
	list, err := f.fake.Next(ctx)
	if err != nil || len(list) > 0 {
		return list, err
	}
	clear(f.last)
	delete(f.accounts, f.gone)
	delete(f.sums, f.gone)
	return f.fake.Next(ctx)
}

// stranger is another state, that has an audit log of the same names.
func stranger() *fake {
	f := newFake()
	f.add(7, 3000)
	f.small[AuditFile("00000000000000000001.log")] = []byte("other records, and more of them")
	f.small[AuditFile("00000000000000000002.log")] = []byte("and others")
	f.small[PolicyFile] = []byte("another policy")
	return f
}

// replaces has the copy of one server take the place of another's, and break off at step n: what is in force then can be restored, and is
// one of the two. whole says that there was no such step.
func replaces(t *testing.T, old, other *fake, n int) (path string, whole bool) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "copy")
	old.wantCopy(t, path)
	calls := 0
	other.step = func(string) error {
		if calls++; calls == n {
			return errors.New("broken")
		}
		return nil
	}
	d := must(OpenDir(path, true))
	_, err := Run(t.Context(), other.again(), d, Options{Replace: true})
	if cerr := d.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	other.step = nil
	got, rerr := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
	switch {
	case rerr != nil:
		t.Fatalf("step %d (%v): %v", n, err, rerr)
	case err != nil:
		same(t, got, old.want())
	default:
		same(t, got, other.want())
	}
	return path, err == nil
}

// TestReplacingIsOneRename: a copy that takes the place of one of something else and breaks off, at any step, leaves that as it was; when it is
// in force it is whole, whether or not what only the other needed was removed, and the next one goes on with it.
func TestReplacingIsOneRename(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		old, _ := someState()
		other := stranger()
		path, whole := replaces(t, old, other, n)
		if !whole {
			continue
		}
		if n < 10 {
			t.Fatalf("only %d steps", n)
		}
		d := must(OpenDir(path, true))
		if err := errors.Join(d.Clean(t.Context()), d.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); err != nil {
			t.Fatal(err)
		} else {
			same(t, got, other.want())
		}
		if apart := must(filepath.Glob(filepath.Join(path, "meta-*/audit/*.log"))); len(apart) > 0 {
			t.Errorf("not at their place: %q", apart)
		}
		other.wantCopy(t, path)
		return
	}
}

// TestADirectoryThatCannotBeSynced: some file systems of networks know no fsync of a directory, and the copy goes on; one that fails is an error,
// and so is a file that cannot be synced, whatever the number.
func TestADirectoryThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		err  error
		dirs bool
		ok   bool
	}{{unix.EINVAL, true, true}, {unix.ENOTSUP, true, true}, {unix.ENOSYS, true, true}, {unix.EIO, true, false}, {unix.EINVAL, false, false}, {unix.EIO, false, false}} {
		f, _ := someState()
		path := filepath.Join(t.TempDir(), "copy")
		d := must(OpenDir(path, true))
		n := 0
		d.syncFile = func(file *os.File) error {
			if info := must(file.Stat()); info.IsDir() == x.dirs {
				n++
				return &os.PathError{Op: "sync", Path: file.Name(), Err: x.err}
			}
			return file.Sync()
		}
		_, err := Run(t.Context(), f.again(), d, Options{})
		if cerr := d.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if n == 0 || x.ok != (err == nil) || !x.ok && !errors.Is(err, x.err) {
			t.Errorf("%+v: %d times, %v", x, n, err)
		}
		if _, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); x.ok != (err == nil) {
			t.Errorf("%+v: restored: %v", x, err)
		}
	}
}

// TestWhatBrokeOffIsInNobodysWay: the parts of a copy that came to no end, with a name or without, take no room until the next one is made.
func TestWhatBrokeOffIsInNobodysWay(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	before := f.want()
	f.accounts[ids[0]].tree = []byte("another tree")
	parts := func() (list []string) {
		for _, pattern := range []string{"meta-*/*", "*/*.tmp-*", "*.tmp-*"} {
			list = append(list, must(filepath.Glob(filepath.Join(path, pattern)))...)
		}
		return list
	}
	want := len(parts())
	for _, at := range []int{1, 2, 3} { // which sync of a directory of the last ones fails
		d := must(OpenDir(path, true))
		n := 0
		d.syncFile = func(file *os.File) error {
			if info := must(file.Stat()); d.meta != writing && info.IsDir() || strings.Contains(file.Name(), manifestName) {
				if n++; n == at {
					return unix.ENOSPC
				}
			}
			return file.Sync()
		}
		_, err := Run(t.Context(), f.again(), d, Options{})
		if cerr := d.Close(); cerr != nil || !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("%d: %v, %v", at, err, cerr)
		}
		if at == 3 { // behind the switch
			break
		}
		if have := parts(); len(have) != want {
			t.Errorf("%d: left: %q", at, have)
		}
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, before)
	}
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, f.want())
	// one that was killed between its name and its manifest
	if err := os.MkdirAll(filepath.Join(path, "meta-"+strings.Repeat("ab", 16), "accounts"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := must(OpenDir(path, true))
	if err := errors.Join(d.Begin(false), d.Close()); err != nil {
		t.Fatal(err)
	}
	if left := must(filepath.Glob(filepath.Join(path, "meta-ab*"))); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestNoCopyInAStateDirectory: nor in a copy, under whatever name.
func TestNoCopyInAStateDirectory(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	base := t.TempDir()
	path, state := filepath.Join(base, "copy"), filepath.Join(base, "state")
	f.wantCopy(t, path)
	if _, err := restore(t, path, state, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	meta := must(filepath.Glob(filepath.Join(path, "meta-*")))[0]
	if err := errors.Join(os.Symlink(state, filepath.Join(base, "name")), os.Symlink(filepath.Join(state, "accounts"), filepath.Join(base, "inner"))); err != nil {
		t.Fatal(err)
	}
	before := filesIn(t, state)
	for _, at := range []string{state, state + "/copy", state + "/accounts/a/b", base + "/name", base + "/name/copy", base + "/inner/copy", meta, meta + "/x", path + "/x", path + "/blobs/x/y"} {
		if d, err := OpenDir(at, true); !errors.Is(err, ErrPlace) {
			t.Errorf("%s: %v %v", at, d, err)
		}
	}
	if d, err := OpenDir(base, true); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("around it: %v %v", d, err)
	}
	same(t, filesIn(t, state), before)
	d := must(OpenDir(base+"/other/new", true))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAManifestThatNeverEndsCostsNoMemory: somebody else may have written it.
func TestAManifestThatNeverEndsCostsNoMemory(t *testing.T) {
	t.Parallel()
	head := "sallyport state copy 1\nid " + strings.Repeat("0a", 16) + "\nmade 2026-01-01T00:00:00Z\nprogram 1\nseal keyfile\nepoch 1\nrecords 1\naccounts 1\nblobs 0 0\ndamaged 0\n"
	lines := 0
	more := func() io.Reader {
		lines++
		return strings.NewReader(fmt.Sprintf("account %032x %064x 1 1\n", lines, lines))
	}
	r := io.MultiReader(strings.NewReader(head), &generated{next: more, left: 20_000})
	asked := 0
	_, all, err := ReadHoldings(r, func(id AccountID) bool { asked++; return id[15] == 7 && id[14] == 0 && id[13] == 0 })
	if !errors.Is(err, ErrDamaged) || all != nil || asked != 20_000 {
		t.Errorf("%v, %d, asked for %d", err, len(all), asked)
	}
}

// generated is read from one reader after the other.
type generated struct {
	next func() io.Reader
	left int
	now  io.Reader
}

func (g *generated) Read(p []byte) (int, error) {
	for {
		if g.now == nil {
			if g.left == 0 {
				return 0, io.EOF
			}
			g.left--
			g.now = g.next()
		}
		if n, err := g.now.Read(p); n > 0 || err != io.EOF {
			return n, err
		}
		g.now = nil
	}
}
