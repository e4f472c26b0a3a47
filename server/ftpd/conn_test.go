package ftpd

import (
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/vfs"
)

// deadlineConn remembers the last read deadline.
type deadlineConn struct {
	net.Conn
	read time.Time
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.read = t
	return nil
}

// A stranger who sends commands and takes no replies keeps a command under way past the login limit. The reader must wait
// meanwhile, not spin on a deadline that has passed.
func TestReaderDoesNotSpinBeforeLogin(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	raw := &deadlineConn{Conn: &net.TCPConn{}}
	c := newConn(h.srv, nil, raw, Implicit)
	c.control = &control{conn: c, op: &op{}}
	c.deadline = time.Now().Add(-time.Minute)
	if c.arm(); time.Until(raw.read) < lookAround/2 {
		t.Errorf("with a command under way the reader looks around at once, want after %v", lookAround)
	}
	if c.expired() {
		t.Error("a connection ends with a command under way")
	}
	c.control.op = nil
	if c.arm(); time.Until(raw.read) > 0 {
		t.Error("without a command the login limit does not count")
	}
	if !c.expired() || !c.ending() {
		t.Error("a connection outlives its login limit")
	}
}

// File names are sealed on disk, and the volume's errors carry them: they must not reach the log.
func TestFileNamesAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{vfs.ErrIntegrity, vfs.ErrIO} {
		h := start(t, Implicit)
		c := h.dial().login()
		h.vol.mu.Lock()
		h.vol.fail = func(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: cause} }
		h.vol.mu.Unlock()
		c.send("SIZE /canary.txt\r\n")
		if code, text, err := c.reply(); err != nil || code < 400 {
			t.Fatalf("%q, %v", text, err)
		}
		log := h.log.String()
		if strings.Contains(log, "canary") {
			t.Errorf("the log holds the name:\n%s", log)
		}
		if !strings.Contains(log, cause.Error()) {
			t.Errorf("the log does not tell the cause %q:\n%s", cause, log)
		}
	}
}
