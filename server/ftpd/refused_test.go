package ftpd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"sallyport/policy"
)

// reset tells whether the other side has ended the connection, without waiting for it to do so.
func reset(t *testing.T, conn net.Conn) bool {
	t.Helper()
	rc, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var got error
	if err := rc.Control(func(fd uintptr) {
		n, _, got = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		t.Fatal(err)
	}
	if got == nil && n > 0 {
		t.Fatal("data of a refused transfer")
	}
	return !errors.Is(got, syscall.EAGAIN)
}

// A client that has connected its data connection learns why the transfer is refused from the reply: no reset of that connection
// comes before it. curl would take the reply for the one to its next PASV.
func TestRefusalIsReadBeforeTheDataConnectionEnds(t *testing.T) {
	t.Parallel()
	long := func(o *Options) { o.limits.refused = time.Hour }
	both(t, Implicit, long, func(t *testing.T, h *host) {
		c := h.dial().login()
		for _, command := range []string{"STOR nodir/f", "RETR absent", "LIST absent"} {
			c.epsv()
			ch := h.srv.onlyConn(t).control.prepared()
			data := c.open()
			c.cmd(550, "%s", command)
			c.cmd(200, "NOOP") // the command has wholly ended
			if reset(t, data) || !ch.listening() {
				t.Errorf("%s: the data connection was reset", command)
			}
			// But it is for nothing any more.
			c.cmd(425, "STOR f")
			c.epsv()
			if ch.listening() {
				t.Errorf("%s, then EPSV: the first port still listens", command)
			}
			c.cmd(226, "ABOR")
		}
	})
}

// overQuota is a session whose uploads are refused as soon as they are written, on a server that goes on taking them for a time.
func overQuota(t *testing.T, taking time.Duration) *client {
	h := start(t, Implicit, func(o *Options) { o.limits.refused = taking })
	h.vol.fail = func(op, _ string) error {
		if op == "write" {
			return syscall.EDQUOT
		}
		return nil
	}
	return h.dial().login()
}

// A client that sends a whole file before it reads the reply can do so, though the file was refused long before.
func TestRefusalOfAnUploadUnderWayIsRead(t *testing.T) {
	t.Parallel()
	c := overQuota(t, patience)
	c.epsv()
	raw := c.open()
	c.cmd(150, "STOR f")
	d := tls.Client(raw, c.tls)
	if _, err := d.Write(make([]byte, 32<<20)); err != nil {
		t.Errorf("sending: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("the end: %v", err)
	}
	c.expect(552)
	c.cmd(200, "NOOP")
}

// record keeps what comes on a connection.
type record struct {
	net.Conn
	came []byte
}

func (r *record) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.came = append(r.came, p[:n]...)
	return n, err
}

// A client that ends its direction and waits for the end of the other one before it reads the reply, as OpenSSL's full shutdown
// does, gets a close_notify then, and not after limits.refused an end that it takes for an attack.
func TestRefusedUploadEndsItsOtherDirection(t *testing.T) {
	t.Parallel()
	c := overQuota(t, time.Hour)
	c.epsv()
	raw := &record{Conn: c.open()}
	c.cmd(150, "STOR f")
	cfg := c.tls.Clone()
	cfg.MaxVersion = tls.VersionTLS12 // whose records say what they are
	d := tls.Client(raw, cfg)
	if _, err := d.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := d.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	last := byte(0)
	for b := raw.came; len(b) >= 5; b = b[min(len(b), 5+int(b[3])<<8+int(b[4])):] {
		last = b[0]
	}
	if last != 21 { // alert
		t.Errorf("the last record is of type %d", last)
	}
	_ = raw.Close()
	c.expect(552)
	c.cmd(200, "NOOP")
}

// But not for ever, and whoever reads learns it at once.
func TestRefusedUploadIsNotTakenForEver(t *testing.T) {
	t.Parallel()
	c := overQuota(t, 50*time.Millisecond)
	c.epsv()
	raw := c.open()
	c.cmd(150, "STOR f")
	d := tls.Client(raw, c.tls)
	if _, err := d.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	c.expect(552) // before its data connection ends
	for err := error(nil); err == nil; {
		if _, err = d.Write(make([]byte, 1<<20)); isTimeout(err) {
			t.Fatal("still taken")
		}
	}
	c.cmd(200, "NOOP")
}

// Nor more than the bandwidth of the account would have let in.
func TestRefusedUploadIsTakenWithinBandwidth(t *testing.T) {
	t.Parallel()
	for what, limit := range map[string]policy.Bandwidth{
		"of the session": {SessionUpload: 4 << 10, AccountUpload: 1 << 30}, "of the account": {AccountUpload: 4 << 10},
	} {
		c := overQuota(t, time.Hour)
		c.h.vol.setPolicy(func(p *policy.Effective) { p.Bandwidth = limit })
		c.epsv()
		raw := c.open()
		c.cmd(150, "STOR f")
		d := tls.Client(raw, c.tls)
		n := 0
		for err := error(nil); err == nil && n < 256<<20; n += 1 << 20 { // 14 MiB in an hour, and what the sockets hold
			if _, err = d.Write(make([]byte, 1<<20)); isTimeout(err) {
				t.Fatal("neither taken nor ended")
			}
		}
		if n == 256<<20 {
			t.Errorf("%s: all was taken", what)
		}
		c.expect(552)
		c.cmd(200, "NOOP")
	}
}

// What nobody takes back ends by itself, and with the session.
func TestPortOfARefusedTransferCloses(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Nanosecond, time.Hour} {
		const address = "127.83.77.3"
		r := freeRange(t, address, 1)
		h := startAt(t, Implicit, address+":0", func(o *Options) { o.PassivePorts, o.limits.refused = r, after })
		c := h.dial().login()
		c.epsv()
		data := c.open()
		c.cmd(550, "RETR absent")
		if after == time.Hour {
			c.cmd(221, "QUIT")
		}
		if _, err := data.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("after %v: %v", after, err)
		}
		// The port comes back: when its socket has closed.
		other := h.dial().login()
		for end := time.Now().Add(patience); ; {
			other.send("EPSV\r\n")
			code, text, err := other.reply()
			if err != nil || code != 425 && code != 229 || time.Now().After(end) {
				t.Fatalf("after %v: %s, %v", after, text, err)
			}
			if code == 229 {
				break
			}
		}
	}
}
