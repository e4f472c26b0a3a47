package ftpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// fake is a backend in memory whose operations can be made to fail. It knows the account alice with the password "secret",
// and old-scanner with the same password, who may come in plain.
type fake struct {
	mu      sync.Mutex
	policy  policy.Effective
	refuse  *policy.Denial // by Connect
	nodes   map[string]*node
	fail    func(op, name string) error // nil = nothing fails
	hangups []func(*policy.Denial)
	ended   []string // uploads: "complete /a", "interrupted /b"
	prechk  []string
	facts   []policy.Facts
	changed []string // passwords
	left    int      // connections closed
	touched int
	inode   uint64
}

type node struct {
	name    string
	mode    fs.FileMode
	data    []byte
	link    string
	mtime   time.Time
	created time.Time
	inode   uint64
	part    bool
}

func newFake() *fake {
	f := &fake{nodes: map[string]*node{}}
	f.policy = policy.Effective{Transport: policy.Transport{RequireSSL: true, FTPSSessionBinding: "prefer", RequireCloseNotify: true}}
	f.put("/", fs.ModeDir|0o755, nil)
	return f
}

func (f *fake) put(name string, mode fs.FileMode, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inode++
	made := time.Date(2026, 11, 1, 12, 30, 0, 0, time.UTC)
	f.nodes[name] = &node{name: path.Base(name), mode: mode, data: data, mtime: made, created: made, inode: f.inode}
}

func (f *fake) get(name string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.nodes[name]
	if !ok {
		return "", false
	}
	return string(n.data), true
}

func (f *fake) uploads() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ended)
}

func (f *fake) setPolicy(change func(*policy.Effective)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.policy)
}

func (f *fake) setRefuse(d *policy.Denial) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = d
}

// kick calls every hangup.
func (f *fake) kick(d *policy.Denial) {
	f.mu.Lock()
	hs := slices.Clone(f.hangups)
	f.mu.Unlock()
	for _, h := range hs {
		h(d)
	}
}

func (f *fake) Connect(_ context.Context, facts policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.hangups = append(f.hangups, hangup)
	return &fakeConn{f: f, facts: facts}, nil
}

type fakeConn struct {
	f     *fake
	facts policy.Facts
}

func (c *fakeConn) ID() string { return "test" }
func (c *fakeConn) SetFacts(facts policy.Facts) *policy.Denial {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.facts = facts
	c.f.facts = append(c.f.facts, facts)
	return nil
}
func (c *fakeConn) Close() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.left++
}
func (c *fakeConn) Precheck(account string) *policy.Denial {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.prechk = append(c.f.prechk, account)
	if c.facts.TLS || account == "old-scanner" {
		return nil
	}
	return &policy.Denial{Code: "SP-T21", Message: "SSL is required for this account. Use FTP over TLS (AUTH TLS) or port 990."}
}

func (c *fakeConn) WantsCertificate() bool  { return false }
func (c *fakeConn) SetCertificate([][]byte) {}
func (c *fakeConn) ChangePassword(_ context.Context, account string, old, secret session.Secret) error {
	switch {
	case string(old) != "secret":
		return session.ErrAuth
	case secret == "short":
		return &policy.WeakPasswordError{Rule: "password.min_length = 12", Origin: "site"}
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.changed = append(c.f.changed, account+" "+string(secret))
	return nil
}

func (c *fakeConn) Login(_ context.Context, account string, cred session.Credential) (member, error) {
	if account == "sealed" {
		return nil, session.ErrSealed
	}
	if account == "panic" {
		panic("secret in a panic: " + string(cred.Password))
	}
	if account == "stale" && cred.Password == "secret" {
		return nil, policy.Deny(policy.CodeMustChange, "test", "test")
	}
	if (account != "alice" && account != "old-scanner") || string(cred.Password) != "secret" {
		return nil, session.ErrAuth
	}
	return &fakeMember{f: c.f, account: account}, nil
}

type fakeMember struct {
	f       *fake
	account string
}

func (m *fakeMember) Account() string { return m.account }
func (m *fakeMember) Files() volume   { return m.f }
func (m *fakeMember) Policy() *policy.Effective {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	p := m.f.policy
	return &p
}
func (m *fakeMember) Touch() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.touched++
}

func (f *fake) check(op, name string) error {
	if f.fail != nil {
		if err := f.fail(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return nil
}

// lookup follows symlinks of the last component if follow. Called with f.mu held.
func (f *fake) lookup(name string, follow bool) (*node, error) {
	n, ok := f.nodes[path.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	if follow && n.link != "" {
		return f.lookup(path.Join(path.Dir(name), n.link), false)
	}
	return n, nil
}

func (f *fake) Stat(name string) (entry, error)  { return f.stat(name, true) }
func (f *fake) Lstat(name string) (entry, error) { return f.stat(name, false) }
func (f *fake) stat(name string, follow bool) (entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("stat", name); err != nil {
		return nil, err
	}
	n, err := f.lookup(name, follow)
	if err != nil {
		return nil, err
	}
	return fakeEntry{*n}, nil
}

type fakeEntry struct{ n node }

func (e fakeEntry) Name() string       { return e.n.name }
func (e fakeEntry) Size() int64        { return int64(len(e.n.data)) }
func (e fakeEntry) Mode() fs.FileMode  { return e.n.mode }
func (e fakeEntry) ModTime() time.Time { return e.n.mtime }
func (e fakeEntry) IsDir() bool        { return e.n.mode.IsDir() }
func (e fakeEntry) Sys() any           { return nil }
func (e fakeEntry) Created() time.Time { return e.n.created }
func (e fakeEntry) Inode() uint64      { return e.n.inode }
func (e fakeEntry) Partial() bool      { return e.n.part }

func (f *fake) ReadDir(ctx context.Context, name string, fn func(entry) error) error {
	f.mu.Lock()
	var all []fakeEntry
	for p, n := range f.nodes {
		if p != "/" && path.Dir(p) == path.Clean(name) {
			all = append(all, fakeEntry{*n})
		}
	}
	err := f.check("readdir", name)
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b fakeEntry) int { return strings.Compare(a.n.name, b.n.name) })
	for _, e := range all {
		if err := errors.Join(ctx.Err(), fn(e)); err != nil {
			return err
		}
	}
	return err
}

func (f *fake) Mkdir(name string, perm fs.FileMode) error {
	f.mu.Lock()
	_, err := f.lookup(name, false)
	_, parent := f.lookup(path.Dir(name), true)
	denied := f.check("mkdir", name)
	f.mu.Unlock()
	switch {
	case denied != nil:
		return denied
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	case parent != nil:
		return parent
	}
	f.put(name, fs.ModeDir|perm, nil)
	return nil
}

func (f *fake) MkdirAll(name string, perm fs.FileMode) error {
	if _, err := f.Stat(name); err == nil {
		return nil
	}
	if err := f.MkdirAll(path.Dir(name), perm); err != nil {
		return err
	}
	return f.Mkdir(name, perm)
}

func (f *fake) Restore(context.Context, string, string) (vfs.RestoreTotals, error) {
	return vfs.RestoreTotals{}, errors.ErrUnsupported // the fake has no history
}

func (f *fake) Remove(name string) error    { return f.remove("remove", name, false) }
func (f *fake) Rmdir(name string) error     { return f.remove("rmdir", name, true) }
func (f *fake) RemoveAll(name string) error { return f.remove("removeall", name, true) }
func (f *fake) remove(op, name string, dir bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, false)
	switch {
	case f.check(op, name) != nil:
		return f.check(op, name)
	case err != nil:
		return err
	case n.mode.IsDir() && !dir:
		return &fs.PathError{Op: op, Path: name, Err: vfs.ErrIsDir}
	case !n.mode.IsDir() && dir:
		return &fs.PathError{Op: op, Path: name, Err: vfs.ErrNotDir}
	}
	for p := range f.nodes {
		if p == name || strings.HasPrefix(p, name+"/") {
			if p != name && op == "rmdir" {
				return &fs.PathError{Op: op, Path: name, Err: vfs.ErrNotEmpty}
			}
			defer delete(f.nodes, p)
		}
	}
	return nil
}

func (f *fake) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(from, false)
	if err = errors.Join(f.check("rename", from), err); err != nil {
		return err
	}
	delete(f.nodes, from)
	n.name = path.Base(to)
	f.nodes[to] = n
	return nil
}

func (f *fake) Symlink(target, link string) error {
	f.put(link, fs.ModeSymlink|0o777, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[link].link = target
	return nil
}

func (f *fake) Readlink(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, false)
	if err != nil {
		return "", err
	}
	return n.link, nil
}

func (f *fake) SetAttr(name string, a vfs.AttrChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, true)
	if err = errors.Join(f.check("setattr", name), err); err != nil {
		return err
	}
	if a.Mode != nil {
		n.mode = n.mode.Type() | *a.Mode
	}
	if a.Mtime != nil {
		n.mtime = *a.Mtime
	}
	if a.Created != nil {
		n.created = *a.Created
	}
	return nil
}

func (f *fake) Space() (session.Space, error) {
	return session.Space{BytesTotal: 1 << 40, BytesFree: 1 << 30}, nil
}

func (f *fake) Perms(string) map[policy.Op]bool {
	return map[policy.Op]bool{policy.OpList: true, policy.OpRead: true, policy.OpWrite: true, policy.OpOverwrite: true, policy.OpDelete: true,
		policy.OpRename: true, policy.OpMkdir: true}
}

func (f *fake) OpenFile(_ context.Context, name string, flag int, perm fs.FileMode) (file, error) {
	f.mu.Lock()
	n, err := f.lookup(name, true)
	_, parent := f.lookup(path.Dir(name), true)
	denied := f.check("open", name)
	f.mu.Unlock()
	switch {
	case denied != nil:
		return nil, denied
	case err == nil && n.mode.IsDir():
		return nil, &fs.PathError{Op: "open", Path: name, Err: vfs.ErrIsDir}
	case err == nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case err != nil && flag&os.O_CREATE == 0:
		return nil, err
	case err != nil && parent != nil:
		return nil, parent
	}
	h := &fakeFile{f: f, name: name, flag: flag, perm: perm}
	if err == nil && flag&os.O_TRUNC == 0 {
		h.data = slices.Clone(n.data)
	}
	if flag&os.O_APPEND != 0 {
		h.pos = int64(len(h.data))
	}
	return h, nil
}

type fakeFile struct {
	f    *fake
	name string
	flag int
	perm fs.FileMode
	data []byte
	pos  int64
	err  error
}

func (h *fakeFile) Read(p []byte) (int, error) {
	if err := h.f.locked("read", h.name); err != nil {
		return 0, err
	}
	if h.pos >= int64(len(h.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.data[h.pos:])
	h.pos += int64(n)
	return n, nil
}

func (f *fake) locked(op, name string) error {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(op, name)
}

func (h *fakeFile) Write(p []byte) (int, error) {
	if err := h.f.locked("write", h.name); err != nil {
		return 0, err
	}
	if more := int(h.pos) + len(p) - len(h.data); more > 0 {
		h.data = append(h.data, make([]byte, more)...)
	}
	copy(h.data[h.pos:], p)
	h.pos += int64(len(p))
	return len(p), nil
}

func (h *fakeFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		h.pos = off
	case io.SeekEnd:
		h.pos = int64(len(h.data)) + off
	}
	return h.pos, nil
}

func (h *fakeFile) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, make([]byte, 64<<10))
}

func (h *fakeFile) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{h}, make([]byte, 64<<10))
}

func (h *fakeFile) Truncate(n int64) error  { h.data = h.data[:n]; return nil }
func (h *fakeFile) TransferError(err error) { h.err = err }

func (h *fakeFile) Close() error {
	if h.flag&os.O_WRONLY == 0 {
		return nil
	}
	if err := h.f.locked("close", h.name); err != nil {
		return err
	}
	result := "complete"
	if h.err != nil {
		result = "interrupted"
	} else {
		h.f.put(h.name, h.perm, bytes.Clone(h.data))
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.ended = append(h.f.ended, fmt.Sprintf("%s %s %d", result, h.name, len(h.data)))
	return nil
}
