package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/afero"

	"sallyport/vfs/meta"
)

// Create implements afero.Fs.
func (w *View) Create(name string) (afero.File, error) {
	return w.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// Open implements afero.Fs.
func (w *View) Open(name string) (afero.File, error) { return w.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile implements afero.Fs.
func (w *View) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	f, err := w.OpenHandle(context.Background(), name, flag, perm)
	if err != nil {
		return nil, err // a nil *File in the interface would not be nil
	}
	return f, nil
}

// how is an open flag, taken apart.
type how struct {
	read, write, append, create, excl, trunc bool
	holds                                    bool // its Close commits: a writer, or who made the name
	mode                                     uint32
}

const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

func parseFlag(flag int, perm os.FileMode) (how, error) {
	h := how{
		append: flag&os.O_APPEND != 0,
		create: flag&os.O_CREATE != 0,
		excl:   flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0,
		trunc:  flag&os.O_TRUNC != 0,
		mode:   fileMode(perm),
	}
	switch flag & accessMode {
	case os.O_RDONLY:
		h.read = true
	case os.O_WRONLY:
		h.write = true
	case os.O_RDWR:
		h.read, h.write = true, true
	default:
		return h, fs.ErrInvalid
	}
	if h.trunc && !h.write {
		return h, fs.ErrInvalid
	}
	h.holds = h.write
	return h, nil
}

// fileMode is the mode of a new file: what the client asks for, within 0644; 0 = did not ask.
func fileMode(perm os.FileMode) uint32 {
	if m := uint32(perm.Perm()); m != 0 {
		return m & 0o644
	}
	return 0o644
}

// dirMode is the mode of a new directory: what the client asks for, within 0755; 0 = did not ask.
func dirMode(perm os.FileMode) uint32 {
	if m := uint32(perm.Perm()); m != 0 {
		return m & 0o755
	}
	return 0o755
}

// OpenHandle opens a file or (for reading) a directory. flag is as os.O_*; perm is for new files. ctx bounds the wait for
// another operation on a new name, nothing else.
func (w *View) OpenHandle(ctx context.Context, name string, flag int, perm os.FileMode) (*File, error) {
	h, err := parseFlag(flag, perm)
	if err != nil {
		return nil, fail("open", name, err)
	}
	if err := w.admit(); err != nil {
		return nil, fail("open", name, err)
	}
	c, err := w.vol.acquire(ctx)
	if err != nil {
		w.unadmit()
		return nil, fail("open", name, err)
	}
	f, err := w.openAt(ctx, c, name, h)
	if err != nil {
		w.unadmit()
		w.vol.release(c)
		return nil, fail("open", name, err)
	}
	c.handles.Add(1)
	return f, nil // which holds c until its Close
}

// admit counts a handle before it is opened.
func (w *View) admit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return fs.ErrClosed
	case w.opened >= w.o.MaxOpen:
		return ErrTooMany
	}
	w.opened++
	return nil
}

func (w *View) unadmit() {
	w.mu.Lock()
	w.opened--
	w.mu.Unlock()
}

func (w *View) openAt(ctx context.Context, c *core, name string, h how) (*File, error) {
	if h.write && c.failed.Load() {
		return nil, ErrReadOnly
	}
	for {
		p, s, err := w.find(c, name, h)
		if err != nil {
			return nil, err
		}
		switch {
		case p.exists() && h.excl:
			return nil, fs.ErrExist
		case p.exists() && p.kind() == meta.Dir:
			return w.openDir(c, name, p, h)
		case p.exists():
			f, err := w.openFile(c, name, p, s, h)
			if errors.Is(err, ErrPurged) && ctx.Err() == nil {
				continue // replaced or removed, and purged, since the look: the name leads elsewhere now
			}
			return f, err
		case !h.create:
			return nil, fs.ErrNotExist
		}
		f, err := w.createFile(ctx, c, name, p, h)
		if errors.Is(err, errAgain) {
			continue
		}
		return f, err
	}
}

// errAgain means that what a decision was based on has changed meanwhile.
var errAgain = errors.New("vfs: internal: look again")

// find resolves the path and, of an existing file, loads the version to open. O_EXCL follows no final symlink and takes
// names by their bytes.
func (w *View) find(c *core, name string, h how) (p place, s *snapshot, err error) {
	moves := c.moves.Load()
	err = c.db.View(func(tx *meta.Tx) error {
		if p, err = w.walk(tx, name, !h.excl); err != nil {
			return err
		}
		if h.excl {
			p = p.exact()
		}
		if p.node == nil || p.node.Kind != meta.File {
			return nil
		}
		l, err := layoutOf(tx, p.node)
		if err != nil {
			return err
		}
		s = newSnapshot(c, p.node, l, moves)
		if h.write {
			return w.mayOpenOver(tx, p.path, p.node, h)
		}
		return nil
	})
	return p, s, err
}

func (w *View) openDir(c *core, name string, p place, h how) (*File, error) {
	if h.write {
		return nil, ErrIsDir
	}
	if err := permit(p.node, mayRead); err != nil {
		return nil, err
	}
	f := &File{view: w, c: c, name: name, how: h, dir: &dirHandle{place: p}}
	return f, w.register(f)
}

// register makes the handle the view's to close.
func (w *View) register(f *File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	w.files[f] = struct{}{}
	return nil
}

// openFile opens what exists: committed, or the session's own new file (s is nil then).
func (w *View) openFile(c *core, name string, p place, s *snapshot, h how) (*File, error) {
	if p.kind() == meta.Symlink {
		return nil, fs.ErrInvalid // only reached with a link that must not be followed
	}
	if err := mayOpen(&p, h); err != nil {
		return nil, err
	}
	f := &File{view: w, c: c, name: name, how: h}
	if err := w.attach(f, p, s); err != nil {
		return nil, err
	}
	if err := f.begin(); err != nil {
		f.leave() // nothing was changed, so nothing is lost
		return nil, err
	}
	return f, nil
}

// mayOpen checks the owner's bits, and the rule that nothing is added to a file whose last overwrite broke.
func mayOpen(p *place, h how) error {
	i := p.info()
	var bits uint32
	if h.read {
		bits |= mayRead
	}
	if h.write {
		bits |= mayWrite
	}
	if p.node != nil { // the creator of a new file may write it whatever its mode
		if err := permit(&i.node, bits); err != nil {
			return err
		}
	}
	if h.write && !h.trunc && i.node.Interrupted && (p.own == nil || !p.own.restarted()) {
		return ErrInterrupted
	}
	return nil
}

// restarted says whether the session is already uploading the file anew.
func (in *inode) restarted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fresh
}

// attach joins the handle to the session's state of the file.
func (w *View) attach(f *File, p place, s *snapshot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	in := w.fresh[p.slot]
	if in == nil && p.node != nil {
		in = w.open[p.node.ID]
	}
	switch {
	case in != nil:
	case p.node == nil:
		return fs.ErrNotExist // the session's new file was given up between the look and now
	default:
		in = &inode{view: w, c: f.c, id: p.node.ID, slot: p.slot, path: p.path, base: s.retain(), end: int64(s.layout.Size), files: map[*File]struct{}{}}
		w.open[in.id] = in
	}
	w.files[f] = struct{}{}
	f.in = in
	in.join(f, s)
	return nil
}

// join adds a handle. The first writer takes the newest version as its base; readers keep the one they opened.
func (in *inode) join(f *File, s *snapshot) {
	in.mu.Lock()
	defer in.mu.Unlock()
	newer := s != nil && in.id != 0 && s.node.ID == in.id && s.node.Version > in.base.node.Version
	if newer && in.writers == 0 && in.draft == nil {
		in.base.release()
		in.base = s.retain()
		in.end = int64(s.layout.Size)
	}
	f.snap = in.base
	if newer && !f.how.write {
		f.snap = s
	}
	f.snap.retain()
	if f.how.holds {
		in.writers++
	}
	if f.how.write && s != nil && s.node.ID == in.id && s.node.Version == in.base.node.Version {
		in.asked = s.node.Version
	}
	in.files[f] = struct{}{}
}

// createFile reserves a new name and opens it. The name is claimed before the last look at it.
func (w *View) createFile(ctx context.Context, c *core, name string, p place, h how) (*File, error) {
	if err := p.allowed(); err != nil {
		return nil, err
	}
	if err := permit(p.home, mayWrite|mayTravel); err != nil {
		return nil, err
	}
	if err := c.claims.hold(ctx, p.slot, h.excl); err != nil {
		return nil, err
	}
	undo := func() { c.claims.drop(p.slot) }
	if err := c.free(p.slot); err != nil {
		undo()
		return nil, err
	}
	if err := c.ask(0, 1); err != nil {
		undo()
		return nil, err
	}
	h.holds = true
	f := &File{view: w, c: c, name: name, how: h}
	if err := w.enter(f, p); err != nil {
		undo()
		c.yield(0, 1)
		return nil, err
	}
	return f, nil
}

// free says whether a claimed name is still unused and its directory still there.
func (c *core) free(s slot) error {
	return c.db.View(func(tx *meta.Tx) error {
		if _, err := linked(tx, s.dir); err != nil {
			return err
		}
		id, err := lookupExact(tx, s)
		if err == nil && id != 0 {
			err = errAgain
		}
		return err
	})
}

// enter makes the session's state of a new file.
func (w *View) enter(f *File, p place) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return fs.ErrClosed
	case w.fresh[p.slot] != nil:
		return errAgain // by another handle of this session
	}
	now := f.c.now()
	n := meta.Node{Kind: meta.File, Changed: now, Attr: meta.Attr{Mode: f.how.mode, Mtime: now, Created: now, State: meta.Complete}}
	in := &inode{
		view: w, c: f.c, slot: p.slot, path: p.path, fresh: true, touched: now,
		base: newSnapshot(f.c, &n, nil, 0).retain(), files: map[*File]struct{}{},
	}
	w.fresh[p.slot] = in
	w.files[f] = struct{}{}
	f.in, f.moved = in, true // making the name is a change
	in.join(f, nil)
	return nil
}
