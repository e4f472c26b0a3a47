package ftpd

import (
	"path"
	"strings"
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
		"SITE": {arg: required, usage: "HELP | POLICY | PSWD | CHMOD | UTIME | SYMLINK | MKDIR | RMDIR | RESTORE", run: (*control).cmdSite},
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
