package vfs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// scaleEnv is the number of files of the volume, and scaleBytesEnv the least size of each: those above 4 KiB have a blob.
// `make scale` sets them.
const (
	scaleEnv      = "SALLYPORT_SCALE"
	scaleBytesEnv = "SALLYPORT_SCALE_BYTES"
)

// TestScale makes one volume of very many files, one in ten of them in one directory, and does with it what people do
// with volumes. `make scale FILES=1000000` prints what each step takes, in time and in anonymous memory of the
// process; with BYTES=8192 every file has a blob. In `go test` a small volume checks the answers, and that renaming a directory writes as much whatever it holds.
func TestScale(t *testing.T) {
	if os.Getenv(scaleEnv) == "" {
		t.Parallel()
	}
	files := 2000
	if n, err := strconv.Atoi(os.Getenv(scaleEnv)); err == nil {
		files = n
	}
	s := newScale(t, files)
	if n, err := strconv.Atoi(os.Getenv(scaleBytesEnv)); err == nil {
		s.bytes = n
	}
	s.create()
	s.list("list, cold", s.large)
	s.list("list, warm", s.large)
	s.stat()
	s.rename()
	s.reopen("opening, full")
	s.list("list after opening", s.large)
	s.verify()
	s.removeTree()
	s.reopen("opening, all in history")
	s.verify()
	if got := names(t, s.b.view(), "/"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// scale is the volume and its figures.
type scale struct {
	t     *testing.T
	b     *bench
	files int
	bytes int    // of content at least
	large string // the directory of files/10 files
	dirs  int    // with the rest
	mem   *memory
}

func newScale(t *testing.T, files int) *scale {
	s := &scale{t: t, b: newBenchWith(t, Options{IdleClose: -1}), files: files, large: "/large", dirs: max(1, files*9/10/1000)}
	s.mem = watchMemory(t)
	return s
}

// step measures one step, prints its line and returns the CPU time: on a machine that does other things too, the time on
// the clock says little.
func (s *scale) step(name string, n int, unit string, fn func()) time.Duration {
	s.t.Helper()
	s.mem.reset()
	start, used := time.Now(), cpuTime()
	fn()
	took := time.Since(start)
	used = cpuTime() - used
	line := fmt.Sprintf("%-28s %10.3f s  %9.3f s CPU", name, took.Seconds(), used.Seconds())
	if n > 0 {
		line += fmt.Sprintf("  %12.0f %s/s", float64(n)/took.Seconds(), unit)
	} else {
		line += fmt.Sprintf("  %12s   ", "")
	}
	s.t.Logf("%s  RssAnon %4d MiB at most", line, s.mem.peak()>>20)
	return used
}

// cpuTime is what the process has used so far, in all its threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (s *scale) records() (n uint64) {
	s.t.Helper()
	ok(s.t, s.b.vol.do(context.Background(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { n = tx.Stats().Records; return nil })
	}))
	return n
}

// create makes the files: some by one session that waits for each, the others by many.
func (s *scale) create() {
	v := s.b.view()
	ok(s.t, v.Mkdir(s.large, 0o755))
	for d := range s.dirs {
		ok(s.t, v.MkdirAll(fmt.Sprintf("/tree/%d", d), 0o755))
	}
	alone := min(2000, s.files/10)
	put := func(v *View, i int) {
		name := fmt.Sprintf("%s/file-%07d.dat", s.large, i)
		if i >= s.files/10 {
			name = fmt.Sprintf("/tree/%d/file-%07d.dat", i%s.dirs, i)
		}
		f, err := v.OpenHandle(context.Background(), name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			if _, err = f.Write(s.content(i)); err == nil {
				err = f.Close()
			}
		}
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
	}
	s.step("create, one session", alone, "files", func() {
		for i := range alone {
			put(v, i)
		}
	})
	const sessions = 64
	s.step(fmt.Sprintf("create, %d sessions", sessions), s.files-alone, "files", func() {
		var next atomic.Int64
		next.Store(int64(alone))
		var wg sync.WaitGroup
		for range sessions {
			v := s.b.view()
			wg.Go(func() {
				for i := next.Add(1) - 1; i < int64(s.files); i = next.Add(1) - 1 {
					put(v, int(i))
				}
				v.Close()
			})
		}
		wg.Wait()
	})
	ok(s.t, v.Close())
	if st := s.b.vol.Stats(); st.Files != uint64(s.files) {
		s.t.Fatalf("%d files, want %d", st.Files, s.files)
	}
	s.t.Logf("%d files, %d directories, %d records, tree.db of %d MiB", s.files, s.dirs+3, s.records(), s.size()>>20)
}

func (s *scale) content(i int) []byte {
	line := fmt.Appendf(nil, "content of file %d\n", i)
	return bytes.Repeat(line, 1+s.bytes/len(line))
}

func (s *scale) size() int64 {
	i, err := os.Stat(filepath.Join(s.b.dir(), "tree-1.db"))
	ok(s.t, err)
	return i.Size()
}

func (s *scale) list(name, dir string) {
	v := s.b.view()
	defer v.Close()
	n := 0
	s.step(name, s.files/10, "names", func() {
		ok(s.t, v.ReadDir(context.Background(), dir, func(batch []*Info) error { n += len(batch); return nil }))
	})
	if n != s.files/10 {
		s.t.Errorf("%d names in %s, want %d", n, dir, s.files/10)
	}
}

func (s *scale) stat() {
	v := s.b.view()
	defer v.Close()
	const n = 20_000
	s.step("stat, at random", n, "files", func() {
		for range n {
			i := rand.IntN(s.files / 10)
			info, err := v.Stat(fmt.Sprintf("%s/file-%07d.dat", s.large, i))
			ok(s.t, err)
			if info.Size() != int64(len(s.content(i))) {
				s.t.Fatalf("file %d has %d bytes", i, info.Size())
			}
		}
	})
	i := rand.IntN(s.files / 10)
	wantContent(s.t, v, fmt.Sprintf("%s/file-%07d.dat", s.large, i), s.content(i))
}

// rename moves a directory of very much and an empty one: both write the same records.
func (s *scale) rename() {
	v := s.b.view()
	defer v.Close()
	ok(s.t, v.Mkdir("/none", 0o755))
	wrote := map[string]uint64{}
	for _, dir := range []string{"/none", s.large, "/tree"} {
		before := s.records()
		s.step("rename "+dir, 0, "", func() { ok(s.t, v.Rename(dir, dir+" renamed")) })
		wrote[dir] = s.records() - before
	}
	if wrote[s.large] != wrote["/none"] || wrote["/tree"] != wrote["/none"] {
		s.t.Errorf("renaming wrote more records of larger directories: %v", wrote)
	}
	s.large += " renamed"
	ok(s.t, v.Remove("/none renamed"))
}

func (s *scale) reopen(name string) {
	records := s.records()
	s.step("closing", 0, "", func() { ok(s.t, s.b.fs.Close()) })
	runtime.GC()
	debug.FreeOSMemory() // as a server that has just started
	used := s.step(name, int(records), "records", func() {
		s.b.start(Options{IdleClose: -1})
		s.b.open()
	})
	s.t.Logf("%s: %.2f s CPU per million of %d records", name, used.Seconds()*1e6/float64(records), records)
}

func (s *scale) verify() {
	debug.FreeOSMemory()
	records := s.records()
	s.step("vfs verify", int(records), "records", s.b.verify)
}

// removeTree removes all of it as a client does, name by name, and as the volume itself can.
func (s *scale) removeTree() {
	v := s.b.view()
	defer v.Close()
	var below []string
	ok(s.t, v.ReadDir(context.Background(), s.large, func(batch []*Info) error {
		for _, i := range batch[:min(len(batch), 4)] {
			below = append(below, s.large+"/"+i.Name())
		}
		return nil
	}))
	s.step("remove, one session", len(below), "files", func() {
		for _, name := range below {
			ok(s.t, v.Remove(name))
		}
	})
	s.step("remove a large directory", s.files/10-len(below), "files", func() { ok(s.t, v.RemoveAll(s.large)) })
	s.step("remove a whole tree", s.files*9/10, "files", func() { ok(s.t, v.RemoveAll("/tree renamed")) })
}

// memory samples the anonymous memory of the process.
type memory struct {
	most atomic.Int64
	stop chan struct{}
	done chan struct{}
}

func watchMemory(t *testing.T) *memory {
	m := &memory{stop: make(chan struct{}), done: make(chan struct{})}
	go func() { // ends with the test
		defer close(m.done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-tick.C:
				m.note()
			}
		}
	}()
	t.Cleanup(func() { close(m.stop); <-m.done })
	return m
}

func (m *memory) note() {
	now := rssAnon()
	for most := m.most.Load(); now > most && !m.most.CompareAndSwap(most, now); most = m.most.Load() {
	}
}

func (m *memory) reset() { m.most.Store(0) }

func (m *memory) peak() int64 {
	m.note()
	return m.most.Load()
}

// rssAnon is the process's anonymous memory in bytes; 0 where the system does not tell.
func rssAnon() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
