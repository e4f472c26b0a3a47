package vfs

import (
	"context"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/spf13/afero"

	"sallyport/vfs/extent"
)

// File is an open handle. Safe for concurrent use. Implements afero.File, io.ReaderFrom, io.WriterTo and TransferError.
type File struct {
	view *View
	c    *core
	name string // as the client gave it
	how  how
	in   *inode     // nil for a directory
	dir  *dirHandle // nil for a file
	snap *snapshot  // the version it reads when there is no draft; guarded by in.mu
	past *Info      // of a handle on an old version, else nil

	use    sync.RWMutex // shared by operations in progress, alone for Close
	closed atomic.Bool  // set with use held alone
	told   atomic.Bool  // TransferError: who uses this handle knows that the file is not whole

	mu    sync.Mutex // guards the position
	pos   int64
	moved bool // changed something that no commit took; guarded by in.mu
}

var (
	_ afero.File    = (*File)(nil)
	_ io.ReaderFrom = (*File)(nil)
	_ io.WriterTo   = (*File)(nil)
)

// begin does what opening owes: O_TRUNC, and the check of what will be read, before the first byte is.
func (f *File) begin() error {
	if f.how.trunc {
		return f.in.restart(f)
	}
	if !f.how.read {
		return nil
	}
	d, s := f.in.content(f)
	defer s.release()
	if d != nil || s.layout.Size == 0 {
		return nil
	}
	_, err := s.open(context.Background())
	return err
}

// op runs one operation on an open handle and wraps its error; io.EOF passes bare, as io.Reader demands.
func (f *File) op(name string, fn func() error) error {
	f.use.RLock()
	defer f.use.RUnlock()
	if f.closed.Load() {
		return fail(name, f.name, fs.ErrClosed)
	}
	err := fn()
	if err == io.EOF {
		return err
	}
	return fail(name, f.name, err)
}

// Name is the path as the client gave it.
func (f *File) Name() string { return f.name }

// reading and writing say whether the handle was opened for that.
func (f *File) reading() error {
	switch {
	case f.dir != nil:
		return ErrIsDir
	case !f.how.read:
		return fs.ErrPermission
	}
	return nil
}

func (f *File) writing() error {
	switch {
	case f.dir != nil:
		return ErrIsDir
	case !f.how.write:
		return fs.ErrPermission
	}
	return nil
}

// Read reads at the handle's position.
func (f *File) Read(p []byte) (n int, err error) {
	err = f.op("read", func() error {
		if err := f.reading(); err != nil {
			return err
		}
		if len(p) == 0 {
			return nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		n, err = f.in.readAt(f, p, f.pos)
		f.pos += int64(n)
		if n > 0 && err == io.EOF {
			err = nil
		}
		return err
	})
	return n, err
}

// ReadAt implements io.ReaderAt: fewer bytes than asked for come with io.EOF.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.op("read", func() error {
		if err := f.reading(); err != nil {
			return err
		}
		if off < 0 {
			return fs.ErrInvalid
		}
		n, err = f.in.readAt(f, p, off)
		return err
	})
	return n, err
}

// Write writes at the handle's position, or at the current end if it was opened with O_APPEND.
func (f *File) Write(p []byte) (n int, err error) {
	err = f.op("write", func() error {
		if err := f.writing(); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.how.append {
			n, f.pos, err = f.in.append(f, p)
		} else {
			n, err = f.in.writeAt(f, p, f.pos)
		}
		f.pos += int64(n)
		return err
	})
	return n, err
}

// WriteAt writes at off. With O_APPEND an offset before the end is taken for the end: that is what a client means that
// counts from the start of what it appends.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.op("write", func() error {
		if err := f.writing(); err != nil {
			return err
		}
		if f.how.append && off >= 0 && off < int64(f.in.committed()) {
			n, _, err = f.in.append(f, p)
			return err
		}
		n, err = f.in.writeAt(f, p, off)
		return err
	})
	return n, err
}

// WriteString implements afero.File.
func (f *File) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// Seek implements io.Seeker. The end is that of this session's view of the file.
func (f *File) Seek(off int64, whence int) (pos int64, err error) {
	err = f.op("seek", func() error {
		if f.dir != nil {
			if off != 0 || whence != io.SeekStart {
				return fs.ErrInvalid
			}
			f.dir.rewind()
			return nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		switch whence {
		case io.SeekStart:
		case io.SeekCurrent:
			off += f.pos
		case io.SeekEnd:
			off += f.size()
		default:
			return fs.ErrInvalid
		}
		if off < 0 {
			return fs.ErrInvalid
		}
		f.pos, pos = off, off
		return nil
	})
	return pos, err
}

// size is the end of what this handle reads.
func (f *File) size() int64 {
	d, s := f.in.content(f)
	defer s.release()
	if d != nil {
		return d.Size()
	}
	return int64(s.layout.Size)
}

// ReadFrom writes all of r at the handle's position (with O_APPEND, at the end). An error of r is returned as it is, and
// what came before it is written; tell a broken transfer with TransferError.
func (f *File) ReadFrom(r io.Reader) (n int64, err error) {
	f.use.RLock()
	defer f.use.RUnlock()
	if f.closed.Load() {
		return 0, fail("write", f.name, fs.ErrClosed)
	}
	if err := f.writing(); err != nil {
		return 0, fail("write", f.name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.how.append {
		f.in.ending.Lock()
		defer f.in.ending.Unlock()
		f.pos = f.in.size()
	}
	n, theirs, err := f.in.copyFrom(f, r, f.pos)
	f.pos += n
	if theirs != nil {
		return n, theirs
	}
	return n, fail("write", f.name, err)
}

// WriteTo writes the rest of the file to w. An error of w is returned as it is.
func (f *File) WriteTo(w io.Writer) (n int64, err error) {
	f.use.RLock()
	defer f.use.RUnlock()
	if f.closed.Load() {
		return 0, fail("read", f.name, fs.ErrClosed)
	}
	if err := f.reading(); err != nil {
		return 0, fail("read", f.name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sink := &sink{w: w}
	n, err = f.in.copyTo(f, sink, f.pos)
	f.pos += n
	if sink.err != nil {
		return n, sink.err
	}
	return n, fail("read", f.name, err)
}

// sink keeps the error of the caller's writer apart from those of the volume.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// Stat tells what this session sees. The result is an *Info.
func (f *File) Stat() (os.FileInfo, error) {
	var i *Info
	err := f.op("stat", func() (err error) {
		i, err = f.info()
		return err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Truncate sets the size.
func (f *File) Truncate(size int64) error {
	return f.op("truncate", func() error {
		if err := f.writing(); err != nil {
			return err
		}
		return f.in.truncate(f, size)
	})
}

// Sync commits what the session changed in this file, and thereby publishes it. It survives power loss on return.
func (f *File) Sync() error {
	return f.op("sync", func() error {
		if f.dir != nil || !f.how.holds {
			return nil
		}
		return f.in.commit(context.Background())
	})
}

// TransferError tells that the transfer broke: Close then ends it as interrupted. It never waits. Without effect on a handle
// that is closed or not open for writing.
func (f *File) TransferError(err error) {
	if err == nil || f.in == nil || !f.how.holds || f.closed.Load() {
		return
	}
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	if f.in.broken == nil {
		f.in.broken = ErrInterrupted
	}
	f.told.Store(true)
}

// Close commits: success means that data and metadata survive power loss. It waits for operations in progress on this
// handle.
func (f *File) Close() error {
	f.use.Lock()
	if f.closed.Load() {
		f.use.Unlock()
		return fail("close", f.name, fs.ErrClosed)
	}
	f.closed.Store(true)
	f.use.Unlock()
	var err error
	if f.in != nil {
		err = f.leave()
	} else {
		f.view.forget(f)
	}
	f.view.unadmit()
	f.c.handles.Add(-1)
	f.view.vol.release(f.c)
	return fail("close", f.name, err)
}

// leave ends the handle's part in the shared state: its changes are committed, and the last writer ends the draft.
func (f *File) leave() error {
	in := f.in
	in.io.Lock()
	err := in.part(context.Background(), f)
	in.io.Unlock()
	f.view.forget(f)
	return err
}

// part commits what f owes. Called with io held.
func (in *inode) part(ctx context.Context, f *File) error {
	if !f.how.holds {
		return nil
	}
	in.mu.Lock()
	in.writers--
	last, broken := in.writers == 0, in.broken
	in.mu.Unlock()
	told := f.told.Load()
	switch {
	case last:
		return in.finish(ctx, told)
	case broken != nil && !told:
		return broken // the last writer may be another client's, and what this one wrote will not be a whole version
	case broken != nil:
		return nil
	case f.moved:
		return in.publish(ctx, false)
	}
	return nil
}

// forget takes the handle out of the view and, with a file's last handle, the file's state.
func (w *View) forget(f *File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, f)
	in := f.in
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if f.past != nil {
		w.vol.past.give(len(f.snap.layout.Extents))
	}
	delete(in.files, f)
	f.snap.release()
	if len(in.files) > 0 {
		return
	}
	in.base.release()
	if w.open[in.id] == in {
		delete(w.open, in.id)
	}
	if in.isNew() && w.fresh[in.slot] == in { // ended without a version
		delete(w.fresh, in.slot)
		in.c.claims.drop(in.slot)
		in.c.yield(0, 1)
	}
}

// Layout is where the committed content that this handle reads lies. For tools and tests.
func (f *File) Layout() extent.Layout {
	if f.in == nil {
		return extent.Layout{}
	}
	_, s := f.in.content(f)
	defer s.release()
	return *s.layout
}
