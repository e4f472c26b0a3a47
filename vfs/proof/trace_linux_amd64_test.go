package proof

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// tracer runs a program and records every system call by which it changes files below root. It is a debugger (ptrace), so
// what it sees is what the kernel sees: of bbolt, of the blob store, of everything.
type tracer struct {
	root, marks string
	// fault makes a call fail; nil = none. Asked when a call begins, and told of marks.
	fault func(c *call) *fault

	pid     int
	mem     *os.File
	threads map[int]*thread
	log     []call
	problem error
}

// fault is an error that a call is made to return. Applied: it does its work all the same.
type fault struct {
	err     syscall.Errno
	applied bool
}

type thread struct {
	inside bool
	call   *call // nil = a call that does not matter
	fault  *fault
	old    bool
}

// Constants of ptrace(2) and wait(2) that package syscall lacks.
const (
	sysGood    = 1          // PTRACE_O_TRACESYSGOOD: stops at system calls can be told from others
	cloned     = 8          // PTRACE_O_TRACECLONE: new threads are traced, too
	exitKill   = 1 << 20    // PTRACE_O_EXITKILL: no child outlives the test
	allThreads = 0x40000000 // __WALL
	atCwd      = -100
	keepSize   = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)
)

// trace runs the test binary as a child and returns what it did.
func trace(t testing.TB, root string, env []string, fn func(c *call) *fault) ([]call, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		t.Fatal(err)
	}
	tr := &tracer{root: root, marks: root + ".marks", fault: fn, threads: map[int]*thread{}}
	if err := os.WriteFile(tr.marks, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	var out bytes.Buffer
	go func() { // ptrace is a matter of one thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.Command(exe)
		cmd.Env = append(append(os.Environ(), "GOMAXPROCS=2", childEnv+"="+root), env...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true, Pdeathsig: syscall.SIGKILL}
		done <- tr.run(cmd)
	}()
	err = <-done
	if err != nil {
		return tr.log, fmt.Errorf("%w\n%s", err, out.String())
	}
	return tr.log, tr.problem
}

func (tr *tracer) run(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	tr.pid = cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(tr.pid, &status, 0, nil); err != nil {
		return err
	}
	if err := syscall.PtraceSetOptions(tr.pid, sysGood|cloned|exitKill); err != nil {
		return err
	}
	var err error
	if tr.mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", tr.pid)); err != nil {
		return err
	}
	defer tr.mem.Close()
	if err := syscall.PtraceSyscall(tr.pid, 0); err != nil {
		return err
	}
	for {
		tid, err := syscall.Wait4(-tr.pid, &status, allThreads, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("waiting for the child: %w", err)
		case (status.Exited() || status.Signaled()) && tid == tr.pid:
			cmd.Process.Release()
			if status.ExitStatus() != 0 {
				return fmt.Errorf("the child ended with %#x", uint32(status))
			}
			return nil
		case !status.Stopped():
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); stop {
		case syscall.SIGTRAP | 0x80:
			if err := tr.stop(tid); err != nil && !errors.Is(err, syscall.ESRCH) && tr.problem == nil {
				tr.problem = err
			}
		case syscall.SIGTRAP, syscall.SIGSTOP: // a new thread
		default:
			signal = int(stop)
		}
		if err := syscall.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

// stop handles the beginning or the end of a system call.
func (tr *tracer) stop(tid int) error {
	th := tr.threads[tid]
	if th == nil {
		th = &thread{}
		tr.threads[tid] = th
	}
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	th.inside = !th.inside
	if th.inside {
		th.call, th.fault = nil, nil
		if err := tr.enter(th, &r); err != nil || th.fault == nil || th.fault.applied {
			return err
		}
		r.Orig_rax = ^uint64(0) // no such call: the kernel does nothing
		return syscall.PtraceSetRegs(tid, &r)
	}
	if th.call == nil {
		return nil
	}
	if th.fault != nil {
		err := error(nil)
		if th.fault.applied {
			err = tr.leave(th, int64(r.Rax))
		}
		r.Rax = uint64(-int64(th.fault.err))
		return errors.Join(err, syscall.PtraceSetRegs(tid, &r))
	}
	return tr.leave(th, int64(r.Rax))
}

// enter decodes a call that changes files. Those that it does not know must not touch the root.
func (tr *tracer) enter(th *thread, r *syscall.PtraceRegs) error {
	switch r.Orig_rax {
	case syscall.SYS_OPENAT:
		if r.Rdx&(syscall.O_CREAT|syscall.O_TRUNC) == 0 {
			return nil
		}
		p, err := tr.path(int32(r.Rdi), r.Rsi)
		if err != nil || !tr.below(p) {
			return err
		}
		_, serr := os.Lstat(p)
		th.old = serr == nil
		if th.old && r.Rdx&syscall.O_TRUNC == 0 {
			return nil
		}
		tr.begin(th, call{kind: create, name: p})
	case syscall.SYS_MKDIRAT:
		return tr.named(th, r, mkdir)
	case syscall.SYS_UNLINKAT:
		return tr.named(th, r, unlink)
	case syscall.SYS_RENAMEAT, sysRenameat2, syscall.SYS_LINKAT:
		kind := rename
		if r.Orig_rax == syscall.SYS_LINKAT {
			kind = link
		}
		from, err := tr.path(int32(r.Rdi), r.Rsi)
		if err != nil || !tr.below(from) {
			return err
		}
		to, err := tr.path(int32(r.Rdx), r.R10)
		if err != nil {
			return err
		}
		tr.begin(th, call{kind: kind, name: from, to: to})
	case syscall.SYS_PWRITE64, syscall.SYS_WRITE:
		return tr.write(th, r)
	case syscall.SYS_FTRUNCATE:
		p, ino, ok := tr.file(int(r.Rdi))
		if ok && tr.below(p) {
			tr.begin(th, call{kind: truncate, name: p, ino: ino, off: int64(r.Rsi)})
		}
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		p, ino, ok := tr.file(int(r.Rdi))
		if ok && tr.below(p) {
			tr.begin(th, call{kind: syncCall, name: p, ino: ino, begun: len(tr.log)})
		}
	case syscall.SYS_FALLOCATE:
		p, ino, ok := tr.file(int(r.Rdi))
		if ok && tr.below(p) && r.Rsi != keepSize {
			return fmt.Errorf("proof: fallocate of kind %d on %s is not modelled", r.Rsi, p)
		}
		if ok && tr.below(p) {
			tr.begin(th, call{kind: reserve, name: p, ino: ino})
		}
	case syscall.SYS_WRITEV, syscall.SYS_PWRITEV, sysPwritev2, sysCopyFileRange, syscall.SYS_SENDFILE:
		fd := int(r.Rdi)
		if r.Orig_rax == sysCopyFileRange {
			fd = int(r.Rdx)
		}
		if p, _, ok := tr.file(fd); ok && tr.below(p) {
			return fmt.Errorf("proof: system call %d on %s is not modelled", r.Orig_rax, p)
		}
	case syscall.SYS_SYMLINKAT, syscall.SYS_RENAME, syscall.SYS_UNLINK, syscall.SYS_MKDIR, syscall.SYS_RMDIR, syscall.SYS_TRUNCATE, syscall.SYS_OPEN, syscall.SYS_CREAT:
		if r.Orig_rax == syscall.SYS_OPEN && r.Rsi&(syscall.O_CREAT|syscall.O_TRUNC) == 0 {
			return nil
		}
		return fmt.Errorf("proof: system call %d is not modelled", r.Orig_rax)
	}
	return nil
}

const (
	sysRenameat2     = 316
	sysCopyFileRange = 326
	sysPwritev2      = 328
)

// begin notes a call, and asks whether it is to fail.
func (tr *tracer) begin(th *thread, c call) {
	th.call = &c
	if tr.fault == nil {
		return
	}
	if f := tr.fault(&c); c.kind != mark { // a mark is no call of the program's own
		th.fault = f
	}
}

func (tr *tracer) named(th *thread, r *syscall.PtraceRegs, kind callKind) error {
	p, err := tr.path(int32(r.Rdi), r.Rsi)
	if err == nil && tr.below(p) {
		tr.begin(th, call{kind: kind, name: p})
	}
	return err
}

func (tr *tracer) write(th *thread, r *syscall.PtraceRegs) error {
	p, ino, ok := tr.file(int(r.Rdi))
	if !ok || !tr.below(p) && p != tr.marks {
		return nil
	}
	data := make([]byte, r.Rdx)
	if _, err := tr.mem.ReadAt(data, int64(r.Rsi)); err != nil {
		return fmt.Errorf("reading what is written: %w", err)
	}
	if p == tr.marks {
		tr.begin(th, call{kind: mark, name: string(data)})
		return nil
	}
	off := int64(r.R10)
	if r.Orig_rax == syscall.SYS_WRITE {
		var err error
		if off, err = tr.position(int(r.Rdi)); err != nil {
			return err
		}
	}
	tr.begin(th, call{kind: write, name: p, ino: ino, off: off, data: data})
	return nil
}

// leave records a call that has succeeded.
func (tr *tracer) leave(th *thread, result int64) error {
	c := th.call
	if result < 0 {
		return nil
	}
	switch c.kind {
	case write:
		c.data = c.data[:result]
	case create:
		_, ino, ok := tr.file(int(result))
		if !ok {
			return fmt.Errorf("proof: %s vanished", c.name)
		}
		c.ino = ino
		if th.old {
			c.kind, c.off = truncate, 0
		}
	case mkdir:
		info, err := os.Lstat(c.name)
		if err != nil {
			return err
		}
		c.ino = inode(info)
	}
	tr.log = append(tr.log, *c)
	return nil
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

func (tr *tracer) below(p string) bool { return p == tr.root || strings.HasPrefix(p, tr.root+"/") }

// file is what a descriptor of the child stands for.
func (tr *tracer) file(fd int) (path string, ino uint64, ok bool) {
	link := fmt.Sprintf("/proc/%d/fd/%d", tr.pid, fd)
	path, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(path, "/") {
		return "", 0, false
	}
	if path != tr.marks && !strings.HasPrefix(path, tr.root) {
		return path, 0, true
	}
	info, err := os.Stat(link)
	if err != nil {
		return "", 0, false
	}
	return strings.TrimSuffix(path, " (deleted)"), inode(info), true
}

// position is where the next write goes: the end for a file opened to append.
func (tr *tracer) position(fd int) (int64, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tr.pid, fd))
	if err != nil {
		return 0, err
	}
	var pos, flags int64
	if _, err := fmt.Sscanf(string(info), "pos:\t%d\nflags:\t%o", &pos, &flags); err != nil {
		return 0, err
	}
	if flags&syscall.O_APPEND == 0 {
		return pos, nil
	}
	st, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, fd))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// path reads a path argument and makes it absolute.
func (tr *tracer) path(dirfd int32, addr uint64) (string, error) {
	var b []byte
	for !bytes.ContainsRune(b, 0) {
		chunk := make([]byte, 64-(addr+uint64(len(b)))%64) // never across a page that may not be there
		n, err := tr.mem.ReadAt(chunk, int64(addr)+int64(len(b)))
		if n == 0 {
			return "", fmt.Errorf("reading a path: %w", err)
		}
		b = append(b, chunk[:n]...)
	}
	p := string(b[:bytes.IndexByte(b, 0)])
	if filepath.IsAbs(p) {
		return filepath.Clean(p), nil
	}
	link := fmt.Sprintf("/proc/%d/cwd", tr.pid)
	if dirfd != atCwd {
		link = fmt.Sprintf("/proc/%d/fd/%d", tr.pid, dirfd)
	}
	dir, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, p), nil
}
