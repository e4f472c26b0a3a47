package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// inode is what one session's handles on one file share: its uncommitted content and attributes. Other sessions see
// nothing of it before a commit.
//
// Locks, in the order in which they are taken: io, then View.mu, then mu. A writer shares io while it writes, and a
// commit has it alone: both may wait for the disk, and both belong to this session. mu is never held over anything
// that blocks, so that a stat needs nobody's patience.
type inode struct {
	view *View
	c    *core

	io      sync.RWMutex
	making  sync.Mutex // one writer starts the draft
	growing sync.Mutex // one writer asks the quota
	ending  sync.Mutex // appends find the end and write there in one step

	mu      sync.Mutex // guards what is below
	id      meta.Inode // 0 until the first commit of a new name
	slot    slot
	path    string
	base    *snapshot // committed content that a draft starts from
	draft   *draft
	fresh   bool // the draft owes nothing to base: new, opened with O_TRUNC, or truncated to 0
	created bool // the name was made in this write session
	dirty   bool // something changed since the last commit
	touched int64
	attr    attrs
	broken  error // why the content is not whole
	files   map[*File]struct{}
	writers int
	end     int64 // the file may grow to here without asking the quota
	granted int64 // bytes pending in the quota for that
}

// attrs are attributes that a client set and no commit took yet; nil = not set.
type attrs struct {
	mode         *uint32
	atime, mtime *int64
	created      *int64
	whole        bool // not of the client: the content is complete
}

func (a attrs) empty() bool { return a == attrs{} }

// over overlays the attributes on at.
func (a attrs) over(at *meta.Attr) {
	if a.mode != nil {
		at.Mode = *a.mode
	}
	if a.atime != nil {
		at.Atime = *a.atime
	}
	if a.mtime != nil {
		at.Mtime = *a.mtime
	}
	if a.created != nil {
		at.Created = *a.created
	}
	if a.whole {
		at.State = meta.Complete
	}
}

// isNew says whether the name is still to be made. Called with mu held.
func (in *inode) isNew() bool { return in.id == 0 }

// uncommitted says whether the session has something that others do not see.
func (in *inode) uncommitted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.isNew() || in.dirty || !in.attr.empty()
}

// info is the file as this session sees it; committed is its node now, nil for a new name.
func (in *inode) info(name string, committed *meta.Node) *Info {
	in.mu.Lock()
	i := &Info{name: name, node: in.base.node}
	if committed != nil && !in.isNew() {
		i.node = *committed
	}
	d, dirty, touched, attr, fresh := in.draft, in.dirty, in.touched, in.attr, in.fresh
	in.mu.Unlock()
	if d != nil && dirty {
		i.node.Size = uint64(d.Size())
		i.node.Mtime = touched
		if fresh {
			i.node.State = meta.Complete
		}
	}
	attr.over(&i.node.Attr)
	return i
}

// size is the current end of the file for this session.
func (in *inode) size() int64 {
	in.mu.Lock()
	d, base := in.draft, in.base
	in.mu.Unlock()
	if d != nil {
		return d.Size()
	}
	return int64(base.layout.Size)
}

// begin returns the draft and starts it if there is none. Called with io shared.
func (in *inode) begin() (*draft, error) {
	in.making.Lock()
	defer in.making.Unlock()
	in.mu.Lock()
	d, base, fresh := in.draft, in.base, in.fresh
	plan := meta.BlobKey{Dir: in.slot.dir, Name: in.slot.name, Inode: in.id, Writer: in.view.o.Writer}
	in.mu.Unlock()
	if d != nil {
		return d, nil
	}
	if plan.Inode != 0 {
		if err := in.c.pins.pin(context.Background(), plan.Inode); err != nil {
			return nil, err
		}
	}
	d, err := in.start(base, fresh, plan)
	if err != nil {
		if plan.Inode != 0 {
			in.c.pins.unpin(plan.Inode)
		}
		return nil, err
	}
	in.mu.Lock()
	in.draft = d
	in.mu.Unlock()
	return d, nil
}

// start makes the draft. The file is pinned: where base lies now, it stays.
func (in *inode) start(base *snapshot, fresh bool, plan meta.BlobKey) (*draft, error) {
	if fresh {
		if plan.Inode != 0 { // removed and purged since it was opened: said now, and not when all was sent
			err := in.c.db.View(func(tx *meta.Tx) error { _, err := tx.Node(plan.Inode); return err })
			if errors.Is(err, fs.ErrNotExist) {
				return nil, ErrPurged
			}
			if err != nil {
				return nil, in.c.damage(err)
			}
		}
		return in.c.newDraft(nil, plan)
	}
	plan.Base = base.node.Version
	layout, err := base.place()
	if err != nil {
		return nil, err
	}
	return in.c.newDraft(layout, plan)
}

// ready says whether the content may be changed.
func (in *inode) ready() error {
	if in.c.failed.Load() {
		return ErrReadOnly
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.broken
}

// writeAt writes to the draft. A failed write leaves a gap that the client may not know of, so it breaks the file:
// nothing of it becomes a complete version any more.
func (in *inode) writeAt(f *File, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off > MaxFile-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	in.io.RLock()
	defer in.io.RUnlock()
	if err := in.ready(); err != nil {
		return 0, err
	}
	d, err := in.begin()
	if err != nil {
		return 0, in.wrote(f, 0, err)
	}
	if err := in.grow(off + int64(len(p))); err != nil {
		return 0, in.wrote(f, 0, err)
	}
	n, err := d.writeAt(&in.c.vol.fs.drafts, p, off)
	return n, in.wrote(f, n, err)
}

// append writes at the current end.
func (in *inode) append(f *File, p []byte) (n int, at int64, err error) {
	in.ending.Lock()
	defer in.ending.Unlock()
	at = in.size()
	n, err = in.writeAt(f, p, at)
	return n, at, err
}

// wrote takes note of a change through f (nil = by path) or of its failure.
func (in *inode) wrote(f *File, n int, err error) error {
	err = in.c.damage(err)
	in.mu.Lock()
	defer in.mu.Unlock()
	if n > 0 {
		in.dirty = true
		if f != nil {
			f.moved = true
		}
		in.touched = in.c.now()
	}
	if err != nil && in.broken == nil {
		in.broken = err
	}
	return err
}

// copyFrom appends from src at off until its end. An error of src is theirs: it is returned as it is and breaks nothing,
// for the front-end knows better what it means, and says so with TransferError.
func (in *inode) copyFrom(f *File, src io.Reader, off int64) (n int64, theirs, err error) {
	in.io.RLock()
	defer in.io.RUnlock()
	if err := in.ready(); err != nil {
		return 0, nil, err
	}
	d, err := in.begin()
	if err != nil {
		return 0, nil, in.wrote(f, 0, err)
	}
	s := &source{in: in, f: f, src: src, at: off}
	n, err = d.CopyFrom(s, off)
	some := int(min(n, 1))
	switch {
	case s.quota != nil:
		return n, nil, in.wrote(f, some, s.quota)
	case s.err != nil:
		return n, s.err, in.wrote(f, some, nil)
	}
	return n, nil, in.wrote(f, some, err)
}

// copyTo streams what f sees from off to its end.
func (in *inode) copyTo(f *File, w io.Writer, off int64) (int64, error) {
	d, s := in.content(f)
	defer s.release()
	if d == nil {
		return s.copyTo(w, off)
	}
	buf := make([]byte, extent.SegmentPlain)
	var total int64
	for {
		n, err := in.readAt(f, buf, off+total)
		if n > 0 {
			k, err := w.Write(buf[:n])
			total += int64(k)
			if err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// source asks the quota for what the client sends, and lets go of the file while it waits for the client: a slow upload
// must not hold up a rename of the same file in its session.
type source struct {
	in    *inode
	f     *File
	src   io.Reader
	at    int64
	err   error // of src; never io.EOF
	quota error // why no more is taken
}

func (s *source) Read(p []byte) (int, error) {
	s.in.io.RUnlock()
	n, err := s.src.Read(p)
	s.in.io.RLock()
	if n > 0 {
		if s.at > MaxFile-int64(n) {
			s.quota = syscall.EFBIG
		} else {
			s.at += int64(n)
			s.quota = s.in.grow(s.at)
		}
		if s.quota != nil {
			return 0, s.quota
		}
		s.in.wrote(s.f, n, nil) // as it comes: who looks meanwhile sees the file grow
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// truncate sets the size. To 0 is a new beginning.
func (in *inode) truncate(f *File, size int64) error {
	if size < 0 {
		return fs.ErrInvalid
	}
	if size > MaxFile {
		return syscall.EFBIG
	}
	in.io.RLock()
	defer in.io.RUnlock()
	if err := in.ready(); err != nil {
		return err
	}
	if size == in.size() {
		return nil
	}
	d, err := in.begin()
	if err != nil {
		return in.wrote(f, 0, err)
	}
	if err := in.grow(size); err != nil {
		return err // refused as a whole: nothing is torn
	}
	if err := d.Truncate(size); err != nil {
		return in.wrote(f, 0, err)
	}
	in.mu.Lock()
	in.fresh = in.fresh || size == 0
	in.mu.Unlock()
	return in.wrote(f, 1, nil)
}

// restart is O_TRUNC: empty content that owes nothing to what was there, even if that was empty or broken.
func (in *inode) restart(f *File) error {
	in.io.Lock()
	defer in.io.Unlock()
	if in.c.failed.Load() {
		return ErrReadOnly
	}
	in.mu.Lock()
	d, broken := in.draft, in.broken
	in.mu.Unlock()
	switch {
	case d != nil && broken != nil: // its blob may take no more writes
		in.drop(context.Background())
		d = nil
	case d != nil:
		if err := d.Truncate(0); err != nil {
			return in.wrote(f, 0, err)
		}
	}
	in.mu.Lock()
	in.fresh, in.dirty, in.touched, in.broken, f.moved = true, true, in.c.now(), nil, true
	in.mu.Unlock()
	if d != nil {
		return nil
	}
	_, err := in.begin()
	if err != nil {
		in.mu.Lock()
		in.fresh, in.dirty, f.moved = false, false, false
		in.mu.Unlock()
	}
	return err
}

// committed is the size of the content that the session started from.
func (in *inode) committed() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.base.layout.Size
}

// grow asks the quota if the file shall reach beyond what it was granted.
func (in *inode) grow(end int64) error {
	in.growing.Lock()
	defer in.growing.Unlock()
	in.mu.Lock()
	have := in.end
	in.mu.Unlock()
	if end <= have {
		return nil
	}
	want := (end + reserveStep - 1) / reserveStep * reserveStep
	err := in.c.ask(want-have, 0)
	if err != nil && want > end { // near the limit every byte counts
		want = end
		err = in.c.ask(want-have, 0)
	}
	if err != nil {
		return err
	}
	in.mu.Lock()
	in.end = want
	in.granted += want - have
	in.mu.Unlock()
	return nil
}

// settle gives the quota back what was pending; size is what the file holds now. Called with mu held.
func (in *inode) settle(size uint64) {
	in.c.yield(in.granted, 0)
	in.granted, in.end = 0, int64(size)
}

// readAt reads what f sees: the session's draft if there is one, else the version that f opened.
func (in *inode) readAt(f *File, p []byte, off int64) (int, error) {
	for {
		d, s := in.content(f)
		if d == nil {
			n, err := s.readAt(p, off)
			s.release()
			return n, err
		}
		s.release()
		n, err := d.ReadAt(p, off)
		if errors.Is(err, fs.ErrClosed) && in.outlived(d) {
			continue // the same bytes are in a version now
		}
		return n, in.c.damage(err)
	}
}

// outlived waits for the commit that ended d.
func (in *inode) outlived(d *draft) bool {
	in.io.RLock()
	defer in.io.RUnlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.draft != d
}

// content is what f reads. The snapshot is retained for the caller.
func (in *inode) content(f *File) (*draft, *snapshot) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.draft, f.snap.retain()
}
