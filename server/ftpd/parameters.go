package ftpd

import (
	"fmt"
	"strconv"
	"strings"
)

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
