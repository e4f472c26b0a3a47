package statecopy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// house is a state with an account of each kind.
func someState() (*fake, []AccountID) {
	f := newFake()
	ids := []AccountID{f.add(1, 1000, 70_000, 200_000), f.add(2), f.add(3, 66_000)}
	f.accounts[ids[0]].open[blob.ID{2, 1}] = true
	return f, ids
}

// TestACopyComesBackAsItWas: through a directory, with links, and through an archive.
func TestACopyComesBackAsItWas(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	dir := filepath.Join(t.TempDir(), "copy")
	for range 2 {
		if _, err := f.run(t, dir, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []RestoreOptions{{}, {Link: true}} {
		got, err := restore(t, dir, filepath.Join(t.TempDir(), "new"), o)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, f.want())
	}
	var archive bytes.Buffer
	if _, err := Run(t.Context(), f.again(), NewStream(&archive), Options{}); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new")
	if err := Prepare(to, ""); err != nil {
		t.Fatal(err)
	}
	d, err := UnpackInto(t.Context(), &archive, to)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := d.Current()
	if err == nil {
		err = c.Restore(t.Context(), to, RestoreOptions{Move: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	same(t, filesIn(t, to), f.want())
}

// TestWithoutLinks: on a file system that knows none, what did not change is copied within the target, and compared.
func TestWithoutLinks(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []bool{false, true} {
		d, err := OpenDir(path, true)
		if err != nil {
			t.Fatal(err)
		}
		d.hardLink = func(_, _ string) error { return unix.EPERM }
		if damaged { // its size is right, and it is read now
			if err := os.WriteFile(filepath.Join(must(filepath.Glob(filepath.Join(path, "meta-*")))[0], TreeFile(ids[1], 1)), make([]byte, 5000), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		done, err := Run(t.Context(), f.again(), d, Options{})
		if err := errors.Join(err, d.Clean(t.Context()), d.Close()); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]uint64{false: 3, true: 2}[damaged]; done.Same != want {
			t.Errorf("damaged %v: %d taken over", damaged, done.Same)
		}
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, f.want())
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestEveryStepCanFail breaks a first and a second copy off at each step: nothing new is in force, what was stays whole, and the next
// attempt comes to its end.
func TestEveryStepCanFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, second := range []bool{false, true} {
		for n := 1; ; n++ {
			f, ids := someState()
			path := filepath.Join(t.TempDir(), fmt.Sprint("copy-", n))
			before := f.want()
			if second {
				if _, err := f.run(t, path, Options{}); err != nil {
					t.Fatal(err)
				}
				f.accounts[ids[0]].tree = []byte("another tree")
				f.accounts[ids[0]].blobs[blob.ID{9}] = make([]byte, 3000)
			}
			calls := 0
			f.step = func(string) error {
				if calls++; calls == n {
					return broken
				}
				return nil
			}
			_, err := f.run(t, path, Options{})
			if err == nil {
				if n < 15 {
					t.Fatalf("only %d steps", n)
				}
				break
			}
			if !errors.Is(err, broken) {
				t.Fatalf("step %d: %v", n, err)
			}
			got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
			if second && err == nil {
				same(t, got, before)
			} else if second || !errors.Is(err, ErrNoCopy) {
				t.Fatalf("step %d: restored: %v", n, err)
			}
			f.step = nil
			if _, err := f.run(t, path, Options{}); err != nil {
				t.Fatalf("step %d, again: %v", n, err)
			}
			got, err = restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, f.want())
			if left := must(filepath.Glob(filepath.Join(path, "*tmp*"))); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		}
	}
}

// TestManyLostBlobsAreCounted: what is told of one account is bounded.
func TestManyLostBlobsAreCounted(t *testing.T) {
	t.Parallel()
	f := newFake()
	id := f.add(1)
	a := f.accounts[id]
	for i := range 250 {
		b := blob.ID{byte(i), 1}
		a.blobs[b], a.lost[b] = make([]byte, 200), 100
	}
	path := filepath.Join(t.TempDir(), "copy")
	done, err := f.run(t, path, Options{})
	if err != nil || len(done.Damage) != maxNotedBlobs+1 || done.Damage[maxNotedBlobs].What != "and 150 more blobs" || done.Copied != 0 {
		t.Fatalf("%d: %+v, %v", len(done.Damage), done, err)
	}
	if left := must(filepath.Glob(filepath.Join(path, "blobs/*/*/*"))); len(left) > 0 {
		t.Errorf("%d are there", len(left))
	}
}

// TestAServerThatLiesIsNotBelieved: other blobs, other sizes, other sums than were announced; nothing of it comes in force.
func TestAServerThatLiesIsNotBelieved(t *testing.T) {
	t.Parallel()
	for what, lie := range map[string]func(*liar){
		"another blob":       func(l *liar) { l.swap = true },
		"a blob twice":       func(l *liar) { l.twice = true },
		"one blob less":      func(l *liar) { l.less = true },
		"another file":       func(l *liar) { l.small[PolicyFile] = []byte("POLICY"); l.after = true },
		"a longer file":      func(l *liar) { l.longer = true },
		"no signature":       func(l *liar) { l.cut = true },
		"a name that climbs": func(l *liar) { l.name = "../../escape" },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, _ := someState()
			l := &liar{fake: f}
			lie(l)
			path := filepath.Join(t.TempDir(), "a", "b", "copy")
			d := must(OpenDir(path, true))
			defer d.Close()
			if _, err := Run(t.Context(), l, d, Options{}); err == nil {
				t.Error("believed")
			}
			if _, err := d.Current(); !errors.Is(err, ErrNoCopy) {
				t.Errorf("in force: %v", err)
			}
			for name := range filesIn(t, filepath.Dir(filepath.Dir(path))) {
				if !strings.HasPrefix(name, "b/copy/") {
					t.Errorf("wrote %s", name)
				}
			}
		})
	}
}

// TestWhatWasOpenIsKept: an upload was under way when an account was copied whole for the last time; what was relied on of it stays with that state.
func TestWhatWasOpenIsKept(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	want := f.want()
	f.accounts[ids[0]].broken = true
	f.accounts[ids[0]].tree = []byte("damage")
	for range 2 {
		done, err := f.run(t, path, Options{})
		if err != nil || len(done.Damage) != 1 || done.Damage[0].Last.IsZero() {
			t.Fatalf("%+v, %v", done, err)
		}
		got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{Damaged: LastGood})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
}

// TestABlobLessIsNotEverythingLess: the disk of the copy lost a blob of an account, and then the server lost its database. What is
// left of the account's last whole state is all that there is of it anywhere.
func TestABlobLessIsNotEverythingLess(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	glob := filepath.Join(path, fmt.Sprintf("blobs/%x/*/*", ids[0][:]))
	all := must(filepath.Glob(glob))
	if len(all) < 2 {
		t.Fatalf("%d blobs", len(all))
	}
	if err := os.Remove(all[0]); err != nil {
		t.Fatal(err)
	}
	f.accounts[ids[0]].broken = true
	for range 2 {
		done, err := f.run(t, path, Options{})
		if err != nil || len(done.Damage) != 1 || done.Damage[0].Last.IsZero() || done.Damage[0].Lacking != 1 {
			t.Fatalf("%+v, %v", done.Damage, err)
		}
		d := must(OpenDir(path, true))
		if err := errors.Join(d.Clean(t.Context()), d.Close()); err != nil {
			t.Fatal(err)
		}
		if left := must(filepath.Glob(glob)); len(left) != len(all)-1 {
			t.Fatalf("%d of %d blobs are left", len(left), len(all)-1)
		}
		tree, _ := Kept(ids[0], f.accounts[ids[0]].version)
		if len(must(filepath.Glob(filepath.Join(path, "meta-*", tree)))) != 1 {
			t.Fatal("no database is left")
		}
	}
}
