package ftpd

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// One test for each defect of the library that docs/PROTOCOLS.md lists, with a client that tries to profit from it.

func withLimits(l limits) func(*Options) { return func(o *Options) { o.limits = l } }

// tapped records what arrives on a connection below TLS.
type tapped struct {
	net.Conn
	seen []byte
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.seen = append(c.seen, p[:n]...)
	return n, err
}

func TestF1ProtectionIsDecidedAtTheTransfer(t *testing.T) {
	t.Parallel()
	both(t, Explicit, nil, func(t *testing.T, h *host) {
		h.put("/f", "canary in clear")
		c := h.dial().secure()
		c.cmd(331, "USER alice")
		c.cmd(230, "PASS %s", h.password)
		// The library decides on TLS at EPSV; the protection comes after it.
		c.epsv()
		c.cmd(200, "PBSZ 0")
		c.cmd(200, "PROT P")
		raw := &tapped{Conn: c.open()}
		c.cmd(150, "RETR f")
		got, err := io.ReadAll(tls.Client(raw, c.tls))
		if err != nil || string(got) != "canary in clear" {
			t.Errorf("through TLS: %q, %v", got, err)
		}
		if strings.Contains(string(raw.seen), "canary") {
			t.Error("the file went out in clear")
		}
		c.expect(226)
	})
}

func TestF1NoTransferWithoutProtection(t *testing.T) {
	t.Parallel()
	soon := func(o *Options) { o.limits.refused = time.Millisecond } // the data connections end, and all that they carried is known
	both(t, Explicit, soon, func(t *testing.T, h *host) {
		h.put("/f", "canary in clear")
		c := h.dial().secure()
		c.cmd(331, "USER alice")
		c.cmd(230, "PASS %s", h.password)
		for _, command := range []string{"RETR f", "STOR g", "APPE g", "STOU", "LIST", "NLST", "MLSD"} {
			c.epsv()
			raw := c.open()
			c.cmd(522, "%s", command)
			if b, err := io.ReadAll(raw); len(b) > 0 || isTimeout(err) {
				t.Errorf("%s: the data connection carried %q, %v", command, b, err)
			}
		}
		c.cmd(200, "PBSZ 0")
		c.cmd(536, "PROT C")
		c.epsv()
		c.cmd(522, "RETR f")
	})
}

func TestF2ForeignDataConnection(t *testing.T) {
	t.Parallel()
	both(t, Implicit, nil, func(t *testing.T, h *host) {
		h.put("/f", "for the owner")
		c := h.dial().login()
		c.epsv()
		thief := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		stolen, err := thief.Dial("tcp", c.data)
		if err != nil {
			t.Fatal(err)
		}
		defer stolen.Close()
		c.send("RETR f\r\n")
		_ = stolen.SetDeadline(time.Now().Add(patience))
		if b, err := io.ReadAll(stolen); len(b) > 0 || isTimeout(err) {
			t.Fatalf("the foreign connection got %q, %v", b, err)
		}
		// It did not even spoil the transfer of the owner.
		raw := c.open()
		c.expect(150)
		if b, err := io.ReadAll(tls.Client(raw, c.tls)); err != nil || string(b) != "for the owner" {
			t.Errorf("the owner got %q, %v", b, err)
		}
		c.expect(226)
		c.cmd(425, "RETR f") // a channel serves one transfer
		if n := h.srv.Stats().ForeignData; n != 1 {
			t.Errorf("%d foreign connections counted, want 1", n)
		}
	})
}

func TestF2ForeignAloneGetsNothing(t *testing.T) {
	t.Parallel()
	both(t, Implicit, withLimits(limits{data: time.Second}), func(t *testing.T, h *host) {
		h.put("/f", "for the owner")
		c := h.dial().login()
		c.epsv()
		thief := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		stolen, err := thief.Dial("tcp", c.data)
		if err != nil {
			t.Fatal(err)
		}
		defer stolen.Close()
		c.cmd(425, "RETR f")
		c.cmd(425, "RETR f") // the library would use the refused connection now
		_ = stolen.SetDeadline(time.Now().Add(patience))
		if b, err := io.ReadAll(stolen); len(b) > 0 || isTimeout(err) {
			t.Fatalf("the foreign connection got %q, %v", b, err)
		}
	})
}

func TestF3SilentClientsAreCut(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"silent": "", "half a hello": "\x16\x03\x01\x02\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, Implicit, withLimits(limits{handshake: 50 * time.Millisecond}))
			raw, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_ = raw.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(raw, first); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(raw); isTimeout(err) {
				t.Fatal("the server still waits")
			}
		})
	}
	t.Run("explicit", func(t *testing.T) {
		t.Parallel()
		h := start(t, Explicit, withLimits(limits{login: 50 * time.Millisecond}))
		c := h.dial()
		c.expect(220)
		c.expect(421)
		c.expectEnd()
	})
	t.Run("option", func(t *testing.T) {
		t.Parallel()
		h := start(t, Explicit, func(o *Options) { o.LoginTime = 50 * time.Millisecond })
		c := h.dial()
		c.expect(220)
		c.expect(421)
		c.expectEnd()
	})
	t.Run("slow login", func(t *testing.T) {
		t.Parallel()
		h := start(t, Explicit, withLimits(limits{login: time.Second}))
		c := h.dial() // and no handshake, which would have to be done by then
		// Bytes without a line end do not buy time.
		for {
			if _, err := io.WriteString(c.conn, "N"); err != nil {
				return // cut
			}
			if _, _, err := c.readSoon(20 * time.Millisecond); err == nil || !isTimeout(err) {
				return // 421 or the end
			}
		}
	})
}

// readSoon is reply with a short deadline.
func (c *client) readSoon(d time.Duration) (int, string, error) {
	_ = c.raw.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = c.raw.SetReadDeadline(time.Now().Add(patience)) }()
	return c.reply()
}

func TestF4StalledTransfersEnd(t *testing.T) {
	t.Parallel()
	// Short beside the defaults, long beside what a loaded machine takes for an honest handshake; and only the one that is to end.
	stall := withLimits(limits{stall: 3 * time.Second})
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		both(t, Implicit, stall, func(t *testing.T, h *host) {
			c := h.dial().login()
			c.epsv()
			d := tls.Client(c.open(), c.tls)
			c.cmd(150, "STOR f")
			if _, err := io.WriteString(d, "some"); err != nil {
				t.Fatal(err)
			}
			c.expect(426)
			if n := h.srv.Stats().Stalled; n != 1 {
				t.Errorf("%d stalled transfers counted", n)
			}
		})
	})
	t.Run("download", func(t *testing.T) {
		t.Parallel()
		both(t, Implicit, stall, func(t *testing.T, h *host) {
			h.put("/f", strings.Repeat("0123456789abcdef", 2<<20))
			c := h.dial().login()
			c.epsv()
			d := tls.Client(c.open(), c.tls)
			c.cmd(150, "RETR f")
			if err := d.Handshake(); err != nil {
				t.Fatal(err)
			}
			c.expect(426)
		})
	})
	t.Run("handshake", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit, withLimits(limits{handshake: 5 * time.Second}))
		c := h.dial().login()
		c.epsv()
		c.open()
		c.cmd(150, "STOR f")
		c.expect(425)
	})
	t.Run("accept", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit, withLimits(limits{data: time.Second}))
		c := h.dial().login()
		c.epsv()
		c.cmd(425, "STOR f")
		c.cmd(425, "STOR f")
		if got := h.srv.Stats().Stalled; got != 0 {
			t.Errorf("stalled: %d", got)
		}
	})
}

// A client that takes or gives a little within every interval is slow, not stalled.
func TestF4SlowIsNotStalled(t *testing.T) {
	t.Parallel()
	cert, _ := testCert()
	const size, part, stall = 1 << 20, 16 << 10, time.Minute // a part is a record of TLS
	slowly := func(t *testing.T, do func(server *tls.Conn, w *wire) error, take func(client *tls.Conn) error) {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			w := &wire{raw: here, stall: stall, in: new([wireBuffer]byte)} // writes are not buffered during the handshake
			// Nobody reads before the first part, so there are no tickets. The certificate is of another time than the bubble's.
			server := tls.Server(w, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
			client := tls.Client(there, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec
			shaken := make(chan error, 1)
			go func() { shaken <- server.Handshake() }()
			if err := errors.Join(client.Handshake(), <-shaken); err != nil {
				t.Fatal(err)
			}
			w.out = new([wireBuffer]byte)
			done := make(chan error, 1)
			go func() { done <- do(server, w) }()
			began := time.Now()
			for n := 0; n < size; n += part {
				if err := take(client); err != nil {
					t.Fatalf("after %d bytes: %v", n, err)
				}
				time.Sleep(stall * 4 / 10) // of the bubble; a client that reads ahead needs none of the next part
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took < 10*stall {
				t.Errorf("it took %v: the test was not slow", took)
			}
			_ = here.Close()
			_ = there.Close()
		})
	}
	t.Run("download", func(t *testing.T) {
		t.Parallel()
		slowly(t, func(server *tls.Conn, w *wire) error {
			_, err := server.Write(make([]byte, size))
			return errors.Join(err, w.flush())
		}, func(client *tls.Conn) error {
			_, err := io.CopyN(io.Discard, client, part)
			return err
		})
	})
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		slowly(t, func(server *tls.Conn, _ *wire) error {
			_, err := io.CopyN(io.Discard, server, size)
			return err
		}, func(client *tls.Conn) error {
			_, err := client.Write(make([]byte, part))
			return err
		})
	})
}

func TestF5TruncatedUploadIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, Implicit, nil, func(t *testing.T, h *host) {
				h.put("/f", "what was there")
				c := h.dial()
				c.tls.MaxVersion = version
				c.login()
				c.interrupted("STOR f", "first half")
				if got := h.get("/f"); got != "what was there" {
					t.Errorf("the file is now %q", got)
				}
				if n := h.srv.Stats().Truncated; n != 1 {
					t.Errorf("%d truncated uploads counted", n)
				}
			})
		})
	}
}

func TestF5ToleratedByPolicy(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	h.vol.setPolicy(func(p *policy.Effective) { p.Transport.RequireCloseNotify = false })
	c := h.dial().login()
	c.epsv()
	raw := c.open()
	c.cmd(150, "STOR f")
	d := tls.Client(raw, c.tls)
	if _, err := io.WriteString(d, "all of it"); err != nil {
		t.Fatal(err)
	}
	if err := raw.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.expect(226)
}

func TestF6PortAfterPasvLeaksNothing(t *testing.T) {
	t.Parallel()
	both(t, Implicit, func(o *Options) { o.ActiveMode = true }, func(t *testing.T, h *host) {
		c := h.dial().login()
		mine, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		port := addrPort(mine.Addr()).Port()
		prepare := []string{"PASV", "EPSV", fmt.Sprintf("PORT 127,0,0,1,%d,%d", port>>8, port&255), fmt.Sprintf("EPRT |1|127.0.0.1|%d|", port)}
		for _, first := range prepare[:2] {
			for _, then := range prepare {
				if first == "PASV" {
					c.pasv()
				} else {
					c.epsv()
				}
				before := h.srv.onlyConn(t).control.prepared()
				c.send(then + "\r\n")
				if code, text, err := c.reply(); err != nil || code >= 300 {
					t.Fatalf("%s: %s, %v", then, text, err)
				}
				if before.listening() {
					t.Errorf("%s, then %s: the first port still listens", first, then)
				}
			}
		}
	})
}

func TestF7HalfACommandIsNotExecuted(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]Mode{"explicit": Explicit, "implicit": Implicit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, m, nil, func(t *testing.T, h *host) {
				h.put("/file", "x")
				h.put("/file.old", "x") // what the client meant
				c := h.dial().login()
				c.send("NOOP\r\nDELE /file")
				c.expect(200)
				_ = c.conn.Close()
				eventually(t, "the session ends", func() bool { return h.srv.connections() == 0 })
				if got := h.get("/file"); got != "x" {
					t.Error("DELE without its line end was executed")
				}
			})
		})
	}
}

func TestF8StrictAuthAndProt(t *testing.T) {
	t.Parallel()
	both(t, Explicit, nil, func(t *testing.T, h *host) {
		h.put("/f", "content")
		c := h.dial()
		c.expect(220)
		for _, mechanism := range []string{"FOO", "", "TLSX", "TLS P", "KERBEROS_V4"} {
			c.cmd(504, "AUTH %s", mechanism)
		}
		c.cmd(234, "AUTH tls")
		d := tls.Client(c.raw, c.tls)
		if err := d.Handshake(); err != nil {
			t.Fatal(err)
		}
		c.conn = d
		c.r.Reset(d)
		c.cmd(503, "AUTH TLS")
		c.cmd(504, "AUTH FOO")
		c.cmd(503, "PROT P") // before PBSZ
		c.cmd(331, "USER alice")
		c.cmd(230, "PASS %s", h.password)
		c.cmd(501, "PBSZ x")
		c.cmd(200, "PBSZ 0")
		c.cmd(200, "PROT p") // RFC 4217: arguments are not case-sensitive
		for _, level := range []string{"C", "c", "S", "E", "e"} {
			c.cmd(536, "PROT %s", level)
		}
		c.cmd(504, "PROT X")
		c.cmd(533, "CCC")
		if got := c.retr("RETR f"); got != "content" { // still protected: retr speaks TLS
			t.Errorf("got %q", got)
		}
	})
}

func TestF9HashResolvesPaths(t *testing.T) {
	t.Parallel()
	both(t, Implicit, nil, func(t *testing.T, h *host) {
		h.put("/f", "the root's")
		h.put("/sub/f", "the directory's")
		c := h.dial().login()
		c.cmd(250, "CWD sub")
		for arg, content := range map[string]string{"f": "the directory's", "../f": "the root's", "../../../f": "the root's", "/sub/../f": "the root's"} {
			want := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
			if got := c.cmd(213, "HASH %s", arg); !strings.Contains(got, want) {
				t.Errorf("HASH %s: %s, want %s", arg, got, want)
			}
			if got := c.cmd(250, "XSHA256 %s", arg); !strings.EqualFold(got[4:], want) {
				t.Errorf("XSHA256 %s: %s, want %s", arg, got, want)
			}
		}
	})
}

func TestF10PanicsStayInside(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	h.panics = 1
	h.vol.put("/f", 0o644, []byte("x"))
	c := h.dial().login()
	for _, command := range []string{"SITE CHMOD 644", "SITE CHMOD", "SITE UTIME 20260101", "SITE SYMLINK a", "MFMT 20260101000000", "MFF Modify=;", "OPTS HASH x"} {
		c.cmd(501, "%s", command)
	}
	h.vol.mu.Lock()
	h.vol.fail = func(op, _ string) error { panic("canary: " + op) }
	h.vol.mu.Unlock()
	c.send("STAT /f\r\n")
	code, text, err := c.reply()
	if strings.Contains(text, "canary") || strings.Contains(text, "panic") {
		t.Errorf("the client was told %q", text)
	}
	if err == nil && code != 421 {
		t.Errorf("%d %s, want 421 or the end", code, text)
	}
	h.vol.mu.Lock()
	h.vol.fail = nil
	h.vol.mu.Unlock()
	// Nobody else notices.
	if got := h.dial().login().retr("RETR f"); got != "x" {
		t.Errorf("the next session got %q", got)
	}
	if strings.Contains(h.log.String(), "canary") {
		t.Error("the panic's text is in the log")
	}
}

func TestF11KickEndsAtOnce(t *testing.T) {
	t.Parallel()
	began := func(t *testing.T, prepare func(c *client)) {
		// Who waits for the data connection, or for a byte on it, waits longer than the client for the end.
		both(t, Implicit, withLimits(limits{data: time.Hour, stall: time.Hour}), func(t *testing.T, h *host) {
			h.put("/f", strings.Repeat("0123456789abcdef", 2<<20))
			c := h.dial().login()
			prepare(c)
			c.wait()
			code := h.kick()
			_, text, err := c.reply()
			for err == nil && !strings.HasPrefix(text, "421") {
				_, text, err = c.reply()
			}
			if err != nil || !strings.Contains(text, code) {
				t.Errorf("farewell %q, %v", text, err)
			}
			c.expectEnd()
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		began(t, func(*client) {})
	})
	t.Run("pending accept", func(t *testing.T) {
		t.Parallel()
		began(t, func(c *client) {
			c.epsv()
			c.send("RETR f\r\n")
			eventually(t, "the transfer waits", func() bool { return c.h.srv.transferring() })
		})
	})
	t.Run("stalled download", func(t *testing.T) {
		t.Parallel()
		began(t, func(c *client) {
			c.epsv()
			d := tls.Client(c.open(), c.tls)
			c.cmd(150, "RETR f")
			if err := d.Handshake(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// transferring tells whether any session has a transfer under way.
func (s *Server) transferring() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		busy := c.busy() && c.control.op.transfer
		c.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

func TestF12ListingsAreBuffered(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	const entries = 3000
	for i := range entries {
		h.vol.put(fmt.Sprintf("/file-%05d", i), 0o644, nil)
	}
	c := h.dial().login()
	for _, command := range []string{"LIST", "MLSD", "NLST"} {
		c.epsv()
		raw := &tapped{Conn: c.open()}
		c.cmd(150, "%s", command)
		b, err := io.ReadAll(tls.Client(raw, c.tls))
		if err != nil {
			t.Fatal(err)
		}
		c.expect(226)
		if n := strings.Count(string(b), "\r\n"); n != entries {
			t.Errorf("%s: %d lines, want %d", command, n, entries)
		}
		records := 0
		for rest := raw.seen; len(rest) >= 5; records++ {
			rest = rest[min(len(rest), 5+int(rest[3])<<8+int(rest[4])):]
		}
		// A full record holds 16 KiB; the handshake and the end are a dozen more.
		if most := len(b)/(16<<10) + len(b)/listBuffer + 16; records > most {
			t.Errorf("%s: %d TLS records for %d bytes, want at most %d", command, records, len(b), most)
		}
	}
}

func TestF13CodesTellWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	denial := &policy.Denial{Code: "SP-P70", Message: "You may not write here."}
	for _, tt := range []struct {
		op   string
		err  error
		code int
		text string
	}{
		{"write", syscall.ENOSPC, 452, "space"},
		{"write", syscall.EDQUOT, 552, "Quota"},
		{"close", syscall.ENOSPC, 452, "space"},
		{"close", denial, 550, "You may not write here. [SP-P70]"},
		{"close", errors.New("disk on fire: canary"), 451, "reference"},
		{"open", vfs.ErrBusy, 450, "another session"},
		{"open", vfs.ErrInterrupted, 550, "interrupted"},
		{"open", vfs.ErrNameTooLong, 553, "long"},
		{"open", vfs.ErrBadName, 553, "not allowed"},
		{"open", vfs.ErrTooMany, 450, "open files"},
		{"open", vfs.ErrTooManyPast, 450, "old versions are open in all sessions of this account"},
		{"open", vfs.ErrReadOnly, 451, "no writes"},
		{"open", fs.ErrPermission, 550, "Permission denied"},
		{"open", errors.New("canary: /var/lib/secret"), 451, "reference"},
	} {
		t.Run(fmt.Sprintf("%s %v", tt.op, tt.err), func(t *testing.T) {
			t.Parallel()
			h := start(t, Implicit)
			c := h.dial().login()
			h.vol.mu.Lock()
			h.vol.fail = func(op, _ string) error {
				if op == tt.op {
					return tt.err
				}
				return nil
			}
			h.vol.mu.Unlock()
			c.epsv()
			raw := c.open()
			c.send("STOR f\r\n")
			code, text, err := c.reply()
			if code == 150 {
				d := tls.Client(raw, c.tls)
				_, _ = io.WriteString(d, "content")
				_ = d.Close()
				code, text, err = c.reply()
			}
			if err != nil || code != tt.code || !strings.Contains(text, tt.text) {
				t.Errorf("got %q, %v; want %d ... %s", text, err, tt.code, tt.text)
			}
			if strings.Contains(text, "canary") {
				t.Errorf("internal text reached the client: %s", text)
			}
			if tt.text == "reference" {
				id := strings.TrimSuffix(text[strings.LastIndexByte(text, ' ')+1:], ".")
				if !strings.Contains(h.log.String(), id) {
					t.Errorf("the reference %s is not in the log", id)
				}
			}
		})
	}
}

func TestF14SecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	const secret = "canary-hunter2"
	h := start(t, Explicit)
	h.panics = 1
	c := h.dial()
	c.expect(220)
	c.cmd(530, "PASS "+secret)
	c.cmd(530, secret+" "+secret)
	c = h.dial().secure()
	c.cmd(331, "USER alice")
	c.cmd(530, "PASS "+secret)
	c.expectEnd()
	c = h.dial().secure()
	c.cmd(500, secret) // a password where a command was expected
	c.cmd(202, "ACCT "+secret)
	c.cmd(331, "USER panic")
	c.send("PASS " + secret + "\r\n")
	_, _, _ = c.reply()
	c.expectEnd()
	c = h.dial().secure()
	c.send("PASS " + secret + strings.Repeat("x", 5000) + "\r\n")
	c.expect(500)
	c.send("PASS " + secret + "\x00\r\n")
	c.expect(501)
	if log := h.log.String(); strings.Contains(log, "canary") {
		t.Errorf("the log holds the secret:\n%s", log)
	}
	if !strings.Contains(h.log.String(), "verb=PASS") {
		t.Error("the log is not at debug level: the test sees nothing")
	}
}
