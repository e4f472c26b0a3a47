package ftpd

import (
	"fmt"
	"strings"

	"sallyport/vfs"
)

// siteRestore is SITE RESTORE <path> <instant>, or SITE RESTORE and a path below /.backups. The instant is the last word, so
// that paths may have spaces; it is written as in /.backups.
func (c *control) siteRestore(o *op, arg string) string {
	arg = strings.TrimSpace(arg)
	name, instant := arg, ""
	if i := strings.LastIndexByte(arg, ' '); i > 0 && !strings.HasPrefix(c.abs(arg), "/.backups/") {
		name, instant = strings.TrimRight(arg[:i], " "), arg[i+1:]
	}
	if name == "" || instant == "" && !strings.HasPrefix(c.abs(name), "/.backups/") {
		c.reply(501, "Syntax: SITE RESTORE <path> <instant>, for example SITE RESTORE report.csv 2026-11-20T1430Z; or a path below /.backups.")
		return ""
	}
	r, err := c.login.Files().Restore(o.ctx, c.abs(name), instant)
	if err != nil {
		return c.failed(o, err)
	}
	done := fmt.Sprintf("%d made, %d changed, %d as they were", r.Created, r.Changed, r.Same)
	if left := leftAlone(r); left != "" {
		c.reply(550, "Not all was restored: "+done+"; left alone: "+left+".")
		return ""
	}
	c.reply(250, "Restored: "+done+".")
	return ""
}

// leftAlone says what a restore could not do; empty if there is nothing.
func leftAlone(r vfs.RestoreTotals) string {
	var why []string
	for _, w := range []struct {
		n    uint64
		what string
	}{
		{r.Conflicts, "where a directory is in the way"}, {r.Busy, "in use"}, {r.Purged, "no longer kept"}, {r.Damaged, "damaged"},
	} {
		if w.n > 0 {
			why = append(why, fmt.Sprintf("%d %s", w.n, w.what))
		}
	}
	return strings.Join(why, ", ")
}
