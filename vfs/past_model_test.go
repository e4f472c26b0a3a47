package vfs

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seen is what a client sees of a name.
type seen struct {
	mode         os.FileMode
	size         int64
	mtime, atime time.Time
	created      time.Time
	target       string
	data         string
}

// look reads a whole tree of now.
func (b *bench) look(w *View, root string) map[string]seen {
	b.t.Helper()
	out := map[string]seen{}
	var walk func(name string)
	walk = func(name string) {
		i := must(w.Lstat(name))(b.t).(*Info)
		s := seeInfo(i)
		switch {
		case i.IsDir():
			for _, n := range names(b.t, w, name) {
				walk(path.Join(name, n))
			}
		case i.Mode().IsRegular():
			s.data = string(get(b.t, w, name))
		default:
			s.target = must(w.Readlink(name))(b.t)
		}
		out[name] = s
	}
	walk(root)
	return out
}

func seeInfo(i *Info) seen {
	return seen{mode: i.Mode(), size: i.Size(), mtime: i.ModTime(), atime: i.ATime(), created: i.Created()}
}

// lookBack reads a whole tree of then.
func lookBack(t testing.TB, p *Past, root string) map[string]seen {
	t.Helper()
	out := map[string]seen{}
	var walk func(name string, i *Info)
	walk = func(name string, i *Info) {
		s := seeInfo(i)
		if again := must(p.Lstat(name))(t); seeInfo(again) != s {
			t.Errorf("%s is %+v in its directory and %+v by itself", name, s, seeInfo(again))
		}
		switch {
		case i.IsDir():
			ok(t, p.ReadDir(t.Context(), name, func(batch []*Info) error {
				for _, kid := range batch {
					walk(path.Join(name, kid.Name()), kid)
				}
				return nil
			}))
		case i.Mode().IsRegular():
			f := must(p.OpenHandle(t.Context(), name))(t)
			s.data = string(must(io.ReadAll(f))(t))
			ok(t, f.Close())
		default:
			s.target = must(p.Readlink(name))(t)
		}
		out[name] = s
	}
	walk(root, must(p.Lstat(root))(t))
	return out
}

// sameTree compares two trees name by name.
func sameTree(t testing.TB, got, want map[string]seen, quiet bool) bool {
	t.Helper()
	same := true
	report := func(format string, args ...any) {
		if same = false; !quiet {
			t.Helper()
			t.Errorf(format, args...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, here := got[name]
		w := want[name]
		switch {
		case !here:
			report("%s is not there", name)
		case g != w:
			g.data, w.data = brief([]byte(g.data)), brief([]byte(w.data))
			report("%s is %+v, want %+v", name, g, w)
		}
	}
	for name := range got {
		if _, here := want[name]; !here {
			report("%s is there, and was not", name)
		}
	}
	return same
}

// historyEnv is the number of operations, and a tenth of it that of instants; `make history` sets it.
const historyEnv = "SALLYPORT_HISTORY"

// pastModel makes random changes and knows what the tree should be.
type pastModel struct {
	b     *bench
	clock *handClock
	rng   *rand.Rand
	w     *View
	tree  map[string]seen // without times, and with the root
	seed  uint64
	o     Options
}

func (m *pastModel) pick(of func(seen) bool) string {
	var list []string
	for name, s := range m.tree {
		if of(s) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return list[m.rng.IntN(len(list))]
}

func isDir(s seen) bool  { return s.mode.IsDir() }
func isFile(s seen) bool { return s.mode.IsRegular() }
func isAny(seen) bool    { return true }

// place is a name in some directory, that may be there or not.
func (m *pastModel) place() string {
	return path.Join(m.pick(isDir), fmt.Sprintf("n%d", m.rng.IntN(9)))
}

func (m *pastModel) below(name string) (list []string) {
	for n := range m.tree {
		if n == name || strings.HasPrefix(n, strings.TrimSuffix(name, "/")+"/") {
			list = append(list, n)
		}
	}
	return list
}

// step makes one change.
func (m *pastModel) step() {
	t, w := m.b.t, m.w
	m.clock.advance(time.Duration(m.rng.IntN(1500)) * time.Millisecond)
	name := m.place()
	old, here := m.tree[name]
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3: // write
		if here && !isFile(old) {
			return
		}
		sizes := []int{0, 5, 300, 5000, 70_000}
		m.seed++
		data := noise(m.seed, sizes[m.rng.IntN(len(sizes))])
		put(t, w, name, data)
		mode := os.FileMode(0o644)
		if here {
			mode = old.mode
		}
		m.tree[name] = seen{mode: mode, size: int64(len(data)), data: string(data)}
	case 4: // change a part, or add to it
		if !here || !isFile(old) {
			return
		}
		f := openFile(t, w, name, os.O_RDWR)
		off := m.rng.Int64N(old.size + 1)
		must(f.WriteAt([]byte("patch"), off))(t)
		ok(t, f.Close())
		data := []byte(old.data)
		data = append(data[:min(int(off), len(data))], append([]byte("patch"), data[min(int(off)+5, len(data)):]...)...)
		old.data, old.size = string(data), int64(len(data))
		m.tree[name] = old
	case 5: // directory
		if here || strings.Count(name, "/") > 5 {
			return
		}
		ok(t, w.Mkdir(name, 0))
		m.tree[name] = seen{mode: os.ModeDir | 0o755}
	case 6:
		if here {
			return
		}
		to := fmt.Sprintf("n%d", m.rng.IntN(9))
		ok(t, w.Symlink(to, name))
		m.tree[name] = seen{mode: os.ModeSymlink | 0o777, size: int64(len(to)), target: to}
	case 7: // attributes
		at := m.pick(isAny)
		s := m.tree[at]
		ch := AttrChange{Mtime: ptr(time.Unix(m.rng.Int64N(1<<31), m.rng.Int64N(1000)))}
		if s.mode&os.ModeSymlink == 0 {
			mode := os.FileMode(0o700 | m.rng.IntN(64))
			ch.Mode = &mode
			s.mode = s.mode&os.ModeDir | mode
		}
		ok(t, w.LsetAttr(at, ch))
		m.tree[at] = s
	case 8, 9: // rename
		from := m.pick(isAny)
		if from == "/" || name == from || strings.HasPrefix(name, from+"/") {
			return
		}
		if here && (isDir(old) || isDir(m.tree[from])) {
			return
		}
		ok(t, w.Rename(from, name))
		delete(m.tree, name)
		for _, n := range m.below(from) {
			m.tree[name+strings.TrimPrefix(n, from)] = m.tree[n]
			delete(m.tree, n)
		}
	case 10: // remove
		if !here || isDir(old) {
			return
		}
		ok(t, w.Remove(name))
		delete(m.tree, name)
	case 11: // a whole tree
		at := m.pick(isDir)
		if at == "/" || len(m.below(at)) > 12 {
			return
		}
		ok(t, w.RemoveAll(at))
		for _, n := range m.below(at) {
			delete(m.tree, n)
		}
	}
}

// tend is what the server does by itself.
func (m *pastModel) tend() {
	switch m.rng.IntN(200) {
	case 0:
		m.b.rotate()
	case 1:
		m.b.tidy(TidyOptions{})
	case 2:
		ok(m.b.t, m.w.Close())
		ok(m.b.t, m.b.fs.Close())
		m.b.start(m.o)
		m.b.open()
		m.w = m.b.view()
	}
}

// moment is a sample of the history.
type moment struct {
	at   time.Time
	tree map[string]seen
}

func newPastModel(b *bench, clock *handClock, seed uint64, o Options) *pastModel {
	return &pastModel{b: b, clock: clock, rng: rand.New(rand.NewPCG(seed, 6)), w: b.view(), tree: map[string]seen{"/": {mode: os.ModeDir | 0o755}}, o: o}
}

// moment compares what there is now with the model, and keeps it.
func (m *pastModel) moment(after int) moment {
	t := m.b.t
	now := m.b.look(m.w, "/")
	for name, s := range now { // the model knows all but the times
		s.mtime, s.atime, s.created = time.Time{}, time.Time{}, time.Time{}
		if s != m.tree[name] {
			t.Fatalf("after %d operations %s is %+v, the model has %+v", after, name, s, m.tree[name])
		}
	}
	if len(now) != len(m.tree) {
		t.Fatalf("after %d operations there are %d names, the model has %d", after, len(now), len(m.tree))
	}
	at := m.b.instant()
	if m.rng.IntN(2) == 0 { // anywhere until the next change
		at = at.Add(time.Duration(m.rng.Int64N(int64(m.clock.now().Sub(at)))))
	}
	return moment{at, now}
}

// TestPastAndRestoreModel makes a random history, and compares the tree of then with what was seen then, and with what a restore
// brings back, at many instants.
func TestPastAndRestoreModel(t *testing.T) {
	t.Parallel()
	ops := 400
	if n, err := strconv.Atoi(os.Getenv(historyEnv)); err == nil {
		ops = n
	}
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	seed := uint64(ops)
	m := newPastModel(b, clock, seed, Options{Now: clock.now})
	var moments []moment
	for i := range ops {
		m.step()
		m.tend()
		if i%10 != 9 {
			continue
		}
		moments = append(moments, m.moment(i))
	}
	clock.advance(time.Minute)
	w := m.w
	for i := range moments {
		mo := moments[m.rng.IntN(len(moments))]
		if i < len(moments)/2 {
			mo = moments[i*2]
		}
		if !sameTree(t, lookBack(t, w.History(nil).At(mo.at), "/"), mo.tree, false) {
			t.Fatalf("the tree of %v (of %d instants) is not what it was", mo.at, len(moments))
		}
		m.checkRestore(mo, i)
		if t.Failed() {
			t.Fatalf("restoring %v", mo.at)
		}
	}
	b.verify()
	t.Logf("%d operations, %d instants seen and restored", ops, len(moments))
}

// checkRestore restores everything, or a part beside, and sometimes takes it back.
func (m *pastModel) checkRestore(mo moment, i int) {
	t, w, b := m.b.t, m.w, m.b
	m.clock.advance(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
	before, beforeAt := b.look(w, "/"), b.instant()
	m.clock.advance(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
	plan := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: mo.at, From: "/", Exact: true}))(t)
	ok(t, plan.Execute(t.Context()))
	if r := plan.Result(); r.Conflicts+r.Busy+r.Purged+r.Damaged > 0 {
		t.Errorf("restored %+v", r)
	}
	sameTree(t, b.look(w, "/"), mo.tree, false)
	switch i % 4 {
	case 0:
		m.clock.advance(time.Second)
		undo := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: beforeAt, From: "/", Exact: true}))(t)
		ok(t, undo.Execute(t.Context()))
		sameTree(t, b.look(w, "/"), before, false)
	case 1:
		again := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: mo.at, From: "/", Exact: true}))(t)
		if r := again.RestoreTotals; r.Created+r.Changed+r.Moved+r.Removed > 0 {
			t.Errorf("the second time there would be %+v", r)
		}
	case 2: // as a copy beside it
		var dirs []string
		for name, s := range mo.tree {
			if isDir(s) && name != "/" {
				dirs = append(dirs, name)
			}
		}
		if len(dirs) == 0 {
			return
		}
		slices.Sort(dirs)
		from := dirs[m.rng.IntN(len(dirs))]
		copied := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: mo.at, From: from, To: "/copy"}))(t)
		ok(t, copied.Execute(t.Context()))
		got, want := map[string]seen{}, map[string]seen{}
		for name, s := range b.look(w, "/copy") {
			got[strings.TrimPrefix(name, "/copy")] = s
		}
		for name, s := range mo.tree {
			if name == from || strings.HasPrefix(name, from+"/") {
				want[strings.TrimPrefix(name, from)] = s
			}
		}
		sameTree(t, got, want, false)
		ok(t, w.RemoveAll("/copy"))
	}
}
