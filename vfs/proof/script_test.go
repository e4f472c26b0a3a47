package proof

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"sallyport/vfs"
)

// step is one operation of a session, and what may be found before, during and after it.
type step struct {
	what string
	run  func(w *vfs.View, synced func()) error
	// during is what may be found while it is under way; synced the same once the file was synced in the middle (nil: no change).
	during, synced []tree
	after          tree
}

// author writes a script: random operations below one directory, the same for the same seed.
type author struct {
	dir   string
	rng   *rand.Rand
	tree  tree
	part  map[string]bool // uploads that were broken off: partial files
	steps []step
	names int
}

func script(dir string, seed uint64, n int) []step {
	a := &author{dir: dir, rng: rand.New(rand.NewPCG(seed, 7)), tree: tree{}, part: map[string]bool{}}
	for len(a.steps) < n {
		a.step()
	}
	return a.steps
}

var sizes = []int{0, 50, 4096, 4097, 5000, 65_535, 65_536, 65_537, 70_000, 200_000}

func (a *author) size() int { return sizes[a.rng.IntN(len(sizes))] }

func (a *author) noise(n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], a.rng.Uint64())
	rand.NewChaCha8(key).Read(p)
	return p
}

func (a *author) fresh() string {
	a.names++
	return fmt.Sprintf("%s/%d", a.dir, a.names)
}

// pick returns an existing name of a kind, "" if there is none.
func (a *author) pick(kind fs.FileMode) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(a.tree)) {
		if a.tree[name].mode == kind {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return all[a.rng.IntN(len(all))]
}

// add closes a step that leads to after; without during it is all or nothing.
func (a *author) add(what string, after tree, during, synced []tree, run func(w *vfs.View, synced func()) error) {
	before := a.tree
	during = append([]tree{before}, during...)
	a.steps = append(a.steps, step{what, run, append(during, after), append(synced, after), after})
	a.tree = after
}

func (t tree) with(name string, n node) tree {
	t = t.clone()
	t[name] = n
	return t
}

func (t tree) without(name string) tree {
	t = t.clone()
	delete(t, name)
	return t
}

func open(w *vfs.View, name string, flag int) (*vfs.File, error) {
	return w.OpenHandle(context.Background(), name, flag, 0o644)
}

// writeAll writes in pieces of odd length, as a client's packets come.
func writeAll(f *vfs.File, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), 32_768-77)
		if _, err := f.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// closing closes f whatever happened before.
func closing(f *vfs.File, err error) error {
	if err != nil {
		f.TransferError(err)
		f.Close()
		return err
	}
	return f.Close()
}

func (a *author) step() {
	before := a.tree
	file := a.pick(0)
	switch k := a.rng.IntN(15); {
	case k < 3: // a new file
		name, data := a.fresh(), a.noise(a.size())
		a.add("put "+name, before.with(name, node{content: data}), []tree{before.with(name, node{content: data, loose: true, synced: -1})}, nil, upload(name, data, 0))
	case k == 3 && file != "": // the whole file anew
		name, data := file, a.noise(a.size())
		delete(a.part, name)
		a.add("overwrite "+name, before.with(name, node{content: data}), nil, nil, upload(name, data, 0))
	case k == 4: // a new file with a sync in the middle
		name, data := a.fresh(), a.noise(a.size()+a.size()+1)
		n := a.rng.IntN(len(data)) + 1
		loose := func(synced int) []tree {
			return []tree{before.with(name, node{content: data, loose: true, synced: synced})}
		}
		a.add(fmt.Sprintf("put %s, sync at %d", name, n), before.with(name, node{content: data}), loose(-1), loose(n), upload(name, data, n))
	case k < 7 && file != "": // append
		name, more := file, a.noise(a.size()+1)
		data := append(slices.Clone(before[name].content), more...)
		var during []tree
		if a.part[name] { // a resumed upload is longer, or as it was
			during = []tree{before.with(name, node{content: data, loose: true, synced: len(before[name].content)})}
		}
		delete(a.part, name)
		a.add("append to "+name, before.with(name, node{content: data}), during, nil, func(w *vfs.View, _ func()) error {
			f, err := open(w, name, os.O_WRONLY|os.O_APPEND)
			if err != nil {
				return err
			}
			return closing(f, writeAll(f, more))
		})
	case k == 7 && file != "" && !a.part[file]: // change in the middle
		name, p := file, a.noise(1000+a.rng.IntN(5000))
		data := slices.Clone(before[name].content)
		off := a.rng.IntN(len(data) + 3000)
		data = append(data, make([]byte, max(0, off+len(p)-len(data)))...)
		copy(data[off:], p)
		a.add("edit "+name, before.with(name, node{content: data}), nil, nil, func(w *vfs.View, _ func()) error {
			f, err := open(w, name, os.O_RDWR)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(p, int64(off))
			return closing(f, err)
		})
	case k == 8 && file != "": // to a new name, or over another file
		to := a.fresh()
		if a.rng.IntN(2) == 0 {
			to = a.pick(0)
		}
		if to == file {
			return
		}
		a.part[to] = a.part[file]
		delete(a.part, file)
		a.add("rename "+file+" to "+to, before.with(to, before[file]).without(file), nil, nil, func(w *vfs.View, _ func()) error { return w.Rename(file, to) })
	case k == 9 && file != "" && len(before) > 6:
		delete(a.part, file)
		a.add("remove "+file, before.without(file), nil, nil, func(w *vfs.View, _ func()) error { return w.Remove(file) })
	case k == 10:
		name := a.fresh()
		a.add("mkdir "+name, before.with(name, node{mode: fs.ModeDir}), nil, nil, func(w *vfs.View, _ func()) error { return w.Mkdir(name, 0o755) })
	case k == 11:
		if name := a.pick(fs.ModeDir); name != "" {
			a.add("rmdir "+name, before.without(name), nil, nil, func(w *vfs.View, _ func()) error { return w.Rmdir(name) })
		}
	case k == 12:
		name := a.fresh()
		a.add("symlink "+name, before.with(name, node{mode: fs.ModeSymlink, content: []byte("somewhere")}), nil, nil, func(w *vfs.View, _ func()) error { return w.Symlink("somewhere", name) })
	case k == 14: // housekeeping of the whole volume, under the other sessions: nobody sees it
		a.add("tidy", before, nil, nil, tidy)
	case k == 13: // an upload that the client breaks off
		name, data := a.fresh(), a.noise(a.size()+1)
		a.part[name] = true
		a.add("break "+name, before.with(name, node{content: data}), []tree{before.with(name, node{content: data, loose: true, synced: -1})}, nil, func(w *vfs.View, _ func()) error {
			f, err := open(w, name, os.O_WRONLY|os.O_CREATE)
			if err != nil {
				return err
			}
			if err := writeAll(f, data); err != nil {
				return closing(f, err)
			}
			f.TransferError(fs.ErrClosed)
			return f.Close()
		})
	}
}

// Events of purges, with the latest end of what went.
const chosenEvent, purgedEvent = "chosen up to %d", "purged up to %d"

// tidy purges half of the history by choice and the rest by the clock, folds and repacks. Each purge says in its own transaction up to when it reached.
func tidy(w *vfs.View, _ func()) error {
	ctx := context.Background()
	plan, err := w.Volume().PlanPurge(ctx, func(s vfs.Superseded) bool { return s.Inode%2 == 0 })
	if err != nil {
		return err
	}
	if err := plan.Execute(ctx, func(r vfs.PurgeReceipt) []byte { return fmt.Appendf(nil, chosenEvent, r.Newest.UnixNano()) }); err != nil {
		return err
	}
	_, err = w.Volume().Purge(ctx, vfs.PurgeOptions{Before: time.Now().Add(time.Hour), Emit: func(r vfs.PurgeReceipt) []byte {
		return fmt.Appendf(nil, purgedEvent, r.Newest.UnixNano())
	}})
	if err != nil {
		return err
	}
	_, err = w.Volume().Tidy(ctx, vfs.TidyOptions{FoldAll: true, RepackAll: true})
	return err
}

// upload writes a whole file, with a sync after n bytes if n is not 0.
func upload(name string, data []byte, n int) func(w *vfs.View, synced func()) error {
	return func(w *vfs.View, synced func()) error {
		f, err := open(w, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		err = writeAll(f, data[:n])
		if err == nil && n > 0 {
			if err = f.Sync(); err == nil {
				synced()
			}
		}
		if err == nil {
			err = writeAll(f, data[n:])
		}
		return closing(f, err)
	}
}
