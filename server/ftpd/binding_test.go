package ftpd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"

	"sallyport/crypto/approved"
	"sallyport/policy"
)

// fetch tries a download whose data connection resumes with the given cache, or does not. It returns the final code.
func (c *client) fetch(cache tls.ClientSessionCache) (code int, content string, resumed bool) {
	c.t.Helper()
	c.epsv()
	raw := c.open()
	c.cmd(150, "RETR f")
	cfg := c.tls.Clone()
	cfg.ClientSessionCache = cache
	d := tls.Client(raw, cfg)
	b, _ := io.ReadAll(d)
	code, text, err := c.reply()
	if err != nil {
		c.t.Fatalf("%s, %v", text, err)
	}
	return code, string(b), d.ConnectionState().DidResume
}

func TestSessionBinding(t *testing.T) {
	t.Parallel()
	versions := map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}
	for _, tt := range []struct {
		mode string
		step []bool // resume?
		want []int
	}{
		{"off", []bool{false, true, false}, []int{226, 226, 226}},
		{"prefer", []bool{false, true, true, false, true}, []int{226, 226, 226, 522, 226}},
		{"require", []bool{false, true, false, true, true}, []int{522, 226, 522, 226, 226}},
	} {
		for name, version := range versions {
			t.Run(tt.mode+" "+name, func(t *testing.T) {
				t.Parallel()
				h := start(t, Explicit)
				h.vol.put("/f", 0o644, []byte("content"))
				h.vol.setPolicy(func(p *policy.Effective) { p.Transport.FTPSSessionBinding = tt.mode })
				c := h.dial()
				c.tls.MaxVersion = version
				c.login()
				for i, resume := range tt.step {
					cache := c.tls.ClientSessionCache
					if !resume {
						cache = nil
					}
					code, content, resumed := c.fetch(cache)
					if code != tt.want[i] || resume && !resumed || (code == 226) != (content == "content") {
						t.Fatalf("step %d (resume %v): %d %q resumed %v, want %d", i, resume, code, content, resumed, tt.want[i])
					}
				}
				// A reply to a refused one names the reason; the session lives on.
				c.cmd(200, "NOOP")
			})
		}
	}
}

// The ticket of another session, even of the same account, is no ticket.
func TestSessionBindingIsPerSession(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Implicit)
			h.vol.put("/f", 0o644, []byte("content"))
			h.vol.setPolicy(func(p *policy.Effective) { p.Transport.FTPSSessionBinding = "require" })
			dial := func() *client {
				c := h.dial()
				c.tls.MaxVersion = version
				return c
			}
			a, b := dial(), dial()
			a.conn, b.conn = tls.Client(a.raw, a.tls), tls.Client(b.raw, b.tls)
			a.r, b.r = newReader(a), newReader(b)
			a.login()
			b.login()
			if code, content, _ := a.fetch(b.tls.ClientSessionCache); code != 522 || content != "" {
				t.Errorf("with the other's ticket: %d %q", code, content)
			}
			if code, content, _ := a.fetch(a.tls.ClientSessionCache); code != 226 || content != "content" {
				t.Errorf("with its own ticket: %d %q", code, content)
			}
			// Nor does it open another control connection.
			c := dial()
			c.tls.ClientSessionCache = a.tls.ClientSessionCache
			d := tls.Client(c.raw, c.tls)
			if err := d.Handshake(); err != nil || d.ConnectionState().DidResume {
				t.Errorf("a new control connection resumed an old one (%v)", err)
			}
		})
	}
}

func newReader(c *client) *bufio.Reader { return bufio.NewReader(c.conn) }

func TestControlUsesPostQuantumExchange(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	h.vol.put("/f", 0o644, []byte("content"))
	c := h.dial().login()
	if got := c.conn.(*tls.Conn).ConnectionState().CurveID; got != tls.X25519MLKEM768 {
		t.Errorf("control connection: %v", got)
	}
	cheap := tls.X25519
	if approved.Only() {
		cheap = tls.CurveP256
	}
	for i, want := range []tls.CurveID{tls.X25519MLKEM768, cheap} {
		c.epsv()
		raw := c.open()
		c.cmd(150, "RETR f")
		d := tls.Client(raw, c.tls)
		if _, err := io.ReadAll(d); err != nil {
			t.Fatal(err)
		}
		c.expect(226)
		// The first data connection resumes under "prefer" without having to; from then on they must, and may be cheap.
		if got := d.ConnectionState().CurveID; got != want {
			t.Errorf("data connection %d: %v, want %v", i, got, want)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial()
	cfg := c.tls.Clone()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := tls.Client(c.raw, cfg).Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	c = h.dial()
	cfg = c.tls.Clone()
	cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	if err := tls.Client(c.raw, cfg).Handshake(); err == nil {
		t.Error("CBC was accepted in the modern profile")
	}
}

func TestStartTLSInjection(t *testing.T) {
	t.Parallel()
	for name, injected := range map[string]string{
		"command":        "AUTH TLS\r\nUSER mallory\r\n",
		"half a command": "AUTH TLS\r\nUSER mal",
		"bare LF":        "AUTH TLS\nDELE f\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Explicit)
			c := h.dial()
			c.expect(220)
			c.send(injected)
			c.expect(421)
			c.expectEnd()
			if n := h.srv.Stats().Injections; n != 1 {
				t.Errorf("%d injections counted", n)
			}
		})
	}
	t.Run("later", func(t *testing.T) {
		t.Parallel()
		h := start(t, Explicit)
		c := h.dial()
		c.expect(220)
		c.cmd(234, "AUTH TLS")
		c.send("USER mallory\r\nPASS x\r\n") // where a ClientHello must be
		c.expectEnd()
		h.vol.mu.Lock()
		defer h.vol.mu.Unlock()
		if len(h.vol.prechk) > 0 {
			t.Errorf("plaintext behind AUTH TLS was executed: USER %s", h.vol.prechk)
		}
	})
}

func TestPlaintextPhase(t *testing.T) {
	t.Parallel()
	h := start(t, Explicit)
	c := h.dial()
	if got := c.expect(220); !strings.Contains(got, "Sallyport") {
		t.Errorf("greeting %q", got)
	}
	feat := c.cmd(211, "FEAT")
	for _, want := range []string{"\r\n AUTH TLS\r\n", "\r\n PBSZ\r\n", "\r\n PROT\r\n", "\r\n UTF8\r\n"} {
		if !strings.Contains(feat, want) {
			t.Errorf("FEAT lacks %q: %q", want, feat)
		}
	}
	c.cmd(214, "HELP")
	c.cmd(200, "NOOP")
	c.cmd(215, "SYST")
	c.cmd(200, "OPTS UTF8 ON")
	c.cmd(501, "OPTS FOO")
	known := c.cmd(530, "USER alice")
	unknown := c.cmd(530, "USER nobody")
	if known != unknown || !strings.HasPrefix(known, "530 SSL is required") || !strings.HasSuffix(known, "[SP-T21]") {
		t.Errorf("USER alice: %q, USER nobody: %q", known, unknown)
	}
	for _, command := range []string{"PASS secret", "RETR f", "PBSZ 0", "PROT P", "STAT", "SITE HELP", "XYZZY", ""} {
		c.cmd(530, "%s", command)
	}
	c.cmd(221, "QUIT")
	c.expectEnd()

	c = h.dial()
	c.expect(220)
	for range maxPlainLines {
		c.cmd(200, "NOOP")
	}
	c.expect(421)
	c.expectEnd()
}

func TestRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	denial := &policy.Denial{Code: "SP-A10", Message: "Your address is not allowed."}
	h := start(t, Explicit)
	h.vol.setRefuse(denial)
	c := h.dial()
	if got := c.expect(421); !strings.Contains(got, "Your address is not allowed. [SP-A10]") {
		t.Errorf("got %q", got)
	}
	c.expectEnd()
	h = start(t, Implicit)
	h.vol.setRefuse(denial)
	if err := tls.Client(h.dial().raw, h.tlsConfig()).Handshake(); err == nil {
		t.Error("a refused address got a handshake")
	}
}

func TestPlainFTPByException(t *testing.T) {
	t.Parallel()
	h := start(t, Explicit)
	h.vol.put("/f", 0o644, []byte("content"))
	c := h.dial()
	c.expect(220)
	c.cmd(331, "USER old-scanner")
	c.cmd(230, "PASS secret")
	c.cmd(503, "AUTH TLS")
	c.cmd(503, "PBSZ 0")
	c.cmd(503, "PROT P")
	if feat := c.cmd(211, "FEAT"); strings.Contains(feat, "AUTH") || strings.Contains(feat, "PROT") {
		t.Errorf("FEAT on plain FTP: %q", feat)
	}
	c.epsv()
	d := c.open()
	c.cmd(150, "RETR f")
	if b, err := io.ReadAll(d); err != nil || string(b) != "content" {
		t.Errorf("got %q, %v", b, err)
	}
	c.expect(226)
	c.epsv()
	d = c.open()
	c.cmd(150, "STOR g")
	if _, err := fmt.Fprint(d, "scan"); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	c.expect(226)
	if got, _ := h.vol.get("/g"); got != "scan" {
		t.Errorf("stored %q", got)
	}
	h.vol.mu.Lock()
	if len(h.vol.facts) > 0 {
		t.Errorf("the session manager was told %+v; that there is no TLS it knows", h.vol.facts)
	}
	h.vol.mu.Unlock()
	// Another account cannot slip in behind the exception.
	c.cmd(220, "REIN")
	c.cmd(530, "USER alice")
}

// Under "prefer" a ticket of another session of the same account from the same address will do: a program with several
// sessions keeps one cache of tickets for all (rclone does). Another account's ticket will not, nor that of a stranger who
// never logs in.
func TestSessionBindingOfSiblings(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Implicit)
			h.vol.put("/f", 0o644, []byte("content"))
			secured := func(cache tls.ClientSessionCache) *client {
				c := h.dial()
				c.tls.MaxVersion = version
				if cache != nil {
					c.tls.ClientSessionCache = cache
				}
				c.conn = tls.Client(c.raw, c.tls)
				c.r = newReader(c)
				c.expect(220)
				return c
			}
			as := func(c *client, account string) *client {
				c.cmd(331, "USER %s", account)
				c.cmd(230, "PASS secret")
				c.cmd(200, "PBSZ 0")
				c.cmd(200, "PROT P")
				return c
			}
			a := as(secured(nil), "alice")
			if code, _, resumed := a.fetch(a.tls.ClientSessionCache); code != 226 || !resumed {
				t.Fatalf("own ticket: %d, resumed %v", code, resumed)
			}
			sibling := as(secured(nil), "alice")
			want := 226
			if version < tls.VersionTLS13 { // its key is gone with its connection
				want = 522
			}
			if code, _, resumed := a.fetch(sibling.tls.ClientSessionCache); code != want || resumed != (want == 226) {
				t.Errorf("ticket of a sibling: %d, resumed %v", code, resumed)
			}
			other := as(secured(nil), "old-scanner")
			if code, content, _ := a.fetch(other.tls.ClientSessionCache); code != 522 || content != "" {
				t.Errorf("ticket of another account: %d %q", code, content)
			}
			stranger := secured(nil)
			stranger.cmd(331, "USER alice")
			stranger.cmd(221, "QUIT")
			if code, content, _ := a.fetch(stranger.tls.ClientSessionCache); code != 522 || content != "" {
				t.Errorf("ticket of a stranger: %d %q", code, content)
			}
			if code, _, _ := a.fetch(a.tls.ClientSessionCache); code != 226 {
				t.Errorf("own ticket at last: %d", code)
			}
		})
	}
}
