package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// cgroup accounts for everything that a peer starts, also for processes that
// nobody waits for: vsftpd's session processes leave their parents, and their
// CPU time with them. cgroup v2 keeps cpu.stat in every group without any
// controller enabled (kernel documentation, admin-guide/cgroup-v2, "CPU").
type cgroup struct{ path string }

// newCgroup makes a group for one peer; it needs root and a mounted cgroup2.
func newCgroup(name string) (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			path := filepath.Join(f[1], fmt.Sprintf("sallyport-bench-%d-%s", os.Getpid(), name))
			return &cgroup{path}, os.Mkdir(path, 0o755)
		}
	}
	return nil, fmt.Errorf("no cgroup2 is mounted")
}

// start starts cmd inside the group.
func (g *cgroup) start(cmd *exec.Cmd) error {
	dir, err := os.Open(g.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd.Start()
}

func (g *cgroup) usage() (usage, error) {
	stat, err := os.ReadFile(filepath.Join(g.path, "cpu.stat"))
	if err != nil {
		return usage{}, err
	}
	var u usage
	for line := range strings.Lines(string(stat)) {
		if rest, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				return usage{}, err
			}
			u.cpu = n / 1e6
		}
	}
	procs, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	if err != nil {
		return usage{}, err
	}
	for _, p := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(p); err == nil {
			u.memKiB += proportional(pid)
		}
	}
	return u, nil
}

// remove works once the last process has gone.
func (g *cgroup) remove() { _ = os.Remove(g.path) }
