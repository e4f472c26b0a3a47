package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/server/admin"
)

// asOwner has root's work on a state directory done by the user to whom it belongs: files that root made there the server could
// not read, and it would stay sealed at its next start. The program is executed anew as that user, with the one right to read
// every file, because the seal's key or token may be root's; whoever calls it has not changed anything yet. It returns at once
// unless root works on another user's directory.
func asOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // who opens it says so
	}
	if err != nil {
		return err
	}
	return become(dir, info)
}

// become goes on as the owner of dir, which info is of: looked at once, so that it is the one that was judged, wherever a symlink leads meanwhile.
func become(dir string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return &admin.Error{
		Code: admin.CodeRefused, Message: fmt.Sprintf("%s belongs to user id %d, and root cannot become that user: %v", dir, owner.Uid, execAs(owner.Uid, owner.Gid)),
		Hint: "run it as that user: what root makes there the server cannot read",
	}
}

// asServersUser has root's copy into a directory of the server's user made by that user, who could not go on with files of root: the
// next nightly copy would fail. Who the server's user is the socket says. A directory of anybody else is root's affair.
func asServersUser(socket, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	server, err := os.Stat(socket)
	if err != nil {
		return nil // who connects says so
	}
	to, err := os.Stat(dir)
	if err != nil {
		return nil // root's own, which is made
	}
	a, ok := server.Sys().(*syscall.Stat_t)
	b, also := to.Sys().(*syscall.Stat_t)
	if !ok || !also || a.Uid != b.Uid {
		return nil
	}
	return become(dir, to)
}

// execAs returns only with an error.
func execAs(uid, gid uint32) error {
	runtime.LockOSThread() // the rights are the thread's; it is not given back
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping a right: %w", err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving groups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("taking its group: %w", err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("taking its id: %w", err)
	}
	const read = uint32(1) << unix.CAP_DAC_READ_SEARCH
	caps := [2]unix.CapUserData{{Effective: read, Permitted: read, Inheritable: read}}
	// A container may not have that right; then what the seal needs must be readable for the server's user, as it is for the server.
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err == nil {
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_DAC_READ_SEARCH, 0, 0)
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}
