package ftpd

import (
	"errors"
	"strings"

	"sallyport/policy"
)

// plaintext is the phase of explicit FTPS before TLS: our own loop, in which a client can do nothing but ask for TLS. The
// library takes over when the connection is secure, or when USER names an account with an exception for plain FTP: then user
// is that name. ok is false when the connection is to end.
func (c *conn) plaintext() (user string, ok bool) {
	c.reply(220, c.srv.o.Banner)
	for range maxPlainLines {
		line, err := c.readLine()
		switch {
		case errors.Is(err, errLineTooLong):
			c.srv.counters.overlong.Add(1)
			c.reply(500, "Command line too long.")
			continue
		case errors.Is(err, errBadLine):
			c.reply(500, "Command line with a NUL or CR byte.")
			continue
		case err != nil:
			return "", false
		}
		verb, arg := splitCommand(string(line))
		switch verb {
		case "AUTH":
			if !isTLSMechanism(arg) {
				c.reply(504, "Unknown security mechanism; use AUTH TLS.")
				continue
			}
			return "", c.startTLS()
		case "USER":
			d := c.visitor.Precheck(arg)
			if d == nil {
				c.plain = true
				return arg, true
			}
			if d.Code == policy.CodeSealed {
				c.setFarewell("421 " + denialText(d))
				return "", false
			}
			// One sentence for every account that may not come in plain, whether it exists or not.
			c.reply(530, denialText(d))
		case "FEAT":
			c.replyLines(211, "Features:", features(c.srv, c, nil), "End")
		case "HELP":
			c.reply(214, "Send AUTH TLS first: this server speaks FTP over TLS only.")
		case "NOOP":
			c.reply(200, "OK")
		case "SYST":
			c.reply(215, "UNIX Type: L8")
		case "OPTS":
			if f := strings.Fields(strings.ToUpper(arg)); len(f) > 0 && f[0] == "UTF8" {
				c.reply(200, "Names are bytes; UTF-8 passes unchanged.")
				continue
			}
			c.reply(501, "Unknown option.")
		case "QUIT":
			c.reply(221, "Goodbye.")
			return "", false
		default:
			c.reply(530, "SSL is required. Use FTP over TLS (AUTH TLS) first.")
		}
	}
	c.setFarewell("421 Too many commands without TLS.")
	return "", false
}

// isTLSMechanism knows the names of RFC 4217, section 4, and of the drafts before it. Everything else is refused (F8).
func isTLSMechanism(arg string) bool {
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "TLS", "TLS-C", "SSL":
		return true
	}
	return false
}

// startTLS answers AUTH TLS and performs the handshake.
func (c *conn) startTLS() bool {
	if c.lines.buffered() > 0 {
		// No honest client sends anything before 234. Had these bytes been kept, they would be executed as if they had come
		// through TLS, whoever put them there (STARTTLS injection, CVE-2011-0411 and its many relatives).
		c.srv.counters.injections.Add(1)
		c.log.Warn("plaintext behind AUTH TLS; connection ended")
		c.setFarewell("421 Data behind AUTH TLS; the connection ends.")
		return false
	}
	c.reply(234, "Start TLS now.")
	return c.handshake()
}

// splitCommand separates the verb, in upper case, from its argument. The argument is everything behind one space: names may
// begin and end with spaces.
func splitCommand(line string) (verb, arg string) {
	verb, arg, _ = strings.Cut(line, " ")
	upper := []byte(verb)
	// Verbs are ASCII (RFC 959, section 5.3). Unicode has other letters whose capitals are I and S, and strings.ToUpper
	// writes over bytes that are not UTF-8.
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	return string(upper), arg
}
