package admin

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// Whoever may do nothing here cannot keep the operators' socket busy either.
func TestStrangersAreFew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(path, 0o600)
	check(t, err)
	l := &strangers{Listener: ln, known: func(Peer) bool { return false }}
	defer l.Close()
	accepted := make(chan net.Conn, 2*maxStrangers)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		check(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	var inside []net.Conn
	for range maxStrangers {
		dial()
		inside = append(inside, <-accepted)
	}
	if p, err := peerOf(inside[0]); err != nil || p.PID == 0 {
		t.Errorf("the peer of a stranger: %v, %v", p, err)
	}
	over := dial()
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one too many reads %v", err)
	}
	inside[0].Close()
	inside[0].Close() // counts once
	dial()
	inside = append(inside, <-accepted)
	over = dial()
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after one left and one came, one too many reads %v", err)
	}
	for _, c := range inside {
		c.Close()
	}
}
