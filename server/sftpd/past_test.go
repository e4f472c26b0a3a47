package sftpd

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// TestStackHistory: /.backups over SFTP, and restoring with copy-data.
func TestStackHistory(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	content := randomBytes(3<<20 + 5)
	must(c.Mkdir("/d"))
	put(t, c, "/d/f", content)
	must(c.Symlink("f", "/d/l"))
	must(c.Chtimes("/d/f", time.Unix(1_400_000_000, 0), time.Unix(1_500_000_000, 0)))
	dir := "/.backups/" + session.FormatInstant(time.Now())
	must(c.Remove("/d/f"))
	must(c.Remove("/d/l"))
	must(c.RemoveDirectory("/d"))

	if !bytes.Equal(get(t, c, dir+"/d/f"), content) || !bytes.Equal(get(t, c, dir+"/d/l"), content) {
		t.Error("other bytes")
	}
	fi, err := c.Stat(dir + "/d/f")
	must(err)
	if fi.Size() != int64(len(content)) || fi.ModTime().Unix() != 1_500_000_000 {
		t.Errorf("stat: %d bytes of %v", fi.Size(), fi.ModTime())
	}
	if real, err := c.RealPath(dir + "/d/l"); real != dir+"/d/f" || err != nil {
		t.Errorf("realpath: %q, %v", real, err)
	}
	if to, err := c.ReadLink(dir + "/d/l"); to != "f" || err != nil {
		t.Errorf("readlink: %q, %v", to, err)
	}
	list, err := c.ReadDir(dir + "/d")
	if must(err); len(list) != 2 {
		t.Errorf("%d entries", len(list))
	}
	if _, err := c.StatVFS(dir + "/d"); err != nil {
		t.Errorf("statvfs: %v", err)
	}
	list, err = c.ReadDir("/.backups/versions/d/f")
	if must(err); len(list) != 1 || list[0].ModTime().Unix() != 1_500_000_000 { // the change of its times makes none
		t.Errorf("versions %v", list)
	}
	if !bytes.Equal(get(t, c, "/.backups/versions/d/f/"+list[0].Name()), content) {
		t.Error("other bytes in a version")
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, fs.ErrPermission) { // the client keeps the text to itself; see fsetstat below
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = c.Create(dir + "/d/new")
	refused("create", err)
	_, err = c.OpenFile(dir+"/d/f", os.O_RDWR)
	refused("open for writing", err)
	refused("remove", c.Remove(dir+"/d/f"))
	refused("rmdir", c.RemoveDirectory(dir+"/d"))
	refused("mkdir", c.Mkdir(dir+"/e"))
	refused("rename", c.Rename(dir+"/d/f", "/f"))
	refused("posix-rename", c.PosixRename(dir+"/d/f", "/f"))
	refused("symlink", c.Symlink("x", dir+"/x"))
	refused("chmod", c.Chmod(dir+"/d/f", 0o600))
	for name, why := range map[string]string{"/.backups/2199-01-01": "not come yet", "/.backups/2001-01-01": "older than what is kept"} {
		var st *sftp.StatusError
		_, err := c.ReadDir(name)
		if !errors.Is(err, fs.ErrNotExist) && !(errors.As(err, &st) && strings.Contains(st.Error(), why)) {
			t.Errorf("%s: %v", name, err)
		}
	}

	r := s.raw()
	must(c.Mkdir("/d"))
	from, to := r.open(dir+"/d/f", fxfRead), r.open("/d/f", fxfWrite|fxfCreat|fxfTrunc)
	if code, text := r.status(fxpExtended, func(p packet) packet {
		return p.string("copy-data").string(from).uint64(0).uint64(0).string(to).uint64(0)
	}); code != fxOK {
		t.Fatalf("copy-data: %d %s", code, text)
	}
	typ, f := r.ask(fxpExtended, func(p packet) packet {
		return p.string("check-file-name").string(dir + "/d/f").string("sha256").uint64(0).uint64(0).uint32(0)
	})
	if typ != fxpExtendedReply {
		t.Errorf("check-file: %d %s", f.uint32(), f.string())
	}
	if code, text := r.status(fxpFsetstat, func(p packet) packet { return p.string(from).uint32(attrMode).uint32(0) }); code != fxPermissionDenied || !strings.Contains(text, policy.CodeReserved) {
		t.Errorf("fsetstat: %d %s", code, text)
	}
	for _, h := range []string{from, to} {
		if code, text := r.status(fxpClose, func(p packet) packet { return p.string(h) }); code != fxOK {
			t.Errorf("close: %d %s", code, text)
		}
	}
	if !bytes.Equal(get(t, c, "/d/f"), content) {
		t.Error("copy-data brought other bytes back")
	}
	s.verify()
}

// TestStackPurgedTime: who asks for an instant of which something was purged is told the oldest that is whole.
func TestStackPurgedTime(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	c := s.client()
	put(t, c, "/f", []byte("one"))
	then := session.FormatInstant(time.Now())
	put(t, c, "/f", []byte("two"))
	v, err := s.files.Volume(t.Context(), s.account)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Purge(t.Context(), vfs.PurgeOptions{Before: time.Now().Add(time.Hour)})
	if err != nil || r.Versions == 0 {
		t.Fatalf("purged %+v, %v", r, err)
	}
	oldest := session.FormatInstant(r.Newest.Add(time.Second - 1).Truncate(time.Second))
	for what, try := range map[string]func() error{
		"stat":    func() error { _, err := c.Stat("/.backups/" + then + "/f"); return err },
		"readdir": func() error { _, err := c.ReadDir("/.backups/" + then); return err },
		"open":    func() error { _, err := c.Open("/.backups/" + then + "/f"); return err },
	} {
		if err := try(); !errors.Is(err, fs.ErrNotExist) { // of that status this client drops the text
			t.Errorf("%s: %v", what, err)
		}
	}
	said := reporter{}.status("open", &fs.PathError{Op: "open", Path: "/f", Err: &vfs.NotWhole{Since: r.Newest}})
	if said.code != fxNoSuchFile || !strings.HasSuffix(said.Error(), "the oldest that is whole is "+oldest) {
		t.Errorf("status %v %q, want the oldest, %s", said.code, said.Error(), oldest)
	}
	if got := get(t, c, "/.backups/"+session.FormatInstant(r.Newest)+"/f"); string(got) != "two" {
		t.Errorf("the first whole instant holds %q", got)
	}
}
