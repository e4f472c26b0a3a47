package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

var nameSentences = map[string]func(*testing.T){
	"N1": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		ok(t, w.Mkdir("d", 0))
		put(t, w, "src", []byte("src"))
		f := openFile(t, w, "d/new", wr)
		for _, v := range []*View{w, other} {
			_, err := v.OpenHandle(t.Context(), "d/new", wrNew|os.O_EXCL, 0)
			wantErr(t, err, fs.ErrExist)
			wantErr(t, v.Mkdir("d/new", 0), fs.ErrExist)
			wantErr(t, v.Symlink("x", "d/new"), fs.ErrExist)
			wantErr(t, v.Rmdir("d"), ErrNotEmpty)
		}
		wantErr(t, other.Rename("src", "d/new"), fs.ErrExist)
		wantErr(t, other.RenameNew("src", "d/new"), fs.ErrExist)
		_, err := other.Stat("d/new")
		wantErr(t, err, fs.ErrNotExist)
		wantErr(t, other.Remove("d/new"), fs.ErrNotExist)
		f.TransferError(os.ErrDeadlineExceeded)
		ok(t, f.Close()) // nothing came: the name is free again
		ok(t, other.Mkdir("d/new", 0))
	},
	"N2": func(t *testing.T) {
		b := newBench(t)
		w1, w2 := b.view(), b.view()
		f1, f2 := openFile(t, w1, "a", wr), openFile(t, w2, "a", wr)
		write(t, f1, []byte("first, and longer"))
		write(t, f2, []byte("second"))
		wantContent(t, w1, "a", []byte("first, and longer"))
		ok(t, f1.Close())
		wantContent(t, w2, "a", []byte("second")) // its own
		ok(t, f2.Close())
		wantContent(t, w1, "a", []byte("second"))
		if sizes, _ := history(t, b, stat(t, w1, "a").Inode()); len(sizes) != 2 || sizes[0] != 17 {
			t.Fatalf("history %v", sizes)
		}
	},
	"N3": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		data := noise(1, 100_000)
		f := openFile(t, w, "a.part", wr)
		write(t, f, data[:70_000])
		ok(t, w.Rename("a.part", "a"))
		wantContent(t, other, "a", data[:70_000])
		_, err := w.Stat("a.part")
		wantErr(t, err, fs.ErrNotExist)
		write(t, f, data[70_000:])
		ok(t, f.Close())
		wantContent(t, other, "a", data)
		wantNames(t, w, "/", "a")
	},
	"N4": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		put(t, w, "a", []byte("v1"))
		id := stat(t, w, "a").Inode()
		f, r := openFile(t, other, "a", wr), openFile(t, other, "a", os.O_RDONLY)
		own := openFile(t, w, "mine", wr)
		write(t, f, []byte("v2 is lost to history"))
		write(t, own, []byte("own"))
		ok(t, w.Remove("a"))
		ok(t, w.Remove("mine"))
		wantNames(t, w, "/")
		wantNames(t, other, "/")
		put(t, w, "a", []byte("another"))
		ok(t, f.Close())
		write(t, own, []byte(", more"))
		ok(t, own.Close())
		wantRead(t, r, []byte("v2 is lost to history"))
		ok(t, r.Close())
		wantContent(t, other, "a", []byte("another"))
		wantNames(t, w, "/", "a")
		if sizes, _ := history(t, b, id); len(sizes) != 2 || sizes[1] != 21 {
			t.Fatalf("history %v", sizes)
		}
		broken := openFile(t, w, "broken", wr) // also if its upload is broken already
		write(t, broken, []byte("half"))
		broken.TransferError(errCut)
		ok(t, w.Remove("broken"))
		_, err := w.Stat("broken")
		wantErr(t, err, fs.ErrNotExist)
		ok(t, broken.Close())
		put(t, w, "b", []byte("b"))
		f = openFile(t, other, "b", os.O_RDWR)
		must(f.WriteAt([]byte("B"), 0))(t)
		ok(t, w.Rename("a", "b")) // replaces what f writes
		ok(t, f.Close())
		wantContent(t, w, "b", []byte("another"))
	},
	"N5": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "f", []byte("f"))
		put(t, w, "g", []byte("g"))
		gone := stat(t, w, "g").Inode()
		ok(t, w.Rename("f", "g"))
		wantContent(t, w, "g", []byte("f"))
		if sizes, _ := history(t, b, gone); len(sizes) != 1 {
			t.Fatalf("replaced content left no history: %v", sizes)
		}
		ok(t, w.Rename("g", "g"))
		ok(t, w.Symlink("g", "l"))
		put(t, w, "h", []byte("h"))
		ok(t, w.Rename("h", "l"))
		wantContent(t, w, "l", []byte("h"))
		wantContent(t, w, "g", []byte("f"))
		ok(t, w.MkdirAll("d/full", 0))
		ok(t, w.Mkdir("empty", 0))
		ok(t, w.Mkdir("e", 0))
		wantErr(t, w.Rename("g", "empty"), ErrIsDir)
		wantErr(t, w.Rename("empty", "g"), ErrNotDir)
		wantErr(t, w.Rename("empty", "d"), ErrNotEmpty)
		ok(t, w.Rename("d", "empty"))
		wantNames(t, w, "/", "e", "empty", "g", "l")
		wantNames(t, w, "/empty", "full")
		f := openFile(t, b.view(), "e/upload", wr)
		wantErr(t, w.Rename("empty", "e"), ErrNotEmpty)
		ok(t, f.Close())
		wantErr(t, w.Rename("nothing", "e"), fs.ErrNotExist)
		wantErr(t, w.Rename("g", "no/where"), fs.ErrNotExist)
		wantErr(t, w.Rename("g", "l/below"), ErrNotDir)
	},
	"N6": func(t *testing.T) {
		w := newBench(t).view()
		put(t, w, "f", []byte("f"))
		put(t, w, "g", []byte("g"))
		ok(t, w.Mkdir("d", 0))
		ok(t, w.Symlink("nowhere", "l"))
		for _, to := range []string{"g", "d", "l", "f", "/"} {
			wantErr(t, w.RenameNew("f", to), fs.ErrExist)
		}
		ok(t, w.RenameNew("f", "h"))
		wantContent(t, w, "h", []byte("f"))
	},
	"N7": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		ok(t, w.MkdirAll("a/b/c", 0))
		for i := range 100 {
			put(t, w, fmt.Sprintf("a/b/c/%d", i), nil)
		}
		wantErr(t, w.Rename("a", "a/b/c/a"), fs.ErrInvalid)
		wantErr(t, w.Rename("a", "a/x"), fs.ErrInvalid)
		wantErr(t, w.Rename("/", "x"), fs.ErrPermission)
		before := b.vol.Stats().Versions
		f := openFile(t, w, "a/b/c/open", wr)
		ok(t, w.Rename("a/b", "z"))
		ok(t, f.Close())
		if n := len(names(t, w, "z/c")); n != 101 {
			t.Fatalf("%d names went along", n)
		}
		if after := b.vol.Stats().Versions; after != before+1 { // that of "open"
			t.Fatalf("%d versions made by the rename of a directory", after-before-1)
		}
	},
	"N8": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		long := strings.Repeat("n", 255)
		put(t, w, long, []byte("long"))
		wantContent(t, w, "/./"+long, []byte("long"))
		bytes := "\x01\xff\r\n \\\"*?:~"
		put(t, w, bytes, []byte("odd"))
		wantContent(t, w, bytes, []byte("odd"))
		for name, want := range map[string]error{
			long + "n": ErrNameTooLong, "a\x00b": ErrBadName, strings.Repeat("a/", 2049): ErrNameTooLong, strings.Repeat("/", 5000): ErrNameTooLong,
		} {
			_, err := w.OpenHandle(t.Context(), name, wr, 0)
			wantErr(t, err, want)
			wantErr(t, w.Mkdir(name, 0), want)
			wantErr(t, w.Rename(bytes, name), want)
			wantErr(t, w.Symlink("x", name), want)
			_, err = w.Stat(name)
			wantErr(t, err, want)
		}
		deep := ""
		for range MaxDepth {
			deep += "/d"
			ok(t, w.Mkdir(deep, 0))
		}
		wantErr(t, w.Mkdir(deep+"/d", 0), ErrNameTooLong)
		wantErr(t, w.Symlink(strings.Repeat("x", MaxPath+1), "l"), ErrNameTooLong)
		wantErr(t, w.Symlink("", "l"), ErrBadName)
		wantErr(t, w.Symlink("a\x00", "l"), ErrBadName)
		wantErr(t, w.Mkdir("/", 0), fs.ErrExist)
		wantErr(t, w.Remove("/"), fs.ErrPermission)
	},
	"N9": func(t *testing.T) {
		w := newBench(t).view()
		put(t, w, "a", nil)
		ok(t, w.Mkdir("d", 0))
		for _, name := range []string{"/.backups", ".backups", "d/../.backups", "//.backups/"} {
			_, err := w.OpenHandle(t.Context(), name, wr, 0)
			wantErr(t, err, ErrBadName)
			wantErr(t, w.Mkdir(name, 0), ErrBadName)
			wantErr(t, w.MkdirAll(name, 0), ErrBadName)
			wantErr(t, w.Symlink("a", name), ErrBadName)
			wantErr(t, w.Rename("a", name), ErrBadName)
			wantErr(t, w.RenameNew("d", name), ErrBadName)
		}
		ok(t, w.Mkdir("d/.backups", 0))
		ok(t, w.Symlink("/.backups", "l"))
		_, err := w.OpenHandle(t.Context(), "l", wr, 0)
		wantErr(t, err, ErrBadName)
	},
	"N10": func(t *testing.T) {
		w := newBench(t).view()
		nfc, nfd := "caf\u00e9", "cafe\u0301"
		put(t, w, nfc, []byte("nfc"))
		wantContent(t, w, nfd, []byte("nfc"))
		put(t, w, nfd, []byte("again")) // finds it
		wantNames(t, w, "/", nfc)
		if p := must(w.Resolve(nfd, true))(t); p != "/"+nfc {
			t.Fatalf("resolved to %q", p)
		}
		ok(t, w.Mkdir(nfd, 0))
		wantNames(t, w, "/", nfd, nfc)
		ok(t, w.Remove(nfd))
		wantNames(t, w, "/", nfc)
		_, err := w.OpenHandle(t.Context(), nfc, wr|os.O_EXCL, 0)
		wantErr(t, err, fs.ErrExist)
		f := openFile(t, w, nfd, wr|os.O_EXCL)
		write(t, f, []byte("nfd"))
		wantContent(t, w, nfd, []byte("nfd"))
		wantContent(t, w, nfc, []byte("again"))
		ok(t, f.Close())
		wantContent(t, w, nfd, []byte("nfd"))
		ok(t, w.Remove(nfc))
		wantContent(t, w, nfc, []byte("nfd"))
		ok(t, w.Rename(nfd, nfc)) // to the other spelling
		wantNames(t, w, "/", nfc)
		put(t, w, "\xff\xfe", []byte("no UTF-8"))
		wantContent(t, w, "\xff\xfe", []byte("no UTF-8"))
	},
	"N11": func(t *testing.T) {
		w := newBench(t).view()
		ok(t, w.MkdirAll("a/b", 0))
		put(t, w, "a/f", []byte("f"))
		for name, want := range map[string]string{
			"../../..": "/", "a/../../a/f": "/a/f", "": "/", "/": "/", ".": "/", "a/b/..": "/a", "a//b/./../f": "/a/f", "a/b/": "/a/b", "a/new": "/a/new",
		} {
			if got := must(w.Resolve(name, true))(t); got != want {
				t.Errorf("%q is %q, want %q", name, got, want)
			}
		}
		for _, bad := range []string{"a/f/..", "a/f/x", "a/f/."} {
			if _, err := w.Resolve(bad, true); bad != "a/f/." {
				wantErr(t, err, ErrNotDir)
			}
		}
		_, err := w.Stat("nothing/..")
		wantErr(t, err, fs.ErrNotExist)
		ok(t, w.Symlink("../../../../etc/passwd", "a/b/out"))
		_, err = w.Stat("a/b/out")
		wantErr(t, err, fs.ErrNotExist)
		ok(t, w.Symlink("/a", "abs"))
		ok(t, w.Symlink("b/../f", "a/rel"))
		wantContent(t, w, "abs/rel", []byte("f"))
		if p := must(w.Resolve("abs/b", true))(t); p != "/a/b" {
			t.Fatalf("resolved to %q", p)
		}
		ok(t, w.Symlink("loop2", "loop1"))
		ok(t, w.Symlink("loop1", "loop2"))
		_, err = w.Stat("loop1")
		wantErr(t, err, ErrLoop)
		_, err = w.OpenHandle(t.Context(), "loop1", wr, 0)
		wantErr(t, err, ErrLoop)
		ok(t, w.Symlink("/a", "l0"))
		for i := range MaxSymlinks {
			ok(t, w.Symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
		}
		must(w.Stat(fmt.Sprintf("l%d", MaxSymlinks-1)))(t)
		_, err = w.Stat(fmt.Sprintf("l%d", MaxSymlinks))
		wantErr(t, err, ErrLoop)
	},
	"N12": func(t *testing.T) {
		w := newBench(t).view()
		put(t, w, "f", []byte("f"))
		ok(t, w.Symlink("f", "l"))
		ok(t, w.Rename("l", "m"))
		if got := must(w.Readlink("m"))(t); got != "f" {
			t.Fatalf("target %q", got)
		}
		wantContent(t, w, "m", []byte("f"))
		put(t, w, "m", []byte("through"))
		wantContent(t, w, "f", []byte("through"))
		ok(t, w.Chmod("m", 0o600))
		if m := stat(t, w, "f").Mode(); m != 0o600 {
			t.Fatalf("mode %v", m)
		}
		if i := must(w.Lstat("m"))(t); i.Mode()&fs.ModeSymlink == 0 {
			t.Fatalf("lstat followed: %v", i.Mode())
		}
		ok(t, w.Remove("m"))
		wantNames(t, w, "/", "f")
		ok(t, w.Symlink("target", "dangling"))
		_, err := w.OpenHandle(t.Context(), "dangling", wr|os.O_EXCL, 0)
		wantErr(t, err, fs.ErrExist)
		put(t, w, "dangling", []byte("made"))
		wantContent(t, w, "target", []byte("made"))
		_, err = w.Readlink("f")
		wantErr(t, err, fs.ErrInvalid)
		wantErr(t, w.Rmdir("dangling"), ErrNotDir)
		ok(t, w.RemoveFile("dangling"))
		ok(t, w.Mkdir("d", 0))
		wantErr(t, w.RemoveFile("d"), ErrIsDir)
		ok(t, w.Rmdir("d"))
		wantErr(t, w.Rmdir("d"), fs.ErrNotExist)
		ok(t, w.MkdirAll("tree/sub", 0))
		ok(t, w.Symlink("/", "tree/root"))
		for i := range 300 {
			put(t, w, fmt.Sprintf("tree/sub/%d", i), nil)
		}
		own := openFile(t, w, "tree/own", wr)
		write(t, own, []byte("own"))
		ok(t, w.RemoveAll("tree"))
		wantErr(t, w.Rmdir("tree"), fs.ErrNotExist)
		ok(t, own.Close())
		wantNames(t, w, "/", "f", "target") // nothing through the link
	},
	"N13": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		ok(t, w.Mkdir("d", 0))
		var want []string
		for i := range 1100 {
			name := fmt.Sprintf("f%04d", i)
			want = append(want, name)
			ok(t, w.Symlink("x", "d/"+name))
		}
		f := openFile(t, w, "d/own", wr)
		wantNames(t, w, "d", append(want, "own")...)
		wantNames(t, b.view(), "d", want...)
		seen := map[string]int{}
		ok(t, w.ReadDir(t.Context(), "d", func(batch []*Info) error {
			if len(batch) > listBatch {
				t.Errorf("%d entries in one batch", len(batch))
			}
			for _, i := range batch {
				if seen[i.Name()]++; i.Name() == "own" {
					ok(t, f.Close()) // its commit comes while we list
				}
			}
			return nil
		}))
		if len(seen) != 1101 || seen["own"] != 1 {
			t.Fatalf("%d names seen, own %d times", len(seen), seen["own"])
		}
		d := must(w.Open("d"))(t)
		n := 0
		for {
			batch, err := d.Readdirnames(100)
			n += len(batch)
			if err != nil {
				break
			}
		}
		if n != 1101 {
			t.Fatalf("Readdirnames saw %d", n)
		}
		ok(t, d.Close())
		wantErr(t, w.ReadDir(t.Context(), "d/own", nil), ErrNotDir)
		wantErr(t, w.ReadDir(t.Context(), "no", nil), fs.ErrNotExist)
	},
}
