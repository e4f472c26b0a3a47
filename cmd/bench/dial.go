package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

type sftpSession struct {
	*sftp.Client
	conn *ssh.Client
}

func (s sftpSession) list(dir string) error {
	_, err := s.ReadDir(dir)
	return err
}

func (s sftpSession) close() error {
	_ = s.Client.Close()
	return s.conn.Close()
}

func dialSFTPClient(j *job) (sftpSession, error) {
	pem, err := os.ReadFile(j.peer.key)
	if err != nil {
		return sftpSession{}, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return sftpSession{}, err
	}
	conn, err := ssh.Dial("tcp", net.JoinHostPort(j.peer.host, j.peer.port), &ssh.ClientConfig{
		User: j.peer.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a throw-away server on loopback
		Timeout:         20 * time.Second,
	})
	if err != nil {
		return sftpSession{}, err
	}
	c, err := sftp.NewClient(conn)
	return sftpSession{c, conn}, err
}

func dialSFTP(_ context.Context, j *job) (session, error) { return dialSFTPClient(j) }

// randomIO reads or writes 4 KiB blocks of a large file at random places for two seconds.
func randomIO(ctx context.Context, j *job, write bool, depth int) (float64, error) {
	s, err := dialSFTPClient(j)
	if err != nil {
		return 0, err
	}
	defer s.close()
	name := j.peer.base + "random"
	if !j.peer.warm[name] {
		if err := (sftpClient{}).put(ctx, j, [][2]string{{j.in.big, name}}); err != nil {
			return 0, err
		}
		j.peer.warm[name] = true
	}
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := s.OpenFile(name, flags)
	if err != nil {
		return 0, err
	}
	blocks := j.sizeMiB << 20 / 4096
	const span = 2 * time.Second
	counts := make([]int, depth)
	start := time.Now()
	err = perClient(depth, func(i int) error {
		r := rand.New(rand.NewPCG(uint64(j.round), uint64(i)))
		buf := make([]byte, 4096)
		for time.Since(start) < span {
			off := int64(r.IntN(blocks)) * 4096
			var err error
			if write {
				_, err = f.WriteAt(buf, off)
			} else {
				_, err = f.ReadAt(buf, off)
			}
			if err != nil {
				return err
			}
			counts[i]++
		}
		return nil
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	rate := float64(total) / time.Since(start).Seconds()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return rate, err
}

// ftpsSession is a minimal explicit-FTPS client: login, passive listing.
type ftpsSession struct {
	conn net.Conn
	text *textproto.Conn
	tls  *tls.Config
	host string
}

func dialFTPS(_ context.Context, j *job) (session, error) {
	raw, err := net.DialTimeout("tcp", net.JoinHostPort(j.peer.host, j.peer.port), 20*time.Second)
	if err != nil {
		return nil, err
	}
	s := &ftpsSession{conn: raw, host: j.peer.host, text: textproto.NewConn(raw),
		tls: &tls.Config{InsecureSkipVerify: true, ServerName: j.peer.host, ClientSessionCache: tls.NewLRUClientSessionCache(4)}} //nolint:gosec // a throw-away server on loopback
	if _, _, err := s.text.ReadResponse(220); err != nil {
		return nil, err
	}
	if _, err := s.cmd(234, "AUTH TLS"); err != nil {
		return nil, err
	}
	t := tls.Client(raw, s.tls)
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	s.conn, s.text = t, textproto.NewConn(t)
	for _, step := range []struct {
		code int
		line string
	}{{331, "USER " + j.peer.user}, {230, "PASS " + j.peer.password}, {200, "PBSZ 0"}, {200, "PROT P"}, {200, "TYPE I"}} {
		if _, err := s.cmd(step.code, step.line); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Fields(step.line)[0], err)
		}
	}
	return s, nil
}

func (s *ftpsSession) cmd(code int, line string) (string, error) {
	if err := s.text.PrintfLine("%s", line); err != nil {
		return "", err
	}
	_, msg, err := s.text.ReadResponse(code)
	return msg, err
}

// transfer runs one command with a data connection (RFC 2428 EPSV, RFC 4217 PROT P).
func (s *ftpsSession) transfer(command string, move func(data *tls.Conn) error) error {
	msg, err := s.cmd(229, "EPSV")
	if err != nil {
		return err
	}
	// RFC 2428, section 3: (|||port|)
	_, rest, _ := strings.Cut(msg, "|||")
	port, _, _ := strings.Cut(rest, "|")
	if _, err := strconv.Atoi(port); err != nil {
		return fmt.Errorf("EPSV reply %q", msg)
	}
	raw, err := net.DialTimeout("tcp", net.JoinHostPort(s.host, port), 20*time.Second)
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := s.text.PrintfLine("%s", command); err != nil {
		return err
	}
	if _, _, err := s.text.ReadResponse(150); err != nil {
		return err
	}
	data := tls.Client(raw, s.tls)
	if err := move(data); err != nil {
		return err
	}
	_ = data.Close()
	_, _, err = s.text.ReadResponse(226)
	return err
}

func (s *ftpsSession) list(dir string) error {
	return s.transfer("LIST "+dir, func(data *tls.Conn) error {
		_, err := io.Copy(io.Discard, data)
		return err
	})
}

// goFTPS moves many small files over one control connection. curl is no
// measure for that: its 7.88 sleeps a second whenever a reply comes quickly.
type goFTPS struct{ curlClient }

func (goFTPS) put(ctx context.Context, j *job, pairs [][2]string) error {
	return withFTPS(ctx, j, func(s *ftpsSession) error {
		for _, p := range pairs {
			content, err := os.ReadFile(p[0])
			if err != nil {
				return err
			}
			if err := s.transfer("STOR "+p[1], func(data *tls.Conn) error {
				if _, err := data.Write(content); err != nil {
					return err
				}
				if err := data.CloseWrite(); err != nil {
					return err
				}
				// The session ticket follows the handshake: reading it to the
				// end is what lets the next data connection resume.
				_, err := io.Copy(io.Discard, data)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (goFTPS) get(ctx context.Context, j *job, pairs [][2]string) error {
	return withFTPS(ctx, j, func(s *ftpsSession) error {
		for _, p := range pairs {
			if err := s.transfer("RETR "+p[0], func(data *tls.Conn) error {
				_, err := io.Copy(io.Discard, data)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func withFTPS(ctx context.Context, j *job, fn func(*ftpsSession) error) error {
	s, err := dialFTPS(ctx, j)
	if err != nil {
		return err
	}
	defer s.close()
	return fn(s.(*ftpsSession))
}

func (s *ftpsSession) close() error {
	_, _ = s.cmd(221, "QUIT")
	return s.conn.Close()
}
