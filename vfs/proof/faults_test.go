package proof

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// class of calls that fail in one way.
type class uint8

const (
	writes  class = iota // what needs space: writes, new names, sizes, reserves. ENOSPC
	syncs                // EIO
	names                // renames, links and what takes a name away. EIO
	classes              // of a mark: none
)

func (c class) String() string { return [...]string{"write", "sync", "change of names"}[c] }

func (c *call) class() class {
	switch c.kind {
	case create, mkdir, write, truncate, reserve:
		return writes
	case syncCall:
		return syncs
	case rename, link, unlink:
		return names
	}
	return classes
}

// part of the site that a path belongs to.
func partOf(root, path string) string {
	rel, _ := filepath.Rel(root, path)
	base, _, _ := strings.Cut(filepath.Base(rel), ".tmp-")
	base = strings.TrimSuffix(base, ".new")
	dir := strings.Split(rel, string(filepath.Separator))
	switch {
	case strings.HasSuffix(base, ".log"):
		return "audit log"
	case dir[0] == "audit" && len(dir) > 1:
		return "audit " + base
	case strings.HasPrefix(base, "tree-"):
		return "metadata"
	case dir[0] == "accounts" && len(dir) == 5:
		return "blobs"
	case dir[0] == "accounts":
		return "directories of accounts"
	case base == ".", base == "audit":
		return "directories of the site"
	}
	return base // keyring, seal.json, policy.db
}

// parts are what a fault must have hit in every run: all that Sallyport keeps.
var parts = map[class][]string{
	writes: {"keyring", "seal.json", "policy.db", "audit log", "audit head", "audit checkpoints", "metadata", "blobs", "directories of accounts", "directories of the site"},
	syncs:  {"keyring", "seal.json", "policy.db", "audit log", "audit head", "audit checkpoints", "metadata", "blobs", "directories of accounts", "directories of the site"},
	names:  {"keyring", "seal.json", "audit head", "metadata", "blobs"},
}

// faultRun makes one call fail: the nth of its class on its part of the site. (The nth of all would be another one each time, as
// several threads are at work.)
type faultRun struct {
	class class
	part  string
	nth   int
	f     fault
}

// tally counts calls by class and part.
type tally map[class]map[string]int

func (t tally) add(c class, part string) int {
	if t[c] == nil {
		t[c] = map[string]int{}
	}
	t[c][part]++
	return t[c][part]
}

func (r *faultRun) String() string {
	s := fmt.Sprintf("%v at %v %d of %s", r.f.err, r.class, r.nth, r.part)
	if r.f.applied {
		s += ", applied"
	}
	return s
}

// TestFaults makes one system call fail in each run: every write for want of space, every sync and every change of names with an error, each
// with and without its effect; of the volume, policy.db, the audit log and the keys. The child goes on as well as it
// can; what was acknowledged to it must be there, live and after a power loss.
func TestFaults(t *testing.T) {
	t.Parallel()
	steps := 5
	if long() {
		steps = 12
	}
	runs := faultRuns(t, steps)
	all := len(runs)
	if !long() {
		runs = someFaults(runs, 32)
	}
	m := &faultMachine{t: t, steps: steps, policy: policyTruth(t), hit: tally{}}
	work := make(chan *faultRun)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for r := range work {
				m.run(r)
			}
		})
	}
	for i := range runs {
		work <- &runs[i]
	}
	close(work)
	workers.Wait()
	for c := range classes {
		t.Logf("%v: %s", c, list(m.hit[c]))
		for _, p := range parts[c] {
			if m.hit[c][p] == 0 {
				t.Errorf("no %v of %s failed", c, p)
			}
		}
	}
	t.Logf("%d of %d runs with a fault, %d states examined", len(runs), all, m.states)
}

// faultRuns are one for each call that a run without faults makes, or more.
func faultRuns(t *testing.T, steps int) []faultRun {
	root, _ := newSite(t)
	var runs []faultRun
	seen := tally{}
	if _, err := trace(t, root, []string{fmt.Sprintf("%s=%d", stepsEnv, steps)}, func(c *call) *fault {
		class, part := c.class(), partOf(root, c.name)
		if class == classes {
			return nil
		}
		nth := seen.add(class, part)
		add := func(err syscall.Errno, applied bool) {
			runs = append(runs, faultRun{class, part, nth, fault{err, applied}})
		}
		if class == writes {
			add(syscall.ENOSPC, false)
		} else {
			add(syscall.EIO, false)
		}
		if long() {
			add(syscall.EIO, true)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return runs
}

// found are faults that something did not stand once.
var found = []faultRun{
	{syncs, "audit checkpoints", 3, fault{syscall.EIO, false}}, // the log went on behind a checkpoint of which nothing was known
}

// someFaults are n of the runs, of each class and part at least one, and those that have found something.
func someFaults(runs []faultRun, n int) []faultRun {
	rng := rand.New(rand.NewPCG(5, 5))
	rng.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
	rank := func(r faultRun) int {
		switch {
		case slices.Contains(found, r):
			return 0
		case r.nth == 1 && !r.f.applied: // what comes later may not come in another run
			return 1
		}
		return 2
	}
	slices.SortStableFunc(runs, func(a, b faultRun) int { return cmp.Compare(rank(a), rank(b)) })
	return runs[:min(len(runs), n)]
}

type faultMachine struct {
	t      *testing.T
	steps  int
	policy []string

	mu     sync.Mutex // guards what follows
	hit    tally
	states int
}

func (m *faultMachine) run(r *faultRun) {
	t := m.t
	root, key := newSite(t)
	defer os.RemoveAll(root)
	nth := 0
	log, err := trace(t, root, []string{fmt.Sprintf("%s=%d", stepsEnv, m.steps)}, func(c *call) *fault {
		if c.class() != r.class || partOf(root, c.name) != r.part {
			return nil
		}
		if nth++; nth != r.nth {
			return nil
		}
		m.mu.Lock()
		m.hit.add(r.class, r.part)
		m.mu.Unlock()
		return &r.f
	})
	h := historyOf(log)
	if err != nil {
		t.Errorf("%v: %v; failed: %v", r, err, h.why)
		return
	}
	d, err := newDisk(root, log)
	if err != nil {
		t.Errorf("%v: %v", r, err)
		return
	}
	for _, l := range []loss{keepAll, keepNothing, keepTorn} {
		dir := filepath.Join(filepath.Dir(root), "after")
		if err := d.state(dir, len(log), l, rand.New(rand.NewPCG(uint64(r.nth), 1))); err != nil {
			t.Errorf("%v: %v", r, err)
			return
		}
		s := &site{dir: dir, key: key, h: h, seed: 1, steps: m.steps, policy: m.policy, strict: !r.f.applied && r.f.err == syscall.ENOSPC}
		if err := s.examine(); err != nil {
			t.Errorf("%v, then power loss that keeps %v: %v; failed: %v", r, l, err, slices.Sorted(maps.Keys(h.why)))
		}
		m.mu.Lock()
		m.states++
		m.mu.Unlock()
		os.RemoveAll(dir)
	}
}
