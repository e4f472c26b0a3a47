//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// connection is <state>/connection.json, the contract of `sallyport demo` with scripts.
type connection struct {
	Host             string `json:"host"`
	SFTPPort         int    `json:"sftp_port"`
	FTPSPort         int    `json:"ftps_port"`
	FTPSImplicitPort int    `json:"ftps_implicit_port"`
	Account          string `json:"account"`
	Password         string `json:"password"`
	KeyFile          string `json:"key_file"`
	KnownHostsFile   string `json:"known_hosts_file"`
	CAFile           string `json:"ca_file"`
	AdminSocket      string `json:"admin_socket"`
	PID              int    `json:"pid"`
}

// server is a running `sallyport demo`.
type server struct {
	connection
	t     *testing.T
	state string
	log   string // stdout and stderr
	cmd   *exec.Cmd
	done  chan struct{}
}

func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("SALLYPORT_BIN")
	if bin == "" {
		t.Fatal("SALLYPORT_BIN is not set: run `make e2e`")
	}
	return bin
}

// start serves a new state directory until the test ends.
func start(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, state: filepath.Join(t.TempDir(), "state")}
	s.log = s.state + ".log"
	s.run()
	return s
}

// startIn serves a given state directory.
func startIn(t *testing.T, state string) *server {
	t.Helper()
	s := &server{t: t, state: state, log: filepath.Join(t.TempDir(), "log")}
	s.run()
	return s
}

// run starts the server on s.state; called again after kill it is a restart.
func (s *server) run() {
	s.t.Helper()
	_ = os.Remove(filepath.Join(s.state, "connection.json"))
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(binary(s.t), "demo", "--state", s.state, "--sftp", "127.0.0.1:0", "--ftps", "127.0.0.1:0", "--ftps-implicit", "127.0.0.1:0")
	s.cmd.Env = append(os.Environ(), "SALLYPORT_LOG__LEVEL=debug", "TMPDIR="+s.tmp())
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	cmd, done := s.cmd, s.done
	go func() { _ = cmd.Wait(); close(done) }() // ends with the process
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for left := 1000; ; left-- { // ticks, as in poll
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if left == 0 {
				s.t.Errorf("the server did not stop within 20 s of SIGTERM; log:\n%s", s.logs())
				_ = cmd.Process.Kill()
				<-done
				return
			}
		}
	})
	poll(s.t, 60*time.Second, "server is ready", func() bool {
		raw, err := os.ReadFile(filepath.Join(s.state, "connection.json"))
		if err != nil || json.Unmarshal(raw, &s.connection) != nil {
			select {
			case <-done:
				s.t.Fatalf("the server ended early; log:\n%s", s.logs())
			default:
			}
			return false
		}
		for _, p := range []int{s.SFTPPort, s.FTPSPort, s.FTPSImplicitPort} {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", p), time.Second)
			if err != nil {
				return false
			}
			_ = c.Close()
		}
		return true
	})
}

// tmp is the server's own temporary directory, so that what it leaves there is seen.
func (s *server) tmp() string {
	dir := s.state + ".tmp"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// kill is a crash: SIGKILL, no chance to tidy up.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.done
}

func (s *server) logs() string {
	raw, _ := os.ReadFile(s.log)
	return string(raw)
}

// cli runs an operator's command against the server and fails the test if it does.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	return sh(s.t, binary(s.t), append([]string{"--socket", s.AdminSocket}, args...)...)
}

// poll waits for cond with a deadline; used for processes outside our control. It counts ticks: a machine that stood still gives one for all of
// that time, in which who is waited for has not run either.
func poll(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := limit / (20 * time.Millisecond); !cond(); left-- {
		if left <= 0 {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}

// sh runs a client that must succeed.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, "", name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a client that may fail; out holds stdout and stderr.
func try(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // lftp writes what its locale cannot say as question marks
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = t.TempDir()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	return out.String(), err
}

// testData is reproducible and does not compress.
func testData(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// local writes a file for a client to send.
func local(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// same compares a downloaded file with what was sent, by hash.
func same(t *testing.T, what, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if sum(got) != sum(want) {
		t.Fatalf("%s: got %d bytes (%s), want %d bytes (%s)", what, len(got), sum(got), len(want), sum(want))
	}
}
