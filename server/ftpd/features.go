package ftpd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
