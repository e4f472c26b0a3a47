//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ftp is one way in for curl.
type ftp struct {
	name string
	args []string
	url  string
}

func (s *server) ways() []ftp {
	explicit, implicit := fmt.Sprintf("ftp://%s:%d", s.Host, s.FTPSPort), fmt.Sprintf("ftps://%s:%d", s.Host, s.FTPSImplicitPort)
	return []ftp{
		{"explicit/tls1.3", []string{"--ssl-reqd", "--tlsv1.3"}, explicit},
		{"explicit/tls1.2", []string{"--ssl-reqd", "--tls-max", "1.2"}, explicit},
		{"implicit/tls1.3", []string{"--tlsv1.3"}, implicit},
		{"implicit/tls1.2", []string{"--tls-max", "1.2"}, implicit},
	}
}

// curl verifies the server's certificate: no -k anywhere in these tests.
func (s *server) curl(t *testing.T, w ftp, path string, args ...string) (string, error) {
	t.Helper()
	all := append([]string{"-sS", "--max-time", "120", "--cacert", s.CAFile, "-u", s.Account + ":" + s.Password}, w.args...)
	return try(t, "", "curl", append(append(all, args...), w.url+path)...)
}

func (s *server) mustCurl(t *testing.T, w ftp, path string, args ...string) string {
	t.Helper()
	out, err := s.curl(t, w, path, args...)
	if err != nil {
		t.Fatalf("curl %s %s %v: %v\n%s", w.name, path, args, err, out)
	}
	return out
}

func (s *server) fetch(t *testing.T, w ftp, path string, args ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "fetched")
	s.mustCurl(t, w, path, append(args, "-o", to)...)
	return to
}

func TestCurl(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, w := range s.ways() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			dir := "/curl-" + strings.ReplaceAll(w.name, "/", "-")
			data := testData(1, 3<<20+17)
			whole := local(t, "whole", data)

			s.mustCurl(t, w, dir+"/a/b/whole", "-T", whole, "--ftp-create-dirs")
			same(t, "download", s.fetch(t, w, dir+"/a/b/whole"), data)

			for _, n := range []int{0, 1, 4096, 4097, 65535, 65536, 65537} {
				path := fmt.Sprintf("%s/a/size-%d", dir, n)
				s.mustCurl(t, w, path, "-T", local(t, "n", data[:n]))
				if got := s.fetch(t, w, path); n > 0 { // curl writes no file for zero bytes
					same(t, path, got, data[:n])
				}
			}

			t.Run("append", func(t *testing.T) {
				s.mustCurl(t, w, dir+"/a/log", "-T", local(t, "1", data[:100_000]))
				s.mustCurl(t, w, dir+"/a/log", "-a", "-T", local(t, "2", data[100_000:200_001]))
				same(t, "appended", s.fetch(t, w, dir+"/a/log"), data[:200_001])
			})
			t.Run("range", func(t *testing.T) {
				same(t, "range", s.fetch(t, w, dir+"/a/b/whole", "-r", "65530-1000000"), data[65530:1000001])
			})
			t.Run("resume download", func(t *testing.T) {
				part := local(t, "part", data[:1_234_567])
				s.mustCurl(t, w, dir+"/a/b/whole", "-C", "-", "-o", part)
				same(t, "resumed download", part, data)
			})
			t.Run("resume upload", func(t *testing.T) {
				s.mustCurl(t, w, dir+"/a/part", "-T", local(t, "part", data[:777_777]))
				s.mustCurl(t, w, dir+"/a/part", "-C", "-", "-T", whole)
				same(t, "resumed upload", s.fetch(t, w, dir+"/a/part"), data)
			})
			t.Run("listing", func(t *testing.T) {
				out := s.mustCurl(t, w, dir+"/a/")
				if !strings.Contains(out, "log") || !strings.Contains(out, "200001") {
					t.Fatalf("listing lacks log with its size:\n%s", out)
				}
			})
			t.Run("rename and delete", func(t *testing.T) {
				s.mustCurl(t, w, dir+"/a/", "-Q", "-RNFR log", "-Q", "-RNTO log2", "-o", os.DevNull)
				out := s.mustCurl(t, w, dir+"/a/", "-Q", "-DELE part")
				if strings.Contains(out, "whole") {
					t.Fatalf("unexpected listing:\n%s", out)
				}
				out = s.mustCurl(t, w, dir+"/a/")
				if !strings.Contains(out, "log2") || strings.Contains(out, "part") {
					t.Fatalf("after rename and delete:\n%s", out)
				}
			})
			t.Run("missing file", func(t *testing.T) {
				// 78: remote file not found.
				if out, err := s.curl(t, w, dir+"/nowhere", "-o", os.DevNull); err == nil || err.Error() != "exit status 78" {
					t.Fatalf("got %v, want exit status 78\n%s", err, out)
				}
			})
		})
	}
}

// R1, R3: no password is asked for before TLS.
func TestCurlPlainIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, account := range []string{s.Account, "nobody-of-that-name"} {
		out, err := try(t, "", "curl", "-sv", "-u", account+":canary-password", fmt.Sprintf("ftp://%s:%d/", s.Host, s.FTPSPort))
		if err == nil {
			t.Fatalf("plain FTP was let in:\n%s", out)
		}
		// As lines: the port alone can have any three digits in it.
		if strings.Contains(out, "\n> PASS") || strings.Contains(out, "\n< 331") {
			t.Errorf("the password was asked for without TLS:\n%s", out)
		}
		if !strings.Contains(out, "530 SSL is required") {
			t.Errorf("the refusal does not name the cause:\n%s", out)
		}
	}
}

// Session binding: off and prefer serve everybody, require only clients that
// resume the control connection's TLS session on the data connection.
func TestCurlSessionBinding(t *testing.T) {
	t.Parallel()
	s := start(t)
	data := testData(2, 200_000)
	for _, mode := range []string{"off", "prefer", "require"} {
		s.cli("policy", "set", "site.transport.ftps_session_binding="+mode, "--reason", "test of every mode")
		for _, w := range s.ways() {
			out, err := s.curl(t, w, "/bound", "-T", local(t, "f", data))
			// curl 7.88 with OpenSSL does not resume on TLS 1.2 data connections.
			if mode == "require" && strings.HasSuffix(w.name, "tls1.2") {
				if err == nil {
					t.Logf("%s %s: served (this curl resumes)", mode, w.name)
				}
				continue
			}
			if err != nil {
				t.Errorf("binding %s, %s: %v\n%s", mode, w.name, err, out)
				continue
			}
			same(t, mode+" "+w.name, s.fetch(t, w, "/bound"), data)
		}
	}
}

// A refused upload is told with the server's own reply: 25 is curl's "failed FTP upload". It must not be mistaken for a failed
// attempt at the data connection.
func TestCurlRefusedUploadIsNamed(t *testing.T) {
	t.Parallel()
	s := start(t)
	file := local(t, "file", testData(9, 300_000))
	for _, w := range s.ways() {
		if out, err := s.curl(t, w, "/.backups/file", "-T", file); err == nil || !strings.Contains(err.Error(), "status 25") || !strings.Contains(out, "Failed FTP upload: 550") {
			t.Errorf("%s: %v, %s", w.name, err, out)
		}
	}
}
