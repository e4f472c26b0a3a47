package ftpd

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
)

// errBadRestart: REST points beyond the end of the file. RFC 1123, section 4.1.3.4.
var errBadRestart = errors.New("ftpd: restart position beyond the end of the file")

// errRangeUpload: an upload into the middle of a file would have to drop what lies beyond, which a range says it does not.
var errRangeUpload = errors.New("ftpd: RANG before an upload")

// transfer is what the library holds as the open file of RETR, STOR and the rest; listings are transfers too. io.Copy in the
// library finds ReadFrom and WriteTo and hands over the data connection, so that the bytes move in our loop with our buffers.
// Used by one goroutine.
type transfer struct {
	c    *control
	op   *op
	file file // nil for listings
	send func(w io.Writer) error
	recv func(r io.Reader) error

	broken bool // the file knows that the transfer failed
	closed bool
}

// open prepares the transfer of a command. name is the path as the library resolved it; listings resolve their own.
func (c *control) open(o *op, name string) (*transfer, error) {
	t := &transfer{c: c, op: o}
	rest, rang := c.rest, c.rang
	c.rest, c.rang = 0, nil
	var err error
	switch o.verb {
	case "LIST", "NLST", "MLSD":
		t.send, err = c.openListing(o)
		return t, err
	case "RETR":
		err = t.openRead(name, rest, rang)
	case "STOU":
		err = t.openUnique(name)
	case "APPE":
		err = t.openWrite(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0)
	default: // STOR
		if rest > 0 {
			err = t.openWrite(name, os.O_WRONLY, rest)
		} else {
			err = t.openWrite(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *transfer) openRead(name string, rest int64, rang *byteRange) error {
	f, err := t.c.login.Files().OpenFile(t.op.ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	limit := int64(-1)
	if rang != nil {
		rest, limit = rang.start, rang.end-rang.start+1
	}
	if err := seekTo(f, rest); err != nil {
		return errors.Join(err, f.Close())
	}
	t.file = f
	t.send = func(w io.Writer) error {
		if limit >= 0 {
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(f, limit), make([]byte, wireBuffer))
			return err
		}
		_, err := f.WriteTo(w)
		return err
	}
	return nil
}

// openWrite opens for upload. With rest > 0 the file is continued there, and what lay beyond is gone, as with vsftpd.
func (t *transfer) openWrite(name string, flag int, rest int64) error {
	f, err := t.c.login.Files().OpenFile(t.op.ctx, name, flag, 0o644)
	if errors.Is(err, fs.ErrNotExist) && rest > 0 {
		return errBadRestart
	}
	if err != nil {
		return err
	}
	if rest > 0 {
		if err = seekTo(f, rest); err == nil {
			err = f.Truncate(rest)
		}
		if err != nil {
			// Nothing was written: without TransferError an empty change would count as one.
			f.TransferError(err)
			return errors.Join(err, f.Close())
		}
	}
	t.upload(f)
	return nil
}

// openUnique creates a file that did not exist (STOU, RFC 959, section 4.1.3), under a name that begins with the one given.
func (t *transfer) openUnique(name string) error {
	for range maxUnique {
		unique := name
		if t.op.arg == "" {
			unique = path.Join(t.c.cc.Path(), "upload")
		}
		unique += "." + rand.Text()[:8]
		f, err := t.c.login.Files().OpenFile(t.op.ctx, unique, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		t.op.name = path.Base(unique)
		t.upload(f)
		return nil
	}
	return fs.ErrExist
}

func (t *transfer) upload(f file) {
	t.file = f
	t.recv = func(r io.Reader) error {
		_, err := f.ReadFrom(r)
		return err
	}
}

// seekTo places a file at a restart position, which is 0 or lies within it.
func seekTo(f file, at int64) error {
	if at == 0 {
		return nil
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if at > size {
		return errBadRestart
	}
	_, err = f.Seek(at, io.SeekStart)
	return err
}

// WriteTo sends a download or a listing on w, which is the data connection.
func (t *transfer) WriteTo(w io.Writer) (n int64, err error) {
	d, ok := w.(*dataConn)
	if !ok || t.send == nil {
		return 0, t.op.fail(errors.ErrUnsupported)
	}
	err = t.run(d, func() error {
		if err := t.send(dataStream{d, t.op.ctx}); err != nil {
			return err
		}
		if err := d.finish(); err != nil {
			return dataError{errData, err}
		}
		return nil
	})
	return d.wire.sent.Load(), err
}

// ReadFrom receives an upload from r, which is the data connection.
func (t *transfer) ReadFrom(r io.Reader) (n int64, err error) {
	d, ok := r.(*dataConn)
	if !ok || t.recv == nil {
		return 0, t.op.fail(errors.ErrUnsupported)
	}
	err = t.run(d, func() error {
		if err := t.recv(dataStream{d, t.op.ctx}); err != nil {
			return err
		}
		_ = d.finish() // the client has said that this is all; whether it still listens decides nothing
		return nil
	})
	return d.wire.received.Load(), err
}

// run secures the connection and moves the bytes. Panics become errors of this transfer: the library's own recovery would
// leave the file open.
func (t *transfer) run(d *dataConn, move func() error) (err error) {
	defer func() {
		if t.c.caught("transfer", recover()) {
			err = t.op.fail(errPanic)
		}
	}()
	if err := t.op.failure(); err != nil {
		return err // aborted before it began
	}
	if err := d.secure(t.op.ctx); err != nil {
		return t.op.fail(err)
	}
	return t.op.fail(move())
}

// TransferError is called by the library before Close when the transfer broke.
func (t *transfer) TransferError(err error) {
	if t.file == nil || t.closed || t.broken {
		return
	}
	t.broken = true
	if cause := t.op.failure(); cause != nil {
		err = cause
	}
	t.file.TransferError(err)
}

// Close commits an upload: it returns when the file is durable.
func (t *transfer) Close() error {
	if t.file == nil || t.closed {
		return nil
	}
	if err := t.op.failure(); err != nil {
		// ABOR may have arrived after the last byte; then the client does not want this file.
		t.TransferError(err)
	}
	t.closed = true
	err := t.op.fail(t.file.Close())
	t.op.settle()
	return err
}

// refused tells whether this is an upload that the volume or policy ended, and not the client or its connection.
func (t *transfer) refused() bool {
	if t == nil || t.recv == nil {
		return false
	}
	err := t.op.failure()
	for _, other := range []error{errAborted, errHangup, errControlLost, errPanic} {
		if errors.Is(err, other) {
			return false
		}
	}
	return err != nil && !errors.As(err, new(dataError))
}

// abandon closes what is still open when the reply has been sent.
func (t *transfer) abandon() {
	if t.file != nil && !t.closed {
		t.TransferError(errPanic)
		_ = t.Close()
	}
}

// Read, Write and Seek are not used: the library copies with ReadFrom and WriteTo, and knows of no restart position. After an
// empty upload it writes nothing, which is no error.

func (t *transfer) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (t *transfer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errors.ErrUnsupported
}
func (t *transfer) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }

// dataStream marks the errors of the data connection, so that they are told from those of the volume.
type dataStream struct {
	d   *dataConn
	ctx context.Context
}

func (s dataStream) Read(p []byte) (int, error) {
	n, err := s.d.Read(p)
	return n, s.mark(err)
}

func (s dataStream) Write(p []byte) (int, error) {
	n, err := s.d.Write(p)
	return n, s.mark(err)
}

// flush sends what the socket's buffer holds.
func (s dataStream) flush() error { return s.mark(s.d.wire.flush()) }

func (s dataStream) mark(err error) error {
	switch {
	case err == nil || err == io.EOF: // the end of the stream, said by close_notify
		return err
	case errors.Is(err, errTruncated):
		s.d.c.srv.counters.truncated.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.d.c.srv.counters.stalled.Add(1)
	}
	return dataError{errData, err}
}
