package proof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// crashEnv asks for the long run: every prefix, every kind of loss, every fault.
const crashEnv = "SALLYPORT_CRASH"

func long() bool { return os.Getenv(crashEnv) != "" }

// history is the marks up to some call: what was begun, what was acknowledged.
type history struct {
	begun, acked, failed, synced map[string]bool
	why                          map[string]string // of failures
	id                           keyring.AccountID
}

func historyOf(log []call) *history {
	h := &history{begun: map[string]bool{}, acked: map[string]bool{}, failed: map[string]bool{}, synced: map[string]bool{}, why: map[string]string{}}
	for _, c := range log {
		if c.kind != mark {
			continue
		}
		kind, what, _ := strings.Cut(strings.TrimSpace(c.name), " ")
		switch kind {
		case "begin":
			h.begun[what] = true
		case "ack":
			h.acked[what] = true
		case "synced":
			h.synced[what] = true
		case "fail":
			what, why, _ := strings.Cut(what, ": ")
			h.failed[what], h.why[what] = true, why
		case "id":
			if _, err := fmt.Sscanf(what, "%x", &[]byte{}); err == nil {
				h.id = parseID(what)
			}
		}
	}
	return h
}

func parseID(s string) (id keyring.AccountID) {
	var b []byte
	fmt.Sscanf(s, "%x", &b)
	copy(id[:], b)
	return id
}

// site is a state directory after a crash, and how its tests look at it.
type site struct {
	dir    string
	key    *keyring.KeyFile
	h      *history
	seed   uint64
	steps  int
	how    int
	strict bool // what an fsync that failed may have left is not to be had: the fault was another
}

// examine opens everything as a server does that starts, and asks whether it keeps its promises.
func (s *site) examine() error {
	ctx := context.Background()
	ring, err := keyring.Open(ctx, s.dir, s.key)
	if err != nil {
		if s.h.acked["ring"] {
			return wrong("the keyring does not open: %v", err)
		}
		return nil // a site that was never said to be there
	}
	defer ring.Close()
	if ids := ring.Accounts(); s.h.acked["account"] && !slices.Contains(ids, s.h.id) && s.h.id != (keyring.AccountID{}) {
		return wrong("the account's key is lost")
	}
	if err := s.examinePolicy(ctx, ring); err != nil {
		return err
	}
	if err := s.examineAudit(ctx, ring); err != nil {
		return err
	}
	if s.h.id == (keyring.AccountID{}) {
		return nil
	}
	return s.examineVolume(ctx, ring)
}

func (s *site) examinePolicy(ctx context.Context, ring *keyring.Keyring) error {
	if !s.h.begun["policy"] {
		return nil
	}
	o, err := policyOptions(s.dir, ring)
	if err != nil {
		return err
	}
	db, err := policydb.Open(ctx, o)
	if err != nil {
		return wrong("policy.db does not open: %v", err)
	}
	defer db.Close()
	list, err := db.Accounts()
	if err != nil {
		return wrong("policy.db: %v", err)
	}
	for i := range max(accounts, len(list)) {
		name := fmt.Sprintf("account%d", i)
		there := i < len(list) && list[i].Name == name
		if mark := "policy " + name; there && !s.h.begun[mark] || !there && s.h.acked[mark] {
			return wrong("%s is there: %v, begun: %v, acknowledged: %v", name, there, s.h.begun[mark], s.h.acked[mark])
		}
	}
	return nil
}

func (s *site) examineAudit(ctx context.Context, ring *keyring.Keyring) error {
	if !s.h.begun["audit"] {
		return nil
	}
	box, err := ring.Audit()
	if err != nil {
		return err
	}
	log, err := audit.Open(audit.Options{Dir: filepath.Join(s.dir, "audit"), Box: box, MaxFile: 1200})
	if err != nil {
		return wrong("the audit log does not open: %v", err)
	}
	defer log.Close()
	n := 0
	err = log.Tail(ctx, events+10, false, func(r audit.Record) error {
		if mark := fmt.Sprintf("audit %d", n); r.Event.Detail != event(n).Detail || !s.h.begun[mark] {
			return wrong("record %d of the audit log is %q, begun: %v", n, r.Event.Detail, s.h.begun[mark])
		}
		n++
		return nil
	})
	if err != nil {
		return wrong("the audit log: %w", err)
	}
	if mark := fmt.Sprintf("audit %d", n); s.h.acked[mark] {
		return wrong("record %d of the audit log was acknowledged and is lost", n)
	}
	return nil
}

func (s *site) examineVolume(ctx context.Context, ring *keyring.Keyring) (err error) {
	f, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(s.dir, "accounts"), Keyring: ring, IdleClose: -1})
	if err != nil {
		return wrong("the volumes do not open: %v", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	v, err := f.Volume(ctx, s.h.id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.h.acked["volume"]:
		if err := f.Create(ctx, s.h.id); err != nil {
			return wrong("a volume whose creation was cut off cannot be made: %v", err)
		}
		return nil
	case err != nil:
		return wrong("the volume does not open: %v", err)
	}
	w := v.View(vfs.ViewOptions{Writer: "oracle"})
	defer func() { err = errors.Join(err, w.Close()) }()
	for k := range workers {
		if err := s.examineWorker(w, k); err != nil {
			return err
		}
	}
	if s.h.acked["epilogue"] || s.h.acked["epilogue hit"] {
		if err := read(w, "/epilogue", epilogue, s.how); err != nil {
			return wrong("/epilogue: %v", err)
		}
	}
	var findings []string
	if _, err := v.Verify(ctx, func(f string) { findings = append(findings, f) }); err != nil || len(findings) > 0 {
		return wrong("verify: %v, %q", err, findings)
	}
	return s.resume(w)
}

// examineWorker compares what lies in a worker's directory with what its script says.
func (s *site) examineWorker(w *vfs.View, k int) error {
	dir := fmt.Sprintf("/w%d", k)
	if _, err := w.Lstat(dir); errors.Is(err, fs.ErrNotExist) && !s.h.acked["mkdir "+dir] {
		return nil
	} else if err != nil {
		return wrong("%s: %v", dir, err)
	}
	allowed := []tree{{}}
	what := "nothing begun"
	for i, st := range script(dir, s.seed+uint64(k)*1000, s.steps) {
		name := fmt.Sprintf("step %d %d", k, i)
		if !s.h.begun[name] {
			break
		}
		switch {
		case s.h.acked[name]:
			allowed, what = []tree{st.after}, "after "+st.what
		case s.h.synced[name]:
			allowed, what = st.synced, "after the sync in "+st.what
		default:
			allowed, what = st.during, "during "+st.what
			if s.strict && s.h.failed[name] {
				allowed, what = st.during[:len(st.during)-1], "after failed "+st.what
			}
		}
	}
	var errs []error
	for _, t := range allowed {
		_, err := t.checkBelow(w, dir, s.how, tolerance{})
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%s, worker %d: %w", what, k, errors.Join(errs...))
}

// resume completes every partial upload, as a client does that comes back.
func (s *site) resume(w *vfs.View) error {
	for k := range workers {
		dir := fmt.Sprintf("/w%d", k)
		for i, st := range script(dir, s.seed+uint64(k)*1000, s.steps) {
			name := fmt.Sprintf("step %d %d", k, i)
			if !s.h.begun[name] || s.h.acked[name] {
				continue
			}
			for path, n := range st.during[min(1, len(st.during)-1)] {
				info, err := w.Lstat(path)
				if !n.loose || err != nil || !info.(*vfs.Info).Partial() {
					continue
				}
				f, err := open(w, path, os.O_WRONLY|os.O_APPEND)
				if err != nil {
					return wrong("%s cannot be resumed: %v", path, err)
				}
				if err := closing(f, writeAll(f, n.content[info.Size():])); err != nil {
					return wrong("resuming %s: %v", path, err)
				}
				if err := read(w, path, n.content, s.how); err != nil {
					return wrong("%s after it was resumed: %v", path, err)
				}
			}
		}
	}
	return nil
}

// newSite is an empty directory for a child, with its key file outside.
func newSite(t testing.TB) (root string, key *keyring.KeyFile) {
	t.Helper()
	root = filepath.Join(scratch(t), "site")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := keyring.NewKeyFile(keyPath(root))
	if err != nil {
		t.Fatal(err)
	}
	return root, key
}

// crashCase is a state to be examined.
type crashCase struct {
	at   int // calls that had been made
	loss loss
	n    int // which of the random ones
}

// TestCrash records every system call of a program that works on a site, and examines what a power loss after each of them may leave.
func TestCrash(t *testing.T) {
	t.Parallel()
	seeds, steps, budget, variants := 1, 10, 700, 1
	if raceEnabled || testing.Short() {
		budget = 150
	}
	if long() {
		seeds, steps, budget, variants = 8, 25, 1<<40, 3
	}
	for seed := range uint64(seeds) {
		seed++
		root, key := newSite(t)
		log, err := trace(t, root, []string{fmt.Sprintf("%s=%d", seedOfWork, seed), fmt.Sprintf("%s=%d", stepsEnv, steps)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := newDisk(root, log)
		if err != nil {
			t.Fatal(err)
		}
		if h := historyOf(log); len(h.failed) > 0 || !h.acked["epilogue"] {
			t.Fatalf("the child failed without a fault: %v", h.why)
		}
		// The model of the disk must give, with nothing lost, what really lies there.
		if err := sameFiles(t, root, d, len(log)); err != nil {
			t.Fatal(err)
		}
		var cases []crashCase
		for at := range len(log) + 1 {
			for l := range losses {
				n := 1
				if l == keepSome || l == keepTorn {
					n = variants
				}
				for i := range n {
					cases = append(cases, crashCase{at, l, i})
				}
			}
		}
		all := len(cases)
		if all > budget {
			rng := rand.New(rand.NewPCG(seed, 3))
			rng.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
			cases = cases[:budget]
		}
		counts := examineAll(t, d, log, key, seed, steps, cases)
		t.Logf("seed %d: %d system calls that change files; %d of %d states after a power loss: %s", seed, len(log), len(cases), all, list(counts))
	}
}

// sameFiles compares what the model has with what lies in root.
func sameFiles(t testing.TB, root string, d *disk, p int) error {
	dir := filepath.Join(scratch(t), "whole")
	if err := d.state(dir, p, keepAll, nil); err != nil {
		return err
	}
	seen := [2]map[string]string{{}, {}}
	for i, base := range []string{root, dir} {
		err := filepath.WalkDir(base, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(base, p)
			seen[i][rel] = string(b)
			return err
		})
		if err != nil {
			return err
		}
	}
	for name, data := range seen[0] {
		if seen[1][name] != data {
			return fmt.Errorf("proof: internal error: the model of the disk has another %s", name)
		}
	}
	if len(seen[0]) != len(seen[1]) {
		return fmt.Errorf("proof: internal error: the model of the disk has %d files, not %d", len(seen[1]), len(seen[0]))
	}
	return nil
}

// examineAll examines states on all processors.
func examineAll(t testing.TB, d *disk, log []call, key *keyring.KeyFile, seed uint64, steps int, cases []crashCase) map[string]int {
	work := make(chan crashCase)
	counts := map[string]int{}
	var mu sync.Mutex // guards counts and failed
	failed := 0
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		dir := scratch(t)
		workers.Go(func() {
			for c := range work {
				err := examineOne(filepath.Join(dir, "site"), d, log, key, seed, steps, c)
				mu.Lock()
				counts[c.loss.String()]++
				if err != nil {
					if failed++; failed <= mostFailures {
						t.Errorf("seed %d, power loss after call %d of %d (%s), kept %v (%d): %v", seed, c.at, len(log), describe(log, c.at), c.loss, c.n, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	for _, c := range cases {
		work <- c
	}
	close(work)
	workers.Wait()
	return counts
}

func describe(log []call, at int) string {
	if at == 0 {
		return "nothing"
	}
	c := log[at-1]
	return fmt.Sprintf("%s %s", [...]string{"create", "mkdir", "unlink", "rename", "write", "truncate", "sync", "mark"}[c.kind], strings.TrimSpace(c.name))
}

func examineOne(dir string, d *disk, log []call, key *keyring.KeyFile, seed uint64, steps int, c crashCase) error {
	defer os.RemoveAll(dir)
	rng := rand.New(rand.NewPCG(seed, uint64(c.at)<<8|uint64(c.n)<<4|uint64(c.loss)))
	if err := d.state(dir, c.at, c.loss, rng); err != nil {
		return err
	}
	s := &site{dir: dir, key: key, h: historyOf(log[:c.at]), seed: seed, steps: steps, how: c.at % ways}
	if err := s.examine(); err != nil {
		return err
	}
	if c.at%8 > 0 { // now and then once more: what recovery did must hold, too
		return nil
	}
	s.h.failed = nil
	ring, err := keyring.Open(context.Background(), dir, key)
	if err != nil || s.h.id == (keyring.AccountID{}) {
		return nil
	}
	defer ring.Close()
	f, err := vfs.Open(context.Background(), vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: ring, IdleClose: -1})
	if err != nil {
		return wrong("second opening: %v", err)
	}
	defer f.Close()
	v, err := f.Volume(context.Background(), s.h.id)
	if err != nil {
		return wrong("second opening: %v", err)
	}
	var findings []string
	if _, err := v.Verify(context.Background(), func(f string) { findings = append(findings, f) }); err != nil || len(findings) > 0 {
		return wrong("second opening: verify: %v, %q", err, findings)
	}
	return nil
}

// TestFaults makes one system call fail in each run: every write for want of space, every sync with an error, each with and
// without its effect. The child goes on as well as it can; what was acknowledged to it must be there, live and after a power loss.
func TestFaults(t *testing.T) {
	t.Parallel()
	steps := 5
	if long() {
		steps = 12
	}
	root, _ := newSite(t)
	var counts [2]int
	if _, err := trace(t, root, []string{fmt.Sprintf("%s=%d", stepsEnv, steps)}, func(kind callKind, nth int) *fault {
		if kind == syncCall {
			counts[1] = nth
		} else {
			counts[0] = nth
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	type run struct {
		sync bool
		nth  int
		f    fault
	}
	var runs []run
	for n := range counts[0] {
		runs = append(runs, run{false, n + 1, fault{syscall.ENOSPC, false}})
		if long() {
			runs = append(runs, run{false, n + 1, fault{syscall.EIO, true}})
		}
	}
	for n := range counts[1] {
		runs = append(runs, run{true, n + 1, fault{syscall.EIO, false}})
		if long() {
			runs = append(runs, run{true, n + 1, fault{syscall.EIO, true}})
		}
	}
	all := len(runs)
	if !long() {
		rng := rand.New(rand.NewPCG(5, 5))
		rng.Shuffle(all, func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		runs = runs[:min(all, 24)]
	}
	states := 0
	for _, r := range runs {
		root, key := newSite(t)
		log, err := trace(t, root, []string{fmt.Sprintf("%s=%d", stepsEnv, steps)}, func(kind callKind, nth int) *fault {
			if (kind == syncCall) == r.sync && nth == r.nth {
				return &r.f
			}
			return nil
		})
		what := fmt.Sprintf("%v at write %d", r.f.err, r.nth)
		if r.sync {
			what = fmt.Sprintf("%v at sync %d", r.f.err, r.nth)
		}
		if r.f.applied {
			what += ", applied"
		}
		h := historyOf(log)
		if err != nil {
			t.Errorf("%s: %v; failed: %v", what, err, h.why)
			continue
		}
		d, err := newDisk(root, log)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []loss{keepAll, keepNothing, keepTorn} {
			dir := filepath.Join(scratch(t), "site")
			if err := d.state(dir, len(log), l, rand.New(rand.NewPCG(uint64(r.nth), 1))); err != nil {
				t.Fatal(err)
			}
			s := &site{dir: dir, key: key, h: h, seed: 1, steps: steps, strict: !r.f.applied && r.f.err == syscall.ENOSPC}
			if err := s.examine(); err != nil {
				t.Errorf("%s, then power loss that keeps %v: %v; failed: %v", what, l, err, h.why)
			}
			states++
			os.RemoveAll(dir)
		}
		os.RemoveAll(root)
	}
	t.Logf("%d writes and %d syncs could fail; %d of %d runs with a fault, %d states examined", counts[0], counts[1], len(runs), all, states)
}
