package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"

	"sallyport/vfs/meta"
)

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
	if err := in.mayShorten(size); err != nil {
		return err // as a whole: nothing is torn
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
