//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (s *server) sftpArgs(extra ...string) []string {
	args := []string{"-q", "-b", "-", "-P", fmt.Sprint(s.SFTPPort), "-i", s.KeyFile, "-F", "none",
		"-o", "UserKnownHostsFile=" + s.KnownHostsFile, "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"}
	return append(append(args, extra...), s.Account+"@"+s.Host)
}

func (s *server) sftp(t *testing.T, batch string, extra ...string) string {
	t.Helper()
	out, err := try(t, batch, "sftp", s.sftpArgs(extra...)...)
	if err != nil {
		t.Fatalf("sftp: %v\nbatch:\n%s\noutput:\n%s", err, batch, out)
	}
	return out
}

func TestOpenSSH(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := testData(3, 5<<20+4321)
	whole := local(t, "whole", data)

	t.Run("put and get", func(t *testing.T) {
		t.Parallel()
		to := filepath.Join(t.TempDir(), "got")
		s.sftp(t, fmt.Sprintf("mkdir d\ncd d\nput -p %s file\nget file %s\nls -l\nrename file file2\nls -ln file2\nrm file2\ncd ..\nrmdir d\n", whole, to))
		same(t, "sftp get", to, data)
	})
	t.Run("tree", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "tree")
		for i := range 200 {
			path := filepath.Join(dir, fmt.Sprintf("d%d/é %d.txt", i%7, i))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			err := os.WriteFile(path, data[i:i+i*37], 0o640)
			if err == nil {
				err = os.Chmod(path, 0o640) // whatever the umask is
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		back := t.TempDir()
		s.sftp(t, fmt.Sprintf("put -rp %s tree\nget -rp tree %s\n", dir, back))
		sh(t, "diff", "-r", dir, filepath.Join(back, "tree"))
		fi, err := os.Stat(filepath.Join(back, "tree/d1/é 1.txt"))
		if err != nil || fi.Mode().Perm() != 0o640 {
			t.Fatalf("mode did not come back: %v %v", fi.Mode(), err)
		}
	})
	t.Run("reput and reget", func(t *testing.T) {
		t.Parallel()
		s.sftp(t, fmt.Sprintf("put %s resumed\nreput %s resumed\n", local(t, "p", data[:2_000_001]), whole))
		part := local(t, "part", data[:3_111_111])
		s.sftp(t, fmt.Sprintf("reget resumed %s\n", part))
		same(t, "reput and reget", part, data)
	})
	t.Run("links and modes", func(t *testing.T) {
		t.Parallel()
		to := filepath.Join(t.TempDir(), "got")
		out := s.sftp(t, fmt.Sprintf("put %s target\nsymlink target link\nget link %s\nchmod 0444 target\nls -l target\n", whole, to))
		same(t, "through the link", to, data)
		if !strings.Contains(out, "-r--r--r--") {
			t.Errorf("chmod 0444 is not shown:\n%s", out)
		}
		if out, err := try(t, "put "+whole+" target\n", "sftp", s.sftpArgs()...); err == nil {
			t.Errorf("a read-only file was overwritten:\n%s", out)
		}
	})
	t.Run("outside is nothing", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"../../../../etc/passwd", "/etc/passwd", "/../etc/passwd"} {
			if out, err := try(t, "get "+path+" "+filepath.Join(t.TempDir(), "x")+"\n", "sftp", s.sftpArgs()...); err == nil {
				t.Errorf("%s was served:\n%s", path, out)
			}
		}
	})
	t.Run("limits and space", func(t *testing.T) {
		t.Parallel()
		out, err := try(t, "df -h\n", "sftp", append([]string{"-vvv"}, s.sftpArgs()[1:]...)...)
		if err != nil {
			t.Fatalf("df: %v\n%s", err, out)
		}
		for _, want := range []string{"limits@openssh.com", "posix-rename@openssh.com", "fsync@openssh.com", "statvfs@openssh.com"} {
			if !strings.Contains(out, want) {
				t.Errorf("the server does not announce %s", want)
			}
		}
		if !strings.Contains(out, "buffer sizes 261120 / 261120") { // 255 KiB, not 32
			t.Errorf("large packets are not in use:\n%s", grep(out, "limits", "buffer"))
		}
	})
	for _, cipher := range []string{"chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"} {
		t.Run("cipher "+cipher, func(t *testing.T) {
			t.Parallel()
			to := filepath.Join(t.TempDir(), "got")
			s.sftp(t, fmt.Sprintf("put %s c-%s\nget c-%s %s\n", whole, cipher, cipher, to), "-o", "Ciphers="+cipher)
			same(t, cipher, to, data)
		})
	}
	t.Run("password is refused", func(t *testing.T) {
		t.Parallel()
		out, err := try(t, "", "ssh", "-p", fmt.Sprint(s.SFTPPort), "-F", "none", "-o", "UserKnownHostsFile="+s.KnownHostsFile, "-o", "BatchMode=yes",
			"-o", "PreferredAuthentications=password", s.Account+"@"+s.Host, "-s", "sftp")
		if err == nil || !strings.Contains(out, "Permission denied (publickey)") {
			t.Errorf("got %v\n%s", err, out)
		}
	})
	t.Run("shell is refused with a sentence", func(t *testing.T) {
		t.Parallel()
		out, err := try(t, "", "ssh", "-p", fmt.Sprint(s.SFTPPort), "-F", "none", "-i", s.KeyFile, "-o", "UserKnownHostsFile="+s.KnownHostsFile,
			"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", s.Account+"@"+s.Host, "id")
		if err == nil || !strings.Contains(strings.ToLower(out), "sftp") {
			t.Errorf("got %v\n%s", err, out)
		}
	})
}

func grep(text string, words ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.Contains(line, w) {
				b.WriteString(line)
				break
			}
		}
	}
	return b.String()
}
