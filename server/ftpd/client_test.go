package ftpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of a test, each by itself and not the session: generous, and never reached when things work.
const patience = 20 * time.Second

var testCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

// syncBuffer is a log that goroutines may write and the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// tail is the end of the log, for messages.
func (s *syncBuffer) tail() string {
	all := s.String()
	return all[max(0, len(all)-1000):]
}

// host is a server under test on a loopback port.
type host struct {
	t    *testing.T
	srv  *Server
	vol  *fake
	addr string
	mode Mode
	log  *syncBuffer
	done chan error
	stop context.CancelFunc

	panics   uint64 // how many the test provokes
	password string
	kick     func() string // ends every session; returns the code of the reason
}

func start(t *testing.T, m Mode, change ...func(*Options)) *host {
	t.Helper()
	return startAt(t, m, "127.0.0.1:0", change...)
}

func startAt(t *testing.T, m Mode, addr string, change ...func(*Options)) *host {
	t.Helper()
	cert, _ := testCert()
	h := &host{t: t, vol: newFake(), mode: m, password: "secret", log: &syncBuffer{}, done: make(chan error, 1)}
	o := Options{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Log:         slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		backend:     h.vol,
	}
	for _, f := range change {
		f(&o)
	}
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.srv = srv
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.done <- srv.Serve(ctx, ln, m) }()
	t.Cleanup(func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		select {
		case err := <-h.done:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-ctx.Done():
			t.Error("Serve has not returned")
		}
		if n := srv.Stats().Panics; n != h.panics {
			t.Errorf("%d panics, want %d:\n%s", n, h.panics, h.log)
		}
	})
	return h
}

// client is a hostile or honest FTP client.
type client struct {
	t    *testing.T
	h    *host
	raw  net.Conn
	conn net.Conn
	r    *bufio.Reader
	tls  *tls.Config
	data string // address of the data connection
}

func (h *host) tlsConfig() *tls.Config {
	_, pool := testCert()
	return &tls.Config{RootCAs: pool, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

// dial connects; on implicit servers it performs the handshake.
func (h *host) dial() *client {
	h.t.Helper()
	raw, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(patience))
	c := &client{t: h.t, h: h, raw: raw, conn: raw, tls: h.tlsConfig()}
	if h.mode == Implicit {
		c.conn = tls.Client(raw, c.tls)
	}
	c.r = bufio.NewReader(c.conn)
	return c
}

// secure brings a fresh connection to the point where USER may be sent.
func (c *client) secure() *client {
	c.t.Helper()
	c.expect(220)
	if c.h.mode == Explicit {
		c.cmd(234, "AUTH TLS")
		t := tls.Client(c.raw, c.tls)
		if err := t.Handshake(); err != nil {
			c.t.Fatal(err)
		}
		c.conn, c.r = t, bufio.NewReader(t)
	}
	return c
}

func (c *client) login() *client {
	c.t.Helper()
	c.secure()
	c.cmd(331, "USER alice")
	c.cmd(230, "PASS %s", c.h.password)
	if c.h.mode == Explicit {
		c.cmd(200, "PBSZ 0")
		c.cmd(200, "PROT P")
	}
	return c
}

// wait gives the server its time anew.
func (c *client) wait() { _ = c.raw.SetDeadline(time.Now().Add(patience)) }

func (c *client) send(line string) {
	c.t.Helper()
	c.wait()
	if _, err := c.conn.Write([]byte(line)); err != nil {
		c.t.Fatalf("sending %q: %v", line, err)
	}
}

// reply reads one reply, all its lines.
func (c *client) reply() (int, string, error) {
	var all strings.Builder
	for first := ""; ; {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, all.String(), err
		}
		all.WriteString(line)
		if len(line) < 4 {
			return 0, all.String(), fmt.Errorf("malformed reply line %q", line)
		}
		if first == "" {
			first = line[:3]
		}
		if strings.HasPrefix(line, first+" ") {
			code, err := strconv.Atoi(first)
			return code, strings.TrimRight(all.String(), "\r\n"), err
		}
	}
}

func (c *client) expect(code int) string {
	c.t.Helper()
	c.wait()
	got, text, err := c.reply()
	if err != nil || got != code {
		c.t.Fatalf("want %d, got %q, %v\nserver log:\n%s", code, text, err, c.h.log.tail())
	}
	return text
}

// cmd sends a command and expects a code.
func (c *client) cmd(code int, format string, args ...any) string {
	c.t.Helper()
	line := fmt.Sprintf(format, args...)
	c.send(line + "\r\n")
	got, text, err := c.reply()
	if err != nil || got != code {
		c.t.Fatalf("%s: want %d, got %q, %v\nserver log:\n%s", line, code, text, err, c.h.log.tail())
	}
	return text
}

// expectEnd reads until the server closes.
func (c *client) expectEnd() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		c.t.Fatalf("the connection has not ended: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (c *client) epsv() {
	c.t.Helper()
	text := c.cmd(229, "EPSV")
	f := strings.Split(text, "|")
	host, _, _ := net.SplitHostPort(c.h.addr)
	c.data = net.JoinHostPort(host, f[3])
}

func (c *client) pasv() netip.AddrPort {
	c.t.Helper()
	text := c.cmd(227, "PASV")
	var a [4]byte
	var p1, p2 uint16
	if _, err := fmt.Sscanf(text[strings.IndexByte(text, '('):], "(%d,%d,%d,%d,%d,%d)", &a[0], &a[1], &a[2], &a[3], &p1, &p2); err != nil {
		c.t.Fatalf("%q: %v", text, err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4(a), p1<<8|p2)
	c.data = at.String()
	return at
}

// open connects the data connection below TLS.
func (c *client) open() net.Conn {
	c.t.Helper()
	d, err := net.Dial("tcp", c.data)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = d.Close() })
	_ = d.SetDeadline(time.Now().Add(patience))
	return d
}

func (c *client) retr(command string) string {
	c.t.Helper()
	c.epsv()
	raw := c.open()
	c.cmd(150, "%s", command)
	d := tls.Client(raw, c.tls)
	b, err := io.ReadAll(d)
	if err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	_ = d.Close()
	c.expect(226)
	return string(b)
}

func (c *client) stor(command, content string) {
	c.t.Helper()
	c.epsv()
	raw := c.open()
	c.cmd(150, "%s", command)
	d := tls.Client(raw, c.tls)
	if err := d.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(d, content); err != nil {
		c.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.expect(226)
}

// eventually polls for something that another goroutine does, in ticks: who has no processor gets fewer, and more time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const every = 2 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range patience / every {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("not within %v: %s", patience, what)
}
