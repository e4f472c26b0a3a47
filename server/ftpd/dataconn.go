package ftpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

var (
	errNoData    = errors.New("ftpd: no data connection")
	errDataTLS   = errors.New("ftpd: TLS handshake on the data connection failed")
	errUnsecured = errors.New("ftpd: data connection is not protected")
	errAborted   = errors.New("ftpd: aborted by the client")
	errHangup    = errors.New("ftpd: session ended by the server")
	// errControlLost: the control connection is gone, so nobody waits for the result.
	errControlLost = errors.New("ftpd: control connection lost")
)

// dataError is what went wrong on a data connection: kind for the reply, cause for the log.
type dataError struct{ kind, cause error }

func (e dataError) Error() string   { return e.kind.Error() + ": " + e.cause.Error() }
func (e dataError) Unwrap() []error { return []error{e.kind, e.cause} }

// errData is the kind of an error of the socket during a transfer.
var errData = errors.New("ftpd: data connection failed")

// dataConn is a data connection. Whoever holds it cannot send a byte in clear on a session that has TLS: Read and Write secure
// the connection first, whatever was the order of PASV and PROT (F1).
//
// One reader, one writer; cut from any goroutine.
type dataConn struct {
	c    *control
	wire *wire
	tls  *tls.Conn // nil before secure, and on plain FTP by exception

	secured bool
	err     error // of secure
	closing sync.Once
}

func newDataConn(c *control, raw net.Conn) *dataConn {
	d := &dataConn{c: c, wire: &wire{raw: raw, stall: c.srv.limits.stall}}
	var last time.Time
	m := c.login
	d.wire.progress = func(now time.Time) {
		if now.Sub(last) >= time.Second {
			last = now
			m.Touch()
		}
	}
	return d
}

// secure performs the TLS handshake that the session asks for. It is idempotent.
func (d *dataConn) secure(ctx context.Context) error {
	if d.secured || d.err != nil {
		return d.err
	}
	d.err = d.handshake(ctx)
	if d.err != nil {
		return d.err
	}
	d.secured = true
	// From here on whole buffers travel. They come from a pool: a hundred sessions that list once keep none.
	d.wire.in = d.c.srv.buffers.Get().(*[wireBuffer]byte)
	d.wire.out = d.c.srv.buffers.Get().(*[wireBuffer]byte)
	return nil
}

func (d *dataConn) handshake(ctx context.Context) error {
	if d.c.plain {
		return nil // plain FTP by exception; no end of stream can be told from a cut there
	}
	if !d.c.protect {
		return errUnsecured
	}
	policy := d.c.login.Policy().Transport
	d.wire.until = time.Now().Add(d.c.srv.limits.handshake)
	cfg, strict := d.c.dataTLS.config(policy.FTPSSessionBinding)
	t := tls.Server(d.wire, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return dataError{errNoData, err} // it was no attempt at TLS; another one may go well
		}
		return dataError{errDataTLS, err}
	}
	if err := d.c.dataTLS.judge(t.ConnectionState(), strict); err != nil {
		d.c.srv.counters.unbound.Add(1)
		_ = t.CloseWrite()
		return err
	}
	d.wire.until = time.Time{}
	d.wire.guard = policy.RequireCloseNotify
	d.tls = t
	return nil
}

func (d *dataConn) stream() interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
} {
	if d.tls != nil {
		return d.tls
	}
	return d.wire
}

func (d *dataConn) Read(p []byte) (int, error) {
	if err := d.secure(d.c.ctx); err != nil {
		return 0, err
	}
	return d.stream().Read(p)
}

func (d *dataConn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := d.secure(d.c.ctx); err != nil {
		return 0, err
	}
	return d.stream().Write(p)
}

// finish sends what is buffered and the end of the data: close_notify, then FIN. The client may then trust that it has all.
func (d *dataConn) finish() error {
	if d.tls != nil {
		if err := d.tls.CloseWrite(); err != nil {
			return err
		}
	}
	if err := d.wire.flush(); err != nil {
		return err
	}
	if t, ok := d.wire.raw.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

// cut ends the connection at once, unsent data included. It does not block.
func (d *dataConn) cut() { _ = d.wire.raw.Close() }

// Close is called by the library, like channel.Close and with the same exception.
func (d *dataConn) Close() error {
	if !d.c.failing() {
		d.end()
	}
	return nil
}

// end closes the connection. What finish has sent still arrives.
func (d *dataConn) end() {
	d.closing.Do(func() {
		_ = d.wire.raw.Close()
		for _, b := range []**[wireBuffer]byte{&d.wire.in, &d.wire.out} {
			if *b != nil {
				d.c.srv.buffers.Put(*b)
				*b = nil
			}
		}
	})
}

func (d *dataConn) LocalAddr() net.Addr              { return d.wire.LocalAddr() }
func (d *dataConn) RemoteAddr() net.Addr             { return d.wire.RemoteAddr() }
func (d *dataConn) SetDeadline(time.Time) error      { return nil } // rolling ones, in wire
func (d *dataConn) SetReadDeadline(time.Time) error  { return nil }
func (d *dataConn) SetWriteDeadline(time.Time) error { return nil }
