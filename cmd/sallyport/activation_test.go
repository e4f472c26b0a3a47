package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemd starts the real binary as systemd does: with a listening socket
// handed over and a socket to tell its state to.
func TestSystemd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "sallyport", args...).CombinedOutput(); err != nil {
			t.Fatalf("sallyport %v: %v\n%s", args, err, out)
		}
	}
	run("init", "--root", dir, "--no-systemd")
	config := filepath.Join(dir, "etc/sallyport/sallyport.yaml")
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	file, err := port.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	name := fmt.Sprintf("@sallyport-test-%d-%s", os.Getpid(), t.Name()) // which is the whole machine's
	supervisor, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer supervisor.Close()
	key, err := os.ReadFile(filepath.Join(dir, "etc/sallyport/sallyport.key"))
	if err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(credentials, "sallyport.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "etc/sallyport/sallyport.key")); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// LISTEN_PID is the pid of the process that takes the sockets; only it can know it.
	cmd := exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ exec sallyport serve --config "$0"`, config)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=sftp", "NOTIFY_SOCKET="+supervisor.LocalAddr().String(), "CREDENTIALS_DIRECTORY="+credentials,
		`SALLYPORT_LISTENERS=[{protocol: sftp, address: "systemd:sftp"}]`, "SALLYPORT_PASSIVE__PORTS=", "SALLYPORT_HEALTH__ADDRESS=")
	cmd.ExtraFiles = []*os.File{file}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := func(want string) {
		t.Helper()
		if err := supervisor.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		n, err := supervisor.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // the log is complete after it
			t.Fatalf("systemd was told %q (%v), want %q\n%s", buf[:n], err, want, log.String())
		}
	}
	told("READY=1")
	conn, err := net.Dial("tcp", port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	banner := make([]byte, 8)
	if _, err := conn.Read(banner); err != nil || string(banner) != "SSH-2.0-" {
		t.Errorf("the passed socket answers %q, %v", banner, err)
	}
	conn.Close()
	for _, step := range []struct {
		signal syscall.Signal
		want   string
	}{{syscall.SIGHUP, "RELOADING=1\nMONOTONIC_USEC="}, {0, "READY=1"}, {syscall.SIGTERM, "STOPPING=1"}} {
		if step.signal != 0 {
			if err := cmd.Process.Signal(step.signal); err != nil {
				t.Fatal(err)
			}
		}
		told(step.want)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v\n%s", err, log.String())
	}
}
