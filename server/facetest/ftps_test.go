package facetest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"
)

// ftpsFace is explicit FTPS with a client as small as the protocol allows (RFC 959, 2428, 3659, 4217).
type ftpsFace struct{}

func (ftpsFace) name() string  { return "ftps" }
func (ftpsFace) handles() bool { return false }

func (ftpsFace) login(a *account) (client, error) {
	raw, err := net.Dial("tcp", a.house.ftpAddr)
	if err != nil {
		return nil, err
	}
	c := &ftpsClient{house: a.house, raw: raw, r: bufio.NewReader(raw), w: raw,
		config: &tls.Config{RootCAs: a.house.pool, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}}
	if err := c.enter(a); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

type ftpsClient struct {
	house  *house
	raw    net.Conn
	r      *bufio.Reader
	w      io.Writer
	config *tls.Config
	last   net.Conn // the newest data connection
}

func (c *ftpsClient) enter(a *account) error {
	if _, err := c.expect(220); err != nil {
		return err
	}
	if _, err := c.cmd(234, "AUTH TLS"); err != nil {
		return err
	}
	t := tls.Client(c.raw, c.config)
	c.r, c.w = bufio.NewReader(t), t
	for _, step := range []struct {
		code int
		line string
	}{{331, "USER " + a.name}, {230, "PASS " + password}, {200, "PBSZ 0"}, {200, "PROT P"}, {200, "TYPE I"}} {
		if _, err := c.cmd(step.code, step.line); err != nil {
			return err
		}
	}
	return nil
}

// reply reads one reply, all its lines.
func (c *ftpsClient) reply() (code int, text string, err error) {
	if err := c.raw.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, "", err
	}
	var all strings.Builder
	for first := ""; ; {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, "", err
		}
		all.WriteString(line)
		if len(line) < 4 {
			return 0, "", fmt.Errorf("malformed reply line %q", line)
		}
		if first == "" {
			first = line[:3]
		}
		if strings.HasPrefix(line, first+" ") {
			code, err := strconv.Atoi(first)
			text := strings.ReplaceAll(strings.TrimSuffix(all.String(), "\r\n"), "\xff\xff", "\xff") // IAC IAC is one byte of data
			return code, text, err
		}
	}
}

// ftpTexts are the texts of server/ftpd/reply.go.
var ftpTexts = map[string]class{
	"550 No such file or directory.": notExist, "550 Already exists.": exists, "550 Permission denied.": permission,
	"550 Is a directory.": isDir, "550 Not a directory.": notDir, "501 Not a directory.": notDir, "550 Directory not empty.": notEmpty,
	"550 Too many levels of symbolic links.": tooManyLink, "553 Name too long.": tooLong, "553 Name not allowed.": badName,
	"550 An upload of this file was interrupted; upload it completely or remove it first.": interrupted,
	"550 Invalid operation.": invalid, "450 The name is being created by another session; try again later.": busy,
	"450 Too many old versions are open in all sessions of this account; try again later.": tooManyOpen,
	"450 Too many open files; try again later.":                                            tooManyOpen, "554 Restart position is beyond the end of the file.": restart,
}

func ftpSaid(code int, text string) error {
	if c, ok := ftpTexts[text]; ok {
		return failed(c, text)
	}
	switch {
	case code == 552:
		return failed(quota, text)
	case strings.HasSuffix(text, "]") && strings.Contains(text, "[SP-"):
		return failed(permission, "by policy: "+text)
	}
	return failed(unknown, text)
}

func (c *ftpsClient) expect(want int) (string, error) {
	code, text, err := c.reply()
	switch {
	case err != nil:
		return "", err
	case code != want:
		return "", ftpSaid(code, text)
	}
	return text, nil
}

// cmd sends a command. IAC is doubled: the control connection is a Telnet stream (RFC 959, section 2.3; RFC 854).
func (c *ftpsClient) cmd(want int, line string) (string, error) {
	if strings.ContainsAny(line, "\r\n\x00") {
		return "", errInexpressible
	}
	line = strings.ReplaceAll(line, "\xff", "\xff\xff")
	if _, err := io.WriteString(c.w, line+"\r\n"); err != nil {
		return "", err
	}
	return c.expect(want)
}

func (c *ftpsClient) do(want int, line string) error {
	_, err := c.cmd(want, line)
	return err
}

// facts parses "fact=value;… name" (RFC 3659, section 7.2).
func facts(line string) (e entry, err error) {
	list, name, ok := strings.Cut(line, " ")
	if !ok {
		return e, failed(unknown, "no facts: "+line)
	}
	e.name = name
	for f := range strings.SplitSeq(list, ";") {
		fact, value, _ := strings.Cut(f, "=")
		switch strings.ToLower(fact) {
		case "type":
			switch {
			case value == "file":
				e.kind = 'f'
			case value == "dir":
				e.kind = 'd'
			case strings.HasPrefix(value, "OS.unix=slink"):
				e.kind = 'l'
				e.target, _ = strings.CutPrefix(strings.TrimPrefix(value, "OS.unix=slink"), ":")
			}
		case "size":
			e.size, err = strconv.ParseInt(value, 10, 64)
		case "modify":
			var t time.Time
			t, err = time.Parse("20060102150405", value)
			e.mtime = t.Unix()
		case "unix.mode":
			var m uint64
			m, err = strconv.ParseUint(value, 8, 32)
			e.mode = fs.FileMode(m)
		}
		if err != nil {
			return e, failed(unknown, line)
		}
	}
	return e, nil
}

func (c *ftpsClient) Lstat(name string) (entry, error) {
	text, err := c.cmd(250, "MLST "+name)
	if err != nil {
		return entry{}, err
	}
	lines := strings.Split(text, "\r\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], " ") {
		return entry{}, failed(unknown, text)
	}
	return facts(lines[1][1:])
}

func (c *ftpsClient) Size(name string) (int64, error) {
	text, err := c.cmd(213, "SIZE "+name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimPrefix(text, "213 "), 10, 64)
}

func (c *ftpsClient) Mkdir(name string) error  { return c.do(257, "MKD "+name) }
func (c *ftpsClient) Rmdir(name string) error  { return c.do(250, "RMD "+name) }
func (c *ftpsClient) Remove(name string) error { return c.do(250, "DELE "+name) }

func (c *ftpsClient) Rename(from, to string) error {
	if err := c.do(350, "RNFR "+from); err != nil {
		return err
	}
	return c.do(250, "RNTO "+to)
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (c *ftpsClient) Symlink(target, link string) error {
	return c.do(200, "SITE SYMLINK "+quote(target)+" "+quote(link))
}

// Readlink has no command; the Type fact tells, unless the target holds what would end the fact.
func (c *ftpsClient) Readlink(name string) (string, error) {
	e, err := c.Lstat(name)
	switch {
	case err != nil:
		return "", err
	case e.kind != 'l':
		return "", failed(invalid, "not a link")
	case e.target == "":
		return "", errInexpressible
	}
	return e.target, nil
}

func (c *ftpsClient) Chmod(name string, m fs.FileMode) error {
	return c.do(200, fmt.Sprintf("SITE CHMOD %o %s", m, name))
}

func (c *ftpsClient) SetTime(name string, t time.Time) error {
	return c.do(213, "MFMT "+t.UTC().Format("20060102150405")+" "+name)
}

// data starts a transfer: the data connection is there and under TLS.
func (c *ftpsClient) data(rest int64, line string) (net.Conn, *tls.Conn, error) {
	text, err := c.cmd(229, "EPSV")
	if err != nil {
		return nil, nil, err
	}
	raw, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strings.Split(text, "|")[3]))
	if err != nil {
		return nil, nil, err
	}
	c.last = raw
	if rest > 0 {
		err = c.do(350, fmt.Sprintf("REST %d", rest))
	}
	if err == nil {
		err = c.do(150, line)
	}
	d := tls.Client(raw, c.config)
	if err == nil {
		_ = raw.SetDeadline(time.Now().Add(patience))
		err = d.Handshake()
	}
	if err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	return raw, d, nil
}

func (c *ftpsClient) List(dir string) ([]entry, error) {
	_, d, err := c.data(0, "MLSD "+dir)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(d)
	_ = d.Close()
	if _, rerr := c.expect(226); err == nil {
		err = rerr
	}
	if err != nil {
		return nil, err
	}
	var out []entry
	for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\r\n"), "\r\n") {
		if line == "" {
			continue
		}
		e, err := facts(line)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (c *ftpsClient) Get(name string, off int64) (io.ReadCloser, error) {
	_, d, err := c.data(off, "RETR "+name)
	if err != nil {
		return nil, err
	}
	return ftpsDownload{c, d}, nil
}

type ftpsDownload struct {
	c *ftpsClient
	*tls.Conn
}

func (d ftpsDownload) Close() error {
	_ = d.Conn.Close()
	_, err := d.c.expect(226)
	return err
}

func (c *ftpsClient) Put(name string, how mode, off int64) (upload, error) {
	line := "STOR " + name
	if how == extend {
		line = "APPE " + name
	}
	raw, d, err := c.data(off, line)
	if err != nil {
		return nil, err
	}
	return ftpsUpload{c, raw, d}, nil
}

type ftpsUpload struct {
	c   *ftpsClient
	raw net.Conn
	d   *tls.Conn
}

func (u ftpsUpload) Write(p []byte) (int, error) { return u.d.Write(p) }

func (u ftpsUpload) Close() error {
	_ = u.d.Close() // close_notify: this is all
	_, err := u.c.expect(226)
	return err
}

// Break ends the stream without close_notify. All bytes arrive: it is an orderly end to TCP.
func (u ftpsUpload) Break() (bool, error) {
	_ = u.raw.(*net.TCPConn).CloseWrite()
	_, err := u.c.expect(426)
	_ = u.raw.Close()
	return true, err
}

// What FTP has no words for.

func (c *ftpsClient) Open(string, int) (handle, error) { return nil, errInexpressible }
func (c *ftpsClient) RenameNew(string, string) error   { return errInexpressible }
func (c *ftpsClient) Truncate(string, int64) error     { return errInexpressible }

func (c *ftpsClient) Close() error {
	_, _ = c.cmd(221, "QUIT")
	_ = c.raw.Close()
	return c.gone()
}

func (c *ftpsClient) Cut() error {
	for _, n := range []net.Conn{c.last, c.raw} {
		if n != nil {
			_ = n.(*net.TCPConn).SetLinger(0)
			_ = n.Close()
		}
	}
	return c.gone()
}

func (c *ftpsClient) gone() error { return c.house.left(c.raw.LocalAddr()) }
