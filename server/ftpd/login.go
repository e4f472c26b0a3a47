package ftpd

import (
	"errors"
	"strconv"
	"strings"

	"sallyport/policy"
	"sallyport/server/session"
)

// cmdUser decides on the transport rules of the account before a secret is sent. Unknown accounts get the same answers.
func (c *control) cmdUser(o *op, arg string) string {
	if c.login != nil {
		c.reply(503, "Already logged in; send REIN first.")
		return ""
	}
	if d := c.visitor.Precheck(arg); d != nil {
		c.reply(530, denialText(d))
		return ""
	}
	c.user = arg
	return verbatim(c, o, arg)
}

// cmdPass logs in, and has the library execute PASS with the outcome: it ends the connection after a refusal. After a right
// password that must be changed it does not get to see the command: the client may still send SITE PSWD.
func (c *control) cmdPass(o *op, arg string) string {
	switch {
	case c.login != nil:
		c.reply(503, "Already logged in.")
		return ""
	case c.user == "":
		c.reply(503, "Send USER first.")
		return ""
	}
	m, err := c.visitor.Login(o.ctx, c.user, session.Credential{Password: session.Secret(arg), CodeAppended: true})
	if d, ok := errors.AsType[*policy.Denial](err); ok && d.Code == policy.CodeMustChange {
		c.reply(530, denialText(d))
		return ""
	}
	_ = o.fail(err)
	c.entering = m
	return "PASS -" // the library forgets it, and so needs no secret
}

// sitePassword is SITE PSWD old new: of the account that is logged in, or that USER named. Other servers have it under this name.
func (c *control) sitePassword(o *op, arg string) string {
	o.verb = "PASS" // refusals are those of a login
	words := strings.Fields(arg)
	account := c.user
	switch {
	case len(words) != 2:
		c.reply(501, "Syntax: SITE PSWD <old password> <new password>. Passwords with spaces can be changed over SSH, or by the operator.")
		return ""
	case account == "":
		c.reply(503, "Send USER first.")
		return ""
	}
	err := c.visitor.ChangePassword(o.ctx, account, session.Secret(words[0]), session.Secret(words[1]))
	if weak, ok := errors.AsType[*policy.WeakPasswordError](err); ok {
		c.reply(501, strings.ToUpper(weak.Error()[:1])+weak.Error()[1:]+".")
		return ""
	}
	if err != nil {
		return c.failed(o, err)
	}
	if c.login == nil {
		c.reply(200, "Password changed. Log in with USER and the new one.")
	} else {
		c.reply(200, "Password changed.")
	}
	return ""
}

// cmdRein begins anew on the same secured connection: another library server, another place with the session manager.
func (c *control) cmdRein(*op, string) string {
	c.rein = true
	return ""
}

// cmdHost accepts every name: there is one virtual host. RFC 7151, section 3.
func (c *control) cmdHost(_ *op, arg string) string {
	switch {
	case c.login != nil || c.user != "":
		c.reply(503, "HOST comes before USER.")
	case strings.ContainsAny(arg, " /\\@"):
		c.reply(501, "Not a host name.")
	default:
		c.reply(220, "Host accepted.")
	}
	return ""
}

// cmdLang: RFC 2640, section 4.
func (c *control) cmdLang(_ *op, arg string) string {
	if tag := strings.ToLower(strings.TrimSpace(arg)); tag == "" || tag == "en" || strings.HasPrefix(tag, "en-") {
		c.reply(200, "Replies are in English.")
	} else {
		c.reply(504, "Only EN is available.")
	}
	return ""
}

// cmdClient keeps what the client calls itself, for the record: printable and bounded.
func (c *control) cmdClient(_ *op, arg string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, arg[:min(len(arg), maxClientName)])
	c.conn.facts.Client = name
	if d := c.visitor.SetFacts(c.conn.facts); d != nil {
		c.end("421 " + denialText(d))
		return ""
	}
	c.reply(200, "Noted.")
	return ""
}

// cmdAuth: the connection is either secure already or plain by exception. RFC 4217, section 4; RFC 2228, section 3.
func (c *control) cmdAuth(_ *op, arg string) string {
	switch {
	case !isTLSMechanism(arg):
		c.reply(504, "Unknown security mechanism.")
	case !c.plain:
		c.reply(503, "TLS is active already.")
	default:
		c.reply(503, "AUTH comes before USER.")
	}
	return ""
}

// cmdPbsz: with TLS the only size is 0. RFC 4217, section 8.
func (c *control) cmdPbsz(_ *op, arg string) string {
	_, err := strconv.ParseUint(strings.TrimSpace(arg), 10, 32)
	switch {
	case c.plain:
		c.reply(503, "PBSZ is for connections with TLS.")
	case err != nil:
		c.reply(501, "Not a buffer size.")
	default:
		c.pbsz = true
		c.reply(200, "PBSZ=0")
	}
	return ""
}

// cmdProt: only P protects, and nothing switches the protection off (F8). RFC 4217, section 9.
func (c *control) cmdProt(_ *op, arg string) string {
	switch level := strings.ToUpper(strings.TrimSpace(arg)); {
	case c.plain:
		c.reply(503, "PROT is for connections with TLS.")
	case level == "P":
		if !c.pbsz && c.mode == Explicit {
			c.reply(503, "Send PBSZ 0 first.")
			return ""
		}
		c.protect = true
		c.reply(200, "Data connections are protected.")
	case level == "C" || level == "S" || level == "E":
		c.reply(536, "Data connections must be protected: PROT P.")
	default:
		c.reply(504, "Unknown protection level.")
	}
	return ""
}
