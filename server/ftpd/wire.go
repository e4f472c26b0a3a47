package ftpd

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// errTruncated: the peer ended the stream below TLS, so nobody vouches that the data is whole (F5).
var errTruncated = errors.New("ftpd: connection ended without close_notify")

// wire is a data connection's socket below TLS. It
//   - turns the end of the stream into errTruncated: only a close_notify, which never reaches this layer as an end, ends a
//     protected transfer;
//   - rolls a deadline: each pause without a byte is bounded, the whole is not (F4);
//   - reads and writes many TLS records per system call.
//
// One reader and one writer at a time; cut from any goroutine.
type wire struct {
	raw      net.Conn
	stall    time.Duration
	until    time.Time // not after this, whatever arrives: the handshake. Zero = no such end
	guard    bool      // ends of stream are errTruncated
	progress func(now time.Time)

	in         *[wireBuffer]byte // nil = unbuffered
	start, end int
	out        *[wireBuffer]byte // nil = unbuffered: the handshake
	used       int

	received, sent atomic.Int64 // bytes on the socket
}

func (w *wire) deadline() time.Time {
	now := time.Now()
	if w.progress != nil {
		w.progress(now)
	}
	d := now.Add(w.stall)
	if !w.until.IsZero() && w.until.Before(d) {
		return w.until
	}
	return d
}

func (w *wire) Read(p []byte) (int, error) {
	if w.start < w.end {
		n := copy(p, w.in[w.start:w.end])
		w.start += n
		return n, nil
	}
	// TLS asks for a header first and then for the rest of its record: without reading ahead, two system calls per 16 KiB.
	dst := p
	if w.in != nil && len(p) < len(w.in) {
		dst = w.in[:]
	}
	if err := w.raw.SetReadDeadline(w.deadline()); err != nil {
		return 0, err
	}
	n, err := w.raw.Read(dst)
	w.received.Add(int64(n))
	if w.guard && errors.Is(err, io.EOF) {
		err = errTruncated
	}
	if len(dst) > len(p) || len(p) == 0 {
		w.start, w.end = 0, n
		n = copy(p, dst[:n])
		w.start = n
		if n > 0 {
			err = nil // told by the next call
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.out == nil {
		return w.push(p)
	}
	total := len(p)
	for len(p) > 0 {
		n := copy(w.out[w.used:], p)
		w.used += n
		p = p[n:]
		if w.used == len(w.out) {
			if err := w.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

func (w *wire) flush() error {
	if w.used == 0 {
		return nil
	}
	_, err := w.push(w.out[:w.used])
	w.used = 0
	return err
}

// push writes p whole. A slow client that takes something within every deadline is not a stalled one.
func (w *wire) push(p []byte) (int, error) {
	done := 0
	for {
		if err := w.raw.SetWriteDeadline(w.deadline()); err != nil {
			return done, err
		}
		n, err := w.raw.Write(p[done:])
		done += n
		w.sent.Add(int64(n))
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
	}
}

// Close is called by crypto/tls after its close_notify.
func (w *wire) Close() error {
	err := w.flush()
	return errors.Join(err, w.raw.Close())
}

func (w *wire) LocalAddr() net.Addr  { return w.raw.LocalAddr() }
func (w *wire) RemoteAddr() net.Addr { return w.raw.RemoteAddr() }

// The deadlines of a data connection roll; those that crypto/tls sets for its own farewell (5 s) would otherwise end them.

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
