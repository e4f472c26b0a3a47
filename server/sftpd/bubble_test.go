package sftpd

import (
	"net"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// In a bubble of testing/synctest time passes only when everybody waits: what hangs on a pause does not hang on how busy the machine is.
// Sockets do not count as waiting there, so the server is given pipes.

// newBubbleRig is a rig in a bubble: its clients come by wire and dialWire, not by address.
func newBubbleRig(t *testing.T, g *fakeGate, l Limits) (*rig, *wires) {
	t.Helper()
	w := &wires{come: make(chan net.Conn), closed: make(chan struct{})}
	return newRigOn(t, g, Options{Limits: l}, w), w
}

// wires is a listener.
type wires struct {
	come   chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.come:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wires) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (w *wires) Addr() net.Addr { return loopback }

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 22}

// wire connects a client. What it writes waits for the server to read it, as in a socket's buffer: both sides of SSH may write first.
func (w *wires) wire() net.Conn {
	near, far := net.Pipe()
	w.come <- addressed{far}
	c := &client{addressed: addressed{near}, sent: make(chan []byte, 10_000)}
	go func() { // ends with Close
		for b := range c.sent {
			_, _ = near.Write(b) // the reader learns of an end
		}
	}()
	return c
}

// dialWire logs in.
func (w *wires) dialWire(conf *ssh.ClientConfig) (*ssh.Client, error) {
	nc := w.wire()
	sc, chans, reqs, err := ssh.NewClientConn(nc, "", conf)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return ssh.NewClient(sc, chans, reqs), nil
}

type addressed struct{ net.Conn }

func (addressed) LocalAddr() net.Addr  { return loopback }
func (addressed) RemoteAddr() net.Addr { return loopback }

type client struct {
	addressed
	mu   sync.Mutex // guards sent against its end
	sent chan []byte
	gone bool
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, net.ErrClosed
	}
	c.sent <- append([]byte(nil), p...)
	return len(p), nil
}

func (c *client) Close() error {
	err := c.addressed.Close() // first: who writes must not wait
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		c.gone = true
		close(c.sent)
	}
	return err
}
