package vfs

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/spf13/afero"
)

// TestStandardFS runs the standard library's conformance suite over the volume.
func TestStandardFS(t *testing.T) {
	t.Parallel()
	w := newBench(t).view()
	ok(t, w.MkdirAll("dir/sub/deep", 0o755))
	files := []string{"a", "dir/b", "dir/sub/c", "dir/sub/deep/d"}
	for i, name := range files {
		put(t, w, name, noise(uint64(i), i*40_000))
	}
	ok(t, fstest.TestFS(afero.NewIOFS(w), files...))
}

// TestAferoHelpers uses the volume as programs use an afero.Fs.
func TestAferoHelpers(t *testing.T) {
	t.Parallel()
	w := newBench(t).view()
	a := afero.Afero{Fs: w}
	data := noise(1, 200_000)
	ok(t, a.SafeWriteReader("/in/some/dir/f", bytes.NewReader(data)))
	if got := must(a.ReadFile("in/some/dir/f"))(t); !bytes.Equal(got, data) {
		t.Fatal("other bytes")
	}
	ok(t, a.WriteFile("in/g", []byte("hello world"), 0o640))
	if i := must(a.Stat("in/g"))(t); i.Mode() != 0o640 || i.Size() != 11 || i.Name() != "g" || i.IsDir() {
		t.Fatalf("%v %d %q", i.Mode(), i.Size(), i.Name())
	}
	if has := must(a.FileContainsBytes("in/g", []byte("o w")))(t); !has {
		t.Fatal("not found")
	}
	tmp := must(a.TempFile("in", "x"))(t)
	must(tmp.WriteString("temporary"))(t)
	ok(t, tmp.Close())
	ok(t, a.Remove(tmp.Name()))
	var walked []string
	ok(t, a.Walk("in", func(p string, i fs.FileInfo, err error) error {
		walked = append(walked, p)
		return err
	}))
	if got := strings.Join(walked, " "); got != "in in/g in/some in/some/dir in/some/dir/f" {
		t.Fatalf("walked %s", got)
	}
	if m := must(afero.Glob(w, "in/*"))(t); strings.Join(m, " ") != "in/g in/some" {
		t.Fatalf("glob %q", m)
	}
	ok(t, a.RemoveAll("in"))
	ok(t, a.RemoveAll("in"))
	if found := must(a.Exists("in"))(t); found {
		t.Fatal("still there")
	}
	ok(t, a.MkdirAll("x/y/z/", 0o755))
	ok(t, a.MkdirAll("x/y/z", 0o755))
	if dir := must(a.DirExists("/x/y/z"))(t); !dir {
		t.Fatal("not made")
	}
	ok(t, a.WriteFile("x/file", nil, 0))
	wantErr(t, a.MkdirAll("x/file", 0), ErrNotDir)
	wantErr(t, a.MkdirAll("x/file/below", 0), ErrNotDir)
}

// TestFilePositions covers Read, Write and Seek on one handle.
func TestFilePositions(t *testing.T) {
	t.Parallel()
	w := newBench(t).view()
	f := must(w.OpenFile("f", os.O_RDWR|os.O_CREATE, 0))(t)
	must(f.WriteString("hello world"))(t)
	if pos := must(f.Seek(-5, io.SeekEnd))(t); pos != 6 {
		t.Fatalf("at %d", pos)
	}
	p := make([]byte, 3)
	if n, err := f.Read(p); n != 3 || err != nil || string(p) != "wor" {
		t.Fatalf("%d %v %q", n, err, p)
	}
	must(f.Write([]byte("LD!")))(t)
	if pos := must(f.Seek(-12, io.SeekCurrent))(t); pos != 0 {
		t.Fatalf("at %d", pos)
	}
	if got := must(io.ReadAll(f))(t); string(got) != "hello worLD!" {
		t.Fatalf("%q", got)
	}
	if n, err := f.Read(p); n != 0 || err != io.EOF {
		t.Fatalf("%d %v at the end", n, err)
	}
	if n, err := f.Read(nil); n != 0 || err != nil {
		t.Fatalf("%d %v for nothing", n, err)
	}
	_, err := f.Seek(-1, io.SeekStart)
	wantErr(t, err, fs.ErrInvalid)
	_, err = f.ReadAt(p, -1)
	wantErr(t, err, fs.ErrInvalid)
	_, err = f.Readdir(1)
	wantErr(t, err, ErrNotDir)
	ok(t, f.Close())
	wantErr(t, f.Close(), fs.ErrClosed)
	_, err = f.Read(p)
	wantErr(t, err, fs.ErrClosed)

	r := must(w.Open("f"))(t)
	_, err = r.Write(p)
	wantErr(t, err, fs.ErrPermission)
	wantErr(t, r.Truncate(0), fs.ErrPermission)
	ok(t, r.Close())
	d := must(w.Open("/"))(t)
	_, err = d.Read(p)
	wantErr(t, err, ErrIsDir)
	if i := must(d.Stat())(t); !i.IsDir() || i.Name() != "/" {
		t.Fatalf("%v %q", i.Mode(), i.Name())
	}
	ok(t, d.Sync())
	ok(t, d.Close())
	_, err = w.OpenFile("/", os.O_RDWR, 0)
	wantErr(t, err, ErrIsDir)
	_, err = w.OpenFile("f", os.O_RDONLY|os.O_TRUNC, 0)
	wantErr(t, err, fs.ErrInvalid)
	_, err = w.OpenFile("f", os.O_WRONLY|os.O_RDWR, 0)
	wantErr(t, err, fs.ErrInvalid)
	e := must(w.OpenFile("made", os.O_RDONLY|os.O_CREATE, 0))(t) // legal, if odd
	ok(t, e.Close())
	wantContent(t, w, "made", nil)
}
