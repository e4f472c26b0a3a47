package ftpd

import (
	"strings"

	"sallyport/policy"
)

// told are the settings that an account may see of its own: what it can run into. Not among them are networks and limits of
// guessing, which tell somebody with a stolen password where to come from and how fast.
var told = []string{
	"protocols", "transport.", "auth.", "password.", "session.", "upload.", "bandwidth.", "quota.", "backup.", "paths",
}

// sitePolicy answers SITE POLICY with the settings in force for the account that is logged in.
func (c *control) sitePolicy() {
	var lines []string
	for _, r := range c.login.Policy().Rows() {
		if tells(r) {
			lines = append(lines, r.Path+" = "+r.Value)
		}
	}
	c.replyLines(211, "Settings in force for this account:", lines, "End")
}

func tells(r policy.Row) bool {
	for _, t := range told {
		if r.Path == t || strings.HasSuffix(t, ".") && strings.HasPrefix(r.Path, t) {
			return true
		}
	}
	return false
}
