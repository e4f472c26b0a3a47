package facetest

import (
	"os"
	"time"
)

var attrCases = []conformance{
	{name: "A1 modes of what is new", run: func(x *exam) {
		x.put(x.a, "/f", nil)
		x.ok(x.a.Mkdir("/d"))
		for name, want := range map[string]os.FileMode{"/f": 0o644, "/d": 0o755} {
			if e, err := x.b.Lstat(name); err != nil || e.mode != want {
				x.Fatalf("%s: %v, %v", name, e.mode, err)
			}
		}
	}},
	{name: "A2 modes of files bind", run: func(x *exam) {
		x.put(x.a, "/f", []byte("content"))
		x.ok(x.a.Chmod("/f", 0o444))
		for _, how := range []mode{overwrite, extend, resume} {
			x.refused(permission, x.a, "/f", how, 1)
		}
		x.holds(x.b, "/f", []byte("content"))
		x.ok(x.a.Chmod("/f", 0o200))
		_, err := read(x.b, "/f")
		x.want(permission, err)
		if n, err := x.b.Size("/f"); err != nil || n != 7 {
			x.Fatalf("size %d, %v", n, err)
		}
		x.append(x.a, "/f", []byte("+"))
		x.ok(x.a.Chmod("/f", 0))
		_, err = read(x.b, "/f")
		x.want(permission, err)
		x.refused(permission, x.a, "/f", overwrite, 0)
		x.ok(x.a.Chmod("/f", 0o066)) // group and others count for nothing
		_, err = read(x.b, "/f")
		x.want(permission, err)
		x.ok(x.a.Rename("/f", "/g")) // the directory's business
		x.ok(x.a.Chmod("/g", 0o640))
		x.holds(x.b, "/g", []byte("content+"))
		x.ok(x.a.Chmod("/g", 0))
		x.ok(x.a.Remove("/g"))
		x.want(notExist, x.a.Chmod("/g", 0o600))
	}},
	{name: "A2 modes of directories bind", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.put(x.a, "/d/f", []byte("f"))
		x.put(x.a, "/g", []byte("g"))
		x.ok(x.a.Chmod("/d", 0o555))
		x.refused(permission, x.a, "/d/new", overwrite, 0)
		x.want(permission, x.a.Mkdir("/d/new"))
		x.want(permission, x.a.Symlink("x", "/d/new"))
		x.want(permission, x.a.Remove("/d/f"))
		x.want(permission, x.a.Rename("/d/f", "/f"))
		x.want(permission, x.a.Rename("/g", "/d/g"))
		x.put(x.a, "/d/f", []byte("changed")) // no name changes
		x.lists(x.b, "/d", "f")
		x.ok(x.a.Chmod("/d", 0o300))
		_, err := x.b.List("/d")
		x.want(permission, err)
		x.holds(x.b, "/d/f", []byte("changed"))
		x.put(x.a, "/d/new", nil)
		x.ok(x.a.Chmod("/d", 0o600))
		_, err = read(x.b, "/d/f")
		x.want(permission, err)
		_, err = x.b.Lstat("/d/f")
		x.want(permission, err)
		x.refused(permission, x.a, "/d/f", overwrite, 0)
		x.want(permission, x.a.Mkdir("/d/x"))
		if list := x.names(x.b, "/d"); len(list) != 2 {
			x.Fatalf("%q", list)
		}
		x.ok(x.a.Chmod("/d", 0))
		_, err = x.b.List("/d")
		x.want(permission, err)
		x.ok(x.a.Rename("/d", "/e"))
		x.ok(x.a.Chmod("/e", 0o755))
		x.lists(x.b, "/e", "f", "new")
	}},
	{name: "A2 the creator goes on whatever the mode", handles: true, run: func(x *exam) {
		u := x.begin(x.a, "/f", overwrite, 0, []byte("one"))
		x.ok(x.a.Chmod("/f", 0o400))
		_, err := u.Write([]byte("two"))
		x.ok(err)
		x.ok(u.Close())
		x.holds(x.b, "/f", []byte("onetwo"))
		if e, err := x.b.Lstat("/f"); err != nil || e.mode != 0o400 {
			x.Fatalf("%v, %v", e.mode, err)
		}
		x.refused(permission, x.a, "/f", overwrite, 0)
	}},
	{name: "A3 times are kept", run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.ok(x.a.Mkdir("/d"))
		for _, when := range []int64{0, 1, 1_000_000_000, 2_000_000_000, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			for _, name := range []string{"/f", "/d"} {
				x.ok(x.a.SetTime(name, time.Unix(when, 0)))
				if e, err := x.b.Lstat(name); err != nil || e.mtime != when {
					x.Fatalf("%s: %d, %v; want %d", name, e.mtime, err, when)
				}
			}
		}
		x.ok(x.a.Chmod("/f", 0o600))
		if e, err := x.b.Lstat("/f"); err != nil || e.mtime != 1<<32-1 {
			x.Fatalf("a change of mode changed the time: %d, %v", e.mtime, err)
		}
		x.ok(x.a.Rename("/f", "/g"))
		if e, err := x.b.Lstat("/g"); err != nil || e.mtime != 1<<32-1 {
			x.Fatalf("a rename changed the time: %d, %v", e.mtime, err)
		}
		x.want(notExist, x.a.SetTime("/none", time.Unix(1, 0)))
	}},
	{name: "A5 the time is that of the commit", run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.ok(x.a.SetTime("/f", time.Unix(1_000_000_000, 0)))
		before := time.Now().Unix()
		x.append(x.a, "/f", []byte("more"))
		if e, err := x.b.Lstat("/f"); err != nil || e.mtime < before || e.mtime > time.Now().Unix() {
			x.Fatalf("%d, %v", e.mtime, err)
		}
	}},
	{name: "A4 attributes of a file that is being written", handles: true, run: func(x *exam) {
		x.put(x.a, "/f", []byte("old"))
		u := x.begin(x.a, "/f", overwrite, 0, []byte("new"))
		x.ok(x.a.Chmod("/f", 0o600))
		x.ok(x.a.SetTime("/f", time.Unix(1_000_000_000, 0)))
		if e, err := x.b.Lstat("/f"); err != nil || e.mode != 0o644 {
			x.Fatalf("others see %v, %v", e.mode, err)
		}
		x.ok(u.Close())
		if e, err := x.b.Lstat("/f"); err != nil || e.mode != 0o600 || e.mtime != 1_000_000_000 {
			x.Fatalf("%+v, %v", e, err)
		}
		x.holds(x.b, "/f", []byte("new"))
	}},
	{name: "attributes through symlinks", run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.ok(x.a.Symlink("f", "/l"))
		x.ok(x.a.Symlink("none", "/dangling"))
		x.ok(x.a.Chmod("/l", 0o600))
		x.ok(x.a.SetTime("/l", time.Unix(1_000_000_000, 0)))
		if e, err := x.b.Lstat("/f"); err != nil || e.mode != 0o600 || e.mtime != 1_000_000_000 {
			x.Fatalf("%+v, %v", e, err)
		}
		if e, err := x.b.Lstat("/l"); err != nil || e.mode != 0o777 {
			x.Fatalf("%+v, %v", e, err)
		}
		x.want(notExist, x.a.Chmod("/dangling", 0o600))
		x.want(notExist, x.a.SetTime("/dangling", time.Unix(1, 0)))
	}},
}
