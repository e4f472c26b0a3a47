package statecopy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// wentBack is the state of someState that was restored from an older copy: what was open then has the same name, and another end; and
// a blob that the copy has is lost.
func wentBack(ids []AccountID) *fake {
	f := stranger()
	f.add(1, 1200, 70_000, 200_000)
	a := f.accounts[ids[0]]
	a.blobs[blob.ID{3, 1}] = bytes.Repeat([]byte{5, 6}, 100_000)
	a.tree = []byte("a tree of this past")
	return f
}

// TestReplacingLeavesBlobsOfTheSameName: a copy that takes the place of one of another past of the same server overwrites none of its blobs
// before it is in force, at whatever step it breaks off; then its own count, whether they were put at their place or not, and for the next copy, too.
func TestReplacingLeavesBlobsOfTheSameName(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} { // before it was cleaned
		replacing(t, killed)
	}
}

func replacing(t *testing.T, killed bool) {
	for n := 1; ; n++ {
		old, ids := someState()
		other := wentBack(ids)
		path, whole := replaces(t, old, other, n)
		if !whole {
			continue
		}
		if n < 15 {
			t.Fatalf("only %d steps", n)
		}
		if !killed {
			d := must(OpenDir(path, true))
			if err := errors.Join(d.Clean(t.Context()), d.Close()); err != nil {
				t.Fatal(err)
			}
			if apart := must(filepath.Glob(filepath.Join(path, "meta-*/blobs"))); len(apart) > 0 {
				t.Errorf("not at their place: %q", apart)
			}
		}
		done, err := other.run(t, path, Options{Deep: true})
		if err != nil || done.Same != uint64(len(other.accounts)) || done.Copied != 0 {
			t.Fatalf("the next one: %+v, %v", done, err)
		}
		if got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); err != nil {
			t.Fatal(err)
		} else {
			same(t, got, other.want())
		}
		return
	}
}

// TestReplacingDropsNothingOfTheOther: a blob that both servers have lost, and the other copy has in part.
func TestReplacingDropsNothingOfTheOther(t *testing.T) {
	t.Parallel()
	old, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	old.wantCopy(t, path)
	lost := Blob{ID: blob.ID{3, 1}, Size: 200_000}
	before := must(os.ReadFile(filepath.Join(path, blobPath(ids[0], lost.ID))))
	other := wentBack(ids)
	other.accounts[ids[0]].lost[lost.ID] = 100
	d := must(OpenDir(path, true))
	done, err := Run(t.Context(), other.again(), d, Options{Replace: true})
	if err := errors.Join(err, d.Close()); err != nil || len(done.Damage) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if now := must(os.ReadFile(filepath.Join(path, blobPath(ids[0], lost.ID)))); !bytes.Equal(now, before) {
		t.Error("the other's is another one")
	}
	for range 2 { // and what it has of it is not taken for good
		if done, err := other.run(t, path, Options{}); err != nil || len(done.Damage) != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
}

// TestCleaningByAListThatBreaksOff: what is named by a list of which not all can be read stays.
func TestCleaningByAListThatBreaksOff(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	a, id := f.accounts[ids[0]], ids[0]
	past := blob.ID{9, 3}
	a.blobs[past] = make([]byte, 3000)
	path := filepath.Join(t.TempDir(), "copy")
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	delete(a.blobs, past)
	a.blobs[blob.ID{9, 4}], a.blobs[blob.ID{10}], a.tree = make([]byte, 900), make([]byte, 900), []byte("another")
	a.lost[blob.ID{9, 4}] = 10
	done, err := f.run(t, path, Options{})
	if err != nil || len(done.Damage) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	_, list := Kept(id, 1)
	name := filepath.Join(path, metaPrefix+done.ID, list)
	if err := os.Truncate(name, must(os.Stat(name)).Size()-1); err != nil {
		t.Fatal(err)
	}
	d := must(OpenDir(path, false))
	defer d.Close()
	if err := d.Clean(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("cleaned: %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, blobPath(id, past))); err != nil {
		t.Error(err)
	}
}

// TestTheSwitchIsDurableEverywhere: where a directory cannot be synced the whole file system is, before the manifest and behind it.
func TestTheSwitchIsDurableEverywhere(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	path := filepath.Join(t.TempDir(), "copy")
	d := must(OpenDir(path, true))
	d.syncFile = func(file *os.File) error {
		if must(file.Stat()).IsDir() {
			return unix.EINVAL
		}
		return file.Sync()
	}
	var states []string
	d.syncAll = func(int) error {
		_, err := os.Stat(filepath.Join(path, manifestName))
		state := filepath.Base(must(filepath.Glob(path + "/meta-*"))[0])
		if state != writing {
			state = "named"
		}
		if err == nil {
			state = "in force"
		}
		states = append(states, state)
		return nil
	}
	_, err := Run(t.Context(), f.again(), d, Options{})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(states, ", "); !strings.HasSuffix(got, writing+", named, in force") {
		t.Errorf("synced: %s", got)
	}
}

// TestNothingIsRemovedBeforeTheSwitchIsDurable: who was killed between the switch and its sync leaves a manifest that a power failure takes back.
func TestNothingIsRemovedBeforeTheSwitchIsDurable(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	f.accounts[ids[0]].tree = []byte("another tree")
	d := must(OpenDir(path, true))
	_, err := Run(t.Context(), f.again(), d, Options{})
	if err := errors.Join(err, d.Close()); err != nil { // and no Clean
		t.Fatal(err)
	}
	metas := func() int { return len(must(filepath.Glob(path + "/meta-*"))) }
	d = must(OpenDir(path, true))
	synced := 0
	d.syncAll = func(int) error { synced = metas(); return nil }
	if err := errors.Join(d.Begin(false), d.Close()); err != nil {
		t.Fatal(err)
	}
	if synced != 2 || metas() != 1 {
		t.Errorf("synced with %d, then %d", synced, metas())
	}
}

// TestACopyOfALaterFormStays: what a later program made may be the only copy of it.
func TestACopyOfALaterFormStays(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	name := filepath.Join(path, manifestName)
	later := bytes.Replace(must(os.ReadFile(name)), []byte(manifestTitle), []byte(titlePrefix+"2"), 1)
	if err := os.WriteFile(name, later, 0o600); err != nil {
		t.Fatal(err)
	}
	before := filesIn(t, path)
	if _, err := f.run(t, path, Options{}); !errors.Is(err, ErrOther) {
		t.Errorf("over it: %v", err)
	}
	same(t, filesIn(t, path), before)
	if _, err := f.run(t, path, Options{Replace: true}); err != nil {
		t.Error(err)
	}
}

// TestAnInterruptedRestoreOfAnArchiveGoesOn: with the same archive; another one is refused, and leaves nothing there.
func TestAnInterruptedRestoreOfAnArchiveGoesOn(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	archive := func(f *fake) []byte {
		var b bytes.Buffer
		if _, err := Run(t.Context(), f.again(), NewStream(&b), Options{}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first, second := archive(f), archive(stranger())
	to := filepath.Join(t.TempDir(), "new")
	unpack := func(tar []byte) (*Copy, error) {
		err := Prepare(to, "")
		if err != nil {
			return nil, err
		}
		d, err := UnpackInto(t.Context(), bytes.NewReader(tar), to)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { d.Close() })
		return d.Current()
	}
	c := must(unpack(first))
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Restore(ctx, to, RestoreOptions{Move: true, Progress: func(AccountID) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := unpack(second); !errors.Is(err, ErrOtherRestore) {
		t.Errorf("another archive: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, unpackedDir)); err == nil {
		t.Error("it is there unpacked")
	}
	c = must(unpack(first))
	if err := c.Restore(t.Context(), to, RestoreOptions{Move: true}); err != nil {
		t.Fatal(err)
	}
	same(t, filesIn(t, to), f.want())
}
