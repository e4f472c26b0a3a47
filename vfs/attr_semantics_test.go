package vfs

import (
	"io/fs"
	"os"
	"testing"
	"time"
)

var someTime = time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)

func ptr[T any](v T) *T { return &v }

func wantTimes(t testing.TB, w *View, name string, atime, mtime time.Time) {
	t.Helper()
	i := must(w.Lstat(name))(t).(*Info)
	if !i.ModTime().Equal(mtime) || !i.ATime().Equal(atime) {
		t.Fatalf("%s: mtime %v atime %v, want %v %v", name, i.ModTime(), i.ATime(), mtime, atime)
	}
}

var attrSentences = map[string]func(*testing.T){
	"A1": func(t *testing.T) {
		w := newBench(t).view()
		for perm, want := range map[os.FileMode]os.FileMode{0: 0o644, 0o666: 0o644, 0o777: 0o644, 0o600: 0o600, 0o444: 0o444} {
			name := "f" + perm.String()
			f := must(w.OpenHandle(t.Context(), name, wr, perm))(t)
			if m := stat(t, w, name).Mode(); m != want {
				t.Errorf("file %v has %v before Close, want %v", perm, m, want)
			}
			ok(t, f.Close())
			if m := stat(t, w, name).Mode(); m != want {
				t.Errorf("file %v has %v, want %v", perm, m, want)
			}
		}
		for perm, want := range map[os.FileMode]os.FileMode{0: 0o755, 0o777: 0o755, 0o700: 0o700} {
			name := "d" + perm.String()
			ok(t, w.Mkdir(name, perm))
			if m := stat(t, w, name).Mode(); m != want|fs.ModeDir {
				t.Errorf("directory %v has %v, want %v", perm, m, want)
			}
		}
	},
	"A2": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		ok(t, w.Mkdir("d", 0))
		put(t, w, "d/f", []byte("f"))
		open := func(name string, flag int) error {
			f, err := w.OpenHandle(t.Context(), name, flag, 0)
			if err == nil {
				err = f.Close()
			}
			return err
		}
		ok(t, w.Chmod("d/f", 0))
		wantErr(t, open("d/f", os.O_RDONLY), fs.ErrPermission)
		wantErr(t, open("d/f", os.O_WRONLY), fs.ErrPermission)
		ok(t, w.Chmod("d/f", 0o444))
		ok(t, open("d/f", os.O_RDONLY))
		wantErr(t, open("d/f", wr), fs.ErrPermission)
		wantErr(t, open("d/f", os.O_RDWR), fs.ErrPermission)
		wantErr(t, w.SetAttr("d/f", AttrChange{Size: ptr(int64(0))}), fs.ErrPermission)
		ok(t, w.Chmod("d/f", 0o200))
		ok(t, open("d/f", os.O_WRONLY))
		wantErr(t, open("d/f", os.O_RDONLY), fs.ErrPermission)

		ok(t, w.Chmod("d", 0o500))
		wantErr(t, open("d/new", wr), fs.ErrPermission)
		wantErr(t, w.Mkdir("d/new", 0), fs.ErrPermission)
		wantErr(t, w.Symlink("x", "d/new"), fs.ErrPermission)
		wantErr(t, w.Remove("d/f"), fs.ErrPermission)
		wantErr(t, w.Rename("d/f", "g"), fs.ErrPermission)
		put(t, w, "h", nil)
		wantErr(t, w.Rename("h", "d/g"), fs.ErrPermission)
		ok(t, w.Chmod("d", 0o300))
		wantErr(t, w.ReadDir(t.Context(), "d", nil), fs.ErrPermission)
		_, err := w.Open("d")
		wantErr(t, err, fs.ErrPermission)
		must(w.Stat("d/f"))(t)
		ok(t, w.Chmod("d", 0o600))
		_, err = w.Stat("d/f")
		wantErr(t, err, fs.ErrPermission)
		wantNames(t, w, "d", "f")
		ok(t, w.Chmod("/", 0)) // the root's owner can always undo that
		_, err = w.Stat("h")
		wantErr(t, err, fs.ErrPermission)
		ok(t, w.Chmod("/", 0o755))

		f := must(w.OpenHandle(t.Context(), "readonly", wr, 0o444))(t)
		write(t, f, []byte("creator"))
		ok(t, f.Close())
		wantContent(t, w, "readonly", []byte("creator"))
		f = openFile(t, w, "open", wr)
		ok(t, f.SetAttr(AttrChange{Mode: ptr(os.FileMode(0o400))}))
		write(t, f, []byte("still"))
		ok(t, f.Close())
		wantErr(t, open("open", os.O_WRONLY), fs.ErrPermission)
	},
	"A3": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "f", noise(1, 100_000))
		ok(t, w.Chmod("f", 0o600))
		ok(t, w.Chmod("f", 0o600))
		ok(t, w.Chtimes("f", someTime, someTime))
		ok(t, w.Chtimes("f", someTime, someTime))
		i := stat(t, w, "f")
		if i.Version() != 3 {
			t.Fatalf("version %d, want 3", i.Version())
		}
		wantContent(t, w, "f", noise(1, 100_000))
		ok(t, w.Mkdir("d", 0))
		ok(t, w.SetAttr("d", AttrChange{Mode: ptr(os.FileMode(0o700)), Mtime: &someTime}))
		if i := stat(t, w, "d"); i.Version() != 2 || i.Mode() != fs.ModeDir|0o700 || !i.ModTime().Equal(someTime) {
			t.Fatalf("directory: version %d, %v, %v", i.Version(), i.Mode(), i.ModTime())
		}
		r := openFile(t, w, "f", os.O_RDONLY)
		ok(t, r.SetAttr(AttrChange{Mode: ptr(os.FileMode(0o640))})) // no writer: at once
		if m := stat(t, b.view(), "f").Mode(); m != 0o640 {
			t.Fatalf("mode %v", m)
		}
		ok(t, r.Close())
		wantErr(t, w.Chmod("no", 0o600), fs.ErrNotExist)
	},
	"A4": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		later := someTime.Add(time.Hour)
		put(t, w, "old", []byte("old"))
		for _, name := range []string{"new", "old"} {
			f := openFile(t, w, name, wr)
			write(t, f, []byte("con"))
			ok(t, f.SetAttr(AttrChange{Mtime: &someTime, Atime: &later, Mode: ptr(os.FileMode(0o640))}))
			write(t, f, []byte("tent")) // a write request that overtook the attributes
			wantTimes(t, w, name, later, someTime)
			if i, err := other.Stat(name); err == nil && i.ModTime().Equal(someTime) {
				t.Fatal("attributes published before the content")
			}
			ok(t, f.Close())
			wantTimes(t, other, name, later, someTime)
			if m := stat(t, other, name).Mode(); m != 0o640 {
				t.Fatalf("mode %v", m)
			}
			versions := stat(t, w, name).Version()

			f = openFile(t, w, name, os.O_RDWR)
			must(f.WriteAt([]byte("C"), 0))(t)
			ok(t, w.Chtimes(name, someTime, later)) // by path
			ok(t, f.Close())
			wantTimes(t, other, name, someTime, later)
			if v := stat(t, w, name).Version(); v != versions+1 {
				t.Fatalf("%d versions for one Close", v-versions)
			}
			ok(t, w.Chtimes(name, time.Time{}, someTime)) // after Close, as MFMT and rclone do
			wantTimes(t, other, name, someTime, someTime)
		}
		f := openFile(t, w, "new", os.O_RDWR)
		ok(t, w.SetAttr("new", AttrChange{Size: ptr(int64(3))})) // by path
		wantRead(t, f, []byte("Con"))
		wantContent(t, other, "new", []byte("Content"))
		ok(t, f.Close())
		wantContent(t, other, "new", []byte("Con"))
		ok(t, w.SetAttr("new", AttrChange{Size: ptr(int64(0)), Mtime: &later})) // with nothing open: at once
		wantContent(t, other, "new", nil)
		wantTimes(t, other, "new", someTime, later)
		wantErr(t, w.SetAttr("no", AttrChange{Size: ptr(int64(0))}), fs.ErrNotExist)
		put(t, w, "new", []byte("Content"))
		for _, year := range []int{2, 1600, 2300, 9999} { // as far as they can be kept
			ok(t, w.Chtimes("new", someTime, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)))
			if y := stat(t, w, "new").ModTime().Year(); (y < 2000) != (year < 2000) {
				t.Fatalf("year %d became %d", year, y)
			}
		}
		f = openFile(t, w, "new", os.O_WRONLY) // attributes alone are a change
		ok(t, f.SetAttr(AttrChange{Mtime: &later}))
		ok(t, f.Close())
		wantTimes(t, other, "new", someTime, later)
		wantContent(t, other, "new", []byte("Content"))
	},
	"A5": func(t *testing.T) {
		now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		b := newBenchWith(t, Options{Now: func() time.Time { return now }})
		w := b.view()
		f := openFile(t, w, "f", wr)
		now = now.Add(time.Minute)
		write(t, f, []byte("x"))
		if m := stat(t, w, "f").ModTime(); !m.Equal(now) {
			t.Fatalf("mtime %v before Close, want that of the write %v", m, now)
		}
		now = now.Add(time.Minute)
		ok(t, f.Close())
		if m := stat(t, w, "f").ModTime(); m.Sub(now).Abs() > time.Second {
			t.Fatalf("mtime %v, want that of the commit %v", m, now)
		}
	},
	"A6": func(t *testing.T) {
		w := newBench(t).view()
		ok(t, w.Symlink("/some/where", "l"))
		i := must(w.Lstat("l"))(t)
		if i.Size() != 11 || i.Mode() != fs.ModeSymlink|0o777 {
			t.Fatalf("size %d, mode %v", i.Size(), i.Mode())
		}
	},
	"A7": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "f", []byte("f"))
		mtime := stat(t, w, "f").ModTime()
		ok(t, w.Chtimes("f", someTime, time.Time{}))
		get(t, w, "f")
		wantTimes(t, w, "f", someTime, mtime)
		put(t, w, "f", []byte("again"))
		if a := stat(t, w, "f").ATime(); !a.Equal(someTime) {
			t.Fatalf("atime %v", a)
		}
		ok(t, w.Symlink("f", "l"))
		ok(t, w.LsetAttr("l", AttrChange{Mtime: &someTime, Atime: &someTime, Mode: ptr(os.FileMode(0))}))
		wantTimes(t, w, "l", someTime, someTime)
		if m := must(w.Lstat("l"))(t).Mode(); m != fs.ModeSymlink|0o777 {
			t.Fatalf("mode of the link %v", m)
		}
		ok(t, w.Chown("f", 1000, 1000))
		wantErr(t, w.Chown("no", 1000, 1000), fs.ErrNotExist)
	},
	"A9": theTimeOfADirectory,
	"A8": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		want := func(w *View, name string, at time.Time, version uint64) {
			t.Helper()
			if i := must(w.Lstat(name))(t).(*Info); !i.Created().Equal(at) || i.Version() != version {
				t.Fatalf("%s: created %v in version %d, want %v in %d", name, i.Created(), i.Version(), at, version)
			}
		}
		put(t, w, "f", []byte("one"))
		first := stat(t, w, "f").Created()
		if first.IsZero() || !first.Equal(stat(t, w, "f").ModTime()) {
			t.Fatalf("created %v, modified %v", first, stat(t, w, "f").ModTime())
		}
		ok(t, w.Chtimes("f", someTime, someTime))
		put(t, w, "f", []byte("two"))
		want(w, "f", first, 3)
		ok(t, w.SetAttr("f", AttrChange{Created: &someTime}))
		ok(t, w.SetAttr("f", AttrChange{Created: &someTime}))
		want(other, "f", someTime, 4)
		put(t, w, "f", []byte("three"))
		ok(t, w.Rename("f", "g"))
		want(other, "g", someTime, 5)
		wantContent(t, other, "g", []byte("three"))

		// With the content, on a handle and by path, of a new file and of an old one.
		later, early := someTime.Add(time.Hour), time.Date(1955, 1, 1, 0, 0, 0, 0, time.UTC)
		f := openFile(t, w, "new", wr)
		ok(t, f.SetAttr(AttrChange{Created: &later}))
		write(t, f, []byte("new"))
		want(w, "new", later, 0)
		ok(t, f.Close())
		want(other, "new", later, 1)
		f = openFile(t, w, "g", os.O_RDWR)
		must(f.WriteAt([]byte("T"), 0))(t)
		ok(t, w.SetAttr("g", AttrChange{Created: &early}))
		want(w, "g", early, 5)
		want(other, "g", someTime, 5)
		ok(t, f.Close())
		want(other, "g", early, 6)

		// An overwrite that breaks off, by its session or by a crash, keeps it too.
		f = openFile(t, w, "g", wr)
		write(t, f, noise(1, 200_000))
		f.TransferError(errCut)
		ok(t, f.Close())
		want(other, "g", early, 6)
		ok(t, w.Mkdir("d", 0))
		ok(t, w.SetAttr("d", AttrChange{Created: ptr(time.Unix(0, 0))}))
		ok(t, w.Symlink("no", "l"))
		ok(t, w.LsetAttr("l", AttrChange{Created: &early}))
		wantErr(t, w.SetAttr("no", AttrChange{Created: &early}), fs.ErrNotExist)
		f, half, cut := openFile(t, w, "synced", wr), openFile(t, w, "half", wr), openFile(t, w, "new", wr)
		write(t, f, noise(2, 200_000))
		ok(t, f.SetAttr(AttrChange{Created: &later}))
		ok(t, f.Sync())
		for _, f := range []*File{f, half, cut} {
			write(t, f, noise(3, 6<<20))
		}
		started := oneSecond().Add(-time.Minute)
		c := b.crash()
		for _, f := range []*File{f, half, cut} {
			ok(t, f.Close())
		}
		want(other, "synced", later, 2)
		want(other, "new", later, 2)
		for range 2 {
			v := c.view()
			want(v, "g", early, 6)
			want(v, "d", time.Unix(0, 0), 2)
			want(v, "l", early, 2)
			want(v, "new", later, 1)
			want(v, "synced", later, 2)
			if i := stat(t, v, "half"); !i.Partial() || i.Created().Before(started) {
				t.Fatalf("recovered upload: created %v, partial %v", i.Created(), i.Partial())
			}
			ok(t, v.Close())
			c.reopen()
		}
	},
}
