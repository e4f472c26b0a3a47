package vfs

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"sallyport/vfs/meta"
)

// TestARestoreAmongOthersLosesNothing: while directories are renamed, files uploaded and removed, exact restores overwrite nothing that was
// acknowledged: each content is a version of the path that it had. When all is quiet, one more makes the tree what it was.
func TestARestoreAmongOthersLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i := range 5 {
		ok(t, w.MkdirAll(fmt.Sprintf("/t/d%d", i), 0))
		for k := range 5 {
			put(t, w, fmt.Sprintf("/t/d%d/f%d", i, k), fmt.Appendf(nil, "then %d %d", i, k))
		}
	}
	then, was := b.instant(), b.look(w, "/t")

	var mu sync.Mutex
	uploaded := map[string]bool{}
	var others sync.WaitGroup
	stop := make(chan struct{})
	for n := range 3 {
		others.Go(func() {
			mine := b.vol.View(ViewOptions{Writer: fmt.Sprint(n)})
			defer mine.Close()
			rnd := rand.New(rand.NewPCG(uint64(n), 7))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				dir := func() string { return fmt.Sprintf("/t/%c%d", "de"[rnd.IntN(2)], rnd.IntN(5)) }
				switch rnd.IntN(4) {
				case 0:
					_ = mine.Rename(dir(), dir()) // refused where it cannot be
				case 1:
					_ = mine.Remove(fmt.Sprintf("%s/f%d", dir(), rnd.IntN(5)))
				default:
					name, data := fmt.Sprintf("%s/f%d", dir(), rnd.IntN(5)), fmt.Appendf(nil, "upload %d of %d", i, n)
					if i%2 == 0 {
						name = fmt.Sprintf("%s/new%d", dir(), n)
					}
					f, err := mine.OpenHandle(t.Context(), name, wr, 0o644)
					if err != nil {
						continue
					}
					_, werr := f.Write(data)
					if err := f.Close(); err == nil && werr == nil {
						mu.Lock()
						uploaded[string(data)] = true
						mu.Unlock()
					}
				}
			}
		})
	}
	for range 8 {
		op := b.vol.View(ViewOptions{Writer: "operator"})
		p, err := op.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/t", Exact: true})
		if err == nil {
			err = p.Execute(t.Context())
		}
		ok(t, err)
		ok(t, op.Close())
	}
	close(stop)
	others.Wait()

	b.restore(w, RestoreAsk{At: then, From: "/t", Exact: true})
	if is := b.look(w, "/t"); fmt.Sprint(is) != fmt.Sprint(was) {
		for name := range was {
			if is[name] != was[name] {
				t.Errorf("%s is %v, was %v", name, is[name], was[name])
			}
		}
	}
	// Whatever names each content had: some version has it.
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			return tx.VersionsFrom(0, 0, func(l meta.Located) bool {
				delete(uploaded, string(must(tx.Version(l.Inode, l.N))(t).Layout.Inline))
				return true
			})
		})
	}))
	for lost := range uploaded {
		t.Errorf("no version has %q", lost)
	}
	again := b.restore(w, RestoreAsk{At: then, From: "/t", Exact: true})
	if again.Created+again.Changed+again.Moved+again.Removed != 0 {
		t.Errorf("the second time restored %+v", again)
	}
}

// TestAnExactRestoreUndoesSwaps: of directories and of files, also where what was there is elsewhere now, with the same content or not.
func TestAnExactRestoreUndoesSwaps(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(w *View){
		"a directory has the name of another": func(w *View) { ok(t, w.Rename("/t/a", "/t/c")); ok(t, w.Rename("/t/b", "/t/a")) },
		"two are swapped": func(w *View) {
			ok(t, w.Rename("/t/a", "/t/c"))
			ok(t, w.Rename("/t/b", "/t/a"))
			ok(t, w.Rename("/t/c", "/t/b"))
		},
		"the other way round":    func(w *View) { ok(t, w.Rename("/t/b", "/t/c")); ok(t, w.Rename("/t/a", "/t/b")) },
		"one is in the other":    func(w *View) { ok(t, w.Rename("/t/b", "/t/a/b")); ok(t, w.Rename("/t/a", "/t/b")) },
		"one has gone elsewhere": func(w *View) { ok(t, w.Rename("/t/a", "/out/a")); ok(t, w.Rename("/t/b", "/t/a")) },
		"one is removed":         func(w *View) { ok(t, w.RemoveAll("/t/a")); ok(t, w.Rename("/t/b", "/t/a")) },
		"files are swapped": func(w *View) {
			ok(t, w.Rename("/t/a/f", "/t/a/x"))
			ok(t, w.Rename("/t/a/g", "/t/a/f"))
			ok(t, w.Rename("/t/a/x", "/t/a/g"))
		},
		"a file has gone elsewhere": func(w *View) { ok(t, w.Rename("/t/a/f", "/out/f")); ok(t, w.Rename("/t/a/g", "/t/a/f")) },
		"one of the same content":   func(w *View) { ok(t, w.Rename("/t/a/f", "/out/f")); ok(t, w.Rename("/t/b/same", "/t/a/f")) },
		"a file is a directory, and the other way": func(w *View) {
			ok(t, w.Rename("/t/a/f", "/t/x"))
			ok(t, w.Rename("/t/b", "/t/a/f"))
			ok(t, w.Rename("/t/x", "/t/b"))
		},
	} {
		for range 4 { // names are restored in an order that the account's key decides
			b := newBench(t)
			w := b.view()
			for _, dir := range []string{"/t/a", "/t/b", "/out"} {
				ok(t, w.MkdirAll(dir, 0o755))
				for _, name := range []string{"f", "g"} {
					put(t, w, dir+"/"+name, []byte(dir+name))
				}
			}
			put(t, w, "/t/b/same", []byte("/t/af"))
			for _, name := range []string{"/t/a/f", "/t/b/same"} {
				stamp(t, w, name, 1000)
			}
			then, was := b.instant(), b.look(w, "/t")
			change(w)
			b.restore(w, RestoreAsk{At: then, From: "/t", Exact: true})
			is := b.look(w, "/t")
			for name := range was {
				if is[name] != was[name] {
					t.Errorf("%s: %s is %v, was %v", what, name, is[name], was[name])
				}
			}
			if len(is) != len(was) {
				t.Errorf("%s: %d names, there were %d", what, len(is), len(was))
			}
			b.discard()
		}
	}
}
