package sftpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/session"
	"sallyport/vfs"
)

// stack is the front-end on the real floors below.
type stack struct {
	rig
	manager *session.Manager
	policy  *policydb.DB
	files   *vfs.FS
	account keyring.AccountID
}

// newStack serves one account, demo, with the given grants beside its right to
// come in by SFTP.
func newStack(t *testing.T, grants map[string]string) *stack {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seal, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	must(err)
	ring, err := keyring.Create(ctx, dir, seal)
	must(err)
	t.Cleanup(func() { ring.Close() })
	policyBox, err := ring.Policy()
	must(err)
	names, err := ring.Names()
	must(err)
	auditBox, err := ring.Audit()
	must(err)
	s := &stack{rig: rig{t: t, key: newKey(t), logs: &logBuffer{}}}
	log := slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.policy, err = policydb.Open(ctx, policydb.Options{
		Path: filepath.Join(dir, "policy.db"), Box: policyBox, Token: ring.PolicyToken, Names: names, NameToken: ring.NameToken, PasswordCost: bcrypt.MinCost,
	})
	must(err)
	t.Cleanup(func() { s.policy.Close() })
	chain, err := audit.Open(audit.Options{Dir: filepath.Join(dir, "audit"), Box: auditBox})
	must(err)
	t.Cleanup(func() { chain.Close() })
	s.files, err = vfs.Open(ctx, vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: ring, Recovered: session.Recovered})
	must(err)
	t.Cleanup(func() { s.files.Close() })
	s.manager, err = session.New(session.Options{Policy: s.policy, FS: s.files, Audit: chain, Log: log})
	must(err)
	t.Cleanup(func() { s.manager.Close() })

	all := map[string]string{"protocols": "[sftp]", "auth.sftp": "[publickey]", "paths": "[{path: /, allow: [all]}]"}
	for k, v := range grants {
		all[k] = v
	}
	s.account, err = ring.NewAccount(ctx)
	must(err)
	must(s.files.Create(ctx, s.account))
	_, err = s.policy.CreateAccount(ctx, policydb.NewAccount{Name: "demo", ID: s.account, Who: "test", Grants: all})
	must(err)
	must(s.policy.SetPassword(ctx, "demo", "correct-horse-12", "test"))
	_, err = s.policy.AddKey(ctx, "demo", policydb.PublicKey{Blob: s.key.PublicKey().Marshal()}, "test")
	must(err)

	host := newKey(t)
	s.server, err = New(Options{
		Sessions: s.manager, HostKeys: func() []ssh.Signer { return []ssh.Signer{host} }, Log: log,
	})
	must(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// verify runs the volume's own check over everything.
func (s *stack) verify() {
	s.t.Helper()
	v, err := s.files.Volume(context.Background(), s.account)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := v.Verify(context.Background(), func(finding string) { s.t.Errorf("verify: %s", finding) }); err != nil {
		s.t.Errorf("verify: %v", err)
	}
}

func put(t *testing.T, c *sftp.Client, name string, content []byte) {
	t.Helper()
	w, err := c.Create(name)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	if _, err := w.ReadFrom(bytes.NewReader(content)); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close %s: %v", name, err)
	}
}

func get(t *testing.T, c *sftp.Client, name string) []byte {
	t.Helper()
	r, err := c.Open(name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return b.Bytes()
}

// TestStackFiles walks through a day of a client on the real volume.
func TestStackFiles(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Mkdir("/d"))
	for _, n := range []int{0, 1, 4096, 4097, 65536, 3<<20 + 5} {
		want := randomBytes(n)
		put(t, c, "/d/f", want)
		if !bytes.Equal(get(t, c, "/d/f"), want) {
			t.Errorf("%d bytes came back different", n)
		}
	}
	must(c.Chmod("/d/f", 0o640))
	atime, mtime := time.Unix(1_400_000_000, 0), time.Unix(1_500_000_000, 0)
	must(c.Chtimes("/d/f", atime, mtime))
	fi, err := c.Stat("/d/f")
	must(err)
	if st := fi.Sys().(*sftp.FileStat); fi.Mode() != 0o640 || st.Mtime != 1_500_000_000 || st.Atime != 1_400_000_000 {
		t.Errorf("attributes came back as %v, %+v", fi.Mode(), st)
	}
	must(c.Symlink("d/f", "/link"))
	if target, err := c.ReadLink("/link"); err != nil || target != "d/f" {
		t.Errorf("readlink = %q, %v", target, err)
	}
	if real, err := c.RealPath("/link"); err != nil || real != "/d/f" {
		t.Errorf("realpath of a link = %q, %v", real, err)
	}
	if fi, err := c.Lstat("/link"); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("lstat of a link = %v, %v", fi, err)
	}
	if real, err := c.RealPath("../.././x"); err != nil || real != "/x" {
		t.Errorf("realpath above the root = %q, %v", real, err)
	}
	// 0444 cannot be overwritten, 0000 cannot be read.
	must(c.Chmod("/d/f", 0o444))
	if _, err := c.OpenFile("/d/f", os.O_WRONLY|os.O_TRUNC); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("overwriting 0444: %v", err)
	}
	must(c.Chmod("/d/f", 0))
	if _, err := c.Open("/d/f"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("reading 0000: %v", err)
	}
	must(c.Chmod("/d/f", 0o600))
	if _, err := c.OpenFile("/d/f", os.O_WRONLY|os.O_CREATE|os.O_EXCL); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("O_EXCL onto a file: %v", err)
	}
	if err := c.Rename("/link", "/d/f"); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("rename onto a file: %v", err)
	}
	put(t, c, "/new", []byte("new"))
	must(c.PosixRename("/new", "/d/f"))
	if got := get(t, c, "/d/f"); string(got) != "new" {
		t.Errorf("after posix-rename: %q", got)
	}
	if err := c.RemoveDirectory("/d"); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("rmdir of a full directory: %v", err)
	}
	if err := c.Remove("/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of nothing: %v", err)
	}
	must(c.Truncate("/d/f", 1))
	must(c.Remove("/d/f"))
	must(c.Remove("/link"))
	must(c.RemoveDirectory("/d"))
	if fis, err := c.ReadDir("/"); err != nil || len(fis) != 0 {
		t.Errorf("at the end there is %v, %v", fis, err)
	}
	s.verify()
}

// TestStackRandomWrites: writes in any order and size make the file that a plain
// buffer becomes, also while it is read by the same session.
func TestStackRandomWrites(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client(sftp.UseConcurrentWrites(true))
	model := make([]byte, 300_000)
	f, err := c.OpenFile("/f", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	end := 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		off, data := r.IntN(250_000), randomBytes(1+r.IntN(40_000))
		data = data[:min(len(data), len(model)-off)]
		if _, err := f.WriteAt(data, int64(off)); err != nil {
			t.Fatal(err)
		}
		copy(model[off:], data)
		end = max(end, off+len(data))
		got := make([]byte, 1000)
		at := r.IntN(end)
		n, err := f.ReadAt(got, int64(at))
		if err != nil && err != io.EOF || !bytes.Equal(got[:n], model[at:min(at+1000, end)]) {
			t.Fatalf("reading its own writes at %d: %d bytes, %v", at, n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(get(t, c, "/f"), model[:end]) {
		t.Error("the file is another one")
	}
	s.verify()
}

// TestStackListing: a directory larger than any batch is listed whole.
func TestStackListing(t *testing.T) {
	t.Parallel()
	c := newStack(t, nil).client()
	var want []string
	for i := range 700 {
		name := fmt.Sprintf("%03d-%s", i, strings.Repeat("n", 100))
		want = append(want, name)
		put(t, c, "/"+name, nil)
	}
	fis, err := c.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, fi := range fis {
		got = append(got, fi.Name())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
}

// TestStackBrokenUpload: what a broken connection leaves of a new name can be
// resumed, and a broken overwrite leaves the old content.
func TestStackBrokenUpload(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	old := randomBytes(100_000)
	put(t, c, "/old", old)
	half := randomBytes(50_000)
	broken := s.raw()
	h1 := broken.open("/old", fxfWrite|fxfCreat|fxfTrunc)
	h2 := broken.open("/new", fxfWrite|fxfCreat)
	for _, h := range []string{h1, h2} {
		if code, text := broken.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string(string(half)) }); code != fxOK {
			t.Fatal(text)
		}
	}
	broken.ssh.Close()
	eventually(t, "the broken session has ended", func() bool { return s.manager.Counts().Sessions == 1 })
	eventually(t, "the partial upload is there", func() bool {
		fi, err := c.Stat("/new")
		return err == nil && fi.Size() == int64(len(half))
	})
	if !bytes.Equal(get(t, c, "/old"), old) {
		t.Error("a broken overwrite changed the old content")
	}
	if _, err := c.OpenFile("/old", os.O_WRONLY|os.O_APPEND); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("resuming onto the old content: %v", err)
	}
	rest := randomBytes(1000)
	f, err := c.OpenFile("/new", os.O_WRONLY|os.O_APPEND)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(rest); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(get(t, c, "/new"), append(half, rest...)) {
		t.Error("the resumed upload is another file")
	}
	s.verify()
}

// TestStackByHandle: attributes and content by handle outlive the name.
func TestStackByHandle(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.raw()
	h := c.open("/f", fxfRead|fxfWrite|fxfCreat)
	c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("hello") })
	ok := func(what string, code uint32, text string) {
		t.Helper()
		if code != fxOK {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	size := func() uint64 {
		t.Helper()
		typ, f := c.ask(fxpFstat, func(p packet) packet { return p.string(h) })
		if typ != fxpAttrs {
			t.Fatalf("fstat: type %d, code %d %s", typ, f.uint32(), f.string())
		}
		f.uint32()
		return f.uint64()
	}
	code, text := c.status(fxpRename, func(p packet) packet { return p.string("/f").string("/g") })
	ok("rename", code, text)
	if n := size(); n != 5 {
		t.Errorf("size after rename: %d", n)
	}
	code, text = c.status(fxpRemove, func(p packet) packet { return p.string("/g") })
	ok("remove", code, text)
	code, text = c.status(fxpFsetstat, func(p packet) packet { return p.string(h).uint32(attrSize).uint64(2) })
	ok("fsetstat", code, text)
	if n := size(); n != 2 {
		t.Errorf("size after remove and fsetstat: %d", n)
	}
	code, text = c.status(fxpClose, func(p packet) packet { return p.string(h) })
	ok("close", code, text)
	s.verify()
}

// TestStackPolicy: rights by path, with the sentence and code of the denial; a
// change ends the live session at once.
func TestStackPolicy(t *testing.T) {
	t.Parallel()
	s := newStack(t, map[string]string{"paths": "[{path: /in, allow: [list, write, mkdir]}, {path: /, allow: [list]}]"})
	c := s.raw()
	code, text := c.status(fxpMkdir, func(p packet) packet { return p.string("/x").uint32(0) })
	if code != fxPermissionDenied || !strings.HasSuffix(text, "]") || !strings.Contains(text, "[SP-") {
		t.Errorf("mkdir outside: %d %q", code, text)
	}
	if code, text := c.status(fxpRemove, func(p packet) packet { return p.string("/x") }); code != fxPermissionDenied {
		t.Errorf("remove outside: %d %q", code, text)
	}
	base := s.policy.Current()
	doc, err := base.Document.Set(policy.Site, "deny_from", "[127.0.0.0/8]")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.policy.Apply(context.Background(), policydb.Change{Base: base.N, Text: doc.Text(), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	c.ended()
	eventually(t, "the client was told why", func() bool { return strings.Contains(c.stderr.String(), "[SP-") })
	if _, err := s.dialErr(); err == nil {
		t.Error("let in from a denied network")
	}
}

// TestStackSealed: a sealed server says so.
func TestStackSealed(t *testing.T) {
	t.Parallel()
	m, err := session.New(session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	host := newKey(t)
	srv, err := New(Options{Sessions: m, HostKeys: func() []ssh.Signer { return []ssh.Signer{host} }})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		_ = srv.Shutdown(ctx)
		<-served
	})
	r := rig{t: t, key: newKey(t), addr: ln.Addr().String()}
	conf := r.config()
	_, err = ssh.Dial("tcp", r.addr, conf)
	if err == nil {
		t.Fatal("let in")
	}
	if !strings.Contains(err.Error(), `reason 7: "The server is sealed`) {
		t.Errorf("the client was told %v", err)
	}
}
