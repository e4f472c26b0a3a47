//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// hasLine tells whether a line of text begins so: anywhere else, a port or a size could have the digits of a reply.
func hasLine(text, begins string) bool { return strings.Contains("\n"+text, "\n"+begins) }

// R2, R5: port 990 speaks TLS at once, 1.2 at least.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	s := start(t)
	implicit := fmt.Sprintf("%s:%d", s.Host, s.FTPSImplicitPort)
	out, err := try(t, "QUIT\r\n", "openssl", "s_client", "-connect", implicit, "-CAfile", s.CAFile, "-verify_return_error", "-quiet", "-ign_eof")
	if err != nil || !hasLine(out, "220 ") || !hasLine(out, "221 ") {
		t.Errorf("implicit TLS: %v\n%s", err, out)
	}
	explicit := fmt.Sprintf("%s:%d", s.Host, s.FTPSPort)
	out, err = try(t, "QUIT\r\n", "openssl", "s_client", "-starttls", "ftp", "-connect", explicit, "-CAfile", s.CAFile, "-verify_return_error", "-quiet", "-ign_eof")
	if err != nil || !hasLine(out, "221 ") {
		t.Errorf("AUTH TLS: %v\n%s", err, out)
	}
	for _, old := range []string{"-tls1", "-tls1_1"} {
		if out, err := try(t, "", "openssl", "s_client", old, "-cipher", "DEFAULT:@SECLEVEL=0", "-connect", implicit); err == nil {
			t.Errorf("%s was accepted:\n%s", old, out)
		}
	}
}
