package ftpd

import (
	"slices"
	"strings"
	"testing"
)

// After a right password that must be changed, SITE PSWD is all that works; then the login does.
func TestSitePswd(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial()
	c.expect(220)
	c.cmd(503, "SITE PSWD secret kestrel-tulip-93")
	c.cmd(331, "USER stale")
	if got := c.cmd(530, "PASS secret"); !strings.Contains(got, "Password change required") {
		t.Errorf("PASS: %s", got)
	}
	c.cmd(530, "PWD")
	c.cmd(530, "SITE CHMOD 600 /f")
	c.cmd(501, "SITE PSWD secret")
	c.cmd(501, "SITE PSWD secret two words")
	if got := c.cmd(501, "SITE PSWD secret short"); !strings.Contains(got, "The password does not fulfil password.min_length") {
		t.Errorf("weak: %s", got)
	}
	c.cmd(530, "SITE PSWD wrong kestrel-tulip-93")
	c.cmd(200, "SITE PSWD secret kestrel-tulip-93")
	c.cmd(331, "USER alice")
	c.cmd(230, "PASS secret")
	c.cmd(200, "SITE PSWD secret kestrel-tulip-94")
	if got, want := h.vol.changed, []string{"stale kestrel-tulip-93", "alice kestrel-tulip-94"}; !slices.Equal(got, want) {
		t.Errorf("changed %q, want %q", got, want)
	}
}
