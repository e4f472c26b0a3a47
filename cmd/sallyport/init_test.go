package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/server"
	"sallyport/server/admin"
)

// TestOthersReachTheSocket: whom admin.unseal_uids names gets to the socket in the runtime directory as the unit of init
// makes it, and in one that the server makes; nobody else is answered, and nobody can look around there.
func TestOthersReachTheSocket(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	mode := regexp.MustCompile(`(?m)^RuntimeDirectoryMode=(\d+)$`).FindStringSubmatch(serviceText)
	if mode == nil {
		t.Fatal("the unit has no RuntimeDirectoryMode")
	}
	bits, err := strconv.ParseUint(mode[1], 8, 32)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"systemd", "server"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			h := initHost(t)
			dir, err := os.MkdirTemp("", "sallyport-run") // what lies above t.TempDir is closed to others
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o711); err != nil {
				t.Fatal(err)
			}
			run := filepath.Join(dir, "run")
			socket := filepath.Join(run, "admin.sock")
			if who == "systemd" {
				if err := os.Mkdir(run, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(run, os.FileMode(bits)); err != nil {
					t.Fatal(err)
				}
			}
			h.cl = admin.NewClient(socket)
			h.serve(t, "SALLYPORT_ADMIN__SOCKET="+socket, "SALLYPORT_ADMIN__UNSEAL_UIDS=[4321]")
			h.await(t, "ready")
			for uid, want := range map[uint32]string{4321: `"state":"ready"`, 4322: `"error"`} {
				if out := as(t, uid, "curl", "-sS", "--unix-socket", socket, "-d", "{}", "http://x/v1/status"); !strings.Contains(out, want) {
					t.Errorf("user %d is answered %s", uid, out)
				}
			}
			if out := as(t, 4321, "sh", "-c", "ls "+run+" >/dev/null 2>&1; echo $?"); strings.TrimSpace(out) == "0" {
				t.Error("others can list the directory")
			}
			if fi, err := os.Stat(h.state); err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("the state directory has mode %v, %v", fi.Mode(), err)
			}
		})
	}
}

// as runs a program as another user, who is in no group.
func as(t *testing.T, uid uint32, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Sprintf("%s: %v", out.String(), err)
	}
	return out.String()
}

// TestPathsOfAKeyServiceAreMadeAbsolute: a relative one would be found out after everything was made.
func TestPathsOfAKeyServiceAreMadeAbsolute(t *testing.T) {
	t.Parallel()
	o := initFlags{sftp: ":2022"}
	o.seal.Transit = server.SealTransit{TokenFile: "etc/token", CAFile: "ca.pem"}
	if _, err := o.data(""); err != nil || !filepath.IsAbs(o.seal.Transit.TokenFile) || !filepath.IsAbs(o.seal.Transit.CAFile) {
		t.Errorf("%+v, %v", o.seal.Transit, err)
	}
	o.seal.Transit = server.SealTransit{TokenFile: "credential:token"}
	if _, err := o.data(""); err != nil || o.seal.Transit.TokenFile != "credential:token" || o.seal.Transit.CAFile != "" {
		t.Errorf("%+v, %v", o.seal.Transit, err)
	}
}
