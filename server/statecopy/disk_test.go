package statecopy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// smallDisk mounts a file system of that many bytes, where this user may.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=400", size)); err != nil {
		t.Skipf("a full disk needs a mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func grow(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
}

// TestAFullDiskWhileCopying: at whatever byte the disk is full, the copy before stays in force and whole, and with room the next attempt
// comes to its end.
func TestAFullDiskWhileCopying(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	full := 0
	for size := 16 << 10; ; size += 44 << 10 {
		disk := smallDisk(t, size)
		path := filepath.Join(disk, "copy")
		_, err := f.run(t, path, Options{})
		if err == nil {
			break
		}
		if full++; !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if _, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); !errors.Is(err, ErrNoCopy) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		grow(t, disk)
		f.wantCopy(t, path)
	}
	if full < 5 {
		t.Errorf("full only %d times", full)
	}
	disk := smallDisk(t, 700<<10) // a second copy does not fit
	path := filepath.Join(disk, "copy")
	f.wantCopy(t, path)
	before := f.want()
	f.accounts[ids[2]].blobs[blob.ID{9, 3}] = make([]byte, 400_000)
	f.accounts[ids[2]].tree = []byte("another tree")
	if _, err := f.run(t, path, Options{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the second copy: %v", err)
	}
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, before)
	grow(t, disk)
	f.wantCopy(t, path)
}

// wantCopy makes a copy and restores it.
func (f *fake) wantCopy(t *testing.T, path string) {
	t.Helper()
	if _, err := f.run(t, path, Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, f.want())
}

// TestAFullDiskWhileRestoring: at whatever byte the disk is full, the target is no state directory and says that a restore was not
// finished, and with room the same restore comes to its end there.
func TestAFullDiskWhileRestoring(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	full := 0
	for size := 8 << 10; ; size += 36 << 10 {
		disk := smallDisk(t, size)
		to := filepath.Join(disk, "new")
		got, err := restore(t, path, to, RestoreOptions{})
		if err == nil {
			break
		}
		if full++; !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if _, marked := got[RestoringFile]; got[SealFile] != nil || !marked && len(got) > 0 {
			t.Fatalf("%d bytes: it could be taken for a state: %d files", size, len(got))
		}
		grow(t, disk)
		if got, err = restore(t, path, to, RestoreOptions{}); err != nil {
			t.Fatalf("%d bytes, again: %v", size, err)
		}
		same(t, got, f.want())
	}
	if full < 5 {
		t.Errorf("full only %d times", full)
	}
}

// killed is the child of TestKilledInTheMiddle: it copies or restores, and is killed at its nth step.
func killed(t *testing.T, what, path, to string, at int) {
	f, ids := someState()
	if strings.HasPrefix(what, "second") {
		f.change(ids)
	}
	n := 0
	step := func() {
		if n++; n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it comes
		}
	}
	f.step = func(string) error { step(); return nil }
	var err error
	switch what {
	case "copy", "second copy":
		_, err = f.run(t, path, Options{})
	case "restore":
		_, err = restore(t, path, to, RestoreOptions{Progress: func(AccountID) { step() }, Identity: func(string, []byte) error { step(); return nil }})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// change is what happens between a first and a second copy.
func (f *fake) change(ids []AccountID) {
	f.accounts[ids[0]].tree = []byte("another tree")
	f.accounts[ids[0]].blobs[blob.ID{9}] = make([]byte, 90_000)
	delete(f.accounts, ids[1])
}

// TestKilledInTheMiddle kills a copy, a second copy and a restore by SIGKILL at each of their steps: what was in force stays whole, and who
// does it again comes to the end. It is not parallel to others: a child holds their locks until it executes its program.
func TestKilledInTheMiddle(t *testing.T) {
	const child = "SALLYPORT_TEST_KILLED"
	if args := strings.Split(os.Getenv(child), "|"); len(args) == 4 {
		at, _ := strconv.Atoi(args[3])
		killed(t, args[0], args[1], args[2], at)
		return
	}
	for what, least := range map[string]int{"copy": 20, "second copy": 15, "restore": 4} {
		t.Run(what, func(t *testing.T) {
			for at := 1; ; at++ {
				f, ids := someState()
				path, to := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "new")
				before := f.want()
				if what != "copy" {
					f.wantCopy(t, path)
				}
				c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledInTheMiddle$", "-test.v")
				c.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s|%d", child, what, path, to, at))
				out, err := c.CombinedOutput()
				var exit *exec.ExitError
				if err == nil {
					if at <= least {
						t.Fatalf("only %d steps", at-1)
					}
					return
				}
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("step %d: %v\n%s", at, err, out)
				}
				switch what {
				case "restore":
					if got := filesIn(t, to); got[SealFile] != nil || got[RestoringFile] == nil {
						t.Fatalf("step %d: it could be taken for a state", at)
					}
				case "second copy":
					got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
					if err != nil {
						t.Fatalf("step %d: the copy before: %v", at, err)
					}
					same(t, got, before)
					f.change(ids)
				default:
					if _, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); !errors.Is(err, ErrNoCopy) {
						t.Fatalf("step %d: %v", at, err)
					}
				}
				if what != "restore" {
					f.wantCopy(t, path)
					continue
				}
				got, err := restore(t, path, to, RestoreOptions{})
				if err != nil {
					t.Fatalf("step %d, again: %v", at, err)
				}
				same(t, got, f.want())
			}
		})
	}
}

// TestEveryPageAndEveryInodeCanBeTheLast: a second copy on a disk with k pages, or k inodes, free, for all k until it fits. Each failure says so,
// leaves the first copy whole, and gives back all the room that it took, but for whole blobs and the directories around them.
func TestEveryPageAndEveryInodeCanBeTheLast(t *testing.T) {
	t.Parallel()
	for _, inodes := range []bool{false, true} {
		full := 0
		for free := 0; ; free++ {
			f, ids := someState()
			disk := smallDisk(t, 2<<20)
			path := filepath.Join(disk, "copy")
			f.wantCopy(t, path)
			before := f.want()
			f.change(ids)
			fill(t, disk, free, inodes)
			_, err := f.run(t, path, Options{})
			if err == nil {
				break
			}
			if full++; !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("inodes %v, %d free: %v", inodes, free, err)
			}
			if left := append(must(filepath.Glob(path+"/meta-new/*")), must(filepath.Glob(path+"/*.tmp-*"))...); len(left) > 0 || len(must(filepath.Glob(path+"/meta-*"))) > 2 {
				t.Errorf("inodes %v, %d free: left: %q", inodes, free, left)
			}
			got, err := restore(t, path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
			if err != nil {
				t.Fatalf("inodes %v, %d free: %v", inodes, free, err)
			}
			same(t, got, before)
			if full%4 != 1 {
				continue
			}
			if err := os.RemoveAll(filepath.Join(disk, "fill")); err != nil {
				t.Fatal(err)
			}
			f.wantCopy(t, path)
		}
		if full < 10 {
			t.Errorf("inodes %v: full only %d times", inodes, full)
		}
	}
}

// fill leaves that many pages, or inodes, free.
func fill(t *testing.T, disk string, free int, inodes bool) {
	t.Helper()
	dir := filepath.Join(disk, "fill")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if inodes {
		n := 0
		var err error
		for ; err == nil; n++ {
			err = os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
		}
		for k := range free {
			if err := os.Remove(filepath.Join(dir, strconv.Itoa(k))); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	f := must(os.Create(filepath.Join(dir, "pages")))
	defer f.Close()
	size := int64(0)
	for ; ; size += 4096 {
		if _, err := f.WriteAt(make([]byte, 4096), size); err != nil {
			break
		}
	}
	if err := f.Truncate(max(0, size-int64(free)*4096)); err != nil {
		t.Fatal(err)
	}
}
