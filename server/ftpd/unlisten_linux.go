package ftpd

import (
	"net"
	"syscall"
)

// unlisten makes a listening socket stop listening without closing it: on Linux, shutdown(2) for reading takes it out of the
// listening state and frees its port. The library opens a listener on every address of the host for each PASV and sets its
// deadline later, so it must stay an open socket; but it must not be a door.
func unlisten(ln net.Listener) {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	rc, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RD) })
}
