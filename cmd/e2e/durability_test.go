//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An upload that was acknowledged survives SIGKILL byte for byte; one under
// way is absent or resumable, and never harms what was there.
func TestKillAndResume(t *testing.T) {
	t.Parallel()
	s := start(t)
	w := s.ways()[0]
	data := testData(8, 24<<20)
	whole := local(t, "whole", data)
	s.mustCurl(t, w, "/acknowledged", "-T", whole)
	s.mustCurl(t, w, "/replaced", "-T", local(t, "old", data[:1<<20]))

	// Half of the file comes, and the rest not before the kill: however slow this machine is, the upload is under way then.
	upload := func(path string) (over func()) {
		cmd := exec.Command("curl", append(append([]string{"-sS", "--cacert", s.CAFile, "-u", s.Account + ":" + s.Password}, w.args...), "-T", "-", w.url+path)...)
		rest, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		fed := make(chan struct{})
		go func() { _, _ = rest.Write(data[:len(data)/2]); close(fed) }() // ends with curl
		return func() {
			<-fed
			_ = rest.Close()
			_ = cmd.Wait() // the server was killed under it
		}
	}
	before := blobBytes(t, s.state)
	first, second := upload("/fresh"), upload("/replaced")
	poll(t, 60*time.Second, "the uploads are under way", func() bool { return blobBytes(t, s.state) > before+4<<20 })
	s.kill()
	first()
	second()

	s.run()
	w = s.ways()[0]
	same(t, "acknowledged before the kill", s.fetch(t, w, "/acknowledged"), data)
	same(t, "old content of a broken overwrite", s.fetch(t, w, "/replaced"), data[:1<<20])
	if out, err := s.curl(t, w, "/replaced", "-C", "-", "-T", whole); err == nil {
		// Either refused, or the whole new file: never old bytes followed by new ones.
		same(t, "resumed overwrite", s.fetch(t, w, "/replaced"), data)
	} else if !strings.Contains(out, ": 550") {
		t.Errorf("the refusal has no reply code: %s", out)
	}
	s.mustCurl(t, w, "/fresh", "-C", "-", "-T", whole)
	same(t, "resumed after the kill", s.fetch(t, w, "/fresh"), data)
	s.cli("vfs", "verify", "--account", s.Account)
}

func blobBytes(t *testing.T, state string) (n int64) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(state, "accounts"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil && !strings.HasSuffix(d.Name(), ".db") {
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}

// R24 and FORMAT.md test 5: neither content nor names nor secrets lie on the
// disk, in temporary files or in the log, during and after transfers.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	s := start(t)
	const canary, name = "CANARY-CONTENT-7e57ab1e", "canary-name-7e57ab1e"
	data := bytes.Repeat([]byte(canary+"\n"), 200_000)
	small := local(t, "small", data[:2000])
	whole := local(t, "whole", data)
	w := s.ways()[0]
	s.mustCurl(t, w, "/"+name+"-small", "-T", small)
	up := exec.Command("curl", append(append([]string{"-sS", "--cacert", s.CAFile, "-u", s.Account + ":" + s.Password, "--limit-rate", "2M"}, w.args...), "-T", whole, w.url+"/"+name)...)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	before := blobBytes(t, s.state)
	poll(t, 60*time.Second, "the upload is under way", func() bool { return blobBytes(t, s.state) > before+1<<20 })
	scanned := s.scan(t, canary, name)
	if err := up.Wait(); err != nil {
		t.Fatal(err)
	}
	same(t, "download", s.fetch(t, w, "/"+name), data)
	s.sftp(t, fmt.Sprintf("put %s %s-sftp\nget %s-sftp %s\n", whole, name, name, filepath.Join(t.TempDir(), "x")))
	scanned += s.scan(t, canary, name)
	if scanned < int64(len(data)) {
		t.Fatalf("only %d bytes were looked at", scanned)
	}
	// Wrong and right secrets alike stay out of the log at debug level.
	_, _ = try(t, "", "curl", append(append([]string{"-sS", "--cacert", s.CAFile, "-u", s.Account + ":canary-secret-55"}, w.args...), w.url+"/")...)
	log := s.logs()
	if len(log) < 100 {
		t.Fatalf("the log is empty: the check would prove nothing")
	}
	// The demo prints the password once for the person in front of it: that is its purpose, the log proper must not.
	_, after, _ := strings.Cut(log, "curl")
	for _, secret := range []string{"canary-secret-55", canary} {
		if strings.Contains(after, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, s.Password) && strings.Contains(line, "level=") {
			t.Errorf("the password is in a log line: %s", line)
		}
	}
}

// scan reads every file of the state and temporary directories.
func (s *server) scan(t *testing.T, canaries ...string) (n int64) {
	t.Helper()
	for _, dir := range []string{s.state, s.tmp()} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // gone meanwhile, or a socket
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			n += int64(len(raw))
			for _, c := range append(canaries, s.Password) {
				exception := filepath.Base(path) == "connection.json" && c == s.Password
				if !exception && bytes.Contains(raw, []byte(c)) {
					t.Errorf("%q lies in clear in %s", c, path)
				}
				if strings.Contains(path, c) {
					t.Errorf("%q is in a path on the host: %s", c, path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A full disk is a clear error in the client's protocol; nothing acknowledged
// is lost, and the server goes on once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting a size-limited tmpfs needs root")
	}
	mnt := t.TempDir()
	if out, err := try(t, "", "mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", mnt); err != nil {
		t.Skipf("no tmpfs here: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", mnt).Run() })
	s := startIn(t, filepath.Join(mnt, "state"))
	w := s.ways()[0]
	data := testData(9, 16<<20)
	whole := local(t, "whole", data)
	s.mustCurl(t, w, "/first", "-T", whole)
	refused := false
	for i := range 20 {
		out, err := s.curl(t, w, fmt.Sprintf("/fill-%d", i), "-T", whole)
		if err != nil {
			refused = true
			if strings.Contains(out, mnt) {
				t.Errorf("a host path reached the client: %s", out)
			}
			break
		}
	}
	if !refused {
		t.Fatal("the disk never got full")
	}
	if out, err := try(t, "put "+whole+" sftp-fill\n", "sftp", s.sftpArgs()...); err == nil {
		t.Errorf("sftp put succeeded on a full disk:\n%s", out)
	}
	same(t, "what was acknowledged", s.fetch(t, w, "/first"), data)
	sh(t, "mount", "-o", "remount,size=1g", mnt)
	poll(t, 30*time.Second, "uploads work again", func() bool {
		_, err := s.curl(t, w, "/after", "-T", whole)
		return err == nil
	})
	same(t, "after there was room", s.fetch(t, w, "/after"), data)
	same(t, "what was acknowledged", s.fetch(t, w, "/first"), data)
}
