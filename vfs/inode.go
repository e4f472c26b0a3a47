package vfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"

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
	asked   uint64 // version of which a writer's opening asked whether it may become history; 0 = none
	end     int64  // the file may grow to here without asking the quota
	granted int64  // bytes pending in the quota for that
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

// committed is the size of the content that the session started from.
func (in *inode) committed() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.base.layout.Size
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
