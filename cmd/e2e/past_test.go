//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wholeHour is an instant that is offered whatever was lost.
var wholeHour = regexp.MustCompile(`T\d\d00Z$`)

// beforeLosses is the last instant of a listing that is there for what was lost after it. That it has a fraction of a second does not tell it: one
// of a thousand has none.
func beforeLosses(list string) (before string) {
	for line := range strings.Lines(list) {
		if name := path.Base(strings.TrimSpace(line)); strings.HasPrefix(name, "20") && !wholeHour.MatchString(name) {
			before = name
		}
	}
	return before
}

// TestPast: a user deletes a tree in lftp, finds the instant before that in /.backups and takes the tree back in sftp, then deletes it again
// and has the server bring it back; curl and rclone browse and download the past.
func TestPast(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := testData(6, 1<<20+77)
	tree := filepath.Join(t.TempDir(), "tree")
	for i := range 24 {
		name := filepath.Join(tree, fmt.Sprintf("sub %d", i%3), fmt.Sprintf("datei %d ü.bin", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data[:i*40_000], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	url := fmt.Sprintf("ftp://%s:%d", s.Host, s.FTPSPort)
	s.lftp(t, url, fmt.Sprintf("mirror -R %s /tree; rm -r /tree", tree))

	// The listing offers the last moment before so many names went.
	before := beforeLosses(s.sftp(t, "ls -1 /.backups\n"))
	if before == "" {
		t.Fatal("/.backups offers no instant before the removal")
	}
	back := filepath.Join(t.TempDir(), "back")
	s.sftp(t, fmt.Sprintf("get -r /.backups/%s/tree %s\nput -r %s /tree\n", before, back, back))
	sh(t, "diff", "-r", tree, back)
	seen := filepath.Join(t.TempDir(), "seen")
	s.lftp(t, url, fmt.Sprintf("mirror /tree %s; rm -r /tree", seen))
	sh(t, "diff", "-r", tree, seen)

	// A copy on the server, without a download.
	one := "sub 1/datei 22 ü.bin"
	out := filepath.Join(t.TempDir(), "one")
	s.sftp(t, fmt.Sprintf("cp \"/.backups/%s/tree/%s\" /one\nget /one %s\n", before, one, out))
	same(t, "cp out of the past", out, data[:22*40_000])

	// The server brings it back itself, with times and modes.
	s.lftp(t, url, fmt.Sprintf("quote SITE RESTORE /tree %s", before))
	again := filepath.Join(t.TempDir(), "again")
	s.lftp(t, url, fmt.Sprintf("mirror /tree %s", again))
	sh(t, "diff", "-r", tree, again)

	for _, w := range s.ways() {
		list := s.mustCurl(t, w, "/.backups/", "-l")
		if !strings.Contains(list, before) || !strings.Contains(list, "versions") {
			t.Errorf("%s: /.backups holds %q", w.name, list)
		}
		got := filepath.Join(t.TempDir(), "got")
		s.mustCurl(t, w, "/.backups/"+before+"/tree/sub%202/datei%2023%20%C3%BC.bin", "-o", got)
		same(t, w.name+" from the past", got, data[:23*40_000])
		if out, err := s.curl(t, w, "/.backups/"+before+"/tree/new", "-T", got); err == nil {
			t.Errorf("%s: the past was changed: %s", w.name, out)
		}
	}
	conf := s.rcloneConfig(t)
	for _, remote := range []string{"sftp", "ftp", "ftps"} {
		got := filepath.Join(t.TempDir(), remote)
		sh(t, "rclone", "--config", conf, "--retries", "1", "--low-level-retries", "1", "copy", remote+":/.backups/"+before+"/tree", got)
		sh(t, "diff", "-r", tree, got)
		list := sh(t, "rclone", "--config", conf, "lsf", remote+":/.backups/versions/tree/"+one)
		versions := strings.Fields(list)
		if len(versions) < 2 || !strings.HasSuffix(versions[0], ".bin") {
			t.Errorf("%s: versions %q", remote, list)
		}
	}
}

// TestPastAfterAMassOverwrite: files with names of all sorts are encrypted in place; the listing offers the moment before, and each client
// brings all of them back from there, and finds both contents among the versions.
func TestPastAfterAMassOverwrite(t *testing.T) {
	t.Parallel()
	s := start(t)
	tree, encrypted := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "encrypted")
	names := []string{"sp ace/two  words.txt", "sp ace/caf\u00e9.txt", "nfd/cafe\u0301.txt", strings.Repeat("l", 255), `"quote'.txt`, `back\slash`, "*star?", "[x]", "#h%41", "-dash",
		"trail.", "日本.txt", "a;b&c", ".hidden", "empty-after"}
	for i, name := range names {
		for dir, data := range map[string][]byte{tree: testData(byte(i), 1000+30_000*i), encrypted: testData(byte(100+i), 1000+30_000*i)} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	url := fmt.Sprintf("ftp://%s:%d", s.Host, s.FTPSPort)
	s.lftp(t, url, fmt.Sprintf("mirror -R %s /tree", tree))
	s.lftp(t, url, fmt.Sprintf("mirror -R --transfer-all --overwrite %s /tree", encrypted))
	now := filepath.Join(t.TempDir(), "now")
	s.lftp(t, url, fmt.Sprintf("mirror /tree %s", now))
	sh(t, "diff", "-r", encrypted, now)
	if list := s.lftp(t, url, "cls -1 -a /"); strings.Contains(list, ".backups") {
		t.Errorf("/ lists %q", list)
	}
	if list := s.sftp(t, "ls -1a /\n"); strings.Contains(list, ".backups") {
		t.Errorf("/ lists %q", list)
	}
	before := beforeLosses(s.lftp(t, url, "cls -1 /.backups/"))
	if before == "" {
		t.Fatal("/.backups offers no instant before the files were encrypted")
	}
	got := func(name string) string { return filepath.Join(t.TempDir(), name) }
	back := got("lftp")
	s.lftp(t, url, fmt.Sprintf("mirror /.backups/%s/tree %s", before, back))
	sh(t, "diff", "-r", tree, back)
	back = got("sftp")
	s.sftp(t, fmt.Sprintf("get -r /.backups/%s/tree %s\n", before, back))
	sh(t, "diff", "-r", tree, back)
	back = got("rclone")
	sh(t, "rclone", "--config", s.rcloneConfig(t), "--retries", "1", "copy", "sftp:/.backups/"+before+"/tree", back)
	sh(t, "diff", "-r", tree, back)

	versions := got("versions")
	s.lftp(t, url, fmt.Sprintf("mirror /.backups/versions/tree %s", versions))
	for i, name := range names {
		old, cur := false, false
		files, err := os.ReadDir(filepath.Join(versions, name))
		if err != nil {
			t.Error(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(versions, name, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			old = old || sum(data) == sum(testData(byte(i), 1000+30_000*i))
			cur = cur || sum(data) == sum(testData(byte(100+i), 1000+30_000*i))
		}
		if !old || !cur {
			t.Errorf("%q: of %d versions one is as it was: %v, one as it is: %v", name, len(files), old, cur)
		}
	}
	s.lftp(t, url, fmt.Sprintf("quote SITE RESTORE /tree %s", before))
	mnt, _ := s.mount(t, "-o", "ro")
	sh(t, "diff", "-r", tree, filepath.Join(mnt, ".backups", before, "tree"))
	sh(t, "diff", "-r", tree, filepath.Join(mnt, "tree"))
}
