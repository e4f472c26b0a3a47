package ftpd

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"sallyport/vfs"
)

// MLST, and the commands that change what it tells. MFMT, MFCT, MFF: draft-somers-ftp-mfxx-04.

func (c *control) cmdMlst(o *op, arg string) string {
	name := c.abs(arg)
	e, err := c.login.Files().Lstat(name)
	if err != nil {
		return c.failed(o, err)
	}
	line := append(c.appendFacts(nil, name, e), ' ')
	c.replyLines(250, "Facts:", []string{string(append(line, name...))}, "End")
	return ""
}

func (c *control) cmdMfmt(o *op, arg string) string {
	return c.setTime(o, arg, "Modify", func(t *time.Time) vfs.AttrChange { return vfs.AttrChange{Mtime: t} })
}

func (c *control) cmdMfct(o *op, arg string) string {
	return c.setTime(o, arg, "Create", func(t *time.Time) vfs.AttrChange { return vfs.AttrChange{Created: t} })
}

// setTime serves MFMT and MFCT: the reply repeats the time as it was given.
func (c *control) setTime(o *op, arg, fact string, change func(*time.Time) vfs.AttrChange) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, ok := parseFactTime(stamp)
	if !ok || name == "" {
		c.reply(501, "Syntax: "+o.verb+" <YYYYMMDDhhmmss> <path>")
		return ""
	}
	if err := c.login.Files().SetAttr(c.abs(name), change(&t)); err != nil {
		return c.failed(o, err)
	}
	c.reply(213, fact+"="+stamp+"; "+name)
	return ""
}

// cmdMff changes Create, Modify and UNIX.mode in one commit.
func (c *control) cmdMff(o *op, arg string) string {
	facts, name, found := strings.Cut(arg, " ")
	if !found || name == "" || !strings.HasSuffix(facts, ";") {
		c.reply(501, "Syntax: MFF <fact=value;...> <path>")
		return ""
	}
	var change vfs.AttrChange
	for _, f := range strings.Split(strings.TrimSuffix(facts, ";"), ";") {
		fact, value, _ := strings.Cut(f, "=")
		switch strings.ToLower(fact) {
		case "create", "modify":
			t, ok := parseFactTime(value)
			if !ok {
				c.reply(501, "Not a time: YYYYMMDDhhmmss.")
				return ""
			}
			if strings.EqualFold(fact, "create") {
				change.Created = &t
			} else {
				change.Mtime = &t
			}
		case "unix.mode":
			m, ok := parseMode(value)
			if !ok {
				c.reply(501, "Not a mode.")
				return ""
			}
			change.Mode = &m
		default:
			c.reply(504, "Only Create, Modify and UNIX.mode can be changed.")
			return ""
		}
	}
	if err := c.login.Files().SetAttr(c.abs(name), change); err != nil {
		return c.failed(o, err)
	}
	c.reply(213, facts+" "+name)
	return ""
}

// parseMode reads permission bits in octal.
func parseMode(s string) (fs.FileMode, bool) {
	n, err := strconv.ParseUint(s, 8, 12)
	return fs.FileMode(n) & fs.ModePerm, err == nil
}

// cmdSite: what clients send without being told. Unknown ones get 504, which clients take as "not here".
func (c *control) cmdSite(o *op, arg string) string {
	verb, rest := splitCommand(arg)
	if verb == "PSWD" { // also before a login: it may be what the login lacks
		return c.sitePassword(o, rest)
	}
	if c.login == nil {
		c.reply(530, "Please log in with USER and PASS.")
		return ""
	}
	switch verb {
	case "HELP":
		c.siteHelp()
	case "POLICY", "STATUS":
		c.sitePolicy()
	case "CHMOD":
		return c.siteChmod(o, rest)
	case "UTIME":
		return c.siteUtime(o, rest)
	case "SYMLINK":
		return c.siteSymlink(o, rest)
	case "MKDIR":
		return c.sitePath(o, rest, func(p string) error { return c.login.Files().MkdirAll(p, 0o755) })
	case "RMDIR":
		return c.sitePath(o, rest, func(p string) error { return c.login.Files().RemoveAll(p) })
	case "RESTORE":
		return c.siteRestore(o, rest)
	case "CHOWN", "CHGRP":
		c.reply(202, "A volume has one owner.")
	default:
		c.reply(504, "Unknown SITE command.")
	}
	return ""
}

func (c *control) siteHelp() {
	c.replyLines(214, "SITE commands:", []string{
		"CHMOD <mode> <path>", "MKDIR <path>", "RESTORE <path> <instant>", "RESTORE /.backups/<instant>/<path>", "RMDIR <path>", "SYMLINK <target> <path>",
		"POLICY", "PSWD <old password> <new password>", "UTIME <YYYYMMDDhhmm[ss]> <path>", "UTIME <path> <atime> <mtime> <ctime> UTC",
	}, "End")
}

func (c *control) siteChmod(o *op, arg string) string {
	bits, name, _ := strings.Cut(arg, " ")
	mode, ok := parseMode(bits)
	if !ok || name == "" {
		c.reply(501, "Syntax: SITE CHMOD <mode> <path>")
		return ""
	}
	if err := c.login.Files().SetAttr(c.abs(name), vfs.AttrChange{Mode: &mode}); err != nil {
		return c.failed(o, err)
	}
	c.reply(200, "Mode changed.")
	return ""
}

// siteUtime knows both forms that are about: ProFTPD's, and the older one with three times of which the second counts.
func (c *control) siteUtime(o *op, arg string) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, ok := parseSiteTime(stamp)
	if f := strings.Fields(arg); len(f) >= 5 && strings.EqualFold(f[len(f)-1], "UTC") {
		// The path may hold spaces: it is all before the last four words.
		if t, ok = parseSiteTime(f[len(f)-3]); ok {
			name = strings.TrimRight(arg[:strings.LastIndex(arg, f[len(f)-4]+" "+f[len(f)-3])], " ")
		}
	}
	if !ok || name == "" {
		c.reply(501, "Syntax: SITE UTIME <YYYYMMDDhhmm[ss]> <path>")
		return ""
	}
	if err := c.login.Files().SetAttr(c.abs(name), vfs.AttrChange{Mtime: &t}); err != nil {
		return c.failed(o, err)
	}
	c.reply(200, "Time changed.")
	return ""
}

func parseSiteTime(s string) (time.Time, bool) {
	for _, layout := range []string{factTime, "200601021504"} {
		if len(s) == len(layout) {
			t, err := time.Parse(layout, s)
			return t, err == nil
		}
	}
	return time.Time{}, false
}

// siteSymlink stores the target as it was given: relative ones stay relative.
func (c *control) siteSymlink(o *op, arg string) string {
	target, rest := cutWord(arg)
	link, more := cutWord(rest)
	if target == "" || link == "" || more != "" {
		c.reply(501, `Syntax: SITE SYMLINK <target> <path>, in "quotes" if there are spaces`)
		return ""
	}
	if err := c.login.Files().Symlink(target, c.abs(link)); err != nil {
		return c.failed(o, err)
	}
	c.reply(200, "Link created.")
	return ""
}

func (c *control) sitePath(o *op, arg string, do func(string) error) string {
	if arg == "" {
		c.reply(501, "Missing path.")
		return ""
	}
	p := c.abs(arg)
	if p == "/" {
		c.reply(550, "Not the root.")
		return ""
	}
	if err := do(p); err != nil {
		return c.failed(o, err)
	}
	c.reply(250, path.Base(p)+": done.")
	return ""
}

// cutWord takes the first word, which may be in quotes with quotes inside doubled.
func cutWord(s string) (word, rest string) {
	if !strings.HasPrefix(s, `"`) {
		word, rest, _ = strings.Cut(s, " ")
		return word, rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), strings.TrimPrefix(s[i+1:], " ")
	}
	return s, "" // no closing quote: part of the name
}
