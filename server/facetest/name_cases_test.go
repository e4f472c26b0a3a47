package facetest

import (
	"fmt"
	"os"
)

var nameCases = []conformance{
	{name: "mkdir and rmdir", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.want(exists, x.a.Mkdir("/d"))
		x.want(exists, x.b.Mkdir("/d"))
		x.want(notExist, x.a.Mkdir("/none/d"))
		x.put(x.a, "/d/f", []byte("f"))
		x.want(exists, x.a.Mkdir("/d/f"))
		x.want(notDir, x.a.Mkdir("/d/f/x"))
		x.want(notEmpty, x.b.Rmdir("/d"))
		x.want(notDir, x.b.Rmdir("/d/f"))
		x.want(notExist, x.b.Rmdir("/none"))
		x.want(isDir, x.b.Remove("/d"))
		x.want(notExist, x.b.Remove("/none"))
		x.want(notDir, x.b.Remove("/d/f/x"))
		x.ok(x.b.Remove("/d/f"))
		x.ok(x.b.Rmdir("/d"))
		x.absent(x.a, "/d")
		x.want(exists, x.a.Mkdir("/"))
		x.want(permission, x.a.Rmdir("/"))
	}},
	{name: "N1 a new name is reserved from its OPEN", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.put(x.b, "/other", []byte("other"))
		x.ok(x.b.Mkdir("/e"))
		u := x.begin(x.a, "/d/f", overwrite, 0, []byte("mine"))
		x.want(exists, x.b.Mkdir("/d/f"))
		x.want(exists, x.b.Symlink("x", "/d/f"))
		x.want(exists, x.b.Rename("/other", "/d/f"))
		x.want(exists, x.b.Rename("/e", "/d/f"))
		x.want(notEmpty, x.b.Rmdir("/d"))
		x.want(notEmpty, x.b.Rename("/e", "/d"))
		x.want(notExist, x.b.Remove("/d/f"))
		x.want(notExist, x.b.Rename("/d/f", "/g"))
		x.ok(x.b.Rename("/d", "/moved")) // the directory itself may move
		x.ok(u.Close())
		x.holds(x.b, "/moved/f", []byte("mine"))
	}},
	{name: "N1 for O_EXCL and RENAME", handles: true, run: func(x *exam) {
		x.put(x.b, "/other", []byte("other"))
		h := x.open(x.a, "/f", rwNew)
		_, err := x.b.Open("/f", rwNew|os.O_EXCL)
		x.want(exists, err)
		x.want(exists, x.b.RenameNew("/other", "/f"))
		_, err = x.a.Open("/f", rwNew|os.O_EXCL)
		x.want(exists, err)
		x.ok(h.Close())
	}},
	{name: "N3 a rename commits what the session has not", handles: true, run: func(x *exam) {
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, []byte("early"), 0)
		x.ok(x.a.Rename("/f", "/g"))
		x.holds(x.b, "/g", []byte("early"))
		x.writeAt(h, []byte("late"), 5)
		x.holds(x.b, "/g", []byte("early"))
		x.ok(h.Close())
		x.holds(x.b, "/g", []byte("earlylate"))
		x.lists(x.b, "/", "g")
	}},
	{name: "N4 removal of an open file by its own session", handles: true, run: func(x *exam) {
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, []byte("gone"), 0)
		x.ok(x.a.Remove("/f"))
		x.absent(x.a, "/f")
		x.ok(x.a.Mkdir("/f")) // the name is free at once
		x.writeAt(h, []byte("still"), 0)
		got := make([]byte, 5)
		if _, err := h.ReadAt(got, 0); string(got) != "still" {
			x.Fatalf("%q, %v", got, err)
		}
		x.ok(h.Close())
		x.lists(x.b, "/", "f")
		x.ok(x.b.Rmdir("/f"))
	}},
	{name: "N4 removal under an upload", run: func(x *exam) {
		x.put(x.a, "/f", []byte("old"))
		u := x.begin(x.a, "/f", overwrite, 0, []byte("new"))
		x.ok(x.b.Remove("/f"))
		x.absent(x.b, "/f")
		x.put(x.b, "/f", []byte("another"))
		x.ok(u.Close())
		x.holds(x.b, "/f", []byte("another"))
		x.lists(x.b, "/", "f")
	}},
	{name: "rename under an upload", run: func(x *exam) {
		x.put(x.a, "/f", []byte("old"))
		x.ok(x.a.Mkdir("/d"))
		u := x.begin(x.a, "/f", overwrite, 0, []byte("new"))
		x.ok(x.b.Rename("/f", "/d/g"))
		x.holds(x.b, "/d/g", []byte("old"))
		x.put(x.b, "/f", []byte("another"))
		x.ok(u.Close())
		x.holds(x.b, "/d/g", []byte("new")) // the file, not the name
		x.holds(x.b, "/f", []byte("another"))
	}},
	{name: "a rename replaces the target of an upload", run: func(x *exam) {
		x.put(x.a, "/f", []byte("old"))
		x.put(x.a, "/g", []byte("other"))
		u := x.begin(x.a, "/f", overwrite, 0, []byte("new"))
		x.ok(x.b.Rename("/g", "/f"))
		x.holds(x.b, "/f", []byte("other"))
		x.ok(u.Close()) // to the history of the file that was replaced
		x.holds(x.b, "/f", []byte("other"))
	}},
	{name: "N5 rename replaces", run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.put(x.a, "/g", []byte("g"))
		x.ok(x.a.Rename("/f", "/g"))
		x.holds(x.b, "/g", []byte("f"))
		x.absent(x.b, "/f")
		x.ok(x.a.Symlink("nowhere", "/l"))
		x.ok(x.a.Rename("/g", "/l"))
		x.holds(x.b, "/l", []byte("f"))
		x.ok(x.a.Mkdir("/d"))
		x.ok(x.a.Mkdir("/e"))
		x.put(x.a, "/e/x", []byte("x"))
		x.ok(x.a.Rename("/e", "/d"))
		x.holds(x.b, "/d/x", []byte("x"))
		x.ok(x.a.Mkdir("/e"))
		x.want(notEmpty, x.a.Rename("/e", "/d"))
		x.want(isDir, x.a.Rename("/l", "/e"))
		x.want(isDir, x.a.Rename("/l", "/d"))
		x.want(notDir, x.a.Rename("/e", "/l"))
		x.want(notExist, x.a.Rename("/none", "/n"))
		x.want(notExist, x.a.Rename("/l", "/none/n"))
		x.want(notDir, x.a.Rename("/l", "/d/x/n"))
		x.ok(x.a.Rename("/l", "/l"))
		x.ok(x.a.Rename("/d", "/d"))
		x.want(permission, x.a.Rename("/", "/r"))
		x.want(permission, x.a.Rename("/e", "/"))
		x.lists(x.b, "/", "d", "e", "l")
	}},
	{name: "N6 RENAME of SFTP does not replace", handles: true, run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.put(x.a, "/g", []byte("g"))
		x.ok(x.a.Mkdir("/d"))
		x.ok(x.a.Symlink("nowhere", "/l"))
		for _, to := range []string{"/g", "/d", "/l", "/f", "/"} {
			x.want(exists, x.a.RenameNew("/f", to))
		}
		x.ok(x.a.RenameNew("/f", "/h"))
		x.holds(x.b, "/h", []byte("f"))
		x.holds(x.b, "/g", []byte("g"))
	}},
	{name: "N7 a directory below itself", run: func(x *exam) {
		for _, d := range []string{"/d", "/d/e", "/d/e/f"} {
			x.ok(x.a.Mkdir(d))
		}
		x.want(invalid, x.a.Rename("/d", "/d/x"))
		x.want(invalid, x.a.Rename("/d", "/d/e/f/x"))
		x.put(x.a, "/d/e/f/file", []byte("deep"))
		x.ok(x.a.Rename("/d/e", "/e"))
		x.holds(x.b, "/e/f/file", []byte("deep"))
		x.ok(x.a.Rename("/d", "/e/f/d"))
		x.lists(x.b, "/e/f", "d", "file")
	}},
	{name: "symlinks are themselves to remove, rename and lstat", run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		x.ok(x.a.Symlink("f", "/l"))
		x.want(exists, x.a.Symlink("g", "/l"))
		x.want(exists, x.a.Symlink("g", "/f"))
		x.ok(x.a.Rename("/l", "/m"))
		if target, err := x.b.Readlink("/m"); err != nil || target != "f" {
			x.Fatalf("%q, %v", target, err)
		}
		_, err := x.b.Readlink("/f")
		x.want(invalid, err)
		_, err = x.b.Readlink("/none")
		x.want(notExist, err)
		x.put(x.a, "/m", []byte("through"))
		x.holds(x.b, "/f", []byte("through"))
		if e, err := x.b.Lstat("/m"); err != nil || e.kind != 'l' {
			x.Fatalf("%+v, %v", e, err)
		}
		x.want(notDir, x.a.Rmdir("/m"))
		x.ok(x.a.Remove("/m"))
		x.lists(x.b, "/", "f")
	}},
	{name: "N12 an upload through a dangling symlink makes its target", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.ok(x.a.Symlink("d/target", "/l"))
		_, err := read(x.b, "/l")
		x.want(notExist, err)
		x.noResume(x.a, "/l")
		x.put(x.a, "/l", []byte("made"))
		x.holds(x.b, "/d/target", []byte("made"))
		x.lists(x.b, "/", "d", "l")
		x.ok(x.a.Symlink("none/target", "/m"))
		x.refused(notExist, x.a, "/m", overwrite, 0)
		x.ok(x.a.Rename("/m", "/n")) // a dangling link has a name as well
		x.ok(x.a.Remove("/n"))
	}},
	{name: "N11 symlinks lead nowhere outside", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.put(x.a, "/d/f", []byte("inside"))
		for link, target := range map[string]string{"/d/up": "../../../../etc/passwd", "/abs": "/etc/passwd", "/d/dots": "../../..", "/root": "/", "/in": "d/../d/./f"} {
			x.ok(x.a.Symlink(target, link))
		}
		for _, name := range []string{"/d/up", "/abs", "/d/dots/etc/passwd", "/root/etc"} {
			_, err := read(x.b, name)
			x.want(notExist, err)
		}
		x.holds(x.b, "/in", []byte("inside"))
		x.holds(x.b, "/root/d/f", []byte("inside"))
		x.holds(x.b, "/d/dots/root/d/dots/d/f", []byte("inside"))
		x.lists(x.b, "/d/dots", x.names(x.a, "/")...)
	}},
	{name: "N11 loops and long chains of symlinks", run: func(x *exam) {
		x.ok(x.a.Symlink("loop2", "/loop1"))
		x.ok(x.a.Symlink("loop1", "/loop2"))
		x.ok(x.a.Symlink("self/x", "/self"))
		for _, name := range []string{"/loop1", "/loop2", "/self", "/loop1/x"} {
			_, err := read(x.b, name)
			x.want(tooManyLink, err)
			x.refused(tooManyLink, x.a, name, overwrite, 0)
			_, err = x.b.Size(name)
			x.want(tooManyLink, err)
		}
		x.want(tooManyLink, x.a.Mkdir("/loop1/x"))
		x.put(x.a, "/l0", []byte("end"))
		for i := range 41 {
			x.ok(x.a.Symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("/l%d", i+1)))
		}
		x.holds(x.b, "/l40", []byte("end"))
		_, err := read(x.b, "/l41")
		x.want(tooManyLink, err)
		x.ok(x.a.Remove("/loop1"))
		x.ok(x.a.Remove("/self"))
	}},
	{name: "N13 a directory of 10,000 entries", run: func(x *exam) {
		const n = 10_000
		v, err := x.account.volume()
		x.ok(err)
		x.ok(fill(v, "/d", n))
		got := x.names(x.a, "/d")
		if len(got) != n {
			x.Fatalf("%d names", len(got))
		}
		for i, name := range got {
			if name != fmt.Sprintf("entry %05d", i) {
				x.Fatalf("name %d is %q", i, name)
			}
		}
		x.ok(x.a.Rename("/d", "/e"))
		if len(x.names(x.b, "/e")) != n {
			x.Fatal("names were lost by the rename")
		}
		x.want(notEmpty, x.a.Rmdir("/e"))
		x.ok(v.View(everything).RemoveAll("/e"))
		x.lists(x.b, "/")
	}},
	{name: "listings of what cannot be listed", run: func(x *exam) {
		x.put(x.a, "/f", nil)
		_, err := x.a.List("/f")
		x.want(notDir, err)
		_, err = x.a.List("/none")
		x.want(notExist, err)
		x.ok(x.a.Mkdir("/d"))
		x.ok(x.a.Symlink("d", "/l"))
		x.lists(x.a, "/d")
		x.put(x.a, "/l/x", nil)
		x.lists(x.a, "/l", "x")
	}},
}
