//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRclone(t *testing.T) {
	t.Parallel()
	for _, remote := range []string{"sftp", "ftp", "ftps"} {
		t.Run(remote, func(t *testing.T) {
			t.Parallel()
			// rclone opens up to 16 sessions at once, which is what one account may have.
			rcloneRoundTrip(t, start(t), remote)
		})
	}
}

// rcloneConfig has a remote for each protocol: sftp, ftp (explicit TLS), ftps (implicit).
func (s *server) rcloneConfig(t *testing.T) string {
	t.Helper()
	obscured := strings.TrimSpace(sh(t, "rclone", "obscure", s.Password))
	conf := filepath.Join(t.TempDir(), "rclone.conf")
	text := fmt.Sprintf(`[sftp]
type = sftp
host = %[1]s
port = %[2]d
user = %[3]s
key_file = %[4]s
known_hosts_file = %[5]s
shell_type = none
[ftp]
type = ftp
host = %[1]s
port = %[6]d
user = %[3]s
pass = %[7]s
explicit_tls = true
no_check_certificate = true
[ftps]
type = ftp
host = %[1]s
port = %[8]d
user = %[3]s
pass = %[7]s
tls = true
no_check_certificate = true
`, s.Host, s.SFTPPort, s.Account, s.KeyFile, s.KnownHostsFile, s.FTPSPort, obscured, s.FTPSImplicitPort)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

func rcloneRoundTrip(t *testing.T, s *server, remote string) {
	t.Helper()
	conf := s.rcloneConfig(t)
	data := testData(5, 3<<20)
	rclone := func(args ...string) string {
		t.Helper()
		return sh(t, "rclone", append([]string{"--config", conf, "--retries", "1", "--low-level-retries", "1"}, args...)...)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	for i := range 50 {
		path := filepath.Join(tree, fmt.Sprintf("d%d/f %d", i%5, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data[i:i+i*i*1000], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dst := remote + ":rclone-" + remote
	rclone("sync", tree, dst)
	rclone("check", "--download", tree, dst)
	if err := os.RemoveAll(filepath.Join(tree, "d3")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "d1/f 1"), data[:55_555], 0o644); err != nil {
		t.Fatal(err)
	}
	rclone("sync", tree, dst)
	rclone("check", "--download", tree, dst)
	back := filepath.Join(t.TempDir(), "back")
	rclone("copy", dst, back)
	sh(t, "diff", "-r", tree, back)
	rclone("purge", dst)
}
