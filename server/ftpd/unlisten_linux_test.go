package ftpd

import (
	"net"
	"syscall"
	"testing"
)

// While a transfer waits for its data connection, nothing listens but the port that was told.
func TestNoOtherPortListens(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	c.epsv()
	ch := h.srv.onlyConn(t).control.prepared()
	for name, want := range map[string]int{"placeholder": 0, "channel": 1} {
		ln := ch.ln
		if name == "placeholder" {
			ln = ch.placeholder.(*net.TCPListener)
		}
		rc, err := ln.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if err := rc.Control(func(fd uintptr) {
			got, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		}); err != nil {
			t.Fatal(err)
		}
		if got != want || err != nil {
			t.Errorf("the %s listens: %d, %v; want %d", name, got, err, want)
		}
	}
}
