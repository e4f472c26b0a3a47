package ftpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
)

// control is the control connection that the library sees: the filter between the client's lines and the library's command
// loop, and between the library's replies and the client. It is a net.Conn whose Read returns the next line that the library is
// to execute, and whose Write takes the library's replies apart and sends ours.
//
// Read is only called when the library has executed the previous line or has started its transfer, and Read waits for the
// transfer. So one command is under way at a time, replies leave in the order of the commands, and what the library keeps per
// session needs no lock against us. Only ABOR and STAT overtake: the reader goroutine looks at every line that arrives.
type control struct {
	*conn

	queue chan input    // from the reader; closed at the end of the stream
	gone  chan struct{} // closed when the library has let go
	cc    ftpserver.ClientContext

	pending []byte // rest of the line that Read is handing over
	partial []byte // reply of the library that is not complete yet
	greeted bool   // the library's own greeting is swallowed

	// State of the session, touched by the commands only (one at a time).
	user     string
	entering member // logged in by the PASS under way
	renaming bool   // RNFR was the last command
	rest     int64
	rang     *byteRange
	protect  bool // PROT P
	pbsz     bool
	epsvAll  bool
	hash     string
	mlst     factSet
	rein     bool
	bad      int // lines that were no commands

	// Guarded by conn.mu.
	login   member
	op      *op
	channel *channel
	left    *channel // of a refused transfer: leaveChannel
	aborts  int      // ABORs in the queue
	closed  bool
	quit    bool // QUIT is in the queue
}

// input is a line, or why there is none.
type input struct {
	line string
	err  error
}

// op is a command under way.
type op struct {
	verb, arg string
	transfer  bool
	abortable bool
	path      string // for replies: what the command is about
	name      string // STOU: the name given
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}
	work      *transfer // what the library holds as an open file

	mu      sync.Mutex // guards what follows
	err     error      // the first that happened, whoever saw it; decides the reply
	settled bool       // too late for an abort: the upload is durable
}

// fail notes why the command does not succeed. The first reason wins; nil is none.
func (o *op) fail(err error) error {
	if err == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && !o.settled {
		o.err = err
	}
	return err
}

func (o *op) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// settle marks success that nothing may take back. It tells false if the command has failed before.
func (o *op) settle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled = o.err == nil
	return o.settled
}

// session hands the connection to a library server of its own and feeds it until either side ends. user is an account that was
// named before the handover. It tells whether the client asked to begin anew (REIN).
func (c *conn) session(user string) bool {
	ctl := &control{
		conn: c, queue: make(chan input, maxQueue), gone: make(chan struct{}),
		protect: c.mode == Implicit, hash: "SHA-256", mlst: defaultFacts(),
	}
	c.mu.Lock()
	c.control = ctl
	ended := c.farewell != ""
	c.mu.Unlock()
	if ended {
		return false
	}
	if user != "" {
		ctl.queue <- input{line: "USER " + user}
	}
	lib := ftpserver.NewFtpServer(&driver{ctl})
	if err := lib.Listen(); err != nil {
		c.log.Error("FTP engine does not start", "error", err)
		c.setFarewell("421 Internal error; please come back later.")
		return false
	}
	// Serve starts the command loop in a goroutine of the library and returns: our listener ends after one connection.
	// The loop ends with Read returning io.EOF, and says so through ClientDisconnected.
	if err := lib.Serve(); err != nil {
		c.log.Error("FTP engine does not serve", "error", err)
		return false
	}
	ctl.pump()
	<-ctl.gone
	ctl.finish()
	return ctl.rein && !c.ending()
}

// pump reads lines for the library until the connection is to end or the library lets go.
func (c *control) pump() {
	defer close(c.queue)
	defer c.recovered("reader")
	for {
		line, err := c.readLine()
		if err != nil && !errors.Is(err, errLineTooLong) && !errors.Is(err, errBadLine) {
			break
		}
		in := input{line: string(line), err: err}
		if err == nil && c.overtakes(in.line) {
			continue
		}
		select {
		case c.queue <- in:
		case <-c.gone:
			return
		}
	}
	if c.ending() || !c.queuedQuit() {
		// An unexpected end of the control connection is ABOR and QUIT (RFC 959, section 4.1.3, QUIT).
		c.abort(errControlLost)
	}
}

// overtakes acts at once on the commands that RFC 959 wants served during a transfer. It tells whether the line is done with.
func (c *control) overtakes(line string) bool {
	verb, arg := splitCommand(line)
	switch verb {
	case "ABOR":
		c.mu.Lock()
		c.aborts++
		c.mu.Unlock()
		c.abort(errAborted)
		// The reply to ABOR comes after the one of the transfer, in its turn.
	case "STAT":
		if o := c.current(); arg == "" && o != nil && o.transfer {
			c.status()
			return true
		}
	case "QUIT":
		c.mu.Lock()
		c.quit = true
		c.mu.Unlock()
	}
	return false
}

func (c *control) queuedQuit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quit
}

func (c *control) current() *op {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.op
}

// abort ends the command under way and its data connection, waiting for neither.
func (c *control) abort(why error) {
	c.mu.Lock()
	o, ch := c.op, c.channel
	c.mu.Unlock()
	if o == nil || why == errAborted && !o.abortable {
		return
	}
	_ = o.fail(why)
	o.cancel()
	if ch != nil {
		ch.cut()
	}
}

// begin makes a command the current one.
func (c *control) begin(cmd command, verb, arg string) *op {
	o := &op{verb: verb, arg: arg, transfer: cmd.transfer, abortable: cmd.transfer || cmd.long, done: make(chan struct{})}
	o.ctx, o.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	c.op = o
	late := o.abortable && c.aborts > 0
	c.mu.Unlock()
	if late {
		// Its ABOR arrived while it was waiting in the queue.
		_ = o.fail(errAborted)
		o.cancel()
	}
	return o
}

// finished ends the current command: its reply has been sent.
func (c *control) finished(o *op) {
	if c.current() != o {
		return
	}
	if ch := c.prepared(); ch != nil && o.work.refused() {
		ch.drain()
	}
	if o.work != nil {
		o.work.abandon() // open still when the data connection did not come, or after a panic in the library
	}
	if o.transfer {
		c.leaveChannel()
	}
	o.cancel()
	c.mu.Lock()
	c.op = nil
	c.active = time.Now()
	wake := c.draining || c.farewell != ""
	if wake {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
	c.mu.Unlock()
	close(o.done)
}

// finish closes what the library may have left.
func (c *control) finish() {
	if o := c.current(); o != nil {
		_ = o.fail(errControlLost)
		c.finished(o)
	}
	c.dropChannel()
}

// Read hands the library its next line.
func (c *control) Read(p []byte) (n int, err error) {
	defer func() {
		if err != nil || n == 0 {
			n, err = 0, io.EOF
		}
	}()
	defer c.recovered("command")
	for len(c.pending) == 0 {
		if o := c.current(); o != nil {
			<-o.done
		}
		in, ok := <-c.queue
		if !ok || c.ending() {
			return 0, io.EOF
		}
		pass := c.dispatch(in)
		if c.rein {
			return 0, io.EOF
		}
		if pass != "" {
			c.pending = append(append(c.pending[:0], pass...), '\r', '\n')
		}
	}
	n = copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// dispatch executes a line, or returns what the library is to execute in its place.
func (c *control) dispatch(in input) (pass string) {
	switch {
	case errors.Is(in.err, errLineTooLong):
		c.srv.counters.overlong.Add(1)
		return c.nonsense(500, "Command line too long.")
	case in.err != nil:
		return c.nonsense(501, "Names with NUL, CR or LF cannot be sent over FTP.")
	}
	verb, arg := splitCommand(in.line)
	cmd, known := c.srv.commands[verb]
	if !known {
		// Without the verb: it may be half a secret.
		c.log.Debug("unknown command")
		return c.nonsense(500, "Unknown command.")
	}
	c.log.Debug("command", "verb", verb) // never the argument: PASS has one
	if cmd.login && c.login == nil {
		c.reply(530, "Please log in with USER and PASS.")
		return ""
	}
	if cmd.arg == required && arg == "" {
		c.reply(501, "Missing argument. Syntax: "+cmd.syntax(verb))
		return ""
	}
	wasRenaming := c.renaming
	c.renaming = false
	if verb == "RNTO" && !wasRenaming {
		c.reply(503, "RNFR must come first.")
		return ""
	}
	o := c.begin(cmd, verb, arg)
	if pass = cmd.run(c, o, arg); pass == "" {
		c.finished(o)
	}
	return pass
}

// nonsense refuses what is no command of this server, a few times: whoever goes on is no FTP client.
func (c *control) nonsense(code int, text string) string {
	if c.bad++; c.bad > maxBadLines {
		c.end("421 Too many lines that are no commands.")
		return ""
	}
	c.reply(code, text)
	return ""
}

// Write takes the library's replies, line by line, and sends ours.
func (c *control) Write(p []byte) (n int, err error) {
	defer func() {
		if n == 0 && len(p) > 0 {
			n, err = len(p), nil // the library can do nothing about it; Read ends the session
		}
	}()
	defer func() {
		if c.caught("reply", recover()) {
			if o := c.current(); o != nil {
				c.finished(o) // or Read would wait for ever
			}
		}
	}()
	c.partial = append(c.partial, p...)
	for {
		i := bytes.IndexByte(c.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := string(bytes.TrimRight(c.partial[:i], "\r\n"))
		c.partial = c.partial[i+1:]
		// Only the last line of a reply has a code and a space; the library has no multi-line reply that we want.
		if code, text, ok := parseReply(line); ok {
			c.answer(code, text)
		}
	}
}

// answer turns a reply of the library into ours.
func (c *control) answer(code int, text string) {
	o := c.current()
	if o == nil {
		if !c.greeted {
			c.greeted = true // 220: said before the handover
			return
		}
		c.log.Warn("reply without a command", "code", code)
		return
	}
	r := c.phrase(o, code, text)
	c.reply(r.code, r.text)
	if code >= 200 {
		c.finished(o)
	}
}

// Close is called by the library when it wants the connection to end: after QUIT, after a failed login, at the end of its loop.
func (c *control) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
	return nil
}

func (c *control) LocalAddr() net.Addr              { return c.raw.LocalAddr() }
func (c *control) RemoteAddr() net.Addr             { return c.raw.RemoteAddr() }
func (c *control) SetDeadline(time.Time) error      { return nil } // ours are in readLine and reply
func (c *control) SetReadDeadline(time.Time) error  { return nil }
func (c *control) SetWriteDeadline(time.Time) error { return nil }
