package sftpd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// The fakes stand in for server/session where a test needs what the real one
// never does. Files lie in a directory of the test, behind os.Root.

type fakeGate struct {
	dir      string
	methods  []string
	password string
	keys     []ssh.PublicKey
	refuse   *policy.Denial // at connect
	deny     error          // at login
	// hook sees each operation before it happens; its error or panic is the
	// operation's.
	hook  func(op string) error
	space session.Space

	mu      sync.Mutex
	hangups []func(*policy.Denial)
	facts   []policy.Facts
	broken  []string // names of files that ended by TransferError
	closed  []string // names of files that were closed
	logins  int
}

func (g *fakeGate) connect(_ context.Context, f policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hangups = append(g.hangups, hangup)
	return &fakeVisitor{g}, nil
}

type fakeVisitor struct{ g *fakeGate }

func (v *fakeVisitor) ID() string { return "test" }
func (v *fakeVisitor) Close()     {}
func (v *fakeVisitor) SetFacts(f policy.Facts) *policy.Denial {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	v.g.facts = append(v.g.facts, f)
	return nil
}

func (v *fakeVisitor) Methods() []string {
	if v.g.methods == nil {
		return []string{"publickey"}
	}
	return v.g.methods
}

func (v *fakeVisitor) KeyAllowed(_ context.Context, account string, key []byte) error {
	if account == "demo" && slices.ContainsFunc(v.g.keys, func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(key) }) {
		return nil
	}
	return session.ErrAuth
}

func (v *fakeVisitor) login(ctx context.Context, account string, c session.Credential) (guest, error) {
	v.g.mu.Lock()
	v.g.logins++
	v.g.mu.Unlock()
	if v.g.deny != nil {
		return nil, v.g.deny
	}
	if c.PublicKey != nil {
		if err := v.KeyAllowed(ctx, account, c.PublicKey); err != nil {
			return nil, err
		}
	} else if account != "demo" || string(c.Password) != v.g.password {
		return nil, session.ErrAuth
	}
	root, err := os.OpenRoot(v.g.dir)
	if err != nil {
		return nil, err
	}
	return &fakeGuest{fakeTree{v.g, root}}, nil
}

type fakeGuest struct{ t fakeTree }

func (g *fakeGuest) Account() string { return "demo" }
func (g *fakeGuest) Touch()          {}
func (g *fakeGuest) tree() tree      { return g.t }

type fakeTree struct {
	g    *fakeGate
	root *os.Root
}

func (t fakeTree) before(op string) error {
	if t.g.hook == nil {
		return nil
	}
	return t.g.hook(op)
}

func rel(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

type fakeInfo struct{ fs.FileInfo }

func (i fakeInfo) ATime() time.Time { return i.ModTime() }
func (i fakeInfo) Name() string {
	if n := i.FileInfo.Name(); n != "." {
		return n
	}
	return "/"
}

func wrapInfo(fi fs.FileInfo, err error) (info, error) {
	if err != nil {
		return nil, err
	}
	return fakeInfo{fi}, nil
}

func (t fakeTree) stat(name string) (info, error) {
	if err := t.before("stat"); err != nil {
		return nil, err
	}
	return wrapInfo(t.root.Stat(rel(name)))
}

func (t fakeTree) lstat(name string) (info, error) {
	if err := t.before("lstat"); err != nil {
		return nil, err
	}
	return wrapInfo(t.root.Lstat(rel(name)))
}

func (t fakeTree) openFile(_ context.Context, name string, flag int, perm fs.FileMode) (file, error) {
	if err := t.before("open"); err != nil {
		return nil, err
	}
	f, err := t.root.OpenFile(rel(name), flag, perm)
	if err != nil {
		return nil, err
	}
	return &fakeFile{f, t, name}, nil
}

func (t fakeTree) readDir(_ context.Context, name string, fn func(info) error) error {
	if err := t.before("readdir"); err != nil {
		return err
	}
	d, err := t.root.Open(rel(name))
	if err != nil {
		return err
	}
	defer d.Close()
	fi, err := d.Stat()
	if err == nil && !fi.IsDir() {
		return vfs.ErrNotDir
	}
	for {
		batch, err := d.Readdir(100)
		for _, fi := range batch {
			if err := fn(fakeInfo{fi}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t fakeTree) Mkdir(name string, perm fs.FileMode) error {
	if err := t.before("mkdir"); err != nil {
		return err
	}
	return t.root.Mkdir(rel(name), perm)
}

func (t fakeTree) Remove(name string) error {
	if err := t.before("remove"); err != nil {
		return err
	}
	if fi, err := t.root.Lstat(rel(name)); err == nil && fi.IsDir() {
		return vfs.ErrIsDir
	}
	return t.root.Remove(rel(name))
}

func (t fakeTree) Rmdir(name string) error {
	fi, err := t.root.Lstat(rel(name))
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return vfs.ErrNotDir
	}
	if err := t.root.Remove(rel(name)); err != nil {
		return vfs.ErrNotEmpty
	}
	return nil
}

func (t fakeTree) Rename(from, to string) error { return t.root.Rename(rel(from), rel(to)) }
func (t fakeTree) RenameNew(from, to string) error {
	if err := t.before("rename"); err != nil {
		return err
	}
	if _, err := t.root.Lstat(rel(to)); err == nil {
		return fs.ErrExist
	}
	return t.root.Rename(rel(from), rel(to))
}
func (t fakeTree) Symlink(target, link string) error {
	return t.root.Symlink(target, rel(link))
}
func (t fakeTree) Readlink(name string) (string, error) { return t.root.Readlink(rel(name)) }
func (t fakeTree) Resolve(name string) (string, error)  { return name, t.before("realpath") }

func (t fakeTree) SetAttr(name string, a vfs.AttrChange) error {
	if err := t.before("setattr"); err != nil {
		return err
	}
	if a.Size != nil {
		f, err := t.root.OpenFile(rel(name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(*a.Size); err != nil {
			return err
		}
	}
	if a.Mode != nil {
		if err := t.root.Chmod(rel(name), *a.Mode); err != nil {
			return err
		}
	}
	if a.Mtime != nil {
		return t.root.Chtimes(rel(name), *a.Atime, *a.Mtime)
	}
	return nil
}

func (t fakeTree) LsetAttr(name string, a vfs.AttrChange) error { return t.SetAttr(name, a) }
func (t fakeTree) Space() (session.Space, error)                { return t.g.space, t.before("space") }

type fakeFile struct {
	*os.File
	t    fakeTree
	name string
}

func (f *fakeFile) stat() (info, error) { return wrapInfo(f.File.Stat()) }
func (f *fakeFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.t.before("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *fakeFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.t.before("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *fakeFile) SetAttr(a vfs.AttrChange) error {
	if a.Size != nil {
		return f.Truncate(*a.Size)
	}
	if a.Mode != nil {
		return f.Chmod(*a.Mode)
	}
	return nil
}

func (f *fakeFile) TransferError(error) {
	f.t.g.mu.Lock()
	defer f.t.g.mu.Unlock()
	f.t.g.broken = append(f.t.g.broken, f.name)
}

func (f *fakeFile) Close() error {
	if err := f.t.before("close"); err != nil {
		return err
	}
	f.t.g.mu.Lock()
	f.t.g.closed = append(f.t.g.closed, f.name)
	f.t.g.mu.Unlock()
	return f.File.Close()
}

// rig is a server on a real socket with one account, demo.
type rig struct {
	t      testing.TB
	gate   *fakeGate
	server *Server
	addr   string
	key    ssh.Signer
	logs   *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRig(t testing.TB, g *fakeGate, l Limits) *rig {
	t.Helper()
	return newRigWith(t, g, Options{Limits: l})
}

func newRigWith(t testing.TB, g *fakeGate, o Options) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, g, o, ln)
}

func newRigOn(t testing.TB, g *fakeGate, o Options, ln net.Listener) *rig {
	t.Helper()
	r := &rig{t: t, gate: g, key: newKey(t), logs: &logBuffer{}}
	if g.dir == "" {
		g.dir = t.TempDir()
	}
	g.keys = append(g.keys, r.key.PublicKey())
	host := newKey(t)
	var err error
	o.HostKeys = func() []ssh.Signer { return []ssh.Signer{host} }
	o.Log = slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.server, err = newServer(o, g)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func (r *rig) config(auth ...ssh.AuthMethod) *ssh.ClientConfig {
	if auth == nil {
		auth = []ssh.AuthMethod{ssh.PublicKeys(r.key)}
	}
	return &ssh.ClientConfig{User: "demo", Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second}
}

func (r *rig) dial() *ssh.Client {
	r.t.Helper()
	c, err := ssh.Dial("tcp", r.addr, r.config())
	if err != nil {
		r.t.Fatalf("dial: %v", err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) client(opts ...sftp.ClientOption) *sftp.Client {
	r.t.Helper()
	c, err := sftp.NewClient(r.dial(), opts...)
	if err != nil {
		r.t.Fatalf("sftp: %v", err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// raw is a channel with the sftp subsystem, for packets by hand.
type raw struct {
	t       testing.TB
	ssh     *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	next    uint32
	version packet
	stderr  logBuffer
}

func (r *rig) raw() *raw {
	r.t.Helper()
	c := &raw{t: r.t, ssh: r.dial()}
	var err error
	if c.session, err = c.ssh.NewSession(); err != nil {
		r.t.Fatal(err)
	}
	if c.in, err = c.session.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	if c.out, err = c.session.StdoutPipe(); err != nil {
		r.t.Fatal(err)
	}
	stderr, err := c.session.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	go io.Copy(&c.stderr, stderr)
	if err := c.session.RequestSubsystem("sftp"); err != nil {
		r.t.Fatal(err)
	}
	c.write(newPacket(nil, fxpInit, 3).frame())
	c.version = c.recv()
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.in.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// send writes a request built by build and returns its id.
func (c *raw) send(typ byte, build func(packet) packet) uint32 {
	c.t.Helper()
	c.next++
	c.write(build(newPacket(nil, typ, c.next)).frame())
	return c.next
}

// tryRecv returns one packet body.
func (c *raw) tryRecv() (packet, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.out, head[:]); err != nil {
		return nil, err
	}
	f := fields{b: head[:]}
	body := make([]byte, f.uint32())
	_, err := io.ReadFull(c.out, body)
	return body, err
}

func (c *raw) recv() packet {
	c.t.Helper()
	p, err := c.tryRecv()
	if err != nil {
		c.t.Fatalf("no reply: %v", err)
	}
	return p
}

// ask sends and returns the type and the fields after the id of the reply.
func (c *raw) ask(typ byte, build func(packet) packet) (byte, *fields) {
	c.t.Helper()
	id := c.send(typ, build)
	f := &fields{b: c.recv()}
	got := f.byte()
	if replied := f.uint32(); replied != id {
		c.t.Fatalf("reply to %d has id %d", id, replied)
	}
	return got, f
}

// status asks and returns the code and text of the STATUS that comes back.
func (c *raw) status(typ byte, build func(packet) packet) (uint32, string) {
	c.t.Helper()
	got, f := c.ask(typ, build)
	if got != fxpStatus {
		c.t.Fatalf("reply to packet type %d is of type %d, want STATUS", typ, got)
	}
	return f.uint32(), f.string()
}

// open returns a handle.
func (c *raw) open(name string, pflags uint32) string {
	c.t.Helper()
	got, f := c.ask(fxpOpen, func(p packet) packet { return p.string(name).uint32(pflags).uint32(0) })
	if got != fxpHandle {
		c.t.Fatalf("open %s: reply type %d, code %d %q", name, got, f.uint32(), f.string())
	}
	return f.string()
}

// ended waits for the server to end the channel.
func (c *raw) ended() {
	c.t.Helper()
	for {
		if _, err := c.tryRecv(); err != nil {
			return
		}
	}
}
