package sftpd

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := newRig(t, &fakeGate{}, Limits{}).client()
	for _, n := range []int{0, 1, 32 << 10, 1<<20 + 17} {
		name := fmt.Sprintf("/f%d", n)
		want := randomBytes(n)
		w, err := c.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ReadFrom(bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := c.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := r.WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes came back as %d other ones", n, got.Len())
		}
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	g := &fakeGate{space: session.Space{BytesTotal: 1 << 30, BytesFree: 1 << 29, FilesTotal: 1000, FilesFree: 500}}
	r := newRig(t, g, Limits{})
	c := r.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Mkdir("/dir"))
	must(os.WriteFile(filepath.Join(g.dir, "dir", "a"), []byte("hello"), 0o600))
	must(c.Rename("/dir/a", "/dir/b"))
	must(os.WriteFile(filepath.Join(g.dir, "dir", "a"), []byte("other"), 0o600))
	if err := c.Rename("/dir/a", "/dir/b"); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("rename onto a file = %v, want already exists", err)
	}
	must(c.PosixRename("/dir/a", "/dir/b"))
	must(c.Symlink("dir/b", "/link"))
	if got, err := c.ReadLink("/link"); err != nil || got != "dir/b" {
		t.Errorf("readlink = %q, %v", got, err)
	}
	if fi, err := c.Stat("/link"); err != nil || fi.Size() != 5 || !fi.Mode().IsRegular() {
		t.Errorf("stat of a link = %v, %v", fi, err)
	}
	if fi, err := c.Lstat("/link"); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("lstat of a link = %v, %v", fi, err)
	}
	must(c.Chmod("/dir/b", 0o640))
	when := time.Unix(1_500_000_000, 0)
	must(c.Chtimes("/dir/b", when, when))
	must(c.Truncate("/dir/b", 3))
	must(c.Chown("/dir/b", 1, 2))
	if fi, err := c.Stat("/dir/b"); err != nil || fi.Mode() != 0o640 || fi.Size() != 3 {
		t.Errorf("after chmod and truncate: %v, %v", fi, err)
	}
	if real, err := c.RealPath("x/../dir/./b"); err != nil || real != "/dir/b" {
		t.Errorf("realpath = %q, %v", real, err)
	}
	if err := c.RemoveDirectory("/dir"); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("rmdir of a full directory = %v", err)
	}
	must(c.Remove("/dir/b"))
	must(c.RemoveDirectory("/dir"))
	if _, err := c.Stat("/dir"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of nothing = %v", err)
	}
	st, err := c.StatVFS("/")
	must(err)
	if st.TotalSpace() != 1<<30 || st.FreeSpace() != 1<<29 || st.Files != 1000 || st.Ffree != 500 {
		t.Errorf("statvfs = %+v", st)
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	g := &fakeGate{dir: t.TempDir()}
	var want []string
	for i := range 1500 {
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("n", 60))
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(g.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fis, err := newRig(t, g, Limits{}).client().ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, fi := range fis {
		got = append(got, fi.Name())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("listing has %d names, want %d", len(got), len(want))
	}
}

// TestStatusCodes checks code and text of every error that a volume or a guard
// can return, on a path that pkg/sftp serves and on one that the filter serves.
func TestStatusCodes(t *testing.T) {
	t.Parallel()
	denial := &policy.Denial{Code: "SP-P71", Message: "You may not read /secret.", Rule: "internal rule"}
	tests := []struct {
		err  error
		code uint32
		text string
	}{
		{&fs.PathError{Op: "x", Path: "/host/path", Err: fs.ErrNotExist}, fxNoSuchFile, "no such file or directory"},
		{&fs.PathError{Op: "x", Path: "/host/path", Err: fs.ErrPermission}, fxPermissionDenied, "permission denied"},
		{&fs.PathError{Op: "x", Path: "/host/path", Err: vfs.ErrIntegrity}, fxFailure, "stored data is damaged; the operator has been told"},
		{denial, fxPermissionDenied, "You may not read /secret. [SP-P71]"},
		{fmt.Errorf("wrapped: %w", denial), fxPermissionDenied, "You may not read /secret. [SP-P71]"},
		{fs.ErrExist, fxFailure, "already exists"},
		{vfs.ErrInterrupted, fxFailure, "an upload of this file was interrupted; upload it completely or remove it first"},
		{errors.ErrUnsupported, fxOpUnsupported, "operation not supported"},
		{errors.New("open /var/lib/sallyport/secret: canary"), fxFailure, "internal error, reference "},
	}
	var current error
	g := &fakeGate{hook: func(string) error { return current }}
	r := newRig(t, g, Limits{})
	c := r.raw()
	for _, tt := range tests {
		current = tt.err
		for _, typ := range []byte{fxpRemove, fxpStat, fxpRealpath, fxpOpendir} {
			code, text := c.status(typ, func(p packet) packet { return p.string("/x") })
			if exact := text == tt.text; code != tt.code || !exact && !(strings.HasSuffix(tt.text, "reference ") && strings.HasPrefix(text, tt.text)) {
				t.Errorf("%v by packet type %d: code %d %q, want %d %q", tt.err, typ, code, text, tt.code, tt.text)
			}
			if ref, ok := strings.CutPrefix(text, "internal error, reference "); ok && !strings.Contains(r.logs.String(), ref) {
				t.Errorf("reference %s is not in the log", ref)
			}
		}
	}
	// The client reads that the operator has been told: so it must be.
	if !strings.Contains(r.logs.String(), "integrity error") || strings.Contains(r.logs.String(), "/host/path") {
		t.Errorf("the log should have the integrity error, without the path:\n%s", r.logs.String())
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	g := &fakeGate{dir: t.TempDir(), space: session.Space{BytesTotal: 8192, BytesFree: 4096}}
	content := randomBytes(600)
	if err := os.WriteFile(filepath.Join(g.dir, "f"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{Handles: 50}).raw()
	ext := func(name string, rest func(packet) packet) (byte, *fields) {
		return c.ask(fxpExtended, func(p packet) packet { return rest(p.string(name)) })
	}
	none := func(p packet) packet { return p }

	told := map[string]string{}
	for v := (fields{b: c.version[5:]}); len(v.b) > 0; {
		k := v.string()
		told[k] = v.string()
	}
	for _, e := range extensions {
		if told[e[0]] != e[1] {
			t.Errorf("VERSION tells %s = %q, want %q", e[0], told[e[0]], e[1])
		}
	}
	if _, ok := told["hardlink@openssh.com"]; ok {
		t.Error("VERSION promises hard links")
	}

	if typ, f := ext("limits@openssh.com", none); typ != fxpExtendedReply ||
		f.uint64() != maxPacket || f.uint64() != maxData || f.uint64() != maxData || f.uint64() != 50 {
		t.Errorf("limits: type %d", typ)
	}
	h := c.open("/f", fxfRead)
	w := c.open("/copy", fxfRead|fxfWrite|fxfCreat)
	if typ, f := ext("fstatvfs@openssh.com", func(p packet) packet { return p.string(h) }); typ != fxpExtendedReply ||
		f.uint64() != blockSize || f.uint64() != blockSize || f.uint64() != 2 || f.uint64() != 1 {
		t.Errorf("fstatvfs: type %d", typ)
	}
	if _, f := ext("fsync@openssh.com", func(p packet) packet { return p.string(w) }); f.uint32() != fxOK {
		t.Error("fsync failed")
	}
	if typ, f := ext("hardlink@openssh.com", func(p packet) packet { return p.string("/f").string("/g") }); typ != fxpStatus || f.uint32() != fxOpUnsupported {
		t.Error("hardlink was not refused as unsupported")
	}
	if _, f := ext("no-such@example.com", none); f.uint32() != fxOpUnsupported {
		t.Error("an unknown extension was not refused as unsupported")
	}
	for _, name := range []string{"~", "~/", "~demo", "~demo/"} {
		if typ, f := ext("expand-path@openssh.com", func(p packet) packet { return p.string(name) }); typ != fxpName || f.uint32() != 1 || f.string() != "/" {
			t.Errorf("expand-path %q: type %d", name, typ)
		}
	}
	if _, f := ext("home-directory", func(p packet) packet { return p.string("root") }); f.uint32() != fxNoSuchFile {
		t.Error("home-directory of another account was told")
	}
	ids := string(packet(nil).uint32(ownerID).uint32(0))
	if typ, f := ext("users-groups-by-id@openssh.com", func(p packet) packet { return p.string(ids).string(ids) }); typ != fxpExtendedReply ||
		f.string() != string(packet(nil).string("demo").string("")) {
		t.Errorf("users-groups-by-id: type %d", typ)
	}
	if _, f := ext("lsetstat@openssh.com", func(p packet) packet { return p.string("/f").uint32(attrMode).uint32(0o400) }); f.uint32() != fxOK {
		t.Error("lsetstat failed")
	}

	// copy-data: bytes 100 to the end of /f to offset 10 of /copy.
	if _, f := ext("copy-data", func(p packet) packet { return p.string(h).uint64(100).uint64(0).string(w).uint64(10) }); f.uint32() != fxOK {
		t.Error("copy-data failed")
	}
	if got, _ := os.ReadFile(filepath.Join(g.dir, "copy")); !bytes.Equal(got, append(make([]byte, 10), content[100:]...)) {
		t.Error("copy-data made something else")
	}
	if _, f := ext("copy-data", func(p packet) packet { return p.string(w).uint64(0).uint64(0).string(w).uint64(10) }); f.uint32() != fxFailure {
		t.Error("copy-data onto itself was accepted")
	}

	// check-file: whole, and blocks of 256 with a rest.
	whole, first, rest := sha256.Sum256(content), sha256.Sum256(content[:256]), sha256.Sum256(content[512:])
	typ, f := ext("check-file-name", func(p packet) packet {
		return p.string("/f").string("crc32,sha256,md5").uint64(0).uint64(0).uint32(0)
	})
	if typ != fxpExtendedReply || f.string() != "check-file" || f.string() != "sha256" || !bytes.Equal(f.b, whole[:]) {
		t.Errorf("check-file-name: type %d", typ)
	}
	_, f = ext("check-file-handle", func(p packet) packet { return p.string(h).string("sha256").uint64(0).uint64(0).uint32(256) })
	f.string()
	f.string()
	if len(f.b) != 96 || !bytes.Equal(f.b[:32], first[:]) || !bytes.Equal(f.b[64:], rest[:]) {
		t.Errorf("check-file-handle in blocks: %d bytes", len(f.b))
	}
	if typ, f := ext("check-file-name", func(p packet) packet { return p.string("/f").string("crc32").uint64(0).uint64(0).uint32(0) }); typ != fxpStatus || f.uint32() != fxOpUnsupported {
		t.Error("an unknown hash was not refused")
	}
}

// TestByHandle: attributes by handle work after the name is gone.
func TestByHandle(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	c := newRig(t, g, Limits{}).raw()
	h := c.open("/f", fxfRead|fxfWrite|fxfCreat)
	c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("hello") })
	if code, _ := c.status(fxpRename, func(p packet) packet { return p.string("/f").string("/g") }); code != fxOK {
		t.Fatal("rename failed")
	}
	fstat := func() uint64 {
		t.Helper()
		typ, f := c.ask(fxpFstat, func(p packet) packet { return p.string(h) })
		if typ != fxpAttrs {
			t.Fatalf("fstat: type %d code %d", typ, f.uint32())
		}
		f.uint32()
		return f.uint64()
	}
	if n := fstat(); n != 5 {
		t.Errorf("size after rename = %d, want 5", n)
	}
	if code, _ := c.status(fxpRemove, func(p packet) packet { return p.string("/g") }); code != fxOK {
		t.Fatal("remove failed")
	}
	if code, text := c.status(fxpFsetstat, func(p packet) packet { return p.string(h).uint32(attrSize).uint64(2) }); code != fxOK {
		t.Errorf("fsetstat after remove: %d %s", code, text)
	}
	if n := fstat(); n != 2 {
		t.Errorf("size after fsetstat = %d, want 2", n)
	}
}

func TestOpenFlags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pflags      uint32
		flag        int
		read, write bool
	}{
		{fxfRead, os.O_RDONLY, true, false},
		{0, os.O_RDONLY, true, false},
		{fxfWrite | fxfCreat | fxfTrunc, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, false, true},
		{fxfWrite | fxfCreat | fxfExcl, os.O_WRONLY | os.O_CREATE | os.O_EXCL, false, true},
		{fxfRead | fxfWrite, os.O_RDWR, true, true},
		{fxfAppend, os.O_WRONLY | os.O_APPEND, false, true},
		{fxfRead | fxfTrunc | fxfCreat, os.O_RDONLY, true, false},
		{fxfWrite | fxfExcl, os.O_WRONLY, false, true},
	}
	for _, tt := range tests {
		flag, read, write := openFlags(tt.pflags)
		if flag != tt.flag || read != tt.read || write != tt.write {
			t.Errorf("openFlags(%#x) = %#x, %v, %v, want %#x, %v, %v", tt.pflags, flag, read, write, tt.flag, tt.read, tt.write)
		}
	}
}

func TestReadEdges(t *testing.T) {
	t.Parallel()
	g := &fakeGate{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(g.dir, "f"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{}).raw()
	h := c.open("/f", fxfRead)
	read := func(off uint64, n uint32) (byte, *fields) {
		return c.ask(fxpRead, func(p packet) packet { return p.string(h).uint64(off).uint32(n) })
	}
	if typ, f := read(2, 1<<31); typ != fxpData || f.string() != "llo" {
		t.Errorf("read over the end: type %d", typ)
	}
	for _, off := range []uint64{5, 6, 1 << 40, 1 << 63, 1<<64 - 1} {
		if typ, f := read(off, 10); typ != fxpStatus || f.uint32() != fxEOF {
			t.Errorf("read at %d: type %d, want EOF", off, typ)
		}
	}
	if typ, f := read(0, 0); typ != fxpData || f.string() != "" || !f.ok() {
		t.Errorf("read of nothing: type %d", typ)
	}
	if code, _ := c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("x") }); code != fxPermissionDenied {
		t.Errorf("write by a reading handle: code %d", code)
	}
	w := c.open("/w", fxfWrite|fxfCreat)
	if typ, f := c.ask(fxpRead, func(p packet) packet { return p.string(w).uint64(0).uint32(1) }); typ != fxpStatus || f.uint32() != fxPermissionDenied {
		t.Error("read by a writing handle was served")
	}
	if code, _ := c.status(fxpWrite, func(p packet) packet { return p.string(w).uint64(1<<63 - 1).string("xx") }); code != fxFailure {
		t.Error("write beyond the largest offset was accepted")
	}
}

func TestAppendIgnoresOffset(t *testing.T) {
	t.Parallel()
	g := &fakeGate{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(g.dir, "f"), []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{}).raw()
	h := c.open("/f", fxfWrite|fxfAppend)
	if code, text := c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("two") }); code != fxOK {
		t.Fatal(code, text)
	}
	if got, _ := os.ReadFile(filepath.Join(g.dir, "f")); string(got) != "onetwo" {
		t.Errorf("after append: %q", got)
	}
}

var _ io.ReaderAt = file(nil)
