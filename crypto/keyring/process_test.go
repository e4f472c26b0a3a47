package keyring

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary play another process: what to do, and in
// which directory.
const helperEnv = "SALLYPORT_KEYRING_TEST_HELPER"

func TestMain(m *testing.M) {
	what, dir, ok := strings.Cut(os.Getenv(helperEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	switch what {
	case "lock": // hold the lock until standard input ends
		if _, err := LockState(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		io.Copy(io.Discard, os.Stdin)
	case "harden":
		err := HardenProcess()
		var core unix.Rlimit
		rerr := unix.Getrlimit(unix.RLIMIT_CORE, &core)
		dumpable, perr := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println(err, rerr, perr, core.Cur, core.Max, dumpable)
	}
}

// helper starts the test binary as another process.
func helper(t *testing.T, what, dir string) (*exec.Cmd, io.WriteCloser, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+what+":"+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in, strings.TrimSpace(line)
}

func TestLockState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := LockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockState(dir); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("in this process: got %v, want %v with the process id", err, ErrInUse)
	}
	if cmd, _, line := helper(t, "lock", dir); !strings.Contains(line, ErrInUse.Error()) {
		t.Errorf("in another process: got %q, want %v", line, ErrInUse)
	} else if err := cmd.Wait(); err == nil {
		t.Error("the other process took the lock")
	}
	release()
	release, err = LockState(dir)
	if err != nil {
		t.Errorf("after release: %v", err)
	} else {
		release()
	}
	if _, err := LockState(dir + "/absent"); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("no such directory: got %v", err)
	}
}

// TestLockEndsWithItsProcess kills the owner.
func TestLockEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, _, line := helper(t, "lock", dir)
	if line != "locked" {
		t.Fatal(line)
	}
	if _, err := LockState(dir); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("got %v, want %v with process id %d", err, ErrInUse, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	release, err := LockState(dir)
	if err != nil {
		t.Fatalf("after its owner was killed: %v", err)
	}
	release()
}

// TestHardenProcess runs in a process of its own, which it changes for good.
func TestHardenProcess(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux is hardened")
	}
	cmd, in, line := helper(t, "harden", "")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "<nil> <nil> <nil> 0 0 0"; line != want {
		t.Errorf("got %q, want %q", line, want)
	}
}
