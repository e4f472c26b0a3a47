package proof

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// crashEnv asks for the long run: every prefix, every kind of loss, every fault.
const crashEnv = "SALLYPORT_CRASH"

func long() bool { return os.Getenv(crashEnv) != "" }

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
	policy := policyTruth(t)
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
		cases, all := crashCases(0, len(log), variants, budget, seed)
		counts := examineAll(t, d, log, seed, cases, func(dir string, c crashCase) error {
			s := &site{dir: dir, key: key, h: historyOf(log[:c.at]), seed: seed, steps: steps, how: c.at % ways, policy: policy}
			if err := s.examine(); err != nil {
				return err
			}
			if c.at%8 > 0 { // now and then once more: what recovery did must hold, too
				return nil
			}
			return s.again()
		})
		t.Logf("seed %d: %d system calls that change files; %d of %d states after a power loss: %s", seed, len(log), len(cases), all, list(counts))
	}
}

// crashCases are the states after each call from one on, or budget of them, and how many there are.
func crashCases(from, to, variants, budget int, seed uint64) (cases []crashCase, all int) {
	for at := from; at <= to; at++ {
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
	all = len(cases)
	if all > budget {
		rng := rand.New(rand.NewPCG(seed, 3))
		rng.Shuffle(all, func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		cases = cases[:budget]
	}
	return cases, all
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
func examineAll(t testing.TB, d *disk, log []call, seed uint64, cases []crashCase, look func(dir string, c crashCase) error) map[string]int {
	work := make(chan crashCase)
	counts := map[string]int{}
	var mu sync.Mutex // guards counts and failed
	failed := 0
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		dir := scratch(t)
		workers.Go(func() {
			for c := range work {
				err := examineOne(filepath.Join(dir, "site"), d, seed, c, look)
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
	return fmt.Sprintf("%s %s", [...]string{"create", "mkdir", "unlink", "rename", "link", "write", "truncate", "sync", "reserve", "mark"}[c.kind], strings.TrimSpace(c.name))
}

func examineOne(dir string, d *disk, seed uint64, c crashCase, look func(dir string, c crashCase) error) error {
	defer os.RemoveAll(dir)
	rng := rand.New(rand.NewPCG(seed, uint64(c.at)<<8|uint64(c.n)<<4|uint64(c.loss)))
	if err := d.state(dir, c.at, c.loss, rng); err != nil {
		return err
	}
	return look(dir, c)
}
