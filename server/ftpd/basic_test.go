package ftpd

import (
	"strings"
	"testing"
)

func TestUploadAndDownload(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]Mode{"explicit": Explicit, "implicit": Implicit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, m)
			c := h.dial().login()
			for _, size := range []int{0, 1, 70_000, 3 << 20} {
				content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
				c.stor("STOR f", content)
				if got := c.retr("RETR f"); got != content {
					t.Fatalf("%d bytes came back as %d", size, len(got))
				}
			}
			c.cmd(221, "QUIT")
			c.expectEnd()
		})
	}
}
