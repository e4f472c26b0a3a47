package sftpd

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/session"
)

// TestAHostileClientInThePast: what is odd is refused or right, and changes nothing.
func TestAHostileClientInThePast(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	content := randomBytes(200_001)
	if err := c.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "/d/f", content)
	then := "/.backups/" + session.FormatInstant(time.Now())
	put(t, c, "/d/f", []byte("now"))
	list, err := c.ReadDir("/.backups/versions/d/f")
	if err != nil || len(list) != 2 {
		t.Fatalf("%d versions, %v", len(list), err)
	}
	version := "/.backups/versions/d/f/" + list[0].Name()
	r := s.raw()
	ext := func(name string) func(packet) packet { return func(p packet) packet { return p.string(name) } }
	status := func(what string, typ byte, build func(packet) packet, want uint32, text string) {
		t.Helper()
		got, f := r.ask(typ, build)
		if got != fxpStatus {
			t.Errorf("%s: a reply of type %d", what, got)
			return
		}
		if code, said := f.uint32(), f.string(); code != want || !strings.Contains(said, text) {
			t.Errorf("%s: %d %s", what, code, said)
		}
	}
	for _, old := range []string{then + "/d/f", version} {
		h := r.open(old, fxfRead)
		for _, off := range []uint64{200_001, 200_002, 1 << 40, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
			typ, f := r.ask(fxpRead, func(p packet) packet { return p.string(h).uint64(off).uint32(10) })
			if code := f.uint32(); typ != fxpStatus || code == fxOK {
				t.Errorf("read of %s at %d: type %d, code %d", old, off, typ, code)
			}
		}
		typ, f := r.ask(fxpRead, func(p packet) packet { return p.string(h).uint64(200_000).uint32(1 << 31) })
		if got := f.string(); typ != fxpData || got != string(content[200_000:]) {
			t.Errorf("the last byte of %s: type %d, %q", old, typ, got)
		}
		status("write to "+old, fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("x") }, fxPermissionDenied, "")
		size := func(p packet) packet { return p.uint32(attrSize).uint64(0) }
		status("ftruncate", fxpFsetstat, func(p packet) packet { return size(p.string(h)) }, fxPermissionDenied, policy.CodeReserved)
		status("truncate", fxpSetstat, func(p packet) packet { return size(p.string(old)) }, fxPermissionDenied, policy.CodeReserved)
		for _, flags := range []uint32{fxfWrite, fxfRead | fxfWrite, fxfWrite | fxfAppend, fxfWrite | fxfCreat | fxfTrunc, fxfWrite | fxfCreat | fxfExcl} {
			typ, f := r.ask(fxpOpen, func(p packet) packet { return p.string(old).uint32(flags).uint32(0) })
			if code := f.uint32(); typ != fxpStatus || code == fxOK {
				t.Errorf("open of %s with %#x: type %d, code %d", old, flags, typ, code)
			}
		}
		now := r.open("/d/copy", fxfWrite|fxfCreat|fxfTrunc)
		copyData := func(from string, off, n uint64, to string, at uint64) func(packet) packet {
			return func(p packet) packet {
				return p.string("copy-data").string(from).uint64(off).uint64(n).string(to).uint64(at)
			}
		}
		for _, odd := range [][3]uint64{{200_002, 0, 0}, {math.MaxUint64, 0, 0}, {0, 10, math.MaxUint64}, {0, 10, math.MaxInt64}} {
			typ, f := r.ask(fxpExtended, copyData(h, odd[0], odd[1], now, odd[2]))
			if code, said := f.uint32(), f.string(); typ != fxpStatus || code == fxOK && odd[1] != 0 {
				t.Errorf("copy-data of %d: type %d, %d %s", odd, typ, code, said)
			}
		}
		status("copy-data of more than there is", fxpExtended, copyData(h, 1, math.MaxUint64-1, now, 0), fxOK, "")
		status("copy-data into the past", fxpExtended, copyData(now, 0, 0, h, 0), fxPermissionDenied, "")
		status("copy-data onto itself", fxpExtended, copyData(h, 0, 10, h, 5), fxPermissionDenied, "")
		status("copy-data of a range", fxpExtended, copyData(h, 100_000, 50_000, now, 0), fxOK, "")
		status("close", fxpClose, func(p packet) packet { return p.string(now) }, fxOK, "")
		if got := get(t, c, "/d/copy"); len(got) < 50_000 || !bytes.Equal(got[:50_000], content[100_000:150_000]) {
			t.Errorf("copied other bytes, of %d", len(got))
		}
		for what, build := range map[string]func(packet) packet{
			"hard link out of the past":    func(p packet) packet { return ext("hardlink@openssh.com")(p).string(old).string("/d/h") },
			"hard link into the past":      func(p packet) packet { return ext("hardlink@openssh.com")(p).string("/d/f").string(then + "/d/h") },
			"posix-rename out of the past": func(p packet) packet { return ext("posix-rename@openssh.com")(p).string(old).string("/d/h") },
			"posix-rename over the past":   func(p packet) packet { return ext("posix-rename@openssh.com")(p).string("/d/f").string(old) },
			"lsetstat": func(p packet) packet {
				return ext("lsetstat@openssh.com")(p).string(old).uint32(attrMode).uint32(0o777)
			},
		} {
			if typ, f := r.ask(fxpExtended, build); typ != fxpStatus || f.uint32() == fxOK {
				t.Errorf("%s: type %d", what, typ)
			}
		}
		if typ, _ := r.ask(fxpExtended, func(p packet) packet { return ext("statvfs@openssh.com")(p).string(old) }); typ != fxpExtendedReply {
			t.Errorf("statvfs: type %d", typ)
		}
		status("statvfs of a time that is none", fxpExtended, func(p packet) packet { return ext("statvfs@openssh.com")(p).string("/.backups/x") }, fxNoSuchFile, "write it like")
		status("close", fxpClose, func(p packet) packet { return p.string(h) }, fxOK, "")
	}
	// A symlink of now leads nowhere in the past, and one of then not out of it.
	if err := c.Symlink(then+"/d/f", "/into"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open("/into"); err == nil {
		t.Error("a symlink of now leads into the past")
	}
	if err := c.Symlink("/d/f", "/abs"); err != nil {
		t.Fatal(err)
	}
	later := "/.backups/" + session.FormatInstant(time.Now())
	put(t, c, "/d/f", []byte("changed"))
	if got := get(t, c, later+"/abs"); string(got) != "now" {
		t.Errorf("a symlink of then leads to %q", got)
	}
	if real, err := c.RealPath(later + "/abs"); real != later+"/d/f" || err != nil {
		t.Errorf("realpath %q, %v", real, err)
	}
	for _, loop := range []string{later + "/into", later + "/into/x"} {
		if _, err := c.Stat(loop); err == nil {
			t.Errorf("%s leads somewhere", loop)
		}
	}
	if got := get(t, c, "/d/f"); string(got) != "changed" {
		t.Errorf("the file of now holds %q", got)
	}
	s.verify()
}

// TestManyInstantsAndOpenDirectoriesOfThePast: each costs what one does, and the number of handles has an end.
func TestManyInstantsAndOpenDirectoriesOfThePast(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	put(t, c, "/f", []byte("x"))
	at := time.Now()
	for range 300 {
		put(t, c, "/f", []byte("y"))
	}
	r := s.raw()
	for i := range 2000 {
		name := "/.backups/" + session.FormatInstant(at.Add(time.Duration(i)*time.Microsecond))
		if typ, f := r.ask(fxpStat, func(p packet) packet { return p.string(name + "/f") }); typ != fxpAttrs {
			t.Fatalf("%s: type %d, code %d", name, typ, f.uint32())
		}
	}
	open, refused, last := 0, false, ""
	for i := range 5000 {
		dir := fmt.Sprintf("/.backups/%s", session.FormatInstant(at.Add(time.Duration(i)*time.Microsecond)))
		typ, f := r.ask(fxpOpendir, func(p packet) packet { return p.string([]string{dir, "/.backups", "/.backups/versions/f"}[i%3]) })
		if typ == fxpHandle {
			open, last = open+1, f.string()
			continue
		}
		code, text := f.uint32(), f.string()
		if refused = code == fxFailure && strings.Contains(text, "too many open handles"); !refused {
			t.Errorf("opendir %d: %d %s", i, code, text)
		}
		break
	}
	if !refused || open != 1024/dirPlaces {
		t.Errorf("%d directories are open at once", open)
	}
	if typ, f := r.ask(fxpExtended, func(p packet) packet { return p.string("limits@openssh.com") }); typ != fxpExtendedReply || f.uint64() != maxPacket || f.uint64() != maxData || f.uint64() != maxData || f.uint64() != 1024 {
		t.Errorf("limits: type %d", typ)
	}
	if code, text := r.status(fxpClose, func(p packet) packet { return p.string(last) }); code != fxOK {
		t.Errorf("close: %d %s", code, text)
	}
	if typ, f := r.ask(fxpOpendir, func(p packet) packet { return p.string("/.backups") }); typ != fxpHandle {
		t.Errorf("opendir after a close: %d", f.uint32())
	}
	if got := get(t, c, "/f"); string(got) != "y" { // another session goes on
		t.Errorf("/f holds %q", got)
	}
}
