//go:build model

package facetest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sallyport/vfs"
)

// Checks and steps of a run without flags of rapid: some seconds. `make model` asks for more.
const (
	shortChecks = 10
	shortSteps  = 60
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, v := range map[string]any{"rapid.checks": shortChecks, "rapid.steps": shortSteps, "rapid.nofailfile": true, "rapid.shrinktime": "10s"} {
		if !given[name] {
			if err := flag.Set(name, fmt.Sprint(v)); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// tally counts what was done.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := 0
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(c.n)) {
		all += c.n[k]
		parts = append(parts, fmt.Sprintf("%s %d", k, c.n[k]))
	}
	return fmt.Sprintf("%d operations: %s", all, strings.Join(parts, ", "))
}

// machine runs the model beside a volume.
type machine struct {
	*model
	house   *house
	account *account
	eyes    *vfs.View // looks at what is committed, and at versions
	count   *tally
	turn    int
	last    string // operation, for the log of a failed run
}

// TestModel drives sessions of one face, and of all faces mixed.
func TestModel(t *testing.T) {
	t.Parallel()
	af, sf, ff := aferoFace{}, sftpFace{}, ftpsFace{}
	for name, who := range map[string][]face{
		"afero": {af, af, af}, "sftp": {sf, sf}, "ftps": {ff, ff, ff}, "mixed": {af, sf, ff, ff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			count := &tally{n: map[string]int{}}
			rapid.Check(t, func(rt *rapid.T) {
				m := &machine{model: newModel(), house: h, count: count}
				m.run(rt, who)
			})
			t.Log(count)
		})
	}
}

func (m *machine) run(t *rapid.T, who []face) {
	var err error
	if m.account, err = m.house.newAccount(nil); err != nil {
		t.Fatal(err)
	}
	m.watch(t)
	for _, f := range who {
		m.sessions = append(m.sessions, m.enter(t, f))
	}
	m.agree(t, m.sessions[0].c.Mkdir("/d"), m.mkdir(m.sessions[0], "/d"))
	t.Repeat(map[string]func(*rapid.T){
		"": m.Check, "begin": m.Begin, "send": m.Send, "finish": m.Finish, "break": m.Break, "upload": m.Upload, "download": m.Download,
		"open": m.Open, "open again": m.Open, "pwrite": m.WriteAt, "pwrites": m.Scatter, "pread": m.ReadAt, "ftruncate": m.Ftruncate,
		"fsync": m.Sync, "pwrite again": m.WriteAt, "send again": m.Send, "close": m.Close, "truncate": m.TruncatePath, "rename": m.Rename, "renamenew": m.RenameNew, "remove": m.Remove,
		"mkdir": m.Mkdir, "rmdir": m.Rmdir, "chmod": m.Chmod, "end": m.End, "restart": m.Restart,
	})
	for i := range m.sessions {
		m.end(t, i)
	}
	m.sessions = nil
	m.Check(t)
	m.stats(t)
	m.eyes.Close()
	m.allAgree(t)
	if err := m.account.verify(); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) watch(t *rapid.T) {
	v, err := m.account.volume()
	if err != nil {
		t.Fatal(err)
	}
	m.eyes = v.View(vfs.ViewOptions{Writer: "watcher"})
}

func (m *machine) enter(t *rapid.T, f face) *msession {
	c, err := f.login(m.account)
	if err != nil {
		t.Fatalf("login over %s: %v", f.name(), err)
	}
	return &msession{c: c, face: f, fresh: map[slot]*mstate{}, open: map[*mfile]*mstate{}}
}

// agree compares an error with what the model says; true if both succeeded.
func (m *machine) agree(t *rapid.T, err error, want class) bool {
	t.Helper()
	t.Logf("%s: %q", m.last, classOf(err))
	if got := classOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
	return want == good
}

// draw picks one.
func draw[T any](t *rapid.T, some []T, what string) T {
	if len(some) == 0 {
		t.Skip("no such " + what)
	}
	return some[rapid.IntRange(0, len(some)-1).Draw(t, what)]
}

func (m *machine) session(t *rapid.T, op string, which func(*msession) bool) *msession {
	var some []*msession
	for _, s := range m.sessions {
		if s.up == nil && (which == nil || which(s)) {
			some = append(some, s)
		}
	}
	s := draw(t, some, "session")
	m.did(s, op)
	return s
}

func (m *machine) did(s *msession, op string) {
	m.count.add(s.face.name() + " " + op)
	m.last = fmt.Sprintf("session %d (%s) %s", slices.Index(m.sessions, s), s.face.name(), op)
}

func hasHandles(s *msession) bool { return s.face.handles() }

// handle picks an open one, or opens one.
func (m *machine) handle(t *rapid.T, op string, which func(*mhandle) bool, opening bool) *mhandle {
	var some []*mhandle
	for _, h := range m.handles {
		if h.real != nil && which(h) {
			some = append(some, h)
		}
	}
	if len(some) == 0 && opening {
		m.Open(t)
		return m.handle(t, op, which, false)
	}
	h := draw(t, some, "handle")
	m.did(h.s, op)
	if h.st.file != nil {
		m.last += " " + m.pathOf(h.st.file)
	} else {
		m.last += " new " + h.st.slot.name
	}
	return h
}

func writes(h *mhandle) bool { return h.write }
func reads(h *mhandle) bool  { return h.read }

var (
	fileNames = []string{"/a", "/b", "/d/c", "/d/f", "/e/c"}
	allNames  = append([]string{"/d", "/e"}, fileNames...)
)

func (m *machine) name(t *rapid.T, of []string) string {
	n := draw(t, of, "name")
	m.last += " " + n
	return n
}

func offset(t *rapid.T, size int) int {
	return rapid.OneOf(rapid.Just(0), rapid.Just(size), rapid.IntRange(0, size+5000), rapid.SampledFrom([]int{65535, 65536, 4096})).Draw(t, "offset")
}

func data(t *rapid.T) []byte {
	n := rapid.SampledFrom([]int{1, 100, 4096, 4097, 40_000, 65536, 70_000}).Draw(t, "length")
	return noise(rapid.Uint64Range(0, 1<<16).Draw(t, "seed"), n)
}

// Transfers, which every face has.

func (m *machine) Begin(t *rapid.T) { // an upload that stays under way; only where no handle can say that
	s := m.session(t, "begin", func(s *msession) bool { return !s.face.handles() })
	path, how := m.name(t, fileNames), rapid.SampledFrom([]mode{overwrite, extend, resume}).Draw(t, "how")
	off := 0
	if how == resume {
		off = max(1, offset(t, 70_000))
	}
	u, err := s.c.Put(path, how, int64(off))
	h, start, want := m.begin(s, path, how, off)
	if m.agree(t, err, want) {
		s.up = &mupload{u: u, h: h, start: start}
	}
}

// begin opens an upload in the model.
func (m *machine) begin(s *msession, path string, how mode, off int) (h *mhandle, start int, want class) {
	h, want = m.openHandle(s, path, uploadFlags(how))
	if want == notExist && how == resume && !s.face.handles() {
		if _, c := m.walk(s, path); c == good || c == notExist {
			want = restart
		}
	}
	if want != good {
		return nil, 0, want
	}
	switch how {
	case extend:
		start = h.st.size()
	case resume:
		start = off
		if off > h.st.size() && !s.face.handles() {
			h.st.broken = true
			m.close(h)
			return nil, 0, restart
		}
		if h.st.truncate(off) {
			h.moved = true
		}
	}
	return h, start, good
}

// uploading picks a session with a transfer under way, or begins one.
func (m *machine) uploading(t *rapid.T, op string, opening bool) *msession {
	var some []*msession
	for _, s := range m.sessions {
		if s.up != nil {
			some = append(some, s)
		}
	}
	if len(some) == 0 && opening {
		m.Begin(t)
		return m.uploading(t, op, false)
	}
	s := draw(t, some, "upload")
	m.did(s, op)
	return s
}

func (m *machine) Send(t *rapid.T) {
	s := m.uploading(t, "send", true)
	m.send(t, s.up, data(t))
}

func (m *machine) send(t *rapid.T, up *mupload, p []byte) {
	if _, err := up.u.Write(p); err != nil {
		t.Fatal(err)
	}
	up.h.writeAt(p, up.start+len(up.sent))
	up.sent = append(up.sent, p...)
}

func (m *machine) Finish(t *rapid.T) {
	s := m.uploading(t, "finish", true)
	m.agree(t, s.up.u.Close(), good)
	m.close(s.up.h)
	s.up = nil
}

func (m *machine) Break(t *rapid.T) {
	if rapid.Bool().Draw(t, "handle") {
		h := m.handle(t, "break", func(h *mhandle) bool { return h.write && h.s.face.name() == "afero" }, false)
		_, err := aferoUpload{h.real.(aferoHandle).f}.Break()
		h.st.broken = true
		m.agree(t, err, good)
		m.close(h)
		return
	}
	s := m.uploading(t, "break", false)
	_, err := s.up.u.Break()
	m.agree(t, err, good)
	s.up.h.st.broken = true
	m.close(s.up.h)
	s.up = nil
}

func (m *machine) Upload(t *rapid.T) {
	s := m.session(t, "upload", nil)
	path, how := m.name(t, fileNames), rapid.SampledFrom([]mode{overwrite, overwrite, extend, resume}).Draw(t, "how")
	off := 0
	if how == resume {
		off = max(1, offset(t, 70_000))
	}
	p := data(t)
	u, err := s.c.Put(path, how, int64(off))
	if at, c := m.walk(s, path); how == resume && c == good && s.face.handles() {
		if f, _, st := s.look(at); (f != nil || st != nil) && st != nil && st.broken {
			// A handle that broke keeps the file from all changes until its session has closed it.
			if err == nil {
				t.Fatal("resumed a broken upload")
			}
			if _, c := m.openHandleAndClose(s, path); c != good {
				m.agree(t, err, c)
			}
			return
		}
	}
	h, start, want := m.begin(s, path, how, off)
	if !m.agree(t, err, want) {
		return
	}
	if h.st.broken {
		if _, err := u.Write(p); classOf(err) != interrupted {
			t.Fatalf("writing to a broken file: %v", err)
		}
		m.agree(t, u.Close(), interrupted)
		m.close(h)
		return
	}
	m.send(t, &mupload{u: u, h: h, start: start}, p)
	m.agree(t, u.Close(), good)
	m.close(h)
}

func (m *machine) openHandleAndClose(s *msession, path string) (*mhandle, class) {
	h, c := m.openHandle(s, path, os.O_WRONLY)
	if c == good {
		m.close(h)
	}
	return h, c
}

func (m *machine) Download(t *rapid.T) {
	s := m.session(t, "download", nil)
	m.download(t, s, m.name(t, allNames))
}

func (m *machine) download(t *rapid.T, s *msession, path string) {
	got, err := read(s.c, path)
	h, want := m.openHandle(s, path, os.O_RDONLY)
	if want == good && h == nil {
		want = isDir
	}
	if !m.agree(t, err, want) {
		return
	}
	if !bytes.Equal(got, h.sees()) {
		t.Fatalf("%s holds %d bytes over %s, want %d, or other bytes", path, len(got), s.face.name(), len(h.sees()))
	}
	m.close(h)
}

// Handles.

func (m *machine) Open(t *rapid.T) {
	if len(m.handles) > 8 {
		t.Skip("enough")
	}
	s, path := m.session(t, "open", hasHandles), m.name(t, fileNames)
	flag := rapid.SampledFrom([]int{
		os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_CREATE | os.O_APPEND,
	}).Draw(t, "flag")
	if at, c := m.walk(s, path); c == good && flag == os.O_RDONLY {
		if _, d, _ := s.look(at); d != nil {
			t.Skip("a directory")
		}
	}
	real, err := s.c.Open(path, flag)
	h, want := m.openHandle(s, path, flag)
	if m.agree(t, err, want) {
		h.real = real
	}
}

// write writes through a handle and the model.
func (m *machine) write(t *rapid.T, h *mhandle, p []byte, off int) {
	n, err := h.real.WriteAt(p, int64(off))
	if h.st.broken {
		m.agree(t, err, interrupted)
		return
	}
	if m.agree(t, err, good); n != len(p) {
		t.Fatalf("wrote %d of %d", n, len(p))
	}
	// O_APPEND takes the offset for the client's guess of the end (SFTP), or honours one behind what it started from (C9).
	if h.append && (h.s.face.name() == "sftp" || off < len(h.st.base.data)) {
		off = h.st.size()
	}
	h.writeAt(p, off)
}

func (m *machine) WriteAt(t *rapid.T) {
	h := m.handle(t, "pwrite", writes, true)
	p := data(t)
	m.write(t, h, p, offset(t, h.st.size()))
}

// Scatter writes a range in pieces, in any order, some twice and some overlapping.
func (m *machine) Scatter(t *rapid.T) {
	h := m.handle(t, "pwrites", func(h *mhandle) bool { return h.write && !h.append }, true)
	start, piece := offset(t, h.st.size()), rapid.SampledFrom([]int{1000, 16384, 32768}).Draw(t, "piece")
	order := rapid.Permutation([]int{0, 1, 2, 3, 4, 2}).Draw(t, "order")
	seed := rapid.Uint64Range(0, 1<<16).Draw(t, "seed")
	for i, k := range order {
		m.write(t, h, noise(seed+uint64(i), piece+piece/3), start+k*piece)
	}
}

func (m *machine) ReadAt(t *rapid.T) {
	h := m.handle(t, "pread", reads, true)
	want := h.sees()
	off := offset(t, len(want))
	p := make([]byte, rapid.SampledFrom([]int{1, 4096, 65537, 200_000}).Draw(t, "length"))
	n, err := h.real.ReadAt(p, int64(off))
	want = want[min(off, len(want)):]
	if len(want) >= len(p) {
		want = want[:len(p)]
	} else if err != io.EOF {
		t.Fatalf("got %v at the end, want EOF", err)
	}
	if err != nil && err != io.EOF || !bytes.Equal(p[:n], want) {
		t.Fatalf("read %d bytes at %d, %v; want %d, or other bytes", n, off, err, len(want))
	}
}

func (m *machine) Ftruncate(t *rapid.T) {
	h := m.handle(t, "ftruncate", writes, true)
	size := offset(t, h.st.size())
	err := h.real.Truncate(int64(size))
	if h.st.broken {
		m.agree(t, err, interrupted)
		return
	}
	m.agree(t, err, good)
	if h.st.truncate(size) {
		h.moved = true
	}
}

func (m *machine) Sync(t *rapid.T) {
	h := m.handle(t, "fsync", writes, true)
	err := h.real.Sync()
	if h.st.broken {
		m.agree(t, err, interrupted)
		return
	}
	m.agree(t, err, good)
	if h.st.uncommitted() {
		m.commit(h.s, h.st, false)
	}
}

func (m *machine) Close(t *rapid.T) {
	h := m.handle(t, "close", func(*mhandle) bool { return true }, true)
	want := good
	if h.write && h.st.broken { // by another handle of the session: nobody has told this one yet
		want = interrupted
	}
	m.agree(t, h.real.Close(), want)
	m.close(h)
}

// Names.

func (m *machine) TruncatePath(t *rapid.T) {
	s, path := m.session(t, "truncate", hasHandles), m.name(t, fileNames)
	size := offset(t, 10_000)
	m.agree(t, s.c.Truncate(path, int64(size)), m.truncatePath(s, path, size))
}

func (m *machine) Rename(t *rapid.T) {
	s := m.session(t, "rename", nil)
	from, to := m.name(t, allNames), m.name(t, allNames)
	m.agree(t, s.c.Rename(from, to), m.rename(s, from, to, true))
}

func (m *machine) RenameNew(t *rapid.T) {
	s := m.session(t, "renamenew", hasHandles)
	from, to := m.name(t, allNames), m.name(t, allNames)
	m.agree(t, s.c.RenameNew(from, to), m.rename(s, from, to, false))
}

func (m *machine) Remove(t *rapid.T) {
	s, path := m.session(t, "remove", nil), m.name(t, allNames)
	m.agree(t, s.c.Remove(path), m.remove(s, path))
}

func (m *machine) Mkdir(t *rapid.T) {
	s, path := m.session(t, "mkdir", nil), m.name(t, allNames)
	m.agree(t, s.c.Mkdir(path), m.mkdir(s, path))
}

func (m *machine) Rmdir(t *rapid.T) {
	s, path := m.session(t, "rmdir", nil), m.name(t, allNames)
	m.agree(t, s.c.Rmdir(path), m.rmdir(s, path))
}

func (m *machine) Chmod(t *rapid.T) {
	s, path := m.session(t, "chmod", nil), m.name(t, fileNames)
	if at, c := m.walk(s, path); c == good {
		if _, d, _ := s.look(at); d != nil {
			t.Skip("a directory")
		}
	}
	mode := rapid.SampledFrom([]fs.FileMode{0o644, 0o600, 0o640, 0o444, 0o200}).Draw(t, "mode")
	m.agree(t, s.c.Chmod(path, mode), m.chmod(s, path, mode))
}

// Sessions.

func (m *machine) End(t *rapid.T) {
	i := rapid.IntRange(0, len(m.sessions)-1).Draw(t, "session")
	m.did(m.sessions[i], "end")
	m.end(t, i)
	m.sessions[i] = m.enter(t, m.sessions[i].face)
}

// end breaks the connection of a session with whatever is under way.
func (m *machine) end(t *rapid.T, i int) {
	s := m.sessions[i]
	if err := s.c.Cut(); err != nil {
		t.Fatal(err)
	}
	m.ended(t, s)
}

// ended ends a session in the model.
func (m *machine) ended(t *rapid.T, s *msession) {
	if s.up != nil {
		m.taken(t, s)
	}
	for _, h := range m.handles {
		if h.s == s && h.write {
			h.st.broken = true
		}
	}
	for _, h := range slices.Clone(m.handles) {
		if h.s == s {
			m.close(h)
		}
	}
	s.up = nil
}

// taken finds out how much of a cut FTP upload the server had taken: any beginning of what was sent, which nobody can know
// before. What else must be true of it is the model's.
func (m *machine) taken(t *rapid.T, s *msession) {
	st, up := s.up.h.st, s.up
	f := st.file
	if f == nil {
		f, _ = st.slot.dir.kids[st.slot.name].(*mfile)
	}
	if len(up.sent) == 0 || f != nil && m.pathOf(f) == "" { // or without a name: nobody can look, and nobody will
		return
	}
	i := m.infoOf(t, f, st.slot)
	switch {
	case f == nil || f.partial || st.created && f.version == st.version: // its bytes become current: see how many
		k := 0
		if i != nil && (f == nil || int(i.Version()) != f.version) {
			k = int(i.Size()) - up.start
		}
		if k < 0 || k > len(up.sent) {
			t.Fatalf("%d bytes after a cut upload that began at %d and sent %d", i.Size(), up.start, len(up.sent))
		}
		m.rewind(up, k)
	case !i.Interrupted() && !f.interrupted: // they go to history and leave a mark, if there were any
		m.rewind(up, 0)
	}
}

// rewind takes back what the server did not take of an upload.
func (m *machine) rewind(up *mupload, k int) {
	st := up.h.st
	if k == len(up.sent) {
		return
	}
	st.draft.resize(up.start + k)
	if k == 0 && (st.file == nil || !st.fresh && up.start == len(st.base.data)) {
		st.draft, st.dirty = nil, false // not a byte came, and nothing was cut off before
	}
}

// pathOf finds a file's committed path; empty if it has none.
func (m *machine) pathOf(f *mfile) (path string) {
	m.paths(func(p string, kid any) {
		if kid == any(f) {
			path = p
		}
	})
	return path
}

// infoOf is what is committed of f, or has come to be at a place; nil if there is nothing.
func (m *machine) infoOf(t *rapid.T, f *mfile, at slot) *vfs.Info {
	path := m.pathOf(f)
	if f == nil {
		m.paths(func(p string, kid any) {
			if kid == any(at.dir) {
				path = p
			}
		})
		path += "/" + at.name
	}
	i, err := info(m.eyes.Stat(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Restart stops the server and opens the volume anew.
func (m *machine) Restart(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "chance") > 0 {
		t.Skip("rarely")
	}
	m.count.add("restart")
	for i := range m.sessions {
		m.end(t, i) // one after the other: together nobody could tell whose bytes are whose
	}
	m.eyes.Close()
	if err := m.house.stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.house.start(); err != nil {
		t.Fatal(err)
	}
	m.watch(t)
	for i, s := range m.sessions {
		m.sessions[i] = m.enter(t, s.face)
	}
}

// Check compares what every session sees, the content through one after the other, and the versions.
func (m *machine) Check(t *rapid.T) {
	var free []*msession
	for _, s := range m.sessions {
		if s.up == nil {
			free = append(free, s)
		}
	}
	for _, s := range free {
		m.list(t, s, "/", m.root)
		m.paths(func(p string, kid any) {
			if d, ok := kid.(*mdir); ok {
				m.list(t, s, p, d)
			}
		})
	}
	if len(free) > 0 {
		s := free[m.turn%len(free)]
		m.turn++
		for _, p := range fileNames {
			m.download(t, s, p)
		}
	}
	m.paths(func(p string, kid any) {
		f, ok := kid.(*mfile)
		if !ok {
			return
		}
		i, err := info(m.eyes.Stat(p))
		if err != nil {
			t.Fatal(err)
		}
		if int(i.Version()) != f.version || i.Partial() != f.partial || i.Interrupted() != f.interrupted {
			t.Fatalf("%s: version %d, partial %v, interrupted %v; want %d, %v, %v", p, i.Version(), i.Partial(), i.Interrupted(), f.version, f.partial, f.interrupted)
		}
	})
}

func (m *machine) list(t *rapid.T, s *msession, path string, d *mdir) {
	list, err := s.c.List(path)
	if err != nil {
		t.Fatalf("listing %s over %s: %v", path, s.face.name(), err)
	}
	want := m.listing(s, d)
	for _, e := range list {
		e.mtime = 0
		if w, ok := want[e.name]; !ok || e != w {
			t.Fatalf("%s lists %+v in %s, want %+v (%v)", s.face.name(), e, path, w, ok)
		}
		delete(want, e.name)
	}
	if len(want) > 0 {
		t.Fatalf("%s does not list %v in %s", s.face.name(), want, path)
	}
}

// stats compares the volume's own account of itself, when nothing is open.
func (m *machine) stats(t *rapid.T) {
	v, err := m.account.volume()
	if err != nil {
		t.Fatal(err)
	}
	st := v.Stats()
	var bytes, files uint64
	m.paths(func(_ string, kid any) {
		if f, ok := kid.(*mfile); ok {
			bytes += uint64(len(f.data))
			files++
		}
	})
	if st.LiveBytes != bytes || st.Files != files || st.OpenHandles != 0 || st.OpenDrafts != 0 {
		t.Fatalf("stats %+v, want %d bytes in %d files and nothing open", st, bytes, files)
	}
}

// allAgree compares what all faces see in the end.
func (m *machine) allAgree(t *rapid.T) {
	var first string
	for i, f := range faces() {
		c, err := f.login(m.account)
		if err != nil {
			t.Fatal(err)
		}
		s, err := snapshot(c)
		if err != nil {
			t.Fatalf("looking through %s: %v", f.name(), err)
		}
		if i == 0 {
			first = s
		} else if s != first {
			t.Fatalf("%s and %s see\n%s", f.name(), faces()[0].name(), difference(s, first))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
