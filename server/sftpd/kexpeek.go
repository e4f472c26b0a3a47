package sftpd

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// maxIdent is the longest identification line: RFC 4253, section 4.2.
	maxIdent = 255
	// maxKexInit is the longest packet that every implementation must take:
	// RFC 4253, section 6.1.
	maxKexInit = 35000
	// kexInitWait is how long a client that has identified itself is given to
	// send its KEXINIT unasked. Most send it with or right after the
	// identification; those that wait for the server's are served after it
	// without steering.
	kexInitWait = 300 * time.Millisecond

	msgKexInit = 20
)

// hello is what a client says of itself before keys are exchanged.
type hello struct {
	ident   string // without line end; empty if it was not understood
	ciphers [2][]string
	kexInit bool // ciphers are known
}

var errNotHello = errors.New("sftpd: not an SSH identification and KEXINIT")

// steer narrows the server's ciphers to AES-GCM if the client offers it in both
// directions: the client's preference decides in SSH, OpenSSH prefers
// ChaCha20-Poly1305, and that costs about three times the processor time of
// AES-GCM in Go (measured: docs/PERFORMANCE.md). Everyone else is served as
// before.
func (h hello) steer(ciphers []string) []string {
	if !h.kexInit {
		return ciphers
	}
	var gcm []string
	for _, c := range []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM} {
		if slices.Contains(ciphers, c) && slices.Contains(h.ciphers[0], c) && slices.Contains(h.ciphers[1], c) {
			gcm = append(gcm, c)
		}
	}
	if len(gcm) == 0 {
		return ciphers
	}
	return gcm
}

// parseHello parses an identification line and KEXINIT. complete reports
// whether more bytes would not change the result; an error means that this is
// something else, which x/crypto then refuses in its own words.
func parseHello(b []byte) (h hello, complete bool, err error) {
	line, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found {
		if len(b) > maxIdent {
			return h, true, errNotHello
		}
		return h, false, nil
	}
	ident := string(bytes.TrimSuffix(line, []byte{'\r'}))
	if len(line) >= maxIdent || !strings.HasPrefix(ident, "SSH-2.0-") || !printable(ident) {
		return h, true, errNotHello
	}
	h.ident = ident
	payload, complete, err := parseFirstPacket(rest)
	if err != nil || !complete {
		return h, complete, err
	}
	ciphers, err := parseKexInit(payload)
	if err != nil {
		return h, true, err
	}
	h.ciphers, h.kexInit = ciphers, true
	return h, true, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// parseFirstPacket takes an unencrypted packet apart: RFC 4253, section 6.
func parseFirstPacket(b []byte) (payload []byte, complete bool, err error) {
	f := fields{b: b}
	n := f.uint32()
	if !f.ok() {
		return nil, false, nil
	}
	if n > maxKexInit || n < 12 || (n+4)%8 != 0 {
		return nil, true, errNotHello
	}
	if uint32(len(f.b)) < n {
		return nil, false, nil
	}
	f.b = f.b[:n]
	padding := int(f.byte())
	if padding < 4 || padding > len(f.b) {
		return nil, true, errNotHello
	}
	return f.b[:len(f.b)-padding], true, nil
}

// parseKexInit returns the ciphers client to server and server to client:
// RFC 4253, section 7.1.
func parseKexInit(payload []byte) (ciphers [2][]string, err error) {
	f := fields{b: payload}
	if f.byte() != msgKexInit {
		return ciphers, errNotHello
	}
	f.take(16) // cookie
	var lists [10]string
	for i := range lists {
		lists[i] = f.string()
	}
	f.byte() // first_kex_packet_follows
	if f.uint32() != 0 || !f.ok() || len(f.b) != 0 {
		return ciphers, errNotHello
	}
	for _, l := range lists {
		if !printable(l) {
			return ciphers, errNotHello
		}
	}
	return [2][]string{strings.Split(lists[2], ","), strings.Split(lists[3], ",")}, nil
}

// peek sends the server's identification, reads what the client says of itself,
// and leaves all of it for x/crypto to read. It gives up quietly, with what it
// understood, on anything but a broken connection; the deadline of the
// connection (limit) bounds it and is in force again when it returns.
func (c *clientConn) peek(ident string, limit time.Time) (hello, error) {
	c.unsent = append([]byte(ident), '\r', '\n')
	if _, err := c.Conn.Write(c.unsent); err != nil {
		return hello{}, err
	}
	var h hello
	for buf := make([]byte, 2<<10); ; {
		n, err := c.Conn.Read(buf)
		c.unread = append(c.unread, buf[:n]...)
		known := h.ident != ""
		var complete bool
		var malformed error
		h, complete, malformed = parseHello(c.unread)
		if complete || malformed != nil {
			break
		}
		if err != nil {
			if known && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(limit) {
				break // it waits for our KEXINIT
			}
			return h, err
		}
		if !known && h.ident != "" {
			if err := c.Conn.SetReadDeadline(earlier(limit, time.Now().Add(kexInitWait))); err != nil {
				return h, err
			}
		}
	}
	return h, c.Conn.SetReadDeadline(limit)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
