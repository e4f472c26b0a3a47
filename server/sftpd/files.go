package sftpd

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math"
	"time"
)

// open serves OPEN. Its place in the table is taken first: a client at its
// limit creates nothing.
func (f *filter) open(r *request, name string, pflags uint32, a attrs) error {
	if !f.handles.reserve(1) {
		return errHandles
	}
	flag, read, write := openFlags(pflags)
	opened, err := f.tree.openFile(f.ctx, name, flag, a.perm(fs.FileMode(0o644)))
	if err != nil {
		f.handles.release(1)
		return err
	}
	h := &handle{file: opened, read: read, write: write, append: pflags&fxfAppend != 0}
	f.handles.put(h)
	return f.reply(r, newPacket(nil, fxpHandle, r.id).string(h.name))
}

// read serves READ: the data goes from the file into the reply without a copy.
func (f *filter) read(r *request, h *handle, off uint64, n int) error {
	switch {
	case h.file == nil:
		return errNotFile
	case !h.read:
		return errNotReadable
	case off > math.MaxInt64:
		return io.EOF
	}
	out := f.pool.get(dataHeader + n)
	defer f.pool.put(out)
	got, err := h.file.ReadAt(out.b[dataHeader:], int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		return err // never a short success
	}
	if got == 0 && n > 0 {
		return io.EOF
	}
	p := newPacket(out.b, fxpData, r.id).uint32(uint32(got))
	return f.reply(r, p[:dataHeader+got])
}

func (h *handle) writeAt(data []byte, off int64) error {
	if h.append {
		// The offset is the client's guess of the end; O_APPEND knows better.
		_, err := h.file.Write(data)
		return err
	}
	_, err := h.file.WriteAt(data, off)
	return err
}

// close ends h well: for a written file, success means that it is durable.
func (h *handle) close() error {
	if h.file == nil {
		h.dir.stop()
		return nil
	}
	return h.file.Close()
}

// interrupt ends h after its connection has gone: an upload without its CLOSE
// is not complete, however much arrived.
func (h *handle) interrupt() error {
	if h.file == nil {
		h.dir.stop()
		return nil
	}
	h.file.TransferError(io.ErrUnexpectedEOF)
	return h.file.Close()
}

// dirReader pulls a directory entry by entry out of tree.readDir, which pushes.
// Between two READDIRs the listing is suspended, not held in memory.
type dirReader struct {
	name string
	next func() (info, error, bool)
	stop func()
	held info // read and not yet sent
}

var errStopped = errors.New("sftpd: listing stopped")

func (f *filter) newDirReader(name string) *dirReader {
	d := &dirReader{name: name}
	d.next, d.stop = iter.Pull2(func(yield func(info, error) bool) {
		err := f.tree.readDir(f.ctx, name, func(fi info) error {
			if !yield(fi, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	})
	return d
}

// opendir serves OPENDIR. The first entry is read at once, so that a missing
// directory or right is refused here and not by the first READDIR.
func (f *filter) opendir(r *request, name string) error {
	if !f.handles.reserve(dirPlaces) {
		return errHandles
	}
	d := f.newDirReader(name)
	opened := false
	defer func() {
		if !opened { // an error or a panic in the tree
			d.stop()
			f.handles.release(dirPlaces)
		}
	}()
	fi, err, _ := d.next()
	if err != nil {
		return err
	}
	d.held = fi
	opened = true
	h := &handle{dir: d}
	f.handles.put(h)
	return f.reply(r, newPacket(nil, fxpHandle, r.id).string(h.name))
}

// Sizes of a NAME reply in bytes: what every client must accept
// (draft-ietf-secsh-filexfer-02, section 3: 34,000), and what those accept that
// asked for limits@openssh.com.
const (
	namesReply       = 32 << 10
	namesReplyModern = 128 << 10
)

// readdir serves READDIR: as many entries as fit, at least one.
func (f *filter) readdir(r *request, h *handle) error {
	if h.file != nil {
		return errNotDirectory
	}
	limit := namesReply
	if f.modern.Load() {
		limit = namesReplyModern
	}
	out := f.pool.get(maxPacket)
	defer f.pool.put(out)
	p, count, now := newPacket(out.b, fxpName, r.id).uint32(0), uint32(0), time.Now()
	for len(p) < limit {
		fi := h.dir.held
		if fi == nil {
			next, err, ok := h.dir.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			fi = next
		}
		h.dir.held = nil
		p = p.string(fi.Name()).string(longName(fi, f.account, now)).attrs(fi)
		count++
	}
	if count == 0 {
		return io.EOF
	}
	binary.BigEndian.PutUint32(p[9:], count)
	return f.reply(r, p)
}
