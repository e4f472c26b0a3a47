package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// links gives a directory symlinks of the names from one number up to another.
func (b *bench) links(dir string, from, to int) {
	b.t.Helper()
	b.many(dir, from, to, func(tx *meta.Tx, id meta.Inode, name string) error {
		n := &meta.Node{Kind: meta.Symlink, Target: "x", Attr: meta.Attr{Mode: 0o777}}
		return errors.Join(tx.NewNode(n), tx.Link(id, name, n.ID))
	})
}

// many does something with many names in a directory, some thousand in a transaction.
func (b *bench) many(dir string, from, to int, do func(tx *meta.Tx, id meta.Inode, name string) error) {
	b.t.Helper()
	const step = 5000
	b.inDir(dir, func(c *core, id meta.Inode) error {
		for ; from < to; from += step {
			err := c.update(b.t.Context(), func(tx *meta.Tx) error {
				for i := from; i < min(from+step, to); i++ {
					if err := do(tx, id, "n"+strconv.Itoa(i)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// inDir runs fn with the inode of a directory.
func (b *bench) inDir(dir string, fn func(c *core, id meta.Inode) error) {
	b.t.Helper()
	id := meta.Inode(must(b.view().Stat(dir))(b.t).(*Info).Inode())
	ok(b.t, b.vol.do(b.t.Context(), func(c *core) error { return fn(c, id) }))
}

// everyNames collects the names, and calls between after each batch.
func everyNames(t testing.TB, h *History, dir string, between func(batch int)) map[string]int {
	t.Helper()
	got, batches := map[string]int{}, 0
	ok(t, h.Names(t.Context(), dir, func(batch []*Info) error {
		if len(batch) > listBatch {
			t.Errorf("%d names at once", len(batch))
		}
		for _, i := range batch {
			got[i.Name()]++
		}
		if batches++; between != nil {
			between(batches)
		}
		return nil
	}))
	return got
}

func wantEach(t testing.TB, got map[string]int, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if n := got["n"+strconv.Itoa(i)]; n != 1 {
			t.Errorf("n%d is told %d times", i, n)
			return
		}
	}
}

// TestEveryNameIsToldOnceWhateverHappensMeanwhile: names that go, come back and are new, the directory itself that goes, and keys that change.
func TestEveryNameIsToldOnceWhateverHappensMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	const n = 4 * listBatch
	b.links("/d", 0, n)
	for i := 0; i < n; i += 5 { // what is gone already, and what came back
		ok(t, w.Remove("/d/n"+strconv.Itoa(i)))
		if i%2 == 0 {
			ok(t, w.Symlink("again", "/d/n"+strconv.Itoa(i)))
		}
	}
	got := everyNames(t, w.History(nil), "/d", func(batch int) {
		switch batch {
		case 1:
			for i := 1; i < n; i += 7 {
				ok(t, w.RemoveAll("/d/n"+strconv.Itoa(i)))
			}
			for i := 1; i < n; i += 14 {
				ok(t, w.Symlink("new", "/d/n"+strconv.Itoa(i)))
			}
			b.links("/d", n, n+200)
		case 2:
			b.rotate()
		case 3:
			b.rotate()
			ok(t, w.Rename("/d", "/e"))
			ok(t, w.Mkdir("/d", 0))
			b.links("/d", n+200, n+300)
			ok(t, w.RemoveAll("/e"))
		}
	})
	wantEach(t, got, 0, n)
	if len(got) != n {
		t.Errorf("%d names, want %d and none that came after it began", len(got), n)
	}
	got = everyNames(t, w.History(nil), "/d", nil)
	wantEach(t, got, 0, n+300)
	if got = everyNames(t, w.History(nil), "/e", nil); len(got) != 0 && got["n1"] != 1 {
		t.Errorf("%d names of the place where it was for a moment", len(got))
	}
}

// TestNamesOfDirectoriesThatWereAtOnePathAreToldOnce: each inode has an order of its own.
func TestNamesOfDirectoriesThatWereAtOnePathAreToldOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 5 {
		ok(t, w.Mkdir("/d", 0))
		b.links("/d", 100*i, 100*i+400)
		if i == 3 {
			ok(t, w.Rename("/d", "/aside"))
			b.links("/aside", 2000, 2100) // never at /d
			continue
		}
		ok(t, w.RemoveAll("/d"))
	}
	got := everyNames(t, w.History(nil), "/d", nil)
	wantEach(t, got, 0, 800)
	if len(got) != 800 {
		t.Errorf("%d names, want 800", len(got))
	}
	got = everyNames(t, w.History(nil), "/aside", nil)
	wantEach(t, got, 300, 700)
	wantEach(t, got, 2000, 2100)
}

// TestNamesEndWithTheirCaller and with the history.
func TestNamesEndWithTheirCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	b.links("/d", 0, 3*listBatch)
	ctx, cancel := context.WithCancel(t.Context())
	batches := 0
	err := w.History(nil).Names(ctx, "/d", func([]*Info) error { batches++; cancel(); return nil })
	wantErr(t, err, context.Canceled)
	if batches != 1 {
		t.Errorf("%d batches after the caller had gone", batches)
	}
	over := false
	h := w.History(func() time.Time {
		if over {
			return time.Now().Add(time.Hour)
		}
		return time.Unix(0, 0)
	})
	wantErr(t, h.Names(t.Context(), "/d", func([]*Info) error { over = true; return nil }), ErrNotKept)
	stop := errors.New("enough")
	if err := w.History(nil).Names(t.Context(), "/d", func([]*Info) error { return stop }); err != stop {
		t.Errorf("an error of the caller came back as %v", err)
	}
	for _, err := range []error{
		w.History(nil).Versions(ctx, "/d/n1", time.Time{}, func(PathVersion) error { return nil }),
		w.History(nil).Names(ctx, "/d", func([]*Info) error { return nil }),
	} {
		wantErr(t, err, context.Canceled)
	}
}

// namesEnv is the number of names that TestNamesOfAHugeDirectoryNeedBoundedMemory makes, half of them twice.
const namesEnv = "SALLYPORT_NAMES"

// TestNamesOfAHugeDirectoryNeedBoundedMemory: these few would be 8 MiB already.
func TestNamesOfAHugeDirectoryNeedBoundedMemory(t *testing.T) {
	b := newBench(t) // not parallel: it measures the heap
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	n := 15_000
	if v, err := strconv.Atoi(os.Getenv(namesEnv)); err == nil {
		n = v
	}
	b.links("/d", 0, n)
	b.many("/d", 0, n, func(tx *meta.Tx, id meta.Inode, name string) error { return tx.Unlink(id, name) })
	ok(t, w.Rename("/d", "/aside"))
	ok(t, w.Mkdir("/d", 0))
	b.links("/d", n/2, 3*n/2)
	names := 0
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ok(t, w.History(nil).Names(t.Context(), "/d", func(batch []*Info) error { names += len(batch); return nil })) // warms the caches
	before, most, batches := heap(), uint64(0), 0
	ok(t, w.History(nil).Names(t.Context(), "/d", func(batch []*Info) error {
		if batches++; batches%20 == 1 {
			most = max(most, heap())
		}
		runtime.KeepAlive(batch)
		return nil
	}))
	if names != 3*n/2 {
		t.Errorf("%d names, want %d", names, 3*n/2)
	}
	if more := int64(most) - int64(before); more > 3<<20 {
		t.Errorf("a listing of %d names holds %d KiB", names, more>>10)
	} else {
		t.Logf("a listing of %d names holds %d KiB", names, more>>10)
	}
}

// TestHowOftenSomethingCameAndWentCostsNobody: what is looked at is bounded, for each way in.
func TestHowOftenSomethingCameAndWentCostsNobody(t *testing.T) {
	b := newBench(t) // not parallel: it counts allocations, which each record that is opened has
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	ok(t, w.Mkdir("/d/sub", 0))
	ok(t, w.Symlink("x", "/d/sub/f"))
	again := func(times int) {
		b.inDir("/d", func(c *core, dir meta.Inode) error {
			for range times / 100 {
				for range 100 {
					if err := errors.Join(w.Remove("/d/f"), w.Symlink("x", "/d/f")); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	ok(t, w.Symlink("x", "/d/f"))
	h := w.History(nil)
	cost := func() (out [3]float64) {
		out[0] = testing.AllocsPerRun(3, func() { h.Last("/d/f") })
		out[1] = testing.AllocsPerRun(3, func() { h.Names(t.Context(), "/d", func([]*Info) error { return nil }) })
		out[2] = testing.AllocsPerRun(3, func() { (&versionReader{h: h, name: "/d/f", most: 50, from: math.MinInt64}).view(t.Context()) })
		return out
	}
	again(200)
	few := cost()
	again(1000)
	for i, many := range cost() {
		if many > 1.2*few[i]+20 {
			t.Errorf("%d: %.0f allocations after 1,200 times, %.0f after 200", i, many, few[i])
		}
	}
}

// TestBrokenOverwritesComeInPages: who breaks off uploads all day makes versions that are no one's end.
func TestBrokenOverwritesComeInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", []byte("one"))
	const broken = 3*versionPage + 7
	breakOff := func(n int) {
		b.inDir("/f", func(c *core, id meta.Inode) error {
			for range n {
				err := c.update(t.Context(), func(tx *meta.Tx) error {
					n, err := tx.Node(id)
					if err != nil {
						return err
					}
					return tx.AddVersion(n, &meta.Version{Attr: meta.Attr{State: meta.Interrupted, Mode: 0o644}})
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	breakOff(broken)
	put(t, w, "/f", []byte("two"))
	second := b.instant()
	breakOff(broken)
	states := map[VersionState]int{}
	var last, replaced time.Time
	r := &versionReader{h: w.History(nil), name: "/f", most: stayPage, from: math.MinInt64}
	for more := true; more; {
		var page []PathVersion
		var err error
		page, more, err = r.view(t.Context())
		ok(t, err)
		if len(page) > versionPage+1 {
			t.Errorf("%d versions in a page", len(page))
		}
		for i := range page {
			v := &page[i]
			if !v.At.After(last) {
				t.Errorf("a version of %v after one of %v", v.At, last)
			}
			last = v.At
			if states[v.State]++; v.State == VersionSuperseded {
				replaced = v.Until
			}
		}
	}
	want := map[VersionState]int{VersionSuperseded: 1, VersionLive: 1, VersionInterrupted: 2 * broken}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if !replaced.Equal(second) {
		t.Errorf("the first version ended at %v, want %v", replaced, second)
	}
}

// TestNamesAreSpelledAsTheyWere: typed in another normalization, unless that is ambiguous.
func TestNamesAreSpelledAsTheyWere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	const nfc, nfd = "caf\u00e9", "cafe\u0301"
	put(t, w, "/"+nfd, []byte("apart"))
	ok(t, w.Mkdir("/d", 0))
	put(t, w, "/d/"+nfc, []byte("together"))
	h := w.History(nil)
	count := func(name string) (n int) {
		ok(t, h.Versions(t.Context(), name, time.Time{}, func(PathVersion) error { n++; return nil }))
		return n
	}
	for _, name := range []string{"/" + nfc, "/" + nfd, "/d/" + nfc, "/d/" + nfd} {
		if got := count(name); got != 1 {
			t.Errorf("%+q has %d versions", name, got)
		}
	}
	ok(t, w.Remove("/"+nfd))
	if got := count("/" + nfc); got != 1 {
		t.Errorf("%d versions of what is gone", got)
	}
	const a, c = "\u0041\u030a\u0301", "\u00c5\u0301" // both of one form, and neither is that form
	put(t, w, "/"+a, []byte("a"))
	ok(t, w.Symlink("c", "/"+c)) // which takes bytes exactly
	if got := count("/" + a); got != 1 {
		t.Errorf("%d versions of an exact name", got)
	}
	_, _, _, err := h.Last("/\u01fa")
	wantErr(t, err, fs.ErrNotExist)
}

// TestAListingHoldsNoLongTargets: those of 512 symlinks would be 2 MiB, for each directory that a client leaves open.
func TestAListingHoldsNoLongTargets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	const n = 100
	for i := range n {
		ok(t, w.Symlink(strings.Repeat("x", MaxPath), "/d/n"+strconv.Itoa(i)))
	}
	h := w.History(nil)
	for what, list := range map[string]func(fn func([]*Info) error) error{
		"now":  func(fn func([]*Info) error) error { return w.ReadDir(t.Context(), "/d", fn) },
		"then": func(fn func([]*Info) error) error { return h.At(b.instant()).ReadDir(t.Context(), "/d", fn) },
		"ever": func(fn func([]*Info) error) error { return h.Names(t.Context(), "/d", fn) },
	} {
		got := 0
		ok(t, list(func(batch []*Info) error {
			if got += len(batch); len(batch) > listBytes/MaxPath+1 {
				t.Errorf("%s: %d names of %d bytes each at once", what, len(batch), MaxPath)
			}
			return nil
		}))
		if got != n {
			t.Errorf("%s: %d names", what, got)
		}
	}
}

// TestVeryManySpellingsCostNobody: a name of twenty letters with accents has a million of them, and each can have been a name.
func TestVeryManySpellingsCostNobody(t *testing.T) {
	b := newBench(t) // not parallel: it counts allocations, which each record that is opened has
	w := b.view()
	before := b.instant()
	spelled := func(i int) string {
		var s strings.Builder
		for bit := range 12 {
			if i>>bit&1 == 0 {
				s.WriteString("\u00e9")
			} else {
				s.WriteString("e\u0301")
			}
		}
		return s.String()
	}
	p := w.History(nil).At(before)
	made := 1
	cost := func(until int) (then, ever float64) {
		for ; made < until; made++ {
			ok(t, w.Symlink("x", "/"+spelled(made)))
			ok(t, w.Remove("/"+spelled(made)))
		}
		then = testing.AllocsPerRun(3, func() { p.Stat("/" + spelled(0)) })
		ever = testing.AllocsPerRun(3, func() { w.History(nil).Last("/" + spelled(0)) })
		return then, ever
	}
	then, ever := cost(300)
	moreThen, moreEver := cost(1500)
	if moreThen > 1.2*then+20 || moreEver > 1.2*ever+20 {
		t.Errorf("%.0f and %.0f allocations with 1,500 spellings, %.0f and %.0f with 300", moreThen, moreEver, then, ever)
	}
}

// TestAListingGoesOnInPagesUnderANewKey: of now and of then, however many are left, with what is removed meanwhile.
func TestAListingGoesOnInPagesUnderANewKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	const n = 6 * listBatch
	for what, list := range map[string]func(dir string, then time.Time, fn func([]*Info) error) error{
		"now": func(dir string, _ time.Time, fn func([]*Info) error) error { return w.ReadDir(t.Context(), dir, fn) },
		"then": func(dir string, then time.Time, fn func([]*Info) error) error {
			return w.History(nil).At(then).ReadDir(t.Context(), dir, fn)
		},
	} {
		dir := "/" + what
		ok(t, w.Mkdir(dir, 0))
		b.links(dir, 0, n)
		then := b.instant()
		got, batches := map[string]int{}, 0
		ok(t, list(dir, then, func(batch []*Info) error {
			if len(batch) > listBatch {
				t.Errorf("%s: %d names at once", what, len(batch))
			}
			for _, i := range batch {
				got[i.Name()]++
			}
			switch batches++; batches {
			case 1, 3:
				b.rotate()
			case 2, 4:
				for i := batches; i < n; i += 9 {
					ok(t, w.Remove(dir+"/n"+strconv.Itoa(i)))
				}
			}
			return nil
		}))
		for i := range n {
			gone := i%9 == 2 || i%9 == 4
			if k := got["n"+strconv.Itoa(i)]; k > 1 || k == 0 && (what == "then" || !gone) {
				t.Errorf("%s: n%d is told %d times", what, i, k)
				break
			}
		}
		if batches < n/listBatch {
			t.Errorf("%s: %d batches", what, batches)
		}
	}
}

// TestAListingOfAllNamesEndsWhereTheHorizonHasCome: what was at the path before that is told no more, though it is there elsewhere.
func TestAListingOfAllNamesEndsWhereTheHorizonHasCome(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/a", 0))
	ok(t, w.Symlink("x", "/a/before"))
	clock.advance(time.Hour)
	ok(t, w.Rename("/a", "/elsewhere"))
	clock.advance(time.Hour)
	ok(t, w.Mkdir("/a", 0))
	b.links("/a", 0, 2*namesLooked)
	horizon, told := time.Unix(0, 0), map[string]bool{}
	h := w.History(func() time.Time { return horizon })
	for _, rises := range []bool{false, true} {
		clear(told)
		ok(t, h.Names(t.Context(), "/a", func(batch []*Info) error {
			for _, i := range batch {
				told[i.Name()] = true
			}
			if rises {
				horizon = b.instant().Add(-time.Minute)
			}
			return nil
		}))
		if len(told) < 2*namesLooked || told["before"] == rises {
			t.Errorf("rises %v: %d names, the old one among them: %v", rises, len(told), told["before"])
		}
	}
}
