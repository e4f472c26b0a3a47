package sftpd

import (
	"io/fs"
	"math"
	"os"
)

// dispatch parses one packet and starts its request. The error ends the
// session; whatever can be answered is answered instead.
func (f *filter) dispatch(buf *buffer) error {
	in := &fields{b: buf.b}
	typ, id := in.byte(), in.uint32()
	r := &request{id: id, buf: buf, order: &f.names}
	switch typ {
	case fxpInit:
		f.pool.put(buf)
		return errMalformed // a second INIT
	case fxpOpen:
		f.parseOpen(r, in)
	case fxpClose:
		f.parseClose(r, in)
	case fxpRead:
		f.parseRead(r, in)
	case fxpWrite:
		f.parseWrite(r, in)
	case fxpFstat:
		f.parseFstat(r, in)
	case fxpFsetstat:
		f.parseFsetstat(r, in)
	case fxpOpendir:
		f.parseOpendir(r, in)
	case fxpReaddir:
		f.parseReaddir(r, in)
	case fxpStat, fxpLstat:
		f.parseStat(r, in, typ)
	case fxpSetstat:
		f.parseSetstat(r, in, "setstat", f.tree.SetAttr)
	case fxpMkdir:
		f.parseMkdir(r, in)
	case fxpExtended:
		f.parseExtended(r, in)
	case fxpRealpath, fxpReadlink:
		f.parseLibrary(r, in, 1, quick)
	case fxpRemove, fxpRmdir:
		f.parseLibrary(r, in, 1, slow)
	case fxpRename, fxpSymlink:
		f.parseLibrary(r, in, 2, slow)
	default:
		r.refuse("unknown", errUnknownOp)
	}
	if !in.ok() {
		r.refuse("malformed", errBadMessage)
	}
	f.start(r)
	return nil
}

// refuse makes r answer s at once and do nothing.
func (r *request) refuse(op string, s *status) {
	r.op, r.order = op, nil
	r.run = func(*request) error { return s }
}

// byHandle looks the handle up and puts r in its order; nil has refused r.
func (f *filter) byHandle(r *request, in *fields, op string) *handle {
	r.op = op
	h := f.handles.get(in.bytes())
	if h == nil {
		r.refuse(op, errBadHandle)
		return nil
	}
	r.order = &h.order
	return h
}

func (f *filter) parseOpen(r *request, in *fields) {
	name, pflags, a := clean(in.string()), in.uint32(), readAttrs(in)
	r.op = "open"
	r.run = func(r *request) error { return f.open(r, name, pflags, a) }
}

// openFlags maps open flags as OpenSSH's sftp-server does: what neither reads
// nor writes reads. Only what writes creates or truncates.
func openFlags(pflags uint32) (flag int, read, write bool) {
	read, write = pflags&fxfRead != 0, pflags&(fxfWrite|fxfAppend) != 0
	switch {
	case read && write:
		flag = os.O_RDWR
	case write:
		flag = os.O_WRONLY
	default:
		flag, read = os.O_RDONLY, true
	}
	if write && pflags&fxfCreat != 0 {
		flag |= os.O_CREATE
		if pflags&fxfExcl != 0 {
			flag |= os.O_EXCL
		}
	}
	if write && pflags&fxfTrunc != 0 {
		flag |= os.O_TRUNC
	}
	if pflags&fxfAppend != 0 {
		flag |= os.O_APPEND
	}
	return flag, read, write
}

// parseClose takes the handle out of the table at once, so that what follows
// the CLOSE finds no handle, and then waits for what came before.
func (f *filter) parseClose(r *request, in *fields) {
	h := f.byHandle(r, in, "close")
	if h == nil {
		return
	}
	f.handles.remove(h)
	if r.changes = h.write; h.write {
		r.pace = slow // it commits
	}
	r.run = func(*request) error {
		defer f.handles.release(h.places())
		return h.close()
	}
}

func (f *filter) parseRead(r *request, in *fields) {
	h := f.byHandle(r, in, "read")
	off, n := in.uint64(), min(in.uint32(), maxData)
	if h == nil {
		return
	}
	r.shared, r.cost = true, int64(n)
	r.run = func(r *request) error { return f.read(r, h, off, int(n)) }
}

func (f *filter) parseWrite(r *request, in *fields) {
	h := f.byHandle(r, in, "write")
	off, data := in.uint64(), in.bytes()
	if h == nil {
		return
	}
	r.changes, r.cost = true, int64(len(data))
	switch {
	case h.file == nil:
		r.refuse("write", errNotFile)
	case !h.write:
		r.refuse("write", errNotWritable)
	case off > math.MaxInt64-uint64(len(data)):
		r.refuse("write", errOffset)
	default:
		r.run = func(*request) error { return h.writeAt(data, int64(off)) }
	}
}

func (f *filter) parseFstat(r *request, in *fields) {
	h := f.byHandle(r, in, "fstat")
	if h == nil {
		return
	}
	r.shared = true
	r.run = func(r *request) error {
		if h.file == nil {
			return f.sendStat(r, f.tree.stat, h.dir.name)
		}
		fi, err := h.file.stat()
		if err != nil {
			return err
		}
		return f.reply(r, newPacket(nil, fxpAttrs, r.id).attrs(fi))
	}
}

func (f *filter) parseFsetstat(r *request, in *fields) {
	h := f.byHandle(r, in, "fsetstat")
	change, empty := readAttrs(in).change()
	if h == nil {
		return
	}
	r.changes, r.pace = true, slow
	r.run = func(*request) error {
		switch {
		case empty:
			return nil
		case h.file == nil:
			return f.tree.SetAttr(h.dir.name, change)
		}
		return h.file.SetAttr(change)
	}
}

func (f *filter) parseOpendir(r *request, in *fields) {
	name := clean(in.string())
	r.op = "opendir"
	r.run = func(r *request) error { return f.opendir(r, name) }
}

func (f *filter) parseReaddir(r *request, in *fields) {
	h := f.byHandle(r, in, "readdir")
	if h == nil {
		return
	}
	r.run = func(r *request) error { return f.readdir(r, h) }
}

func (f *filter) parseStat(r *request, in *fields, typ byte) {
	name := clean(in.string())
	r.op, r.shared = "stat", true
	stat := f.tree.stat
	if typ == fxpLstat {
		r.op, stat = "lstat", f.tree.lstat
	}
	r.run = func(r *request) error { return f.sendStat(r, stat, name) }
}

func (f *filter) sendStat(r *request, stat func(string) (info, error), name string) error {
	fi, err := stat(name)
	if err != nil {
		return err
	}
	return f.reply(r, newPacket(nil, fxpAttrs, r.id).attrs(fi))
}

func (f *filter) parseMkdir(r *request, in *fields) {
	name, a := clean(in.string()), readAttrs(in)
	r.op, r.pace = "mkdir", slow
	r.run = func(*request) error { return f.tree.Mkdir(name, a.perm(fs.FileMode(0o755))) }
}

// parseLibrary has pkg/sftp serve the packet, which must hold n names: the
// library ends the session on a packet that it cannot read.
func (f *filter) parseLibrary(r *request, in *fields, n int, p pace) {
	for range n {
		in.bytes()
	}
	r.op, r.pace = "name", p
	r.run = func(r *request) error {
		reply, err := f.library.do(r.buf.b)
		if err != nil {
			return err
		}
		return f.reply(r, reply)
	}
}
