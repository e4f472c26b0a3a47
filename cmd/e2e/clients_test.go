//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// client is one logged-in session of either protocol, as small as can be: a thousand of them live in one process.
type client struct {
	look func() error  // one operation that the policy permits or refuses
	gone chan struct{} // closed when the server has ended the connection
	end  func() error
}

// from is a dialer with a source address of the loopback network.
func from(addr net.IP) *net.Dialer {
	return &net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: addr}}
}

func (s *server) signer(t *testing.T) ssh.Signer {
	t.Helper()
	pem, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ssh makes a connection; said is what the server told before the login failed.
func (s *server) ssh(addr net.IP, account string, auth ssh.AuthMethod) (c *ssh.Client, said string, err error) {
	config := &ssh.ClientConfig{User: account, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // the server under test
		BannerCallback: func(m string) error { said += m; return nil }}
	to := fmt.Sprintf("127.0.0.1:%d", s.SFTPPort)
	raw, err := from(addr).Dial("tcp", to)
	if err != nil {
		return nil, "", err
	}
	_ = raw.SetDeadline(time.Now().Add(2 * time.Minute))
	conn, chans, reqs, err := ssh.NewClientConn(raw, to, config)
	if err != nil {
		_ = raw.Close()
		return nil, said, err
	}
	_ = raw.SetDeadline(time.Time{})
	return ssh.NewClient(conn, chans, reqs), said, nil
}

func (s *server) sftpClient(addr net.IP, key ssh.Signer) (*client, error) {
	conn, said, err := s.ssh(addr, s.Account, ssh.PublicKeys(key))
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, said)
	}
	f, err := sftp.NewClient(conn)
	if err != nil {
		return nil, err
	}
	c := &client{gone: make(chan struct{}), end: conn.Close, look: func() error {
		_, err := f.ReadDir("/")
		return err
	}}
	go func() { _ = conn.Wait(); close(c.gone) }() // ends with the connection
	return c, nil
}

// ftps logs in; code and text are the answer to PASS, or to what came before if that was refused.
func (s *server) ftps(addr net.IP, account, password string) (conn net.Conn, text *textproto.Conn, code int, answer string, err error) {
	raw, err := from(addr).Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.FTPSImplicitPort))
	if err != nil {
		return nil, nil, 0, "", err
	}
	_ = raw.SetDeadline(time.Now().Add(2 * time.Minute))
	conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the server under test
	text = textproto.NewConn(conn)
	for _, line := range []string{"", "USER " + account, "PASS " + password} {
		if line != "" {
			err = text.PrintfLine("%s", line)
		}
		if err == nil {
			code, answer, err = text.ReadResponse(0)
		}
		if err != nil || code >= 400 {
			_ = raw.Close()
			return nil, nil, code, answer, err
		}
	}
	_ = raw.SetDeadline(time.Time{})
	return conn, text, code, answer, nil
}

func (s *server) ftpsClient(addr net.IP) (*client, error) {
	conn, text, code, answer, err := s.ftps(addr, s.Account, s.Password)
	if err != nil || conn == nil {
		return nil, errors.Join(err, fmt.Errorf("%d %s", code, answer))
	}
	c := &client{gone: make(chan struct{}), end: conn.Close}
	// One goroutine reads: answers to look, and the end.
	type reply struct {
		code int
		text string
	}
	replies := make(chan reply, 4)
	go func() { // ends with the connection
		defer close(c.gone)
		for {
			code, answer, err := text.ReadResponse(0)
			if err != nil || code == 421 {
				return
			}
			replies <- reply{code, answer}
		}
	}()
	c.look = func() error {
		if err := text.PrintfLine("MLST /"); err != nil {
			return err
		}
		select {
		case r := <-replies:
			if r.code >= 400 {
				return fmt.Errorf("%d %s", r.code, r.text)
			}
			return nil
		case <-c.gone:
			return errors.New("the connection ended")
		}
	}
	return c, nil
}

// lookedAt says whether a failed login got its secret looked at: what is refused before that has a code.
func lookedAt(answer string) bool { return !strings.Contains(answer, "[SP-") }
