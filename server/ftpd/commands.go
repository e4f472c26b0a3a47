package ftpd

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"sallyport/policy"
	"sallyport/server/session"
)

// command is one verb: who may send it, and what to do.
type command struct {
	login    bool    // needs a login
	arg      argKind // what follows the verb
	usage    string  // of the argument, for HELP
	transfer bool    // opens the data connection
	long     bool    // may take so long that ABOR is for it, too
	// run answers the command itself and returns "", or returns the line that the library is to execute in its place.
	// The library's reply then goes through phrase.
	run func(c *control, o *op, arg string) (pass string)
}

type argKind uint8

const (
	optional argKind = iota
	required
)

func (cmd command) syntax(verb string) string { return strings.TrimSpace(verb + " " + cmd.usage) }

// commandTable is every command of the server; what is not in it does not exist. FEAT and HELP are made from it.
func commandTable(s *Server) map[string]command {
	t := map[string]command{
		// Login and session. RFC 959; HOST: RFC 7151; LANG: RFC 2640; OPTS and FEAT: RFC 2389.
		"USER": {arg: required, usage: "<account>", run: (*control).cmdUser},
		"PASS": {usage: "<password>", run: (*control).cmdPass},
		"ACCT": {usage: "<information>", run: say(202, "No account information needed.")},
		"REIN": {run: (*control).cmdRein},
		"QUIT": {run: verbatim},
		"HOST": {arg: required, usage: "<name>", run: (*control).cmdHost},
		"LANG": {usage: "[<tag>]", run: (*control).cmdLang},
		"CLNT": {usage: "<client>", run: (*control).cmdClient},
		"FEAT": {run: func(c *control, _ *op, _ string) string {
			c.replyLines(211, "Features:", features(c.srv, c.conn, c), "End")
			return ""
		}},
		"HELP": {usage: "[<command>]", run: (*control).cmdHelp},
		"OPTS": {arg: required, usage: "<command> [<options>]", run: (*control).cmdOpts},
		"NOOP": {run: say(200, "OK")},
		"SYST": {run: say(215, "UNIX Type: L8")},
		"STAT": {usage: "[<path>]", run: (*control).cmdStat},

		// Security. RFC 2228, RFC 4217.
		"AUTH": {arg: required, usage: "TLS", run: (*control).cmdAuth},
		"PBSZ": {arg: required, usage: "0", run: (*control).cmdPbsz},
		"PROT": {arg: required, usage: "P", run: (*control).cmdProt},
		"CCC":  {run: say(533, "The control connection stays protected.")},

		// Transfer parameters.
		"TYPE": {login: true, arg: required, usage: "I | A | L 8", run: upper},
		"MODE": {login: true, arg: required, usage: "S", run: upper},
		"STRU": {login: true, arg: required, usage: "F", run: (*control).cmdStru},
		"REST": {login: true, arg: required, usage: "<position>", run: (*control).cmdRest},
		"RANG": {login: true, arg: required, usage: "<first> <last>", run: (*control).cmdRang},
		"ALLO": {login: true, arg: required, usage: "<bytes>", run: (*control).cmdAllo},
		"PASV": {login: true, run: (*control).cmdPasv},
		"EPSV": {login: true, usage: "[1 | 2 | ALL]", run: (*control).cmdEpsv},
		"PORT": {login: true, arg: required, usage: "<h1,h2,h3,h4,p1,p2>", run: (*control).cmdPort},
		"EPRT": {login: true, arg: required, usage: "<d><family><d><address><d><port><d>", run: (*control).cmdEprt},
		"ABOR": {run: (*control).cmdAbor},

		// Transfers.
		"RETR": {login: true, arg: required, usage: "<path>", transfer: true, run: (*control).startTransfer},
		"STOR": {login: true, arg: required, usage: "<path>", transfer: true, run: (*control).startTransfer},
		"APPE": {login: true, arg: required, usage: "<path>", transfer: true, run: (*control).startTransfer},
		"STOU": {login: true, usage: "[<path>]", transfer: true, run: (*control).startTransfer},
		"LIST": {login: true, usage: "[<path>]", transfer: true, run: (*control).startTransfer},
		"NLST": {login: true, usage: "[<path>]", transfer: true, run: (*control).startTransfer},
		"MLSD": {login: true, usage: "[<path>]", transfer: true, run: (*control).startTransfer},

		// Files and directories.
		"CWD":  {login: true, arg: required, usage: "<path>", run: verbatim},
		"CDUP": {login: true, run: verbatim},
		"PWD":  {login: true, run: verbatim},
		"MKD":  {login: true, arg: required, usage: "<path>", run: (*control).passPath},
		"RMD":  {login: true, arg: required, usage: "<path>", run: verbatim},
		"DELE": {login: true, arg: required, usage: "<path>", run: verbatim},
		"RNFR": {login: true, arg: required, usage: "<path>", run: verbatim},
		"RNTO": {login: true, arg: required, usage: "<path>", run: verbatim},
		"SIZE": {login: true, arg: required, usage: "<path>", run: verbatim},
		"MDTM": {login: true, arg: required, usage: "<path>", run: verbatim},
		"MLST": {login: true, usage: "[<path>]", run: (*control).cmdMlst},
		"MFMT": {login: true, arg: required, usage: "<YYYYMMDDhhmmss> <path>", run: (*control).cmdMfmt},
		"MFCT": {login: true, arg: required, usage: "<YYYYMMDDhhmmss> <path>", run: (*control).cmdMfct},
		"MFF":  {login: true, arg: required, usage: "<fact=value;...> <path>", run: (*control).cmdMff},
		"AVBL": {login: true, usage: "[<path>]", run: (*control).cmdAvbl},
		"SITE": {arg: required, usage: "HELP | POLICY | PSWD | CHMOD | UTIME | SYMLINK | MKDIR | RMDIR", run: (*control).cmdSite},
		"SMNT": {login: true, run: say(502, "There is one file system.")},
		"HASH": {login: true, arg: required, usage: "<path>", long: true, run: (*control).cmdHash},
	}
	for alias, name := range map[string]string{"XCWD": "CWD", "XCUP": "CDUP", "XPWD": "PWD", "XMKD": "MKD", "XRMD": "RMD"} {
		t[alias] = command{login: true, arg: t[name].arg, usage: t[name].usage, run: instead(name, t[name].run)}
	}
	for verb, algorithm := range checksums(s.legacy) {
		t[verb] = command{login: true, arg: required, usage: "<path> [<first> [<end>]]", long: true, run: checksum(algorithm)}
	}
	return t
}

// verbatim hands the line to the library.
func verbatim(_ *control, o *op, arg string) string {
	if arg == "" {
		return o.verb
	}
	return o.verb + " " + arg
}

// upper does so with an argument that is a keyword.
func upper(_ *control, o *op, arg string) string {
	return o.verb + " " + strings.ToUpper(strings.TrimSpace(arg))
}

// instead runs a command under its old name (RFC 775).
func instead(name string, run func(*control, *op, string) string) func(*control, *op, string) string {
	return func(c *control, o *op, arg string) string {
		o.verb = name
		return run(c, o, arg)
	}
}

func say(code int, text string) func(*control, *op, string) string {
	return func(c *control, _ *op, _ string) string {
		c.reply(code, text)
		return ""
	}
}

// abs is the path that an argument means.
func (c *control) abs(arg string) string {
	if strings.HasPrefix(arg, "/") {
		return path.Clean(arg)
	}
	return path.Join(c.cc.Path(), arg)
}

// failed answers a command of ours that did not succeed.
func (c *control) failed(o *op, err error) string {
	if first := o.failure(); first != nil {
		err = first // aborted, hung up
	}
	r := c.errorReply(o, err)
	c.reply(r.code, r.text)
	return ""
}

func (c *control) passPath(o *op, arg string) string {
	o.path = c.abs(arg)
	return verbatim(c, o, arg)
}

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

func (c *control) cmdHelp(_ *op, arg string) string {
	verb, rest := splitCommand(strings.TrimSpace(arg))
	switch cmd, known := c.srv.commands[verb]; {
	case verb == "":
		c.replyLines(214, "Commands:", columns(slices.Sorted(maps.Keys(c.srv.commands))), "HELP <command> tells its syntax.")
	case verb == "SITE" && rest == "":
		c.siteHelp()
	case known:
		c.reply(214, "Syntax: "+cmd.syntax(verb))
	default:
		c.reply(502, "Unknown command.")
	}
	return ""
}

// columns sets words eight to a line.
func columns(words []string) []string {
	var lines []string
	for row := range slices.Chunk(words, 8) {
		var b strings.Builder
		for _, w := range row {
			fmt.Fprintf(&b, "%-8s", w)
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
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

func (c *control) cmdStru(_ *op, arg string) string {
	if strings.EqualFold(strings.TrimSpace(arg), "F") {
		c.reply(200, "File structure.")
	} else {
		c.reply(504, "Only file structure is available.")
	}
	return ""
}

// cmdRest keeps the position for the next transfer; whether it lies in the file is decided there. RFC 3659, section 5.
func (c *control) cmdRest(_ *op, arg string) string {
	n, err := strconv.ParseInt(strings.TrimSpace(arg), 10, 64)
	if err != nil || n < 0 {
		c.reply(501, "Not a position.")
		return ""
	}
	c.rest, c.rang = n, nil
	c.reply(350, fmt.Sprintf("Restarting at %d.", n))
	return ""
}

// byteRange is inclusive at both ends.
type byteRange struct{ start, end int64 }

// cmdRang: draft-bryan-ftp-range; RANG 1 0 takes a range back.
func (c *control) cmdRang(_ *op, arg string) string {
	var r byteRange
	if n, err := fmt.Sscanf(arg, "%d %d", &r.start, &r.end); n != 2 || err != nil || r.start < 0 || r.end < 0 {
		c.reply(501, "Not a range.")
		return ""
	}
	switch {
	case r == byteRange{1, 0}:
		c.rang, c.rest = nil, 0
		c.reply(350, "Range reset.")
	case r.end < r.start:
		c.reply(501, "The range ends before it starts.")
	default:
		c.rang, c.rest = &r, 0
		c.reply(350, fmt.Sprintf("Restarting at %d. End byte range at %d.", r.start, r.end))
	}
	return ""
}

// cmdAllo promises nothing (RFC 959: storage needs no allocation here), but a file that cannot fit is better refused now.
func (c *control) cmdAllo(o *op, arg string) string {
	f := strings.Fields(arg)
	if len(f) == 0 {
		f = []string{""}
	}
	n, err := strconv.ParseUint(f[0], 10, 63)
	if err != nil {
		c.reply(501, "Not a size.")
		return ""
	}
	space, err := c.login.Files().Space()
	if err != nil {
		return c.failed(o, err)
	}
	if n > space.BytesFree {
		c.reply(552, "Not enough space for that.")
		return ""
	}
	c.reply(202, "No allocation needed.")
	return ""
}

// cmdAvbl: draft-peterson-streamlined-ftp-command-extensions, section 4.
func (c *control) cmdAvbl(o *op, arg string) string {
	if _, err := c.login.Files().Stat(c.abs(arg)); err != nil {
		return c.failed(o, err)
	}
	space, err := c.login.Files().Space()
	if err != nil {
		return c.failed(o, err)
	}
	c.reply(213, strconv.FormatUint(space.BytesFree, 10))
	return ""
}

// cmdAbor answers in its turn; the abort itself was done when the line arrived (overtakes).
func (c *control) cmdAbor(*op, string) string {
	c.mu.Lock()
	c.aborts--
	c.mu.Unlock()
	c.dropChannel()
	c.reply(226, "Abort successful.")
	return ""
}

// startTransfer begins a transfer: the library opens the file (driver.GetHandle) and the data connection.
// Every transfer is RETR or STOR to it, listings too, so that there is one way for bytes.
func (c *control) startTransfer(o *op, arg string) string {
	var refuse error
	switch {
	case o.failure() != nil:
		refuse = o.failure() // its ABOR is waiting already
	case !c.plain && !c.protect:
		refuse = errUnsecured
	case c.prepared() == nil:
		refuse = errNoChannel
	case c.rang != nil && (o.verb == "STOR" || o.verb == "APPE" || o.verb == "STOU"):
		refuse = errRangeUpload
	}
	if refuse != nil {
		c.rest, c.rang = 0, nil
		return c.failed(o, refuse)
	}
	switch o.verb {
	case "LIST", "NLST", "MLSD":
		return "RETR /"
	case "STOU":
		if arg == "" {
			arg = "upload"
		}
		return "STOR " + arg
	}
	return verbatim(c, o, arg)
}

func (c *control) prepared() *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.channel
}

// features is the answer to FEAT: what works, no more and no less. ctl is nil before the login.
func features(s *Server, c *conn, ctl *control) []string {
	f := []string{"UTF8", "EPSV", "SIZE", "MDTM", "REST STREAM", "RANG STREAM", "TVFS", "CLNT", "HOST", "LANG EN*"}
	if !c.plain {
		f = append(f, "AUTH TLS", "AUTH SSL", "PBSZ", "PROT")
	}
	if s.o.ActiveMode {
		f = append(f, "EPRT")
	}
	facts, hash := defaultFacts(), "SHA-256"
	if ctl != nil {
		facts, hash = ctl.mlst, ctl.hash
	}
	f = append(f, "MLST "+facts.feature(), "MFMT", "MFCT", "MFF Create;Modify;UNIX.mode;", "AVBL", "HASH "+hashFeature(hash))
	return append(f, slices.Sorted(maps.Keys(checksums(s.legacy)))...)
}

func (c *control) cmdOpts(_ *op, arg string) string {
	name, rest := splitCommand(strings.TrimSpace(arg))
	switch name {
	case "UTF8", "UTF-8":
		c.reply(200, "Names are bytes; UTF-8 passes unchanged.")
	case "MLST":
		c.mlst = parseFacts(rest)
		c.reply(200, strings.TrimSpace("MLST OPTS "+c.mlst.names()))
	case "HASH":
		rest = strings.ToUpper(strings.TrimSpace(rest))
		if rest != "" && !slices.Contains(hashNames(), rest) {
			c.reply(501, "Unknown algorithm; the choice has not changed.")
			return ""
		}
		if rest != "" {
			c.hash = rest
		}
		c.reply(200, c.hash)
	default:
		c.reply(501, "Unknown option.")
	}
	return ""
}
