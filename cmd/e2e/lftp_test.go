//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (s *server) lftp(t *testing.T, url, script string) string {
	t.Helper()
	pre := fmt.Sprintf("set ssl:verify-certificate yes; set ssl:ca-file %s; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set net:max-retries 1; set net:timeout 30; set cmd:fail-exit yes; open -u %s,%s %s; ",
		s.CAFile, s.Account, s.Password, url)
	return sh(t, "lftp", "--norc", "-c", pre+script)
}

func TestLftp(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, url := range map[string]string{
		"explicit": fmt.Sprintf("ftp://%s:%d", s.Host, s.FTPSPort),
		"implicit": fmt.Sprintf("ftps://%s:%d", s.Host, s.FTPSImplicitPort),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := testData(4, 2<<20+99)
			tree := filepath.Join(t.TempDir(), "tree")
			for i := range 60 {
				path := filepath.Join(tree, fmt.Sprintf("sub %d/datei-%d ü.bin", i%4, i))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data[:i*1500], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			back := filepath.Join(t.TempDir(), "back")
			s.lftp(t, url, fmt.Sprintf("mirror -R --parallel=3 %s /%s-tree; mirror --parallel=3 /%s-tree %s", tree, name, name, back))
			sh(t, "diff", "-r", tree, back)

			// What is gone here goes there.
			if err := os.RemoveAll(filepath.Join(tree, "sub 2")); err != nil {
				t.Fatal(err)
			}
			again := filepath.Join(t.TempDir(), "again")
			s.lftp(t, url, fmt.Sprintf("mirror -R --delete %s /%s-tree; mirror /%s-tree %s", tree, name, name, again))
			sh(t, "diff", "-r", tree, again)

			// reput and reget carry on where the other side ends.
			s.lftp(t, url, fmt.Sprintf("put %s -o /%s-r; reput %s -o /%s-r", local(t, "p", data[:700_000]), name, local(t, "w", data), name))
			part := local(t, "part", data[:1_500_000])
			s.lftp(t, url, fmt.Sprintf("reget /%s-r -o %s", name, part))
			same(t, "reput and reget", part, data)

			out := s.lftp(t, url, fmt.Sprintf("chmod 600 /%s-r; cls -l /%s-r; mv /%s-r /%s-moved; rm /%s-moved; rm -r /%s-tree", name, name, name, name, name, name))
			if len(out) == 0 {
				t.Error("no listing came")
			}
		})
	}
	// R4: a clear data channel is refused. lftp then protects it, of its own accord.
	out, err := try(t, "", "lftp", "--norc", "-c", fmt.Sprintf("debug 5; set ssl:ca-file %s; set ftp:ssl-force yes; set ftp:ssl-protect-data no; set ftp:ssl-protect-list no; set net:max-retries 1; set net:timeout 10; set cmd:fail-exit yes; open -u %s,%s ftp://%s:%d; cls /",
		s.CAFile, s.Account, s.Password, s.Host, s.FTPSPort))
	clear, protected := strings.Index(out, "<--- 522"), strings.Index(out, "---> PROT P")
	if clear < 0 || (err == nil && protected < clear) {
		t.Errorf("a listing went over a clear data connection (%v):\n%s", err, out)
	}
}
