package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/crypto/keyring"
	"sallyport/vfs"
)

// repairEnv makes the child damage a database and repair it, instead of all else.
const repairEnv = "SALLYPORT_PROOF_REPAIR"

// mended are the buckets of which the child damages a record: a name, an inode, a version, an index by time.
var mended = []byte{1, 3, 4, 7}

func repairOptions(root string, ring *keyring.Keyring) vfs.Options {
	return vfs.Options{Dir: filepath.Join(root, "accounts"), Keyring: ring, IdleClose: -1, Now: func() time.Time { return dawn }}
}

// repair is the child's work: a volume, damage, and `vfs verify --repair`.
func (c *child) repair(ctx context.Context, ring *keyring.Keyring, id keyring.AccountID) error {
	f, err := vfs.Open(ctx, repairOptions(c.root, ring))
	if err != nil {
		return err
	}
	if err := f.Create(ctx, id); err != nil {
		return err
	}
	v, err := f.Volume(ctx, id)
	if err != nil {
		return err
	}
	w := v.View(vfs.ViewOptions{Writer: "child", Note: note})
	for i := range 6 {
		if err := w.Mkdir(fmt.Sprintf("/%d", i), 0o755); err != nil {
			return err
		}
		for _, n := range []int{10, 5000, 70_000} {
			for k := range 2 { // one of history, one that is current
				if err := upload(fmt.Sprintf("/%d/%d", i, n), bytes.Repeat([]byte{byte(i*10 + k)}, n), 0)(w, func() {}); err != nil {
					return err
				}
			}
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		return err
	}
	if err := spoil(filepath.Join(c.root, "accounts", fmt.Sprintf("%x", id[:]), treeFile)); err != nil {
		return err
	}
	c.mark("ack damage")
	if f, err = vfs.Open(ctx, repairOptions(c.root, ring)); err != nil {
		return err
	}
	_ = c.do("repair", func() error { return mendVolume(ctx, f, id) })
	return closeAfterFault(f.Close())
}

// mendVolume plans and executes.
func mendVolume(ctx context.Context, f *vfs.FS, id keyring.AccountID) error {
	plan, err := f.Repair(ctx, id, vfs.RepairOptions{})
	if err != nil {
		return err
	}
	done, err := f.Repair(ctx, id, vfs.RepairOptions{Plan: plan.ID})
	if err == nil && !done.Done {
		err = wrong("nothing was repaired: %+v", done)
	}
	return err
}

// spoil flips a bit of one record in each of the buckets, as a disk does.
func spoil(tree string) error {
	image, err := os.ReadFile(tree)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(tree, 0o600, &bbolt.Options{ReadOnly: true, PageSize: pageSize})
	if err != nil {
		return err
	}
	var at []int
	err = db.View(func(tx *bbolt.Tx) error {
		for _, n := range mended {
			k, v := bucket(tx, n).Cursor().First()
			if n == 3 || n == 4 { // not the root directory's
				k, v = bucket(tx, n).Cursor().Last()
			}
			if k == nil {
				return fmt.Errorf("bucket %d is empty", n)
			}
			at = append(at, offset(db, v, image)+len(v)/2)
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(tree, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, off := range at {
		_, werr := f.WriteAt([]byte{image[off] ^ 4}, int64(off))
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// listing is everything that a session sees, and what is refused to it.
func listing(w *vfs.View, dir string, into map[string]string) error {
	return w.ReadDir(context.Background(), dir, func(batch []*vfs.Info) error {
		for _, i := range batch {
			name := path.Join(dir, i.Name())
			into[name] = i.Mode().String()
			switch {
			case i.IsDir():
				if err := listing(w, name, into); err != nil {
					return err
				}
			case i.Mode().IsRegular():
				f, err := open(w, name, os.O_RDONLY)
				var b []byte
				if err == nil {
					b = make([]byte, i.Size())
					_, err = f.ReadAt(b, 0)
					f.Close()
				}
				if errors.Is(err, vfs.ErrIntegrity) {
					into[name] += " damaged"
				} else if err != nil {
					return wrong("%s: %v", name, err)
				} else {
					into[name] += fmt.Sprintf(" %d bytes %x", len(b), slices.Compact(b))
				}
			}
		}
		return nil
	})
}

// repairSite is a state of the disk since the damage.
type repairSite struct {
	dir     string
	key     *keyring.KeyFile
	id      keyring.AccountID
	acked   bool
	damaged []byte            // the database before the repair
	want    map[string]string // what the repaired volume says; nil: whatever it says
}

// examine opens the volume, repairs it if it is still the damaged one, and compares. Whatever happened, the damaged database must be there.
func (s *repairSite) examine() (map[string]string, error) {
	ctx := context.Background()
	ring, err := keyring.Open(ctx, s.dir, s.key)
	if err != nil {
		return nil, wrong("the keyring does not open: %v", err)
	}
	defer ring.Close()
	f, err := vfs.Open(ctx, repairOptions(s.dir, ring))
	if err != nil {
		return nil, wrong("the volumes do not open: %v", err)
	}
	defer f.Close()
	v, err := f.Volume(ctx, s.id)
	switch {
	case s.acked && err != nil:
		return nil, wrong("the repair was acknowledged, and the volume does not open: %v", err)
	case err != nil && !errors.Is(err, vfs.ErrIntegrity):
		return nil, wrong("neither the damaged nor the repaired volume: %v", err)
	case err != nil:
		if err := mendVolume(ctx, f, s.id); err != nil {
			return nil, wrong("it cannot be repaired after the crash: %v", err)
		}
		if v, err = f.Volume(ctx, s.id); err != nil {
			return nil, wrong("it does not open after the repair: %v", err)
		}
	}
	w := v.View(vfs.ViewOptions{Writer: "oracle"})
	defer w.Close()
	got := map[string]string{}
	if err := listing(w, "/", got); err != nil {
		return nil, err
	}
	for name, says := range s.want {
		if got[name] != says {
			return nil, wrong("%s: %.60q, want %.60q", name, got[name], says)
		}
	}
	if s.want != nil && len(got) != len(s.want) {
		return nil, wrong("%d names, want %d", len(got), len(s.want))
	}
	return got, s.kept()
}

// kept looks for the damaged database, and for what is left over.
func (s *repairSite) kept() error {
	dir := filepath.Join(s.dir, "accounts", fmt.Sprintf("%x", s.id[:]))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	there := false
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") {
			return wrong("%s is left over", e.Name())
		}
		if strings.HasPrefix(e.Name(), treeFile+".damaged-") {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			there = there || err == nil && bytes.Equal(b, s.damaged)
		}
	}
	if !there {
		return wrong("the damaged database is not there any more")
	}
	return nil
}

// TestCrashDuringRepair loses the power after each system call of a repair, and makes each of them fail: the volume is the damaged one, which
// can be repaired, or the repaired one, and the damaged database stays.
func TestCrashDuringRepair(t *testing.T) {
	t.Parallel()
	env := []string{repairEnv + "=1"}
	root, key := newSite(t)
	log, err := trace(t, root, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := historyOf(log)
	if !h.acked["repair"] {
		t.Fatalf("the child failed without a fault: %v", h.why)
	}
	begin := slices.IndexFunc(log, func(c call) bool { return c.kind == mark && c.name == "ack damage\n" }) + 1
	if !slices.ContainsFunc(log[begin:], func(c call) bool { return c.kind == link }) || len(log)-begin < 10 {
		t.Fatalf("%d calls, and no link among them: this is no repair", len(log)-begin)
	}
	d, err := newDisk(root, log)
	if err != nil {
		t.Fatal(err)
	}
	base := &repairSite{key: key, id: h.id}
	dir := filepath.Join(scratch(t), "damaged")
	if err := d.state(dir, begin, keepAll, nil); err != nil {
		t.Fatal(err)
	}
	if base.damaged, err = os.ReadFile(filepath.Join(dir, "accounts", fmt.Sprintf("%x", h.id[:]), treeFile)); err != nil {
		t.Fatal(err)
	}
	base.dir = dir
	if base.want, err = base.examine(); err != nil {
		t.Fatal(err)
	}
	checkMended(t, base.want)
	variants, budget := 1, 60
	if long() {
		variants, budget = 8, 1<<40
	}
	cases, all := crashCases(begin, len(log), variants, budget, 1)
	if !long() { // where the names change nothing is left out
		links := slices.IndexFunc(log, func(c call) bool { return c.kind == link })
		changes, _ := crashCases(links, len(log), 8, 1<<40, 1)
		cases = append(cases, changes...)
	}
	counts := examineAll(t, d, log, 1, cases, func(dir string, c crashCase) error {
		s := *base
		s.dir, s.acked = dir, historyOf(log[:c.at]).acked["repair"]
		_, err := s.examine()
		return err
	})
	t.Logf("%d system calls of a repair; %d states after a power loss, of %d and more: %s", len(log)-begin, len(cases), all, list(counts))
	testRepairFaults(t, env)
}

// checkMended makes sure that the reference is right: what is left of the files is what was written, and most of them are.
func checkMended(t *testing.T, got map[string]string) {
	t.Helper()
	whole, lost := 0, 0
	for i := range 6 {
		for _, n := range []int{10, 5000, 70_000} {
			name := fmt.Sprintf("/%d/%d", i, n)
			switch got[name] {
			case fmt.Sprintf("-rw-r--r-- %d bytes %x", n, []byte{byte(i*10 + 1)}):
				whole++
			case "", "-rw-r--r-- damaged", fmt.Sprintf("-rw-r--r-- %d bytes %x", n, []byte{byte(i * 10)}): // or the version before
				lost++
			default:
				t.Errorf("%s: %q", name, got[name])
			}
		}
	}
	if whole < 12 { // a name and a version may be lost; more or all may come back
		t.Errorf("%d files are whole after the repair, %d lost", whole, lost)
	}
}

// testRepairFaults makes each call of a repair fail once.
func testRepairFaults(t *testing.T, env []string) {
	runs, step := 0, 5
	if long() {
		step = 1
	}
	for nth := 1; ; nth += step {
		root, key := newSite(t)
		var repairing, hit bool
		n := 0
		var f fault
		log, err := trace(t, root, env, func(c *call) *fault {
			if repairing = repairing || c.kind == mark && c.name == "begin repair\n"; !repairing || c.kind == mark {
				return nil
			}
			if n++; n != nth {
				return nil
			}
			hit = true
			if f = (fault{err: syscall.EIO}); c.class() == writes {
				f.err = syscall.ENOSPC
			}
			return &f
		})
		if err != nil {
			t.Fatal(err)
		}
		if !hit {
			break
		}
		runs++
		h := historyOf(log)
		d, err := newDisk(root, log)
		if err != nil {
			t.Fatal(err)
		}
		begin := slices.IndexFunc(log, func(c call) bool { return c.kind == mark && c.name == "ack damage\n" }) + 1
		s := &repairSite{key: key, id: h.id, acked: h.acked["repair"]}
		for _, l := range []loss{keepAll, keepNothing, keepTorn} {
			s.dir = filepath.Join(scratch(t), "site")
			if err := d.state(s.dir, begin, keepAll, nil); err != nil {
				t.Fatal(err)
			}
			s.damaged, err = os.ReadFile(filepath.Join(s.dir, "accounts", fmt.Sprintf("%x", h.id[:]), treeFile))
			if err != nil {
				t.Fatal(err)
			}
			os.RemoveAll(s.dir)
			if err := d.state(s.dir, len(log), l, rand.New(rand.NewPCG(uint64(nth), 1))); err != nil {
				t.Fatal(err)
			}
			if got, err := s.examine(); err != nil {
				t.Errorf("%v at call %d of a repair, then power loss that keeps %v: %v", f.err, nth, l, err)
			} else {
				checkMended(t, got)
			}
			os.RemoveAll(s.dir)
		}
		os.RemoveAll(root)
	}
	t.Logf("%d calls of a repair were made to fail", runs)
}
