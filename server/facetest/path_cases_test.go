package facetest

import (
	"errors"
	"strings"
	"sync"

	"sallyport/vfs"
)

var everything = vfs.ViewOptions{Writer: "suite"}

// fill makes a directory of n symlinks, with as many commits at once as the volume groups.
func fill(v *vfs.Volume, dir string, n int) error {
	w := v.View(everything)
	if err := w.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for k := range errs {
		wg.Go(func() {
			for i := k; i < n && errs[k] == nil; i += len(errs) {
				errs[k] = w.Symlink("x", dir+"/entry "+pad(i))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func pad(i int) string {
	const digits = "0123456789"
	b := []byte("00000")
	for k := len(b) - 1; i > 0; k, i = k-1, i/10 {
		b[k] = digits[i%10]
	}
	return string(b)
}

// awkward are names that a client may give.
var awkward = []string{
	" ", " leading", "trailing ", "two  spaces", "tab\t", `"quoted"`, `one"`, "'", "-l", "-", "--", "*", "?", "[a-z]", "~", "#", "%41", `back\slash`,
	"...", "..a", ".hidden", "a;b", "Type=file; x", "a -> b", "\x01\x1b[31m", "\x7f", "\xff", "\xff\xff", "\xfe\xffx", "\xf0\x28\x8c\x28", "caf\xe9",
	"café", "日本", "🙂", "CON", "aux.", "a:b", "|", "$(x)", "`x`", "{}", "CASE", "case",
}

var pathCases = []conformance{
	{name: "N10 awkward names", run: func(x *exam) {
		for i, name := range awkward {
			x.put(x.a, "/"+name, []byte(name))
			x.holds(x.b, "/"+name, []byte(name))
			e, err := x.b.Lstat("/" + name)
			x.ok(err)
			if base := e.name[strings.LastIndexByte(e.name, '/')+1:]; base != name && x.face.name() != "ftps" {
				x.Fatalf("%q comes back as %q", name, base)
			}
			if i%3 == 0 {
				x.ok(x.a.Remove("/" + name))
				x.ok(x.a.Mkdir("/" + name))
				x.put(x.a, "/"+name+"/"+name, []byte(name))
				x.lists(x.b, "/"+name, name)
				x.ok(x.a.Rename("/"+name+"/"+name, "/"+name+"/x"))
				x.ok(x.a.Rename("/"+name+"/x", "/"+name+"/"+name))
			}
		}
		x.lists(x.b, "/", awkward...)
		for _, name := range awkward {
			x.ok(x.a.Symlink(name, "/link to "+name))
			target, err := x.b.Readlink("/link to " + name)
			if errors.Is(err, errInexpressible) && strings.ContainsAny(name, "; ") {
				target, err = name, nil
			}
			x.ok(err)
			if target != name {
				x.Fatalf("link to %q leads to %q", name, target)
			}
			x.ok(x.a.Remove("/link to " + name))
		}
	}},
	{name: "names with line ends", handles: true, run: func(x *exam) {
		for _, name := range []string{"a\nb", "a\r", "\r\n"} {
			x.put(x.a, "/"+name, []byte(name))
			x.holds(x.b, "/"+name, []byte(name))
			x.ok(x.a.Remove("/" + name))
		}
		x.want(badName, x.a.Mkdir("/a\x00b"))
		x.refused(badName, x.a, "/a\x00b", overwrite, 0)
	}},
	{name: "N10 NFC and NFD", run: func(x *exam) {
		const nfc, nfd = "/caf\u00e9", "/cafe\u0301"
		x.put(x.a, nfd, []byte("nfd"))
		x.holds(x.b, nfc, []byte("nfd")) // the only one that looks so
		x.put(x.a, nfc, []byte("found"))
		x.holds(x.b, nfd, []byte("found"))
		x.lists(x.b, "/", nfd[1:])
		x.ok(x.a.Mkdir(nfc)) // bytes identify
		x.lists(x.b, "/", nfc[1:], nfd[1:])
		x.holds(x.b, nfd, []byte("found"))
		x.ok(x.a.Rmdir(nfc))
		x.ok(x.a.Rename(nfd, nfc))
		x.lists(x.b, "/", nfc[1:])
		x.ok(x.a.Remove(nfd))
		x.lists(x.b, "/")
		// Two that look like a third: none is meant.
		x.ok(x.a.Mkdir("/\u212b"))  // Angstrom sign
		x.ok(x.a.Mkdir("/A\u030a")) // A and ring
		x.absent(x.b, "/\u00c5")
	}},
	{name: "N8 names of 255 and 256 bytes", run: func(x *exam) {
		longest := "/" + strings.Repeat("n", 255)
		x.put(x.a, longest, []byte("longest"))
		x.holds(x.b, longest, []byte("longest"))
		over := longest + "n"
		x.refused(tooLong, x.a, over, overwrite, 0)
		x.want(tooLong, x.a.Mkdir(over))
		x.want(tooLong, x.a.Rename(longest, over))
		x.want(tooLong, x.a.Symlink("x", over))
		x.want(tooLong, x.a.Remove(over))
		_, err := x.a.Lstat(over)
		x.want(tooLong, err)
		_, err = read(x.a, over)
		x.want(tooLong, err)
		x.lists(x.b, "/", longest[1:])
		wide := "/" + strings.Repeat("\u20ac", 85) // 255 bytes, 85 characters
		x.ok(x.a.Mkdir(wide))
		x.want(tooLong, x.a.Mkdir(wide+"x"))
	}},
	{name: "N8 depth 256, 257 and 1,000", run: func(x *exam) {
		v, err := x.account.volume()
		x.ok(err)
		w := v.View(everything)
		deep := strings.Repeat("/d", 255)
		x.ok(w.MkdirAll(deep, 0o755))
		x.ok(w.Close())
		x.ok(x.a.Mkdir(deep + "/d"))
		x.want(tooLong, x.a.Mkdir(deep+"/d/d"))
		x.refused(tooLong, x.a, deep+"/d/f", overwrite, 0)
		x.put(x.a, deep+"/f", []byte("deep"))
		x.holds(x.b, deep+"/f", []byte("deep"))
		x.want(tooLong, x.a.Mkdir(strings.Repeat("/d", 1000)))
		_, err = x.a.Lstat(strings.Repeat("/d", 1000))
		x.want(tooLong, err)
	}},
	{name: "N8 paths of 4,096 bytes", handles: true, run: func(x *exam) {
		// FTP lines end earlier.
		part := "/" + strings.Repeat("p", 255)
		path := ""
		for len(path)+len(part) < 4096 {
			path += part
			x.ok(x.a.Mkdir(path))
		}
		last := path + "/" + strings.Repeat("q", 4096-len(path)-1)
		x.put(x.a, last, []byte("end"))
		x.holds(x.b, last, []byte("end"))
		x.refused(tooLong, x.a, last+"q", overwrite, 0)
		x.want(tooLong, x.a.Mkdir(last+"q"))
		x.ok(x.a.Rename("/"+strings.Repeat("p", 255)+"/"+strings.Repeat("p", 255), "/short")) // so that FTP can look
	}},
	{name: "N8 paths that become longer by a rename", run: func(x *exam) {
		v, err := x.account.volume()
		x.ok(err)
		w := v.View(everything)
		x.ok(w.MkdirAll("/a"+strings.Repeat("/d", 200), 0o755))
		x.ok(w.MkdirAll("/b"+strings.Repeat("/d", 200), 0o755))
		x.ok(x.a.Rename("/a", "/b"+strings.Repeat("/d", 200)+"/a"))
		_, err = x.b.Lstat("/b" + strings.Repeat("/d", 200) + "/a" + strings.Repeat("/d", 200))
		x.want(tooLong, err)
		x.ok(x.a.Rename("/b"+strings.Repeat("/d", 200)+"/a", "/c"))
		x.ok(w.RemoveAll("/b")) // shorter for what follows
		x.ok(w.RemoveAll("/c"))
		x.ok(w.Close())
	}},
	{name: "N11 .. in every form", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.ok(x.a.Mkdir("/d/e"))
		x.put(x.a, "/f", []byte("root"))
		for _, name := range []string{"/../f", "/../../../../f", "/d/../f", "/d/e/../../f", "/./f", "//f", "/d/./../f", "/d/e/../../../../f", "/.././../f", "/d//..//f"} {
			x.holds(x.b, name, []byte("root"))
		}
		x.lists(x.b, "/..", "d", "f")
		x.lists(x.b, "/d/..", "d", "f")
		x.lists(x.b, "/d/", "e")
		x.put(x.a, "/d/../../../g", []byte("made"))
		x.holds(x.b, "/g", []byte("made"))
		x.ok(x.a.Mkdir("/../../h"))
		x.lists(x.b, "/", "d", "f", "g", "h")
		x.want(permission, x.a.Rmdir("/.."))
		x.want(permission, x.a.Rmdir("/d/.."))
		x.want(exists, x.a.Mkdir("/d/e/../.."))
		x.ok(x.a.Rename("/d/../h", "/d/e/../i"))
		x.lists(x.b, "/d", "e", "i")
		for _, name := range []string{"/etc/passwd", "/../etc/passwd", "/d/../../etc/passwd", "/..%2fetc/passwd", `/..\..\f`} {
			_, err := read(x.b, name)
			x.want(notExist, err)
		}
	}},
	{name: "N9 /.backups is reserved", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.put(x.a, "/f", []byte("f"))
		for _, name := range []string{"/.backups", "//.backups", "/./.backups", "/d/../.backups", "/.backups/", "/d/../../.backups"} {
			x.reserved(x.a.Mkdir(name))
			x.reserved(x.a.Symlink("d", name))
			x.reserved(x.a.Rename("/f", name))
			x.reserved(x.a.Rename("/d", name))
			x.reserved(put(x.a, name, overwrite, 0, nil))
			x.reserved(put(x.a, name, extend, 0, nil))
		}
		x.ok(x.a.Symlink(".backups", "/l"))
		x.reserved(put(x.a, "/l", overwrite, 0, nil))
		x.ok(x.a.Symlink(".", "/self"))
		x.reserved(x.a.Mkdir("/self/.backups"))
		x.ok(x.a.Mkdir("/d/.backups")) // only in the root
		x.ok(x.a.Mkdir("/.BACKUPS"))
		x.lists(x.b, "/", ".BACKUPS", "d", "f", "l", "self")
	}},
}
