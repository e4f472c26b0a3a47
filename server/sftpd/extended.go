package sftpd

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"sallyport/vfs"
)

// extensions are told in VERSION: OpenSSH's PROTOCOL file, section 4, and
// draft-ietf-secsh-filexfer-extensions-00 (home-directory, copy-data,
// check-file). hardlink@openssh.com is known and refused, so it is not told.
var extensions = [...][2]string{
	{"posix-rename@openssh.com", "1"},
	{"statvfs@openssh.com", "2"},
	{"fstatvfs@openssh.com", "2"},
	{"fsync@openssh.com", "1"},
	{"lsetstat@openssh.com", "1"},
	{"limits@openssh.com", "1"},
	{"expand-path@openssh.com", "1"},
	{"users-groups-by-id@openssh.com", "1"},
	{"copy-data", "1"},
	{"home-directory", "1"},
	{"check-file", "1"},
	{"check-file-handle", "1"},
	{"check-file-name", "1"},
}

func versionPacket() packet {
	p := newPacket(nil, fxpVersion, 3)
	for _, e := range extensions {
		p = p.string(e[0]).string(e[1])
	}
	return p
}

func (f *filter) parseExtended(r *request, in *fields) {
	r.op = in.string()
	switch r.op {
	case "posix-rename@openssh.com":
		from, to := clean(in.string()), clean(in.string())
		r.pace = slow
		r.run = func(*request) error { return f.tree.Rename(from, to) }
	case "hardlink@openssh.com":
		r.refuse(r.op, errHardlink)
	case "statvfs@openssh.com":
		name := clean(in.string())
		r.shared = true
		r.run = func(r *request) error {
			if _, err := f.tree.stat(name); err != nil {
				return err
			}
			return f.sendSpace(r)
		}
	case "fstatvfs@openssh.com":
		if h := f.byHandle(r, in, r.op); h != nil {
			r.shared = true
			r.run = f.sendSpace
		}
	case "fsync@openssh.com":
		f.parseFsync(r, in)
	case "lsetstat@openssh.com":
		f.parseSetstat(r, in, "lsetstat", f.tree.LsetAttr)
	case "limits@openssh.com":
		r.run = f.sendLimits
	case "expand-path@openssh.com":
		name := in.string()
		r.run = func(r *request) error { return f.expandPath(r, name) }
	case "home-directory":
		account := in.string()
		r.run = func(r *request) error { return f.expandPath(r, "~"+account) }
	case "users-groups-by-id@openssh.com":
		users, groups := in.bytes(), in.bytes()
		r.run = func(r *request) error { return f.sendOwners(r, users, groups) }
	case "copy-data":
		f.parseCopy(r, in)
	case "check-file", "check-file-handle":
		f.parseCheckHandle(r, in)
	case "check-file-name":
		f.parseCheckName(r, in)
	default:
		r.refuse("extended", errExtension)
	}
}

// parseSetstat serves SETSTAT and lsetstat@openssh.com. A change of owner
// succeeds without effect: every file here has one owner, and clients that
// preserve attributes would report a failure for each file.
func (f *filter) parseSetstat(r *request, in *fields, op string, set func(string, vfs.AttrChange) error) {
	name := clean(in.string())
	change, empty := readAttrs(in).change()
	r.op, r.pace = op, slow
	r.run = func(*request) error {
		if empty {
			_, err := f.tree.lstat(name)
			return err
		}
		return set(name, change)
	}
}

// parseFsync commits and thereby publishes what was written so far.
func (f *filter) parseFsync(r *request, in *fields) {
	h := f.byHandle(r, in, r.op)
	if h == nil {
		return
	}
	r.changes, r.pace = true, slow
	r.run = func(*request) error {
		if h.file == nil {
			return errNotFile
		}
		return h.file.Sync()
	}
}

// sendLimits answers limits@openssh.com: OpenSSH PROTOCOL, section 4.8. A
// client that asks has buffers for packets of that size.
func (f *filter) sendLimits(r *request) error {
	f.modern.Store(true)
	open := f.handles.budget.Load() + f.handles.taken()
	p := newPacket(nil, fxpExtendedReply, r.id)
	return f.reply(r, p.uint64(maxPacket).uint64(maxData).uint64(maxData).uint64(uint64(max(open, 0))))
}

const (
	// blockSize is the unit of statvfs, in bytes. Nothing is stored in blocks;
	// it only has to be small enough that a quota is told exactly enough.
	blockSize = 4096
	// statvfsNoSuid is the flag SSH2_FXE_STATVFS_ST_NOSUID.
	statvfsNoSuid = 0x2
)

// sendSpace answers statvfs: OpenSSH PROTOCOL, section 4.4. The numbers are the
// account's quota and what is left of it.
func (f *filter) sendSpace(r *request) error {
	s, err := f.tree.Space()
	if err != nil {
		return err
	}
	free := s.BytesFree / blockSize
	p := newPacket(nil, fxpExtendedReply, r.id).uint64(blockSize).uint64(blockSize)
	p = p.uint64(s.BytesTotal / blockSize).uint64(free).uint64(free)
	p = p.uint64(s.FilesTotal).uint64(s.FilesFree).uint64(s.FilesFree)
	return f.reply(r, p.uint64(0).uint64(statvfsNoSuid).uint64(vfs.MaxName))
}

// expandPath answers expand-path@openssh.com and home-directory: "~" and
// "~account" are the root of the volume, for the own account only.
func (f *filter) expandPath(r *request, name string) error {
	if rest, ok := strings.CutPrefix(name, "~"); ok {
		account, below, _ := strings.Cut(rest, "/")
		if account != "" && account != f.account {
			return errNotOwner
		}
		name = below
	}
	real, err := f.tree.Resolve(clean(name))
	if err != nil {
		return err
	}
	return f.reply(r, newPacket(nil, fxpName, r.id).uint32(1).string(real).string(real).uint32(0))
}

// sendOwners answers users-groups-by-id@openssh.com: OpenSSH PROTOCOL, section
// 4.12. Each answer is one string that holds a string per id, empty if unknown.
func (f *filter) sendOwners(r *request, users, groups []byte) error {
	names := func(ids []byte) (string, bool) {
		in, out := fields{b: ids}, packet{}
		for len(in.b) > 0 {
			name := ""
			if in.uint32() == ownerID {
				name = f.account
			}
			out = out.string(name)
			if len(out) > maxData {
				return "", false
			}
		}
		return string(out), in.ok()
	}
	u, ok := names(users)
	g, ok2 := names(groups)
	if !ok || !ok2 || len(u)+len(g) > maxData {
		return errBadMessage
	}
	return f.reply(r, newPacket(nil, fxpExtendedReply, r.id).string(u).string(g))
}

// parseCopy serves copy-data: draft-ietf-secsh-filexfer-extensions-00, section
// 7. It stands in the order of the written handle; the volume keeps reads of
// the other one safe.
func (f *filter) parseCopy(r *request, in *fields) {
	from := f.handles.get(in.bytes())
	readOff, n := in.uint64(), in.uint64()
	to := f.byHandle(r, in, r.op)
	writeOff := in.uint64()
	if n == 0 {
		n = math.MaxInt64 // to the end
	}
	r.pace, r.cost = long, copyChunk
	switch {
	case to == nil:
	case from == nil:
		r.refuse(r.op, errBadHandle)
	case from.file == nil || to.file == nil:
		r.refuse(r.op, errNotFile)
	case !from.read:
		r.refuse(r.op, errNotReadable)
	case !to.write:
		r.refuse(r.op, errNotWritable)
	case readOff > math.MaxInt64 || writeOff > math.MaxInt64:
		r.refuse(r.op, errOffset)
	case from == to && readOff < saturate(writeOff, n) && writeOff < saturate(readOff, n):
		r.refuse(r.op, errOverlap)
	default:
		r.run = func(*request) error {
			return f.copyData(from.file, int64(readOff), to, int64(writeOff), int64(min(n, math.MaxInt64)))
		}
	}
}

func saturate(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// copyChunk is the buffer of copy-data and check-file, in bytes: the largest of
// the pool.
const copyChunk = maxPacket

// copyData copies n bytes or to the end of from.
func (f *filter) copyData(from file, readOff int64, to *handle, writeOff, n int64) error {
	return f.scan(from, readOff, n, func(p []byte) error {
		if writeOff > math.MaxInt64-int64(len(p)) {
			return errOffset
		}
		if err := to.writeAt(p, writeOff); err != nil {
			return err
		}
		writeOff += int64(len(p))
		return nil
	})
}

// scan hands n bytes of from, or what there is, to fn in chunks, until the
// channel ends. One at a time for a connection: a request of forty bytes can ask
// for the hash of sixteen TiB of nothing, and all processors are not one
// client's.
func (f *filter) scan(from file, off, n int64, fn func([]byte) error) error {
	select {
	case f.scanning <- struct{}{}:
		defer func() { <-f.scanning }()
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	buf := f.pool.get(copyChunk)
	defer f.pool.put(buf)
	for n > 0 {
		if err := context.Cause(f.ctx); err != nil {
			return err
		}
		got, err := from.ReadAt(buf.b[:min(int64(len(buf.b)), n)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if got > 0 {
			if err := fn(buf.b[:got]); err != nil {
				return err
			}
		}
		if err != nil || got == 0 || off > math.MaxInt64-int64(got) {
			return nil
		}
		off, n = off+int64(got), n-int64(got)
	}
	return nil
}

// parseCheckHandle serves check-file and check-file-handle.
func (f *filter) parseCheckHandle(r *request, in *fields) {
	h := f.byHandle(r, in, r.op)
	q := readCheck(in)
	if h == nil {
		return
	}
	r.shared, r.pace, r.cost = true, long, copyChunk
	r.run = func(r *request) error {
		switch {
		case h.file == nil:
			return errNotFile
		case !h.read:
			return errNotReadable
		}
		return f.check(r, h.file, q)
	}
}

// parseCheckName serves check-file-name.
func (f *filter) parseCheckName(r *request, in *fields) {
	name := clean(in.string())
	q := readCheck(in)
	r.shared, r.pace, r.cost = true, long, copyChunk
	r.run = func(r *request) error {
		if !f.handles.reserve(1) {
			return errHandles
		}
		defer f.handles.release(1)
		opened, err := f.tree.openFile(f.ctx, name, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer opened.Close()
		return f.check(r, opened, q)
	}
}
