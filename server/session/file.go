package session

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// OpenFile opens a file. Reading needs the right to read; creating the right to create, whatever it is opened for; changing
// what exists the right to overwrite, also if it is to be truncated.
func (g *Guard) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	write := flag&(os.O_WRONLY|os.O_RDWR) != 0
	if !write && flag&os.O_CREATE == 0 {
		if h, err := g.past(name); h != nil || err != nil {
			return pastly(h, err, func() (*File, error) { return h.open(ctx) })
		}
	}
	op := policy.OpRead
	if write {
		op = policy.OpOverwrite
	}
	p, err := g.begin()
	if err != nil {
		return nil, err
	}
	if at := clean(name); at == policy.Reserved || strings.HasPrefix(at, policy.Reserved+"/") {
		if flag&os.O_CREATE != 0 && !g.was(at) {
			op = policy.OpWrite
		} else {
			op = policy.OpOverwrite
		}
		return nil, g.s.denied(policy.Permit(p, op, at), op, at)
	}
	if !p.Uniform() {
		g.s.account.names.RLock()
		defer g.s.account.names.RUnlock()
	}
	at, err := g.resolve(p, op, name, follow)
	if err != nil {
		return nil, err
	}
	use := at
	if p.Uniform() {
		use = name
	}
	if g.testOnlyUsing != nil {
		g.testOnlyUsing()
	}
	if flag&os.O_WRONLY == 0 {
		if d := policy.Permit(p, policy.OpRead, at); d != nil {
			return nil, g.s.denied(d, policy.OpRead, at)
		}
	}
	makes := flag&os.O_CREATE != 0
	if d := g.s.suspended(p); d != nil && (write || makes) {
		return nil, g.s.denied(d, op, at)
	}
	if !write && !makes {
		return g.opened(g.view.OpenHandle(ctx, use, flag, perm))(at, p, false)
	}
	create := policy.Permit(p, policy.OpWrite, at)
	var change *policy.Denial
	if write {
		change = policy.Permit(p, policy.OpOverwrite, at)
	}
	switch {
	case create == nil && change == nil:
	case change == nil && makes && flag&os.O_EXCL != 0: // a new one or none
		return nil, g.s.denied(create, policy.OpWrite, at)
	case change == nil: // what exists only
		flag &^= os.O_CREATE
	case create == nil && makes: // what is new only, and nobody can slip a file in between
		f, err := g.opened(g.view.OpenHandle(ctx, use, flag|os.O_EXCL, perm))(at, p, true)
		if errors.Is(err, fs.ErrExist) && flag&os.O_EXCL == 0 {
			return nil, g.s.denied(change, policy.OpOverwrite, at)
		}
		return f, err
	default:
		return nil, g.s.denied(change, policy.OpOverwrite, at)
	}
	f, err := g.opened(g.view.OpenHandle(ctx, use, flag, perm))(at, p, write)
	if create != nil && errors.Is(err, fs.ErrNotExist) {
		return nil, g.s.denied(create, policy.OpWrite, at)
	}
	return f, err
}

// opened wraps a handle of the view.
func (g *Guard) opened(f *vfs.File, err error) func(at string, p *policy.Effective, write bool) (*File, error) {
	return func(at string, p *policy.Effective, write bool) (*File, error) {
		if err != nil {
			return nil, g.damage(err, at)
		}
		out := &File{g: g, f: f, path: at, write: write}
		out.judged.Store(p)
		return out, nil
	}
}

// damage records that stored data failed its integrity check.
func (g *Guard) damage(err error, path string) error {
	if errors.Is(err, vfs.ErrIntegrity) {
		e := g.s.event(audit.Damage)
		e.Path, e.Result = audit.Text(path), "error"
		g.s.conn.m.later(e)
	}
	return err
}

// File is an open handle with its audit event; it embeds nothing, so that no method of the volume's file gets lost or
// comes in unguarded. Safe for concurrent use.
type File struct {
	g     *Guard
	f     *vfs.File
	path  string // canonical, or as given where every path has the same rights
	write bool
	// Of a handle on the history: the path behind it, whose rights hold, and whether retention still lets it be read.
	rights string
	reach  func() error

	judged atomic.Pointer[policy.Effective] // the policy that permitted it last
	out    atomic.Uint64                    // bytes read by the client
	failed atomic.Bool                      // a read or the transfer broke
	read   atomic.Bool                      // a read was asked for
	denial atomic.Pointer[policy.Denial]    // why a write was refused
}

// begin asks again when the policy has changed since the handle was last judged.
func (f *File) begin() (*policy.Effective, error) {
	p, err := f.g.begin()
	if err != nil {
		f.f.TransferError(err)
		return nil, err
	}
	if d := f.g.s.suspended(p); d != nil && f.write {
		f.f.TransferError(d)
		return nil, d
	}
	if f.judged.Load() == p {
		return p, nil
	}
	op := policy.OpRead
	if f.write {
		op = policy.OpWrite // its content is its own until Close; a right that is gone altogether stops it
		if policy.Permit(p, policy.OpOverwrite, clean(f.path)) == nil {
			op = policy.OpOverwrite
		}
	}
	at := f.path
	if f.reach != nil {
		if !p.Backup.SelfService {
			return nil, f.g.s.denied(p.Deny(policy.CodeHistory, "backup.self_service"), op, f.path)
		}
		if err := f.reach(); err != nil {
			return nil, err
		}
		at = f.rights
	}
	if d := policy.Permit(p, op, clean(at)); d != nil {
		f.f.TransferError(d)
		return nil, f.g.s.denied(d, op, f.path)
	}
	f.judged.Store(p)
	return p, nil
}

// Name is the path as it was opened.
func (f *File) Name() string { return f.f.Name() }

// got counts what the client read.
func (f *File) got(n int, err error) (int, error) {
	f.read.Store(true)
	if n > 0 {
		f.out.Add(uint64(n))
		f.g.s.out.Add(uint64(n))
		f.g.s.pace(n, false)
	}
	if err != nil && err != io.EOF {
		f.failed.Store(true)
		err = f.g.damage(err, f.path)
	}
	return n, err
}

// Read reads at the handle's position.
func (f *File) Read(p []byte) (int, error) {
	if _, err := f.begin(); err != nil {
		return 0, err
	}
	return f.got(f.f.Read(p))
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if _, err := f.begin(); err != nil {
		return 0, err
	}
	return f.got(f.f.ReadAt(p, off))
}

// put checks one write that ends at end. A refused one ends the upload as interrupted: what is there must not be taken
// for the whole file.
func (f *File) put(p *policy.Effective, end int64) error {
	if d := tooLarge(p, end); d != nil {
		f.denial.Store(d)
		f.f.TransferError(d)
		return f.g.s.denied(d, policy.OpWrite, f.path)
	}
	return nil
}

func (f *File) wrote(n int, err error) (int, error) {
	if n > 0 {
		f.g.s.in.Add(uint64(n))
		f.g.s.pace(n, true)
	}
	return n, f.g.damage(err, f.path)
}

// Write writes at the handle's position.
func (f *File) Write(b []byte) (int, error) {
	p, err := f.begin()
	if err != nil {
		return 0, err
	}
	if p.Upload.MaxSize > 0 {
		at, err := f.position()
		if err != nil {
			return 0, err
		}
		if err := f.put(p, at+int64(len(b))); err != nil {
			return 0, err
		}
	}
	return f.wrote(f.f.Write(b))
}

// position where the next Write goes; for a handle that appends it is at most the end.
func (f *File) position() (int64, error) {
	return f.f.Seek(0, io.SeekCurrent)
}

// WriteAt writes at off.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	p, err := f.begin()
	if err != nil {
		return 0, err
	}
	if off >= 0 {
		if err := f.put(p, off+int64(len(b))); err != nil {
			return 0, err
		}
	}
	return f.wrote(f.f.WriteAt(b, off))
}

// Seek implements io.Seeker.
func (f *File) Seek(off int64, whence int) (int64, error) { return f.f.Seek(off, whence) }

// ReadFrom writes all of r. A refusal on the way (size, rights, an ended session) is returned as it is and ends the upload
// as interrupted; so does an error of r only if the caller tells with TransferError.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	p, err := f.begin()
	if err != nil {
		return 0, err
	}
	m := &meter{f: f, r: r, left: -1}
	if p.Upload.MaxSize > 0 {
		at, err := f.position()
		if err != nil {
			return 0, err
		}
		m.left = max(p.Upload.MaxSize-at, 0)
	}
	n, err := f.f.ReadFrom(m)
	if m.refused != nil {
		f.f.TransferError(m.refused)
	}
	return n, f.g.damage(err, f.path)
}

// WriteTo writes the rest of the file to w.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	if _, err := f.begin(); err != nil {
		return 0, err
	}
	f.read.Store(true)
	n, err := f.f.WriteTo(&meter{f: f, w: w})
	if err != nil {
		f.failed.Store(true)
	}
	return n, f.g.damage(err, f.path)
}

// meter counts a long transfer, keeps its session awake, and stops it when the session has ended.
type meter struct {
	f       *File
	r       io.Reader
	w       io.Writer
	left    int64 // bytes that upload.max_size leaves; -1 = no limit
	refused error
}

func (m *meter) Read(b []byte) (int, error) {
	p, err := m.f.begin()
	if err != nil {
		m.refused = err
		return 0, err
	}
	// One byte more than allowed tells a file that is too large from one that just fits.
	if m.left >= 0 && int64(len(b)) > m.left+1 {
		b = b[:m.left+1]
	}
	n, err := m.r.Read(b)
	if m.left >= 0 {
		if m.left -= int64(n); m.left < 0 {
			m.left = 0
			m.refused = m.f.g.s.denied(p.Deny(policy.CodeMaxSize, "upload.max_size"), policy.OpWrite, m.f.path)
			return n - 1, m.refused
		}
	}
	m.f.g.s.in.Add(uint64(n))
	m.f.g.s.pace(n, true)
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	if _, err := m.f.begin(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(b)
	m.f.out.Add(uint64(n))
	m.f.g.s.out.Add(uint64(n))
	m.f.g.s.pace(n, false)
	return n, err
}

// Stat tells what this session sees of the open file.
func (f *File) Stat() (*vfs.Info, error) {
	if _, err := f.begin(); err != nil {
		return nil, err
	}
	return info(f.f.Stat())
}

// SetAttr changes attributes through the handle: of a file that is being written without further rights, else with the
// right to set attributes.
func (f *File) SetAttr(a vfs.AttrChange) error {
	p, err := f.begin()
	if err != nil {
		return err
	}
	if !f.write {
		op := policy.OpSetAttr
		if a.Size != nil {
			op = policy.OpOverwrite
		}
		if d := policy.Permit(p, op, clean(f.path)); d != nil {
			return f.g.s.denied(d, op, f.path)
		}
	}
	if a.Size != nil {
		if err := f.put(p, *a.Size); err != nil {
			return err
		}
	}
	return f.g.damage(f.f.SetAttr(a), f.path)
}

// Truncate sets the size.
func (f *File) Truncate(n int64) error {
	p, err := f.begin()
	if err != nil {
		return err
	}
	if err := f.put(p, n); err != nil {
		return err
	}
	return f.g.damage(f.f.Truncate(n), f.path)
}

// Sync commits what was written so far, and thereby publishes it.
func (f *File) Sync() error {
	if _, err := f.begin(); err != nil {
		return err
	}
	return f.g.damage(f.f.Sync(), f.path)
}

// TransferError tells that the transfer broke: Close then ends it as interrupted.
func (f *File) TransferError(err error) {
	if err != nil {
		f.failed.Store(true)
	}
	f.f.TransferError(err)
}

// Close commits: success means that data and metadata survive power loss. What was read is recorded. An upload of a session
// that was ended meanwhile, or while the audit log takes no records, ends as interrupted.
func (f *File) Close() error {
	_, refused := f.begin()
	if f.read.Load() {
		f.downloaded()
	}
	err := f.g.damage(f.f.Close(), f.path)
	if err != nil || !f.write {
		return err
	}
	if refused != nil {
		return refused
	}
	if d := f.denial.Load(); d != nil { // for clients that send many writes and look at the reply to CLOSE only
		return d
	}
	return nil
}

// downloaded records what the client read, once, at Close.
func (f *File) downloaded() {
	e := f.g.s.event(audit.Download)
	e.Path, e.Bytes, e.Result = audit.Text(f.path), f.out.Load(), "partial"
	if i, err := info(f.f.Stat()); err == nil {
		e.Version = i.Version()
		if e.Bytes >= uint64(i.Size()) {
			e.Result = "complete"
		}
	}
	if f.failed.Load() {
		e.Result = "interrupted"
	}
	f.g.s.conn.m.later(e)
}
