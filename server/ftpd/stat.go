package ftpd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path"
	"time"
)

// maxStat bounds what STAT <directory> tells on the control connection, in entries.
const maxStat = 10_000

var errEnough = errors.New("ftpd: enough entries")

// cmdStat: RFC 959, section 4.1.3. With a path it is LIST over the control connection.
func (c *control) cmdStat(o *op, arg string) string {
	if arg == "" {
		c.status()
		return ""
	}
	if c.login == nil {
		c.reply(530, "Please log in with USER and PASS.")
		return ""
	}
	name := c.abs(skipOptions(arg))
	files := c.login.Files()
	e, err := files.Stat(name)
	if err != nil {
		return c.failed(o, err)
	}
	l := &listing{c: c, op: o, now: time.Now()}
	line := func(e entry) string { return string(appendName(l.appendLong(nil, e), e.Name())) }
	if !e.IsDir() {
		c.replyLines(213, "Status:", []string{line(e)}, "End")
		return ""
	}
	var lines []string
	last := "End"
	err = files.ReadDir(o.ctx, name, func(e entry) error {
		if len(lines) == maxStat {
			return errEnough
		}
		lines = append(lines, line(e))
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		last = "There is more; use LIST."
	case err != nil:
		return c.failed(o, err)
	}
	c.replyLines(212, "Status of "+path.Base(name)+":", lines, last)
	return ""
}

// status is STAT without a path: also during a transfer, at once.
func (c *control) status() {
	c.mu.Lock()
	m, o, ch := c.login, c.op, c.channel
	c.mu.Unlock()
	lines := []string{"Connected from " + c.remote.Addr().String()}
	if m == nil {
		lines = append(lines, "Not logged in")
	} else {
		lines = append(lines, "Logged in as "+m.Account())
	}
	if t, ok := c.stream.(*tls.Conn); ok {
		s := t.ConnectionState()
		lines = append(lines, tls.VersionName(s.Version)+", "+tls.CipherSuiteName(s.CipherSuite))
	} else {
		lines = append(lines, "Not encrypted")
	}
	if o != nil && o.transfer && ch != nil {
		in, out := ch.progress()
		lines = append(lines, fmt.Sprintf("%s in progress: %d bytes received, %d sent on the data connection", o.verb, in, out))
	}
	c.replyLines(211, "Status:", lines, "End")
}
