//go:build model

package facetest

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// The model is docs/SEMANTICS.md over maps and byte slices. What it calls a state is what the handles of one session on one
// file share (C5).

// content is bytes of which some may be holes.
type content struct {
	data []byte
	put  []bool // false = nobody wrote it
}

func (c content) clone() content { return content{bytes.Clone(c.data), slices.Clone(c.put)} }

func (c *content) resize(n int) {
	if n > len(c.data) {
		c.data = append(c.data, make([]byte, n-len(c.data))...)
		c.put = append(c.put, make([]bool, n-len(c.put))...)
	}
	c.data, c.put = c.data[:n], c.put[:n]
}

func (c *content) write(p []byte, off int) {
	c.resize(max(len(c.data), off+len(p)))
	copy(c.data[off:], p)
	for i := range p {
		c.put[off+i] = true
	}
}

// prefix cuts at the first hole.
func (c *content) prefix() {
	if i := slices.Index(c.put, false); i >= 0 {
		c.resize(i)
	}
}

// mversion is one entry of a file's history.
type mversion struct {
	size    int
	current bool // was what others saw; an interrupted overwrite never was
}

// mfile is a file, whatever its name.
type mfile struct {
	content
	mode                 fs.FileMode
	version              int // number of the current one
	history              []mversion
	partial, interrupted bool
}

// add makes a version.
func (f *mfile) add(c content, current bool) {
	f.history = append(f.history, mversion{len(c.data), current})
	if current {
		f.content, f.version = c.clone(), len(f.history)
	}
}

type mdir struct{ kids map[string]any } // *mfile or *mdir

func newDir() *mdir { return &mdir{map[string]any{}} }

// slot is a place for a name.
type slot struct {
	dir  *mdir
	name string
}

// mstate is what one session's handles on one file share.
type mstate struct {
	file    *mfile // nil = new name
	slot    slot
	base    content
	version int  // of base
	partial bool // base is
	draft   *content
	mode    *fs.FileMode // set and not committed
	fresh   bool         // owes nothing to base
	created bool
	dirty   bool
	broken  bool
	handles []*mhandle
	writers int
}

type mhandle struct {
	real                handle // nil for a transfer
	s                   *msession
	st                  *mstate
	snap                content
	read, write, append bool
	moved               bool // changed something that no commit took
}

type msession struct {
	c     client
	face  face
	fresh map[slot]*mstate
	open  map[*mfile]*mstate
	up    *mupload // the transfer that occupies an FTP session
}

type mupload struct {
	u     upload
	h     *mhandle
	start int    // where it began
	sent  []byte // since
}

type model struct {
	root     *mdir
	sessions []*msession
	handles  []*mhandle
}

func newModel() *model { return &model{root: newDir()} }

// walk finds the place of a path as a session sees it.
func (m *model) walk(s *msession, path string) (slot, class) {
	at := m.root
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for _, p := range parts[:len(parts)-1] {
		switch kid := at.kids[p].(type) {
		case *mdir:
			at = kid
		case *mfile:
			return slot{}, notDir
		default:
			if s.fresh[slot{at, p}] != nil {
				return slot{}, notDir
			}
			return slot{}, notExist
		}
	}
	return slot{at, parts[len(parts)-1]}, good
}

// look is what a session has at a place: the committed file or directory, and its own state.
func (s *msession) look(at slot) (f *mfile, d *mdir, st *mstate) {
	switch kid := at.dir.kids[at.name].(type) {
	case *mfile:
		f = kid
	case *mdir:
		d = kid
	}
	if st = s.fresh[at]; st == nil && f != nil {
		st = s.open[f]
	}
	return f, d, st
}

// reserved says whether any session but s is making the name.
func (m *model) reserved(s *msession, at slot) bool {
	return slices.ContainsFunc(m.sessions, func(o *msession) bool { return o != s && o.fresh[at] != nil })
}

// uploadsIn says whether a new name is being made in a directory.
func (m *model) uploadsIn(d *mdir) bool {
	for _, s := range m.sessions {
		for at := range s.fresh {
			if at.dir == d {
				return true
			}
		}
	}
	return false
}

func (st *mstate) size() int {
	if st.draft != nil {
		return len(st.draft.data)
	}
	return len(st.base.data)
}

func (st *mstate) begin() *content {
	if st.draft == nil {
		d := st.base.clone()
		if st.fresh {
			d = content{}
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

func (h *mhandle) writeAt(p []byte, off int) {
	h.st.begin().write(p, off)
	h.st.dirty, h.moved = true, true
}

func (st *mstate) truncate(n int) bool {
	if n == st.size() {
		return false
	}
	st.begin().resize(n)
	st.fresh = st.fresh || n == 0
	st.dirty = true
	return true
}

func (st *mstate) uncommitted() bool { return st.file == nil || st.dirty || st.mode != nil }

// publish puts content into the file, which it makes if the name is free.
func (m *model) publish(s *msession, st *mstate, c content, partial bool) {
	if st.file == nil {
		if st.file, _ = st.slot.dir.kids[st.slot.name].(*mfile); st.file == nil {
			st.file = &mfile{mode: 0o644}
			st.slot.dir.kids[st.slot.name] = st.file
		}
		st.created = true
		delete(s.fresh, st.slot)
		if s.open[st.file] == nil {
			s.open[st.file] = st
		}
	}
	f := st.file
	f.add(c, true)
	f.partial = partial
	if st.mode != nil {
		f.mode = *st.mode
	}
	if st.fresh && !partial {
		f.interrupted = false
	}
	st.base, st.version, st.partial = f.content.clone(), f.version, f.partial
	for _, h := range st.handles {
		h.snap, h.moved = st.base, false
	}
	st.dirty, st.fresh, st.mode = false, false, nil
}

// commit makes a version of what changed. whole: a normal Close of the last writer, which completes a partial upload.
func (m *model) commit(s *msession, st *mstate, whole bool) {
	if st.dirty || st.file == nil {
		c := st.base
		if st.draft != nil {
			c = *st.draft
		} else if st.fresh {
			c = content{}
		}
		m.publish(s, st, c, false)
		return
	}
	f := st.file
	mode, partial := f.mode, f.partial
	if st.mode != nil {
		mode = *st.mode
	}
	if whole && st.partial && f.version == st.version {
		partial = false
	}
	if st.mode == nil && !(whole && st.partial) {
		return
	}
	if mode != f.mode || partial != f.partial {
		before := f.version
		f.mode, f.partial = mode, partial
		f.add(f.content, true)
		if st.version == before && f.version == before+1 {
			st.version = f.version
		}
	}
	st.partial, st.mode = f.partial, nil
	for _, h := range st.handles {
		h.moved = false
	}
}

func (st *mstate) drop() {
	st.draft, st.dirty, st.mode, st.fresh = nil, false, nil, st.file == nil
}

// interrupt ends a write session whose content is not whole.
func (m *model) interrupt(s *msession, st *mstate) {
	if !st.dirty && st.file != nil {
		return
	}
	f := st.file
	if f == nil {
		f, _ = st.slot.dir.kids[st.slot.name].(*mfile)
	}
	if f != nil && !f.partial && !(st.created && f.version == st.version) {
		f.interrupted = true
		if st.dirty { // its bytes are in that file's history
			f.add(*st.draft, false)
			if st.file == nil {
				st.file = f
				delete(s.fresh, st.slot)
				if s.open[f] == nil {
					s.open[f] = st
				}
			}
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

// close ends a handle, and with the last writer the write session.
func (m *model) close(h *mhandle) {
	st, s := h.st, h.s
	if h.write {
		st.writers--
		switch {
		case st.writers == 0 && st.broken:
			m.interrupt(s, st)
			st.drop()
			st.broken, st.created = false, false
		case st.writers == 0:
			m.commit(s, st, true)
			st.drop()
			st.created = false
		case st.broken:
		case h.moved:
			m.commit(s, st, false)
		}
	}
	same := func(x *mhandle) bool { return x == h }
	st.handles, m.handles = slices.DeleteFunc(st.handles, same), slices.DeleteFunc(m.handles, same)
	if len(st.handles) == 0 {
		if s.fresh[st.slot] == st {
			delete(s.fresh, st.slot)
		}
		if st.file != nil && s.open[st.file] == st {
			delete(s.open, st.file)
		}
	}
}

// sees is the mode of a file for a session.
func (st *mstate) sees(f *mfile) fs.FileMode {
	switch {
	case st != nil && st.mode != nil:
		return *st.mode
	case st != nil && st.file == nil:
		return 0o644
	}
	return f.mode
}

const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

// openHandle opens; h is nil with an error, and for a directory.
func (m *model) openHandle(s *msession, path string, flag int) (*mhandle, class) {
	at, c := m.walk(s, path)
	if c != good {
		return nil, c
	}
	h := &mhandle{s: s, read: flag&accessMode != os.O_WRONLY, write: flag&accessMode != os.O_RDONLY, append: flag&os.O_APPEND != 0}
	f, d, st := s.look(at)
	there := f != nil || d != nil || st != nil
	switch excl := flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0; {
	case excl && (there || m.reserved(s, at)):
		return nil, exists
	case d != nil:
		if h.write {
			return nil, isDir
		}
		return nil, good
	case !there && flag&os.O_CREATE == 0:
		return nil, notExist
	case f != nil && h.read && st.sees(f)&0o400 == 0, f != nil && h.write && st.sees(f)&0o200 == 0:
		return nil, permission
	case f != nil && f.interrupted && h.write && flag&os.O_TRUNC == 0 && (st == nil || st.file != nil && !st.fresh):
		return nil, interrupted
	case st == nil && f == nil:
		st = &mstate{slot: at, fresh: true}
		s.fresh[at] = st
		h.moved = true
	case st == nil:
		st = &mstate{slot: at, file: f, base: f.content.clone(), version: f.version, partial: f.partial}
		s.open[f] = st
	}
	newer := f != nil && st.file == f && f.version > st.version
	if newer && st.writers == 0 && st.draft == nil {
		st.base, st.version, st.partial = f.content.clone(), f.version, f.partial
	}
	h.snap = st.base
	if newer && !h.write {
		h.snap = f.content.clone()
	}
	h.st = st
	st.handles = append(st.handles, h)
	if h.write {
		st.writers++
	}
	if flag&os.O_TRUNC != 0 && there {
		st.draft, st.fresh, st.dirty, st.broken, h.moved = &content{}, true, true, false, true
	}
	m.handles = append(m.handles, h)
	return h, good
}

// settled commits what the session has not committed at a place.
func (m *model) settled(s *msession, at slot) class {
	_, _, st := s.look(at)
	if st == nil || !st.uncommitted() {
		return good
	}
	if st.broken {
		return interrupted
	}
	m.commit(s, st, false)
	return good
}

func (m *model) rename(s *msession, from, to string, replace bool) class {
	src, c := m.walk(s, from)
	if c != good {
		return c
	}
	if c := m.settled(s, src); c != good {
		return c
	}
	node := src.dir.kids[src.name]
	if node == nil {
		return notExist
	}
	dst, c := m.walk(s, to)
	if c != good {
		return c
	}
	if c := m.settled(s, dst); c != good {
		return c
	}
	old := dst.dir.kids[dst.name]
	switch {
	case src == dst && replace:
		return good
	case src == dst, old != nil && !replace, m.reserved(s, dst):
		return exists
	}
	oldDir, _ := old.(*mdir)
	dir, _ := node.(*mdir)
	switch {
	case oldDir != nil && m.uploadsIn(oldDir):
		return notEmpty
	case dir != nil && m.below(dst.dir, dir):
		return invalid
	case old == nil:
	case dir == nil && oldDir != nil:
		return isDir
	case dir != nil && oldDir == nil:
		return notDir
	case oldDir != nil && len(oldDir.kids) > 0:
		return notEmpty
	}
	delete(src.dir.kids, src.name)
	dst.dir.kids[dst.name] = node
	return good
}

// below says whether d is top or lies below it.
func (m *model) below(d, top *mdir) bool {
	if d == top {
		return true
	}
	for _, kid := range top.kids {
		if k, ok := kid.(*mdir); ok && m.below(d, k) {
			return true
		}
	}
	return false
}

func (m *model) remove(s *msession, path string) class {
	at, c := m.walk(s, path)
	if c != good {
		return c
	}
	f, d, st := s.look(at)
	switch {
	case d != nil:
		return isDir
	case f != nil:
	case st == nil:
		return notExist
	case st.broken:
		m.interrupt(s, st)
		st.drop()
		if st.file != nil {
			st.broken, st.created = false, false
		}
	default:
		m.commit(s, st, false)
	}
	delete(at.dir.kids, at.name)
	return good
}

func (m *model) mkdir(s *msession, path string) class {
	at, c := m.walk(s, path)
	if c != good {
		return c
	}
	if f, d, st := s.look(at); f != nil || d != nil || st != nil || m.reserved(s, at) {
		return exists
	}
	at.dir.kids[at.name] = newDir()
	return good
}

func (m *model) rmdir(s *msession, path string) class {
	at, c := m.walk(s, path)
	if c != good {
		return c
	}
	switch f, d, st := s.look(at); {
	case d != nil && (len(d.kids) > 0 || m.uploadsIn(d)):
		return notEmpty
	case d != nil:
		delete(at.dir.kids, at.name)
		return good
	case f != nil || st != nil:
		return notDir
	}
	return notExist
}

func (m *model) chmod(s *msession, path string, mode fs.FileMode) class {
	at, c := m.walk(s, path)
	if c != good {
		return c
	}
	f, _, st := s.look(at)
	switch {
	case st != nil && st.writers > 0:
		st.mode = &mode
	case f == nil:
		return notExist
	case f.mode != mode:
		f.mode = mode
		f.add(f.content, true)
	}
	return good
}

// truncatePath is a size set by path: of what the session is writing, else a write session of its own.
func (m *model) truncatePath(s *msession, path string, n int) class {
	at, c := m.walk(s, path)
	if c != good {
		return c
	}
	f, d, st := s.look(at)
	switch {
	case d == nil && f == nil && st == nil:
		return notExist
	case st != nil && st.writers > 0:
		if st.sees(f)&0o200 == 0 {
			return permission
		}
		if st.broken {
			return interrupted
		}
		st.truncate(n)
		return good
	}
	flag := os.O_WRONLY
	if d == nil && n == 0 && (m.sizeOf(f, st) > 0 || f.interrupted) {
		flag |= os.O_TRUNC
	}
	h, c := m.openHandle(s, path, flag)
	if c != good {
		return c
	}
	if h.st.truncate(n) {
		h.moved = true
	}
	m.close(h)
	return good
}

// sizeOf is what the session's stat shows.
func (m *model) sizeOf(f *mfile, st *mstate) int {
	switch {
	case st != nil && st.draft != nil && st.dirty:
		return len(st.draft.data)
	case st != nil && st.file == nil:
		return 0
	}
	return len(f.data)
}

// listing is what a session sees in a directory.
func (m *model) listing(s *msession, d *mdir) map[string]entry {
	out := map[string]entry{}
	for name, kid := range d.kids {
		if _, ok := kid.(*mdir); ok {
			out[name] = entry{name: name, kind: 'd', mode: 0o755}
			continue
		}
		f, _, st := s.look(slot{d, name})
		out[name] = entry{name: name, kind: 'f', size: int64(m.sizeOf(f, st)), mode: st.sees(f)}
	}
	for at, st := range s.fresh {
		if at.dir == d {
			out[at.name] = entry{name: at.name, kind: 'f', size: int64(m.sizeOf(nil, st)), mode: st.sees(nil)}
		}
	}
	return out
}

// paths calls fn for everything that is committed.
func (m *model) paths(fn func(path string, kid any)) {
	var walk func(prefix string, d *mdir)
	walk = func(prefix string, d *mdir) {
		for _, name := range slices.Sorted(keys(d.kids)) {
			fn(prefix+name, d.kids[name])
			if sub, ok := d.kids[name].(*mdir); ok {
				walk(prefix+name+"/", sub)
			}
		}
	}
	walk("/", m.root)
}
