package vfs

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The model is docs/SEMANTICS.md over maps and byte slices.

// mbytes is content; a byte that nobody wrote is a hole.
type mbytes struct {
	data []byte
	put  []bool
}

func (m mbytes) clone() mbytes { return mbytes{bytes.Clone(m.data), slices.Clone(m.put)} }

func (m *mbytes) resize(n int) {
	for len(m.data) < n {
		m.data, m.put = append(m.data, 0), append(m.put, false)
	}
	m.data, m.put = m.data[:n], m.put[:n]
}

func (m *mbytes) write(p []byte, off int) {
	m.resize(max(len(m.data), off+len(p)))
	copy(m.data[off:], p)
	for i := range p {
		m.put[off+i] = true
	}
}

func (m *mbytes) prefix() {
	if i := slices.Index(m.put, false); i >= 0 {
		m.resize(i)
	}
}

// mfile is a file, whatever its name.
type mfile struct {
	mbytes
	version              int
	partial, interrupted bool
}

// mstate is what one session's handles on one file share.
type mstate struct {
	file    *mfile // nil = new name
	name    string
	base    mbytes
	version int
	draft   *mbytes
	fresh   bool
	created bool
	dirty   bool
	broken  bool
	handles []*mhandle
	writers int
	partial bool // the base is
}

type mhandle struct {
	f                   *File
	s                   *msession
	st                  *mstate
	snap                mbytes
	read, write, append bool
	moved               bool
}

type msession struct {
	w     *View
	fresh map[string]*mstate
	open  map[*mfile]*mstate
}

type model struct {
	b        *bench
	tree     map[string]*mfile
	sessions []*msession
	handles  []*mhandle
}

func (st *mstate) size() int {
	if st.draft != nil {
		return len(st.draft.data)
	}
	return len(st.base.data)
}

func (st *mstate) begin() *mbytes {
	if st.draft == nil {
		d := st.base.clone()
		if st.fresh {
			d = mbytes{}
		}
		st.draft = &d
	}
	return st.draft
}

func (h *mhandle) sees() []byte {
	if h.st.draft != nil {
		return h.st.draft.data
	}
	return h.snap.data
}

// publish puts content into the file, which it makes if the name is free.
func (m *model) publish(s *msession, st *mstate, c mbytes, partial bool) {
	if st.file == nil {
		if st.file = m.tree[st.name]; st.file == nil {
			st.file = &mfile{}
			m.tree[st.name] = st.file
		}
		st.created = true
		delete(s.fresh, st.name)
		if s.open[st.file] == nil {
			s.open[st.file] = st
		}
	}
	f := st.file
	f.mbytes, f.partial = c.clone(), partial
	f.version++
	if st.fresh && !partial {
		f.interrupted = false
	}
	st.rebase(f)
	st.dirty, st.fresh = false, false
}

func (st *mstate) rebase(f *mfile) {
	st.base, st.version, st.partial = f.mbytes.clone(), f.version, f.partial
	for _, h := range st.handles {
		h.snap, h.moved = st.base, false
	}
}

func (m *model) commit(s *msession, st *mstate) {
	if !st.dirty && st.file != nil {
		return
	}
	c := st.base
	if st.draft != nil {
		c = *st.draft
	}
	m.publish(s, st, c, false)
}

// whole is a normal Close after an interrupted upload that owed nothing.
func (st *mstate) whole() {
	if st.file.version == st.version {
		st.file.version++
		st.version++
		st.file.partial, st.partial = false, false
	}
}

func (st *mstate) drop() {
	st.draft, st.dirty, st.fresh = nil, false, st.file == nil
}

func (m *model) interrupt(s *msession, st *mstate) {
	if !st.dirty && st.file != nil {
		return
	}
	f := st.file
	if f == nil {
		f = m.tree[st.name]
	}
	resumable := f == nil || f.partial || st.created && f.version == st.version
	if !resumable {
		f.interrupted = true
		if st.file == nil && st.dirty { // its bytes are in that file's history: the state is that of the file now
			st.file = f
			delete(s.fresh, st.name)
		}
		return
	}
	if !st.dirty {
		return
	}
	c := st.draft.clone()
	c.prefix()
	if f != nil || len(c.data) > 0 {
		m.publish(s, st, c, true)
	}
}

func (m *model) close(h *mhandle) (err error) {
	st, s := h.st, h.s
	if h.write {
		st.writers--
		switch {
		case st.writers == 0 && st.broken:
			m.interrupt(s, st)
			st.drop()
			st.broken, st.created = false, false
		case st.writers == 0 && st.partial && !st.dirty && st.file != nil:
			st.whole()
			st.drop()
			st.created = false
		case st.writers == 0:
			m.commit(s, st)
			st.drop()
			st.created = false
		case st.broken:
		case h.moved:
			m.commit(s, st)
		}
	}
	st.handles = slices.DeleteFunc(st.handles, func(x *mhandle) bool { return x == h })
	m.handles = slices.DeleteFunc(m.handles, func(x *mhandle) bool { return x == h })
	if len(st.handles) == 0 {
		if s.fresh[st.name] == st {
			delete(s.fresh, st.name)
		}
		if st.file != nil && s.open[st.file] == st {
			delete(s.open, st.file)
		}
	}
	return nil
}

// settle is what rename and remove do first; an error if the session's own upload is broken.
func (m *model) settle(s *msession, name string) error {
	st := s.fresh[name]
	if st == nil {
		if f := m.tree[name]; f != nil {
			st = s.open[f]
		}
	}
	if st == nil || !st.dirty && st.file != nil {
		return nil
	}
	if st.broken {
		return ErrInterrupted
	}
	m.commit(s, st)
	return nil
}

func (m *model) reserved(name string) bool {
	return slices.ContainsFunc(m.sessions, func(s *msession) bool { return s.fresh[name] != nil })
}

func (m *model) openHandle(s *msession, name string, flag int) (h *mhandle, err error) {
	h = &mhandle{s: s, read: flag&accessMode != os.O_WRONLY, write: flag&accessMode != os.O_RDONLY, append: flag&os.O_APPEND != 0}
	f := m.tree[name]
	st := s.fresh[name]
	if st == nil && f != nil {
		st = s.open[f]
	}
	excl := flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0
	switch {
	case excl && (f != nil || m.reserved(name)):
		return nil, fs.ErrExist
	case f == nil && st == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case f != nil && f.interrupted && h.write && flag&os.O_TRUNC == 0 && (st == nil || st.file != nil && !st.fresh):
		return nil, ErrInterrupted
	case st == nil && f == nil:
		flag &^= os.O_TRUNC // of nothing: no change that a break would have to keep
		st = &mstate{name: name, fresh: true}
		s.fresh[name] = st
		h.moved = true
	case st == nil:
		st = &mstate{name: name, file: f, base: f.mbytes.clone(), version: f.version, partial: f.partial}
		s.open[f] = st
	}
	newer := f != nil && st.file == f && f.version > st.version
	if newer && st.writers == 0 && st.draft == nil {
		st.base, st.version, st.partial = f.mbytes.clone(), f.version, f.partial
	}
	h.snap = st.base
	if newer && !h.write {
		h.snap = f.mbytes.clone()
	}
	h.st = st
	st.handles = append(st.handles, h)
	if h.write {
		st.writers++
	}
	if flag&os.O_TRUNC != 0 {
		st.draft, st.fresh, st.dirty, st.broken, h.moved = &mbytes{}, true, true, false, true
	}
	m.handles = append(m.handles, h)
	return h, nil
}

// machine runs the model beside the volume.
type machine struct {
	model
	t *rapid.T
}

var modelNames = []string{"a", "b", "d/c", "d/e"}

func (m *machine) session(t *rapid.T) *msession {
	return rapid.SampledFrom(m.sessions).Draw(t, "session")
}

func (m *machine) name(t *rapid.T) string { return rapid.SampledFrom(modelNames).Draw(t, "name") }

func (m *machine) handle(t *rapid.T, which func(*mhandle) bool) *mhandle {
	var some []*mhandle
	for _, h := range m.handles {
		if which(h) {
			some = append(some, h)
		}
	}
	if len(some) == 0 {
		t.Skip("no such handle")
	}
	return rapid.SampledFrom(some).Draw(t, "handle")
}

func writes(h *mhandle) bool { return h.write }
func reads(h *mhandle) bool  { return h.read }

func agree(t *rapid.T, got, want error) bool {
	t.Helper()
	if (got == nil) != (want == nil) || want != nil && !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
	return want == nil
}

func (m *machine) Open(t *rapid.T) {
	s, name := m.session(t), m.name(t)
	flag := rapid.SampledFrom([]int{
		os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, wr, wrNew, wrNew | os.O_EXCL, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_TRUNC,
	}).Draw(t, "flag")
	f, err := s.w.OpenHandle(m.b.t.Context(), name, flag, 0)
	h, want := m.openHandle(s, name, flag)
	if agree(t, err, want) {
		h.f = f
	}
}

func someOffset(t *rapid.T, size int) int {
	return rapid.OneOf(rapid.Just(0), rapid.Just(size), rapid.IntRange(0, size+5000), rapid.SampledFrom([]int{65535, 65536, 4096, 131072})).Draw(t, "offset")
}

func someData(t *rapid.T) []byte {
	n := rapid.SampledFrom([]int{1, 100, 4096, 4097, 65536, 70_000, 150_000}).Draw(t, "length")
	return noise(rapid.Uint64Range(0, 1<<16).Draw(t, "seed"), n)
}

func (m *machine) WriteAt(t *rapid.T) {
	h := m.handle(t, writes)
	p := someData(t)
	off := someOffset(t, h.st.size())
	if h.append && off < len(h.st.base.data) {
		off = h.st.size()
	}
	n, err := h.f.WriteAt(p, int64(off))
	if h.st.broken {
		agree(t, err, ErrInterrupted)
		return
	}
	if agree(t, err, nil); n != len(p) {
		t.Fatalf("wrote %d of %d", n, len(p))
	}
	h.st.begin().write(p, off)
	h.st.dirty, h.moved = true, true
}

func (m *machine) Copy(t *rapid.T) {
	h := m.handle(t, writes)
	p := someData(t)
	off := h.st.size()
	if _, err := h.f.Seek(int64(off), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	n, err := h.f.ReadFrom(bytes.NewReader(p))
	if h.st.broken {
		agree(t, err, ErrInterrupted)
		return
	}
	if agree(t, err, nil); n != int64(len(p)) {
		t.Fatalf("wrote %d of %d", n, len(p))
	}
	h.st.begin().write(p, off)
	h.st.dirty, h.moved = true, true
}

func (m *machine) Truncate(t *rapid.T) {
	h := m.handle(t, writes)
	size := someOffset(t, h.st.size())
	err := h.f.Truncate(int64(size))
	if h.st.broken {
		agree(t, err, ErrInterrupted)
		return
	}
	agree(t, err, nil)
	if size == h.st.size() {
		return
	}
	h.st.begin().resize(size)
	h.st.fresh = h.st.fresh || size == 0
	h.st.dirty, h.moved = true, true
}

func (m *machine) ReadAt(t *rapid.T) {
	h := m.handle(t, reads)
	want := h.sees()
	off := someOffset(t, len(want))
	p := make([]byte, rapid.SampledFrom([]int{1, 4096, 65537, 300_000}).Draw(t, "length"))
	n, err := h.f.ReadAt(p, int64(off))
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

func (m *machine) WriteTo(t *rapid.T) {
	h := m.handle(t, reads)
	if _, err := h.f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := h.f.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), h.sees()) {
		t.Fatalf("got %d bytes, %v; want %d, or other bytes", out.Len(), err, len(h.sees()))
	}
}

func (m *machine) Sync(t *rapid.T) {
	h := m.handle(t, writes)
	err := h.f.Sync()
	if h.st.broken {
		agree(t, err, ErrInterrupted)
		return
	}
	agree(t, err, nil)
	m.commit(h.s, h.st)
}

func (m *machine) Close(t *rapid.T) {
	h := m.handle(t, func(*mhandle) bool { return true })
	var want error
	if h.write && h.st.broken { // by another handle of the session: nobody has told this one yet
		want = ErrInterrupted
	}
	agree(t, h.f.Close(), want)
	m.close(h)
}

func (m *machine) Break(t *rapid.T) {
	h := m.handle(t, writes)
	h.f.TransferError(errCut)
	h.st.broken = true
	agree(t, h.f.Close(), nil)
	m.close(h)
}

func (m *machine) Rename(t *rapid.T) {
	s, from, to := m.session(t), m.name(t), m.name(t)
	err := s.w.Rename(from, to)
	want := func() error {
		if err := m.settle(s, from); err != nil {
			return err
		}
		f := m.tree[from]
		if f == nil {
			return fs.ErrNotExist
		}
		if err := m.settle(s, to); err != nil {
			return err
		}
		if from == to {
			return nil
		}
		if m.reserved(to) {
			return fs.ErrExist
		}
		delete(m.tree, from)
		m.tree[to] = f
		return nil
	}()
	agree(t, err, want)
}

func (m *machine) Remove(t *rapid.T) {
	s, name := m.session(t), m.name(t)
	err := s.w.Remove(name)
	if st := s.fresh[name]; st != nil && m.tree[name] == nil {
		if !st.broken {
			m.commit(s, st)
		} else {
			m.interrupt(s, st)
			st.drop()
			if st.file != nil {
				st.broken, st.created = false, false
			}
		}
		agree(t, err, nil)
		delete(m.tree, name)
		return
	}
	var want error
	if m.tree[name] == nil {
		want = fs.ErrNotExist
	}
	if agree(t, err, want) {
		delete(m.tree, name)
	}
}

func (m *machine) EndSession(t *rapid.T) {
	i := rapid.IntRange(0, len(m.sessions)-1).Draw(t, "session")
	s := m.sessions[i]
	agree(t, s.w.Close(), nil)
	for _, h := range m.handles {
		if h.s == s && h.write {
			h.st.broken = true
		}
	}
	// The view closes its handles in no particular order; only the last writer of each file matters.
	for _, h := range slices.Clone(m.handles) {
		if h.s == s {
			m.close(h)
		}
	}
	m.sessions[i] = m.newSession()
}

func (m *machine) newSession() *msession {
	return &msession{w: m.b.vol.View(ViewOptions{Writer: "model"}), fresh: map[string]*mstate{}, open: map[*mfile]*mstate{}}
}

// Purge destroys some of the history, of files that no handle is open on: then nobody can see that.
func (m *machine) Purge(t *rapid.T) {
	held := map[uint64]bool{}
	for _, s := range m.sessions {
		s.w.mu.Lock()
		for id := range s.w.open {
			held[uint64(id)] = true
		}
		s.w.mu.Unlock()
	}
	every := rapid.Uint64Range(1, 3).Draw(t, "every")
	m.b.purge(func(s Superseded) bool { return !held[s.Inode] && (s.Inode+s.Version)%every == 0 })
}

// Tidy folds and repacks whatever can be, under all handles: nobody can see that.
func (m *machine) Tidy(t *rapid.T) {
	r := m.b.tidy(TidyOptions{FoldAll: rapid.Bool().Draw(t, "fold"), RepackAll: true, Wait: -1})
	if r.Damaged > 0 || !r.Done {
		t.Fatalf("tidied %+v", r)
	}
}

func (m *machine) Reopen(t *rapid.T) {
	if len(m.handles) > 0 {
		t.Skip("handles open")
	}
	m.b.reopen()
	for i := range m.sessions {
		m.sessions[i] = m.newSession()
	}
}

// Crash opens what is on the disk: every commit is there, and what is not committed is not, or marked.
// Rotate changes nothing that anyone can see.
func (m *machine) Rotate(t *rapid.T) {
	m.b.rotate()
	if rapid.Bool().Draw(t, "root too") {
		if err := m.b.ring.RotateRoot(context.Background()); err != nil {
			t.Fatalf("rotating the root: %v", err)
		}
	}
}

func (m *machine) Crash(t *rapid.T) {
	c := m.b.crash()
	defer c.end()
	w := c.vol.View(ViewOptions{})
	defer w.Close()
	writing := map[*mfile]bool{}
	for _, h := range m.handles {
		if h.write {
			writing[h.st.file] = true
		}
	}
	for _, name := range modelNames {
		i, err := w.Stat(name)
		f := m.tree[name]
		switch {
		case f == nil && err == nil:
			if !m.reserved(name) || !i.(*Info).Partial() {
				t.Fatalf("%s came out of nowhere", name)
			}
		case f == nil:
		case err != nil:
			t.Fatalf("%s is lost: %v", name, err)
		case writing[f] || m.reserved(name):
			if i.(*Info).Partial() { // an upload that a crash broke: its beginning
				break
			}
			fallthrough
		default:
			if got := get(m.b.t, w, name); !bytes.Equal(got, f.data) {
				t.Fatalf("%s: %d other bytes after the crash, want %d", name, len(got), len(f.data))
			}
		}
	}
}

// Check compares what each session sees, and what history costs.
func (m *machine) Check(t *rapid.T) {
	m.b.wantHistory()
	for _, s := range m.sessions {
		for _, name := range modelNames {
			i, err := s.w.Stat(name)
			f, st := m.tree[name], s.fresh[name]
			if st == nil && f != nil {
				st = s.open[f]
			}
			if f == nil && st == nil {
				agree(t, err, fs.ErrNotExist)
				continue
			}
			agree(t, err, nil)
			size := 0
			switch {
			case st != nil && st.draft != nil && st.dirty:
				size = len(st.draft.data)
			case st != nil && st.file == nil:
			default:
				size = len(f.data)
				if got := i.(*Info); got.Partial() != f.partial || got.Interrupted() != f.interrupted {
					t.Fatalf("%s: partial %v, interrupted %v; want %v, %v", name, got.Partial(), got.Interrupted(), f.partial, f.interrupted)
				}
			}
			if int(i.Size()) != size {
				t.Fatalf("%s: size %d, want %d", name, i.Size(), size)
			}
		}
	}
}

func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		m := &machine{t: rt, model: model{b: b, tree: map[string]*mfile{}}}
		m.sessions = []*msession{m.newSession(), m.newSession()}
		ok(t, m.sessions[0].w.Mkdir("d", 0))
		rt.Repeat(map[string]func(*rapid.T){
			"open": m.Open, "open again": m.Open, "write": m.WriteAt, "write again": m.WriteAt, "copy": m.Copy, "truncate": m.Truncate,
			"read": m.ReadAt, "download": m.WriteTo, "sync": m.Sync, "close": m.Close, "break": m.Break, "rename": m.Rename,
			"remove": m.Remove, "purge": m.Purge, "tidy": m.Tidy, "end session": m.EndSession, "reopen": m.Reopen, "crash": m.Crash, "rotate": m.Rotate, "": m.Check,
		})
		for _, s := range m.sessions {
			s.w.Close()
		}
		b.end()
	})
}

// TestMain keeps the model short unless told otherwise: each of its runs makes volumes and waits for the disk.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "40"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
