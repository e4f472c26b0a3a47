package ftpd

import (
	"bufio"
	"crypto/tls"
	"testing"

	"sallyport/crypto/approved/approvedtest"
)

func TestUnderFIPS(t *testing.T) {
	t.Parallel()
	approvedtest.Run(t, 1)
}

// Every key exchange and suite that docs/FIPS.md names works alone, and nothing computes another hash of a file than of SHA-2.
func TestFIPSWhatIsOffered(t *testing.T) {
	approvedtest.Need(t)
	h := start(t, Explicit)
	try := func(what string, change func(*tls.Config), want bool) {
		t.Helper()
		c := h.dial()
		c.t = t
		c.expect(220)
		c.cmd(234, "AUTH TLS")
		cfg := c.tls.Clone()
		change(cfg)
		conn := tls.Client(c.raw, cfg)
		if err := conn.Handshake(); (err == nil) != want {
			t.Errorf("%s: %v, should work: %v", what, err, want)
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
		c.raw.Close()
	}
	for group, want := range map[tls.CurveID]bool{tls.X25519MLKEM768: true, tls.CurveP256: true, tls.CurveP384: true, tls.CurveP521: false} {
		try(group.String(), func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{group} }, want)
	}
	for _, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384} {
		try(tls.CipherSuiteName(suite), func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }, true)
	}
	h.vol.put("/x", 0o644, []byte("x"))
	c := h.dial().login()
	c.cmd(250, "XSHA256 x")
	for _, command := range []string{"XMD5 x", "XSHA x", "XSHA1 x", "XCRC x", "MD5 x", "OPTS HASH MD5", "OPTS HASH SHA-1", "OPTS HASH CRC32"} {
		c.send(command + "\r\n")
		if code, text, err := c.reply(); err != nil || code < 500 || code == 550 {
			t.Errorf("%s: %q, %v", command, text, err)
		}
	}
}
