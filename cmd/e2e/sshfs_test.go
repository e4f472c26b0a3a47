//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// mount mounts the root with sshfs until unmount, or the end of the test. Without FUSE the test is skipped.
func (s *server) mount(t *testing.T, options ...string) (dir string, unmount func()) {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("no FUSE on this machine: %v", err)
	} else {
		_ = f.Close()
	}
	dir = t.TempDir()
	args := []string{"-F", "none", "-p", fmt.Sprint(s.SFTPPort), "-o", "IdentityFile=" + s.KeyFile, "-o", "UserKnownHostsFile=" + s.KnownHostsFile,
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"}
	out, err := try(t, "", "sshfs", append(append(args, options...), s.Account+"@"+s.Host+":/", dir)...)
	if err != nil {
		t.Fatalf("sshfs: %v\n%s", err, out)
	}
	unmounted := false
	unmount = func() {
		if !unmounted {
			unmounted = true
			if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil { // also when the test has ended
				t.Errorf("fusermount3: %v\n%s", err, out)
			}
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// TestSSHFS edits a file in place through the kernel: random writes, reads of
// what was just written, truncation, rename.
func TestSSHFS(t *testing.T) {
	t.Parallel()
	s := start(t)
	mnt, unmount := s.mount(t)

	want := testData(6, 1<<20)
	path := filepath.Join(mnt, "edited")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	for range 400 {
		off, n := r.IntN(1<<20), 1+r.IntN(9000)
		chunk := testData(byte(n), n)
		if _, err := f.WriteAt(chunk, int64(off)); err != nil {
			t.Fatal(err)
		}
		if off+n > len(want) {
			want = append(want, make([]byte, off+n-len(want))...)
		}
		copy(want[off:], chunk)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "after random writes", path, want)
	if err := os.Truncate(path, 123_456); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(mnt, "renamed")); err != nil {
		t.Fatal(err)
	}
	stamp := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(mnt, "renamed"), stamp, stamp); err != nil {
		t.Fatal(err)
	}
	unmount()

	// Another client sees the same, so it was not the kernel's cache.
	to := filepath.Join(t.TempDir(), "got")
	s.sftp(t, "get -p renamed "+to+"\n")
	same(t, "through sftp", to, want[:123_456])
	if fi, err := os.Stat(to); err != nil || !fi.ModTime().Equal(stamp) {
		t.Errorf("time of modification: %v %v, want %v", fi.ModTime(), err, stamp)
	}
}
