package sftpd

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	filesOnly    = "This server transfers files only: use sftp. Commands, shells and terminals are refused."
	shuttingDown = "the server is shutting down"
	noForward    = "this server transfers files only; port forwarding is refused"
)

// open serves one channel in a goroutine of its own, or rejects it.
func (c *conn) open(nch ssh.NewChannel, g guest, running *sync.WaitGroup) {
	switch nch.ChannelType() {
	case "session":
	case "direct-tcpip", "direct-streamlocal@openssh.com", "forwarded-tcpip", "x11":
		_ = nch.Reject(ssh.Prohibited, noForward)
		return
	default:
		_ = nch.Reject(ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if c.channels.Add(1) > int64(c.s.limits.Channels) {
		c.channels.Add(-1)
		_ = nch.Reject(ssh.ResourceShortage, "too many sessions on this connection")
		return
	}
	ch, reqs, err := nch.Accept()
	if err != nil {
		c.channels.Add(-1)
		return
	}
	running.Go(func() {
		defer c.survive()
		defer c.channels.Add(-1)
		defer ch.Close()
		c.session(ch, reqs, g)
	})
}

// session waits for the request that says what the channel is for.
func (c *conn) session(ch ssh.Channel, reqs <-chan *ssh.Request, g guest) {
	for req := range reqs {
		switch req.Type {
		case "subsystem":
			var m struct{ Name string }
			if ssh.Unmarshal(req.Payload, &m) != nil || m.Name != "sftp" {
				_ = req.Reply(false, nil)
				continue
			}
			_ = req.Reply(true, nil)
			// Ends with the channel; x/crypto stalls if nobody reads it.
			go ssh.DiscardRequests(reqs)
			c.sftp(ch, g)
			return
		case "exec", "shell":
			// Accepted so that the client shows the sentence and gets an exit
			// status; a refusal would show neither.
			_ = req.Reply(true, nil)
			go ssh.DiscardRequests(reqs)
			_, _ = io.WriteString(ch.Stderr(), filesOnly+"\r\n")
			exit(ch, 1)
			return
		default: // pty-req, env, x11-req, auth-agent-req@openssh.com, signal …
			_ = req.Reply(false, nil)
		}
	}
}

// endWait is how long a client may leave a channel open that the server has
// closed, before its connection is cut.
const endWait = 2 * time.Second

// sftp runs the file-transfer protocol on ch until it ends.
func (c *conn) sftp(ch ssh.Channel, g guest) {
	// Closing a channel is a message: reading ends when the client answers it,
	// so a client that never does loses the connection.
	late := time.AfterFunc(endWait, func() { c.nc.Close() })
	late.Stop()
	var once sync.Once
	end := func(why string) {
		once.Do(func() {
			late.Reset(endWait)
			_, _ = io.WriteString(ch.Stderr(), why+"\r\n")
			exit(ch, 1)
			_ = ch.Close()
		})
	}
	f := newFilter(c.ctx, filterOptions{
		channel: corkedChannel{ch, c.under}, end: end, guest: g, pool: &c.s.pool, budget: &c.handles, scanning: c.scanning, log: c.log,
	})
	if c.add(f, ch) {
		f.drain()
	}
	defer c.remove(f)
	status := uint32(0)
	if err := f.serve(); err != nil {
		status = 1
		c.log.Info("file transfer ended", "reason", err)
		if errors.Is(err, errMalformed) || errors.Is(err, errTooLong) || errors.Is(err, errTooShort) {
			_, _ = io.WriteString(ch.Stderr(), "the client sent a packet that is not SFTP version 3\r\n")
		}
	}
	late.Stop()
	exit(ch, status)
}

// exit tells the end of a session: RFC 4254, section 6.10. There is no EOF
// before it: CloseWrite may not overlap a write, and a CLOSE follows anyway.
func exit(ch ssh.Channel, status uint32) {
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}
