package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/spf13/afero"

	"sallyport/vfs/meta"
)

// ViewOptions identify a session to its volume.
type ViewOptions struct {
	Writer string                 // recorded in versions, e.g. the session id
	Note   func(Change) []byte    // nil result = no event; must be quick, without effects and without calls of the volume
	Broken func(path string) bool // policy upload.interrupted: true keeps what came, false discards it; nil = keep
	// Supersede is asked before a file becomes history: in the transaction that removes it or renames another over it, and when it is
	// opened for writing or shortened; and in the transaction of a commit that makes more history than its opening was asked for. An error refuses (ErrQuota, wrapping it). It must be quick and not call the volume; nil = nothing is refused.
	Supersede func(Superseding) error
	MaxOpen   int // handles open at once; 0 = 1,024
}

// View is one session's face of a volume: read-your-writes for its own open files, POSIX-shared state between its own handles.
// Paths are slash-separated, absolute or relative to "/", any bytes; ".." stops at "/". Safe for concurrent use.
// Implements afero.Fs and more.
type View struct {
	vol *Volume
	o   ViewOptions

	mu     sync.Mutex // guards what is below; never held over anything that blocks
	open   map[meta.Inode]*inode
	fresh  map[slot]*inode // new names before their first commit
	files  map[*File]struct{}
	opened int // handles, those being opened included
	closed bool
}

// View starts a session's view. The volume stays open until View.Close.
func (v *Volume) View(o ViewOptions) *View {
	if o.MaxOpen == 0 {
		o.MaxOpen = defaultMaxOpen
	}
	w := &View{vol: v, o: o, open: map[meta.Inode]*inode{}, fresh: map[slot]*inode{}, files: map[*File]struct{}{}}
	v.mu.Lock()
	v.views[w] = struct{}{}
	v.mu.Unlock()
	return w
}

// Volume is whose view it is.
func (w *View) Volume() *Volume { return w.vol }

// Close ends what is still open as interrupted.
func (w *View) Close() error {
	w.mu.Lock()
	w.closed = true
	files := make([]*File, 0, len(w.files))
	for f := range w.files {
		files = append(files, f)
	}
	w.mu.Unlock()
	var errs []error
	for _, f := range files { // all of them first: a file is whole only if none of its writers broke off
		f.TransferError(fs.ErrClosed)
	}
	for _, f := range files {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	v := w.vol
	v.mu.Lock()
	delete(v.views, w)
	v.rest()
	v.mu.Unlock()
	return errors.Join(errs...)
}

// Name implements afero.Fs.
func (w *View) Name() string { return "sallyport" }

// run does one operation on the open volume and wraps its error.
func (w *View) run(op, name string, fn func(ctx context.Context, c *core) error) error {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if closed {
		return fail(op, name, fs.ErrClosed)
	}
	ctx := context.Background() // afero has none; operations are short, and a commit must not be cut off
	return fail(op, name, w.vol.do(ctx, func(c *core) error { return fn(ctx, c) }))
}

// change is run for operations that write metadata.
func (w *View) change(op, name string, fn func(ctx context.Context, c *core) error) error {
	return w.run(op, name, func(ctx context.Context, c *core) error {
		if c.failed.Load() {
			return ErrReadOnly
		}
		if err := fn(ctx, c); err != nil {
			return err
		}
		w.told()
		return nil
	})
}

// at resolves a path in a transaction of its own.
func (w *View) at(c *core, name string, follow bool) (p place, err error) {
	err = c.db.View(func(tx *meta.Tx) error {
		p, err = w.walk(tx, name, follow)
		return err
	})
	return p, err
}

func (w *View) ownNew(s slot) *inode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fresh[s]
}

func (w *View) ownInode(id meta.Inode) *inode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[id]
}

// info is what the session sees at a place that exists.
func (p *place) info() *Info {
	name := p.name
	if p.root() {
		name = "/"
	}
	if p.own != nil {
		return p.own.info(name, p.node)
	}
	return &Info{name: name, node: *p.node}
}

func (p *place) exists() bool { return p.node != nil || p.own != nil }

// kind of what is at a place that exists.
func (p *place) kind() meta.Kind {
	if p.node != nil {
		return p.node.Kind
	}
	return meta.File
}

func (w *View) stat(op, name string, follow bool) (*Info, error) {
	var i *Info
	err := w.run(op, name, func(_ context.Context, c *core) error {
		p, err := w.at(c, name, follow)
		if err != nil {
			return err
		}
		if !p.exists() {
			return fs.ErrNotExist
		}
		i = p.info()
		return nil
	})
	return i, err
}

// Stat follows symlinks. The result is an *Info.
func (w *View) Stat(name string) (os.FileInfo, error) {
	i, err := w.stat("stat", name, true)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Lstat does not follow a final symlink. The result is an *Info.
func (w *View) Lstat(name string) (os.FileInfo, error) {
	i, err := w.stat("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// LstatIfPossible implements afero.Lstater.
func (w *View) LstatIfPossible(name string) (os.FileInfo, bool, error) {
	i, err := w.Lstat(name)
	return i, true, err
}

// Resolve returns the canonical path: symlinks followed (the last component too if it exists and follow), "." and ".." gone,
// names as stored. The last component need not exist.
func (w *View) Resolve(name string, follow bool) (string, error) {
	var path string
	err := w.run("resolve", name, func(_ context.Context, c *core) error {
		p, err := w.at(c, name, follow)
		path = p.path
		return err
	})
	return path, err
}

// Readlink returns the target of a symlink as it was given.
func (w *View) Readlink(name string) (string, error) {
	var target string
	err := w.run("readlink", name, func(_ context.Context, c *core) error {
		p, err := w.at(c, name, false)
		switch {
		case err != nil:
			return err
		case !p.exists():
			return fs.ErrNotExist
		case p.kind() != meta.Symlink:
			return fs.ErrInvalid
		}
		target = p.node.Target
		return nil
	})
	return target, err
}

// Usage for statvfs and AVBL: live bytes and files, and the bytes of history.
func (w *View) Usage() (bytes, files, history uint64) {
	// A volume that cannot be opened has refused its session already; zero is the answer of an empty one.
	_ = w.run("usage", "/", func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			st := tx.Stats()
			bytes, files, history = st.LiveBytes, st.Files, st.HistoryBytes
			return nil
		})
	})
	return bytes, files, history
}

var (
	_ afero.Fs        = (*View)(nil)
	_ afero.Lstater   = (*View)(nil)
	_ afero.Symlinker = (*View)(nil)
)

// SymlinkIfPossible implements afero.Linker.
func (w *View) SymlinkIfPossible(target, link string) error { return w.Symlink(target, link) }

// ReadlinkIfPossible implements afero.LinkReader.
func (w *View) ReadlinkIfPossible(name string) (string, error) { return w.Readlink(name) }
