//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// R54: strangers who connect and say nothing, half a handshake, or rubbish,
// from hundreds of addresses, do not keep others out.
func TestThousandsOfStrangers(t *testing.T) {
	t.Parallel()
	s := start(t)
	ports := []int{s.SFTPPort, s.FTPSPort, s.FTPSImplicitPort}
	openings := [][]byte{nil, []byte("SSH-2.0-x\r\n"), {0x16, 0x03, 0x01, 0x02, 0x00, 0x01}, []byte("USER a\r\nPASS b\r\n"), make([]byte, 8192)}
	const strangers = 5000
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	work := make(chan int)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := range work {
				// 250 addresses of the loopback network.
				d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%250))}}
				c, err := d.DialContext(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[i%3]))
				if err != nil {
					continue // refused: as good as shut out
				}
				_, _ = c.Write(openings[i%len(openings)])
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	for i := range strangers {
		work <- i
	}
	close(work)
	all.Wait()
	if len(open) < strangers/2 {
		t.Fatalf("only %d of %d strangers got a connection: the test would prove nothing", len(open), strangers)
	}
	data := testData(11, 100_000)
	for _, w := range s.ways() {
		s.mustCurl(t, w, "/among-strangers", "-T", local(t, "f", data))
		same(t, w.name, s.fetch(t, w, "/among-strangers"), data)
	}
	s.sftp(t, "ls -l /among-strangers\n")
	out := s.cli("status", "-o", "json")
	if !strings.Contains(out, "{") {
		t.Errorf("status: %s", out)
	}
}

// What a stranger can send in front of a login: each gets an end in its own
// protocol, and the server goes on.
func TestRubbishBeforeLogin(t *testing.T) {
	t.Parallel()
	s := start(t)
	secure := func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) } //nolint:gosec // the peer is the server under test
	for _, tt := range []struct {
		name string
		port int
		wrap func(net.Conn) net.Conn
		send string
		want string // how a line of what comes back begins; "" = just an end
	}{
		{"over-long command", s.FTPSPort, nil, strings.Repeat("A", 1<<20) + "\r\n", "421"},
		{"NUL in a command", s.FTPSPort, nil, "US\x00ER x\r\n", "50"},
		{"bare LF and CR", s.FTPSPort, nil, "NOOP\nQUIT\r\n", "221 "},
		{"command cut off at the end", s.FTPSImplicitPort, secure, "QUI", ""},
		{"injection behind AUTH", s.FTPSPort, nil, "AUTH TLS\r\nUSER demo\r\nPASS x\r\n", ""},
		{"HTTP", s.FTPSPort, nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "5"},
		{"HTTP on the SFTP port", s.SFTPPort, nil, "GET / HTTP/1.1\r\n\r\n", ""},
		{"huge SSH packet", s.SFTPPort, nil, "SSH-2.0-x\r\n\x7f\xff\xff\xff\x00", ""},
		{"endless SSH banner", s.SFTPPort, nil, strings.Repeat("x", 1<<20), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", tt.port), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := raw
			if tt.wrap != nil {
				c = tt.wrap(raw)
			}
			_ = c.SetDeadline(time.Now().Add(45 * time.Second))
			go func() { // ends with the connection
				_, _ = c.Write([]byte(tt.send))
				if tc, ok := c.(interface{ CloseWrite() error }); ok {
					_ = tc.CloseWrite()
				}
			}()
			var got strings.Builder
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				got.Write(buf[:n])
				if err != nil {
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						t.Fatalf("the connection is still open after 45 s; got %q", got.String())
					}
					break
				}
			}
			if tt.want != "" && !hasLine(got.String(), tt.want) {
				t.Errorf("got %q, want a line %q in it", got.String(), tt.want)
			}
			for _, leak := range []string{"panic", "goroutine", ".go:", "runtime"} {
				if strings.Contains(got.String(), leak) {
					t.Errorf("internal text reached a stranger: %q", got.String())
				}
			}
		})
	}
	t.Cleanup(func() {
		if strings.Contains(s.logs(), "panic") {
			t.Errorf("a panic is in the log:\n%s", grep(s.logs(), "panic"))
		}
	})
}
