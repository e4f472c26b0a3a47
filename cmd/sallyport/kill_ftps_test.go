package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"
)

// overFTPS is a session of FTP over TLS (RFC 4217), as small as the kill test needs.
type overFTPS struct {
	host string
	raw  net.Conn
	text *textproto.Conn
	tls  *tls.Config
}

func dialFTPS(c *connection) (remote, error) {
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	raw, err := net.DialTimeout("tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.FTPSPort)), deadline)
	if err != nil {
		return nil, err
	}
	s := &overFTPS{host: c.Host, raw: raw, text: textproto.NewConn(raw), tls: &tls.Config{RootCAs: pool, ServerName: c.Host, ClientSessionCache: tls.NewLRUClientSessionCache(4)}}
	if _, _, err := s.text.ReadResponse(220); err != nil {
		return nil, err
	}
	if err := s.cmd(234, "AUTH TLS"); err != nil {
		return nil, err
	}
	s.text = textproto.NewConn(tls.Client(raw, s.tls))
	for _, step := range []struct {
		code int
		line string
	}{{331, "USER " + c.Account}, {230, "PASS " + c.Password}, {200, "PBSZ 0"}, {200, "PROT P"}, {200, "TYPE I"}} {
		if err := s.cmd(step.code, step.line); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *overFTPS) cmd(code int, line string) error {
	_, err := s.ask(code, line)
	return err
}

func (s *overFTPS) ask(code int, line string) (string, error) {
	if err := s.text.PrintfLine("%s", line); err != nil {
		return "", err
	}
	return s.reply(code)
}

func (s *overFTPS) reply(code int) (string, error) {
	if err := s.raw.SetReadDeadline(time.Now().Add(deadline)); err != nil { // of this answer: a session may have any number
		return "", err
	}
	got, msg, err := s.text.ReadResponse(code)
	var said *textproto.Error
	switch {
	case errors.As(err, &said) && got == 421 || errors.As(err, &said) && got == 426: // the server goes
		return "", io.ErrUnexpectedEOF
	case errors.As(err, &said):
		if got == 550 && strings.Contains(strings.ToLower(msg), "no such") {
			return msg, &refusal{fs.ErrNotExist}
		}
		return msg, &refusal{err}
	}
	return msg, err
}

// transfer runs one command with a data connection (RFC 2428 EPSV).
func (s *overFTPS) transfer(command string, move func(*tls.Conn) error) error {
	msg, err := s.ask(229, "EPSV")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(msg, "|||")
	port, _, _ := strings.Cut(rest, "|")
	raw, err := net.DialTimeout("tcp", net.JoinHostPort(s.host, port), deadline)
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	if err := s.cmd(150, command); err != nil {
		return err
	}
	data := tls.Client(raw, s.tls)
	if err := move(data); err != nil {
		return err
	}
	_ = data.Close()
	_, err = s.reply(226)
	return err
}

func (s *overFTPS) send(command string, p []byte) error {
	return s.transfer(command, func(data *tls.Conn) error {
		if _, err := data.Write(p); err != nil {
			return err
		}
		if err := data.CloseWrite(); err != nil {
			return err
		}
		// The ticket for the next data connection follows the handshake: reading to the end takes it.
		_, err := io.Copy(io.Discard, data)
		return err
	})
}

func (s *overFTPS) put(name string, data []byte, _ func(int, bool)) error {
	return s.send("STOR "+name, data)
}
func (s *overFTPS) appendTo(name string, data []byte) error { return s.send("APPE "+name, data) }
func (s *overFTPS) remove(name string) error                { return s.cmd(250, "DELE "+name) }
func (s *overFTPS) close()                                  { s.text.Close() }

func (s *overFTPS) rename(from, to string) error {
	if err := s.cmd(350, "RNFR "+from); err != nil {
		return err
	}
	return s.cmd(250, "RNTO "+to)
}

func (s *overFTPS) mkdir(name string) error {
	if s.cmd(250, "CWD "+name) == nil {
		return fs.ErrExist
	}
	return s.cmd(257, "MKD "+name)
}

func (s *overFTPS) get(name string) (p []byte, err error) {
	err = s.transfer("RETR "+name, func(data *tls.Conn) (err error) {
		p, err = io.ReadAll(data)
		return err
	})
	return p, err
}

// sizes lists with MLSD (RFC 3659, section 7).
func (s *overFTPS) sizes(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := s.transfer("MLSD "+dir, func(data *tls.Conn) error {
		text, err := io.ReadAll(data)
		for line := range strings.Lines(string(text)) {
			facts, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			if !ok {
				return fmt.Errorf("line %q", line)
			}
			for fact := range strings.SplitSeq(strings.ToLower(facts), ";") {
				if n, is := strings.CutPrefix(fact, "size="); is && strings.Contains(strings.ToLower(facts), "type=file") {
					if sizes[dir+"/"+name], err = strconv.ParseInt(n, 10, 64); err != nil {
						return err
					}
				}
			}
		}
		return err
	})
	return sizes, err
}
