package sftpd

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// clientConn is the connection under x/crypto/ssh. It gives back what peek read,
// swallows the identification that peek has sent already, and spares system
// calls: x/crypto reads and writes an SSH packet of 32 KiB in two or three
// pieces, each a call of its own (measured: docs/PERFORMANCE.md).
//
// Read is called by one goroutine at a time, Write by any.
type clientConn struct {
	net.Conn
	heard *atomic.Int64 // when bytes last came in, Unix nanoseconds
	bulk  *sync.Pool    // of *[bulkSize]byte

	unread []byte          // read ahead and not yet handed on
	ahead  *[bulkSize]byte // what unread lies in, to go back to bulk
	hot    bool            // the last read filled its buffer: more is there

	mu     sync.Mutex // guards all below
	unsent []byte     // what x/crypto is going to write first
	corks  int
	held   []byte // written and not yet sent, while corked
	late   *time.Timer
	err    error // of a flush; sticky
}

const (
	// bulkSize is read and written at once while much is under way, in bytes:
	// four full SSH packets. An idle connection holds no such buffer.
	bulkSize = 128 << 10
	// corkTime is the longest that something written waits for company. It only
	// matters when a reply stops half way, because the client's window is full
	// or keys are being exchanged.
	corkTime = 2 * time.Millisecond
	// corkFrom is the shortest reply worth it, in bytes: below, x/crypto's own
	// buffer of 4 KiB sends it in one piece.
	corkFrom = 3 << 10
)

func (c *clientConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 && c.hot && len(p) < bulkSize {
		if err := c.readAhead(); err != nil {
			return 0, err
		}
	}
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		if len(c.unread) == 0 {
			c.release()
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.heard.Store(time.Now().UnixNano())
	c.hot = n == len(p)
	return n, err
}

// readAhead fills unread with what is there, at least one byte.
func (c *clientConn) readAhead() error {
	c.ahead, _ = c.bulk.Get().(*[bulkSize]byte)
	if c.ahead == nil {
		c.ahead = new([bulkSize]byte)
	}
	n, err := c.Conn.Read(c.ahead[:])
	c.heard.Store(time.Now().UnixNano())
	// Less than a packet means that the client pauses: the next read may take
	// long and shall not hold a buffer meanwhile.
	c.hot = n >= bulkSize/4
	c.unread = c.ahead[:n]
	if n > 0 {
		return nil
	}
	c.release()
	return err
}

func (c *clientConn) release() {
	c.unread = nil
	if c.ahead != nil {
		c.bulk.Put(c.ahead)
		c.ahead = nil
	}
}

func (c *clientConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsent != nil {
		same := bytes.Equal(p, c.unsent)
		c.unsent = nil
		if same {
			return len(p), nil
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.corks == 0 {
		return c.Conn.Write(p)
	}
	if len(c.held)+len(p) > bulkSize {
		if c.flush(); c.err != nil {
			return 0, c.err
		}
	}
	if c.held == nil {
		c.arm()
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// arm has what is held sent after corkTime. The timer's goroutine only flushes.
func (c *clientConn) arm() {
	buf, _ := c.bulk.Get().(*[bulkSize]byte)
	if buf == nil {
		buf = new([bulkSize]byte)
	}
	c.held = buf[:0]
	if c.late != nil {
		c.late.Reset(corkTime)
		return
	}
	c.late = time.AfterFunc(corkTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush()
	})
}

// flush sends what is held. Called with mu held.
func (c *clientConn) flush() {
	if c.held == nil {
		return
	}
	c.late.Stop()
	if c.err == nil {
		_, c.err = c.Conn.Write(c.held)
	}
	c.bulk.Put((*[bulkSize]byte)(c.held[:bulkSize]))
	c.held = nil
}

// cork gathers writes until uncork. Calls nest.
func (c *clientConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corks++
}

func (c *clientConn) uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corks--; c.corks == 0 {
		c.flush()
	}
}

// corkedChannel sends a reply of several SSH packets in few system calls.
type corkedChannel struct {
	io.ReadWriter
	conn *clientConn
}

func (c corkedChannel) Write(p []byte) (int, error) {
	if len(p) < corkFrom {
		return c.ReadWriter.Write(p)
	}
	c.conn.cork()
	defer c.conn.uncork()
	return c.ReadWriter.Write(p)
}
