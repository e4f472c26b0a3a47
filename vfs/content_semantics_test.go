package vfs

import (
	"bytes"
	"io"
	"os"
	"testing"

	"sallyport/vfs/meta"
)

const (
	wr    = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	wrNew = os.O_WRONLY | os.O_CREATE
)

// history lists sizes and states of all versions of a file.
func history(t testing.TB, b *bench, id uint64) (sizes []uint64, states []meta.State) {
	t.Helper()
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			return tx.Versions(meta.Inode(id), func(v *meta.Version) bool {
				sizes, states = append(sizes, v.Size), append(states, v.State)
				return true
			})
		})
	}))
	return sizes, states
}

func readAll(t testing.TB, f *File) []byte {
	t.Helper()
	var out bytes.Buffer
	buf := make([]byte, 70000)
	for {
		n, err := f.ReadAt(buf, int64(out.Len()))
		out.Write(buf[:n])
		if err == io.EOF {
			return out.Bytes()
		}
		ok(t, err)
	}
}

func wantRead(t testing.TB, f *File, want []byte) {
	t.Helper()
	if got := readAll(t, f); !bytes.Equal(got, want) {
		t.Fatalf("handle reads %s, want %s", brief(got), brief(want))
	}
}

var contentSentences = map[string]func(*testing.T){
	"C1": func(t *testing.T) {
		w := newBench(t).view()
		put(t, w, "a", []byte("1"))
		for _, flag := range []int{os.O_WRONLY, os.O_RDWR, os.O_RDONLY, wrNew, os.O_RDWR | os.O_APPEND} {
			ok(t, openFile(t, w, "a", flag).Close())
		}
		f := openFile(t, w, "a", os.O_RDWR)
		write(t, f, nil)
		ok(t, f.Truncate(1))
		ok(t, f.Close())
		if v := stat(t, w, "a").Version(); v != 1 {
			t.Fatalf("version %d after closes without change, want 1", v)
		}
		put(t, w, "a", []byte("1")) // the same bytes, but written
		if v := stat(t, w, "a").Version(); v != 2 {
			t.Fatalf("version %d, want 2", v)
		}
		ok(t, openFile(t, w, "empty", wrNew).Close())
		if i := stat(t, w, "empty"); i.Version() != 1 || i.Size() != 0 {
			t.Fatalf("created and never written: version %d, size %d", i.Version(), i.Size())
		}
	},
	"C2": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "old", []byte("old"))
		for _, name := range []string{"new", "old"} {
			f := openFile(t, w, name, os.O_RDWR|os.O_CREATE)
			data := noise(1, 300_000)
			write(t, f, data)
			if i := stat(t, w, name); i.Size() != 300_000 {
				t.Fatalf("%s: stat says %d", name, i.Size())
			}
			if i := must(f.Stat())(t); i.Size() != 300_000 || i.Name() != name {
				t.Fatalf("%s: handle's stat says %q, %d", name, i.Name(), i.Size())
			}
			wantRead(t, f, data)
			wantContent(t, w, name, data)
			ok(t, f.Truncate(2))
			var size int64 = -1
			ok(t, w.ReadDir(t.Context(), "/", func(batch []*Info) error {
				for _, i := range batch {
					if i.Name() == name {
						size = i.Size()
					}
				}
				return nil
			}))
			if size != 2 {
				t.Fatalf("%s: listing says %d", name, size)
			}
			ok(t, f.Close())
		}
	},
	"C3": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		put(t, w, "old", []byte("old"))
		data := noise(1, 200_000)
		f, g := openFile(t, w, "old", wr), openFile(t, w, "new", wr)
		write(t, f, data)
		write(t, g, data)
		wantContent(t, other, "old", []byte("old"))
		_, err := other.Stat("new")
		wantErr(t, err, os.ErrNotExist)
		wantNames(t, other, "/", "old")
		ok(t, f.Close())
		ok(t, g.Close())
		wantContent(t, other, "old", data)
		wantContent(t, other, "new", data)
	},
	"C4": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		v1, v2 := noise(1, 200_000), noise(2, 100_000)
		put(t, w, "a", v1)
		r := openFile(t, other, "a", os.O_RDONLY)
		put(t, w, "a", v2)
		wantRead(t, r, v1)
		r2 := openFile(t, other, "a", os.O_RDONLY) // with r still open
		wantRead(t, r2, v2)
		wantRead(t, r, v1)
		ok(t, r.Close())
		ok(t, r2.Close())
	},
	"C5": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "a", []byte("before"))
		r := openFile(t, w, "a", os.O_RDONLY)
		f, g := openFile(t, w, "a", os.O_RDWR), openFile(t, w, "a", os.O_RDWR)
		must(f.WriteAt([]byte("BE"), 0))(t)
		must(g.WriteAt([]byte("RE"), 4))(t)
		for _, h := range []*File{f, g, r} {
			wantRead(t, h, []byte("BEfoRE"))
		}
		ok(t, f.Truncate(3))
		wantRead(t, r, []byte("BEf"))
		ok(t, f.Close())
		ok(t, g.Close())
		wantRead(t, r, []byte("BEf")) // and not what it opened
		ok(t, r.Close())
		f = openFile(t, w, "new", wr)
		g = openFile(t, w, "new", os.O_WRONLY|os.O_CREATE)
		write(t, f, []byte("one"))
		must(g.WriteAt([]byte("two"), 3))(t)
		ok(t, f.Close())
		ok(t, g.Close())
		wantContent(t, w, "new", []byte("onetwo"))
	},
	"C6": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		data := noise(3, 300_001)
		f := openFile(t, w, "a", os.O_RDWR|os.O_CREATE)
		write(t, f, data[:100_001])
		ok(t, f.Sync())
		wantContent(t, other, "a", data[:100_001])
		write(t, f, data[100_001:])
		wantContent(t, other, "a", data[:100_001])
		ok(t, f.Sync())
		ok(t, f.Sync()) // nothing new: no version
		wantContent(t, other, "a", data)
		ok(t, f.Close())
		if v := stat(t, other, "a").Version(); v != 2 {
			t.Fatalf("version %d, want 2", v)
		}
	},
	"C7": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		put(t, w, "a", []byte("old"))
		put(t, w, "empty", nil)
		f := openFile(t, w, "a", wr)
		wantContent(t, w, "a", nil)
		wantContent(t, other, "a", []byte("old"))
		ok(t, f.Close())
		wantContent(t, other, "a", nil)
		ok(t, openFile(t, w, "empty", wr).Close())
		if v := stat(t, w, "empty").Version(); v != 2 {
			t.Fatalf("version %d of the empty file, want 2", v)
		}
	},
	"C8": func(t *testing.T) {
		b := newBench(t)
		w1, w2 := b.view(), b.view()
		base := noise(1, 100_000)
		put(t, w1, "a", base)
		f1, f2 := openFile(t, w1, "a", os.O_RDWR), openFile(t, w2, "a", os.O_RDWR)
		must(f1.WriteAt([]byte("first"), 0))(t)
		must(f2.WriteAt([]byte("second"), 50_000))(t)
		ok(t, f1.Close())
		ok(t, f2.Close())
		want := bytes.Clone(base)
		copy(want[50_000:], "second")
		wantContent(t, w1, "a", want)
		i := stat(t, w1, "a")
		if sizes, _ := history(t, b, i.Inode()); len(sizes) != 3 {
			t.Fatalf("%d versions, want 3", len(sizes))
		}
	},
	"C9": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "a", []byte("0123"))
		f := openFile(t, w, "a", os.O_RDWR|os.O_APPEND)
		write(t, f, []byte("45"))
		g := openFile(t, w, "a", os.O_WRONLY)
		must(g.WriteAt([]byte("xy"), 8))(t)
		write(t, f, []byte("z"))
		must(f.WriteAt([]byte("67"), 6))(t) // behind what it started from
		must(f.WriteAt([]byte("!"), 0))(t)  // before: taken for the end
		if n, err := f.ReadFrom(bytes.NewReader([]byte("end"))); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		ok(t, f.Close())
		ok(t, g.Close())
		wantContent(t, w, "a", []byte("01234567xyz!end"))
	},
	"C10": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		data := noise(1, 200_000)
		put(t, w, "a", data)
		for _, size := range []int{150_000, 150_001, 70_000, 65_536, 65_537, 10, 0, 5000} {
			f := openFile(t, w, "a", os.O_RDWR)
			ok(t, f.Truncate(int64(size)))
			ok(t, f.Close())
			want := append(bytes.Clone(data[:min(size, len(data))]), make([]byte, max(0, size-len(data)))...)
			wantContent(t, w, "a", want)
			data = want
		}
		f := openFile(t, w, "sparse", wr)
		must(f.WriteAt([]byte("end"), 1<<40))(t)
		ok(t, f.Close())
		f = openFile(t, w, "sparse", os.O_RDONLY)
		got := make([]byte, 10)
		if n, err := f.ReadAt(got, 1<<40-7); n != 10 || err != nil && err != io.EOF || string(got) != "\x00\x00\x00\x00\x00\x00\x00end" {
			t.Fatalf("%d %v %q", n, err, got)
		}
		ok(t, f.Close())
		if files := b.blobFiles(); len(files) != 1 { // of "a"
			t.Fatalf("a hole takes space: %q", files)
		}
	},
	"C11": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		f, g := openFile(t, w, "a", wr), openFile(t, w, "a", os.O_WRONLY|os.O_CREATE)
		idle := openFile(t, w, "a", os.O_WRONLY|os.O_CREATE)
		write(t, f, []byte("one"))
		ok(t, idle.Close()) // changed nothing itself
		_, err := other.Stat("a")
		wantErr(t, err, os.ErrNotExist)
		ok(t, f.Close())
		wantContent(t, other, "a", []byte("one"))
		must(g.WriteAt([]byte("two"), 3))(t)
		wantContent(t, other, "a", []byte("one"))
		ok(t, g.Close())
		wantContent(t, other, "a", []byte("onetwo"))
	},
}
