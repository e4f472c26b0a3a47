package ftpd

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// errNoChannel: a transfer without PASV, EPSV, PORT or EPRT before it.
var errNoChannel = errors.New("ftpd: no data connection prepared")

// channel is a data connection that was promised to the client (PASV, EPSV) or by it (PORT, EPRT), and then the connection
// itself. To the library it is a listener that accepts once.
//
// It lets nobody in but the address of the control connection. A connection from elsewhere is closed and counted, and the wait
// goes on: it can neither take the transfer nor spoil it (F2). Whatever happens, the channel serves one transfer.
type channel struct {
	c       *control
	dial    netip.AddrPort   // active mode; invalid = passive
	ln      *net.TCPListener // passive mode
	release func()           // returns the passive port

	placeholder net.Listener // the library's own listener, which no longer listens

	mu   sync.Mutex // guards what follows
	data *dataConn
	done bool // cut, closed or used

	leave *time.Timer // closes a channel that was left to the client; guarded by control.mu
}

// newChannel replaces the channel of the session. The previous one is closed: PASV and then PORT leak nothing (F6).
func (c *control) newChannel(dial netip.AddrPort) (*channel, error) {
	c.dropChannel()
	ch := &channel{c: c, dial: dial, release: func() {}}
	if !dial.IsValid() {
		var err error
		if ch.ln, ch.release, err = c.srv.ports.listen(c.ctx, c.local.Addr()); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.channel = ch
	ended := c.farewell != ""
	c.mu.Unlock()
	if ended {
		ch.cut()
	}
	return ch, nil
}

func (c *control) dropChannel() {
	c.mu.Lock()
	ch, left := c.channel, c.left
	c.channel, c.left = nil, nil
	c.mu.Unlock()
	if left != nil {
		left.leave.Stop()
		left.end()
	}
	if ch != nil {
		ch.end()
	}
}

// leaveChannel is dropChannel after a transfer that was refused. No other transfer can use the channel, but its port listens a
// little longer: a client that has connected to it meets its reset first and the reply behind, and curl then takes that reply
// for one to the PASV it falls back to ("Bad PASV/EPSV response: 552" in place of the reason). The next channel, the end of the
// session or limits.refused closes it.
func (c *control) leaveChannel() {
	c.mu.Lock()
	ch := c.channel
	leave := ch != nil && ch.waiting()
	if leave {
		c.channel, c.left = nil, ch
		ch.leave = time.AfterFunc(c.srv.limits.refused, ch.end)
	}
	c.mu.Unlock()
	if !leave {
		c.dropChannel()
	}
}

// waiting tells whether a passive channel still waits for its connection: nobody has taken one from it.
func (ch *channel) waiting() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.ln != nil && !ch.done && ch.data == nil
}

// Accept waits for the client's connection, or makes it in active mode.
func (ch *channel) Accept() (net.Conn, error) {
	conn, err := ch.connect()
	if err != nil {
		if o := ch.c.current(); o != nil {
			_ = o.fail(dataError{errNoData, err})
		}
		return nil, err
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.done {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	ch.data = newDataConn(ch.c, conn)
	return ch.data, nil
}

func (ch *channel) connect() (net.Conn, error) {
	deadline := time.Now().Add(ch.c.srv.limits.data)
	if ch.dial.IsValid() {
		// From the address that the client knows; from a port of the kernel's choice (port 20 would need a privilege).
		d := net.Dialer{Deadline: deadline, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ch.c.local.Addr(), 0))}
		ctx := context.Background()
		if o := ch.c.current(); o != nil {
			ctx = o.ctx
		}
		return d.DialContext(ctx, "tcp", ch.dial.String())
	}
	// One connection is all that this port is for.
	defer ch.stopListening()
	if err := ch.ln.SetDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		conn, err := ch.ln.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if addrPort(conn.RemoteAddr()).Addr() == ch.c.remote.Addr() {
			return conn, nil
		}
		ch.c.srv.counters.foreign.Add(1)
		ch.c.log.Warn("data connection from another address refused", "from", conn.RemoteAddr().String())
		_ = conn.Close()
	}
}

func (ch *channel) stopListening() {
	if ch.ln != nil {
		_ = ch.ln.Close()
	}
	ch.release()
}

// cut ends the wait or the connection at once. It does not block.
func (ch *channel) cut() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.done = true
	ch.stopListening()
	if ch.data != nil {
		ch.data.cut()
	}
}

// Close is called by the library when it is done with the transfer. It does not end one that failed: the library says so after
// its Close, and a client that met the end of its data connection first would report that in place of the reason.
// finished does it when the reply has been sent.
func (ch *channel) Close() error {
	if !ch.c.failing() {
		ch.end()
	}
	return nil
}

// end closes everything. It is idempotent.
func (ch *channel) end() {
	ch.mu.Lock()
	ch.done = true
	data := ch.data
	ch.data = nil
	ch.mu.Unlock()
	ch.stopListening()
	if ch.placeholder != nil {
		_ = ch.placeholder.Close()
	}
	if data != nil {
		data.end()
	}
}

// failing tells whether a transfer under way has failed.
func (c *control) failing() bool {
	o := c.current()
	return o != nil && o.transfer && o.failure() != nil
}

// drain takes what a client still sends of an upload that was refused in the middle, for limits.refused and no longer: most
// clients read the reply when they have sent all, and a reset before is all that they would tell. The end of the other direction
// comes first: Python's ftplib ends its own and waits for it before it reads a reply.
func (ch *channel) drain() {
	ch.mu.Lock()
	data, done := ch.data, ch.done
	ch.mu.Unlock()
	if data == nil || done {
		return
	}
	_ = data.finish()
	_ = data.wire.raw.SetReadDeadline(time.Now().Add(ch.c.srv.limits.refused))
	_, _ = io.CopyN(io.Discard, struct{ io.Reader }{data.wire.raw}, ch.c.drains())
}

// drains is how many bytes drain may take: as many as the bandwidth of session and account would let in meanwhile, or refused uploads
// would be a way around it.
func (c *control) drains() int64 {
	most, b := int64(math.MaxInt64), c.login.Policy().Bandwidth
	for _, perSecond := range []int64{b.SessionUpload, b.AccountUpload} {
		if n := float64(perSecond) * c.srv.limits.refused.Seconds(); perSecond > 0 && n < float64(most) {
			most = int64(n)
		}
	}
	return most
}

// Addr is asked by the library for its reply to EPSV, which does not leave.
func (ch *channel) Addr() net.Addr {
	if ch.ln == nil {
		return net.TCPAddrFromAddrPort(ch.dial)
	}
	return ch.ln.Addr()
}

// progress is what has passed the socket, in bytes.
func (ch *channel) progress() (received, sent int64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.data == nil {
		return 0, 0
	}
	return ch.data.wire.received.Load(), ch.data.wire.sent.Load()
}
