package proof

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// tamperEnv names the number of cases of the long run, seedEnv the seed of a run that is to be repeated.
const (
	tamperEnv = "SALLYPORT_TAMPER"
	seedEnv   = "SALLYPORT_SEED"

	leastPerKind = 100
	chunk        = 250              // cases that a worker takes at once
	patience     = 60 * time.Second // for one case; more is a hang
)

// attack is one kind of attack on one kind of thing in one store.
type attack struct {
	kind, target string
	store        *store
	online       bool // the volume is open meanwhile
	n            int  // how many different cases there are
	unit         int  // the first unit cases are exhaustive in themselves (each byte once); 0 = none
	weight       int  // share of a large budget
	apply        func(b *bench, i int) (wish, error)

	share, done, refused int
}

func (a *attack) String() string {
	return fmt.Sprintf("%s of %s in store %q", a.kind, a.target, a.store.name)
}

// pick is the index of the jth case that is run. A share that is not
// everything is spread evenly by a stride that has no common divisor with n.
func (a *attack) pick(j int, seed uint64) int {
	if a.share >= a.n || a.unit > 0 && a.share >= a.unit && j < a.unit {
		return j % a.n
	}
	step := uint64(float64(a.n)*0.6180339887) | 1
	for gcd(step, uint64(a.n)) != 1 {
		step += 2
	}
	return int((seed + uint64(j)*step) % uint64(a.n))
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// deal gives every attack its share of the budget: enough that each kind has
// its hundred, then by weight, and never more cases than there are.
func deal(attacks []*attack, budget int) {
	perKind := map[string]int{}
	for _, a := range attacks {
		perKind[a.kind]++
	}
	for _, a := range attacks {
		a.share = min(a.n, (leastPerKind+perKind[a.kind]-1)/perKind[a.kind])
		budget -= a.share
	}
	topUp := func(of func(a *attack) bool) { // some have fewer cases than their part of the hundred
		short := leastPerKind
		for _, a := range attacks {
			if of(a) {
				short -= a.share
			}
		}
		for _, a := range attacks {
			if more := min(short, a.n-a.share); of(a) && more > 0 {
				a.share, budget, short = a.share+more, budget-more, short-more
			}
		}
	}
	for _, a := range attacks {
		topUp(func(o *attack) bool { return o.kind == a.kind })
		topUp(func(o *attack) bool { return o.target == a.target })
	}
	for budget > 0 {
		weights := 0
		for _, a := range attacks {
			if a.share < a.n {
				weights += a.weight
			}
		}
		if weights == 0 {
			return
		}
		per, given := max(1, budget/weights), 0
		for _, a := range attacks {
			more := min(a.n-a.share, a.weight*per, budget-given)
			if more > 0 {
				a.share, given = a.share+more, given+more
			}
		}
		budget -= given
	}
}

func kindsOf(attacks []*attack) []string {
	var all []string
	for _, a := range attacks {
		if !slices.Contains(all, a.kind) {
			all = append(all, a.kind)
		}
	}
	return all
}

// job is a run of cases of one attack.
type job struct {
	a        *attack
	from, to int
}

// machine runs attacks on as many benches as there are processors.
type machine struct {
	t       testing.TB
	seed    uint64
	attacks []*attack
	began   time.Time

	mu     sync.Mutex // guards what follows, and the counts of attacks
	failed int
}

const mostFailures = 20

func (m *machine) fail(format string, a ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed++; m.failed <= mostFailures {
		m.t.Errorf(format, a...)
	}
}

func (m *machine) run(c *corpus, attacks []*attack) {
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		b := newBench(m.t, c)
		workers.Go(func() {
			for j := range jobs {
				m.job(b, j)
			}
		})
	}
	for _, a := range attacks {
		for from := 0; from < a.share; from += chunk {
			jobs <- job{a, from, min(a.share, from+chunk)}
		}
	}
	close(jobs)
	workers.Wait()
}

func (m *machine) job(b *bench, j job) {
	a := j.a
	if err := b.begin(a.store, a.online); err != nil {
		m.fail("%v: opening before any attack: %v", a, err)
		return
	}
	refused := 0
	for k := j.from; k < j.to; k++ {
		i := a.pick(k, m.seed)
		v, err := m.one(b, a, i)
		if err != nil {
			m.fail("%v, case %d of %d (seed %d): %v", a, i, a.n, m.seed, err)
		}
		if v.refused {
			refused++
		}
	}
	if err := b.end(); err != nil {
		m.fail("%v: closing: %v", a, err)
	}
	if err := b.pristine(); err != nil {
		m.fail("%v: %v", a, err)
	}
	m.mu.Lock()
	a.done += j.to - j.from
	a.refused += refused
	m.mu.Unlock()
}

// one runs one case. A panic is a finding, and so is a case that does not end.
func (m *machine) one(b *bench, a *attack, i int) (v verdict, err error) {
	hang := time.AfterFunc(patience, func() {
		m.unfinished(os.Stderr, "a case hangs")
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%v, case %d (seed %d): no answer after %v", a, i, m.seed, patience))
	})
	defer hang.Stop()
	defer func() {
		if p := recover(); p != nil {
			err = wrong("panic: %v\n%s", p, debug.Stack())
		}
		if rerr := b.restore(a.store.unclean && !a.online || a.store.rewritten); rerr != nil && err == nil {
			err = rerr
		}
	}()
	b.rng = rand.New(rand.NewPCG(m.seed, uint64(i)))
	want, err := a.apply(b, i)
	if err != nil {
		return v, fmt.Errorf("applying: %w", err)
	}
	return b.judge(want, i%ways)
}

// TestTamper is FORMAT.md's promise under attack: exact bytes or an integrity error. It prints how many cases of each
// kind it has tried on each kind of thing.
func TestTamper(t *testing.T) {
	budget := 20_500
	if raceEnabled || testing.Short() {
		budget = 15_000 // still a hundred of each kind of attack, and of each kind of record
	}
	if s := os.Getenv(tamperEnv); s != "" {
		var err error
		if budget, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", tamperEnv, err)
		}
	}
	seed := uint64(1)
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedEnv, err)
		}
	}
	t.Parallel()
	c := newCorpus(t)
	c.check(t)
	var attacks []*attack
	for _, s := range c.stores {
		attacks = append(attacks, blobAttacks(s, c)...)
		attacks = append(attacks, recordAttacks(t, s, c.peer)...)
		attacks = append(attacks, fileAttacks(s, c.peer)...)
	}
	for _, s := range c.sites {
		if s.of == auditOf {
			attacks = append(attacks, auditAttacks(s, c)...)
			continue
		}
		attacks = append(attacks, recordAttacks(t, s, c.others)...)
		attacks = append(attacks, fileAttacks(s, c.others)...)
	}
	attacks = slices.DeleteFunc(attacks, func(a *attack) bool { return a.n <= 0 })
	for _, a := range attacks {
		a.weight = max(a.weight, 1)
	}
	deal(attacks, budget)
	m := &machine{t: t, seed: seed, attacks: attacks, began: time.Now()}
	stop := m.watch(os.Stderr, os.Exit)
	m.run(c, attacks)
	stop()
	report(t, attacks, time.Since(m.began), seed)
	if m.failed > mostFailures {
		t.Errorf("%d findings more", m.failed-mostFailures)
	}
}

// check makes sure that the stores say what they should before anybody attacks, and that Verify agrees.
func (c *corpus) check(t *testing.T) {
	t.Helper()
	b := newBench(t, c)
	for _, s := range slices.Concat(c.stores, c.sites) {
		for how := range ways {
			if err := b.begin(s, false); err != nil {
				t.Fatal(err)
			}
			if _, err := b.judge(wish{silent: true}, how); err != nil {
				t.Fatalf("store %q: %v", s.name, err)
			}
			if err := b.restore(s.unclean || s.rewritten); err != nil {
				t.Fatal(err)
			}
			if err := b.pristine(); err != nil {
				t.Fatalf("store %q: %v", s.name, err)
			}
		}
	}
}

// report prints what a whole run did, and fails if it was too little of anything.
func report(t *testing.T, attacks []*attack, took time.Duration, seed uint64) {
	t.Helper()
	targets := map[string]int{}
	for _, a := range attacks {
		targets[a.target] += a.done
	}
	for _, kind := range kindsOf(attacks) {
		done := 0
		for _, a := range attacks {
			if a.kind == kind {
				done += a.done
			}
		}
		if done < leastPerKind {
			t.Errorf("only %d cases of %q", done, kind)
		}
	}
	for target, n := range targets {
		if n < leastPerKind {
			t.Errorf("only %d cases on %q", n, target)
		}
	}
	t.Log("\n" + tables(attacks, took, seed))
}

// tables are two, one of records and one of everything else: a line per kind of attack, a column per kind of thing.
func tables(attacks []*attack, took time.Duration, seed uint64) string {
	var out strings.Builder
	var others, site []string
	total, refused := 0, 0
	for _, a := range attacks {
		total, refused = total+a.done, refused+a.refused
		switch {
		case strings.HasPrefix(a.target, policyOf), strings.HasPrefix(a.target, auditOf):
			if !slices.Contains(site, a.target) {
				site = append(site, a.target)
			}
		case !slices.Contains(bucketNames, a.target) && !slices.Contains(others, a.target):
			others = append(others, a.target)
		}
	}
	slices.Sort(others)
	slices.Sort(site)
	fmt.Fprintf(&out, "by kind of record\n")
	table(&out, attacks, bucketNames[1:])
	fmt.Fprintf(&out, "by what else was attacked\n")
	table(&out, attacks, others)
	fmt.Fprintf(&out, "policy.db and the audit log\n")
	table(&out, attacks, site)
	fmt.Fprintf(&out, "%d cases, %d refused, %d answered exactly; seed %d, %v", total, refused, total-refused, seed, took.Round(time.Millisecond))
	return out.String()
}

// table prints how many cases of each kind of attack were tried on each of the targets.
func table(out *strings.Builder, attacks []*attack, targets []string) {
	kinds := kindsOf(attacks)
	slices.Sort(kinds)
	fmt.Fprintf(out, "%-42s", "")
	for _, target := range targets {
		fmt.Fprintf(out, " %*s", max(8, len(target)), target)
	}
	out.WriteByte('\n')
	line := func(name string, of func(a *attack) bool) {
		counts, all := map[string]int{}, 0
		for _, a := range attacks {
			if of(a) && slices.Contains(targets, a.target) {
				counts[a.target] += a.done
				all += a.done
			}
		}
		if all == 0 {
			return
		}
		fmt.Fprintf(out, "%-42s", name)
		for _, target := range targets {
			fmt.Fprintf(out, " %*d", max(8, len(target)), counts[target])
		}
		fmt.Fprintf(out, " %9d\n", all)
	}
	for _, kind := range kinds {
		line(kind, func(a *attack) bool { return a.kind == kind })
	}
	line("all", func(*attack) bool { return true })
}

// list prints counts, the largest first.
func list(counts map[string]int) string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(counts[b]-counts[a], strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}
