package facetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// sftpFace is pkg/sftp's client, and raw packets where that hides what the server says: its Remove is two requests, its Mkdir
// and Open send no attributes, and its reads and writes on a handle are never two at once in a known order.
type sftpFace struct{}

func (sftpFace) name() string  { return "sftp" }
func (sftpFace) handles() bool { return true }

func (sftpFace) login(a *account) (client, error) {
	nc, err := net.Dial("tcp", a.house.sftpAddr)
	if err != nil {
		return nil, err
	}
	conn, chans, reqs, err := ssh.NewClientConn(nc, a.house.sftpAddr, &ssh.ClientConfig{
		User: a.name, Auth: []ssh.AuthMethod{ssh.PublicKeys(a.house.key)},
		HostKeyCallback: ssh.FixedHostKey(a.house.hostKey.PublicKey()), Timeout: patience,
	})
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	c := &sftpClient{account: a, nc: nc, ssh: ssh.NewClient(conn, chans, reqs)}
	if c.c, err = sftp.NewClient(c.ssh); err != nil {
		return nil, errors.Join(err, c.ssh.Close())
	}
	return c, nil
}

type sftpClient struct {
	*account
	nc      net.Conn
	ssh     *ssh.Client
	c       *sftp.Client
	packets *packets // nil before its first use
}

// sftpTexts are the texts of server/sftpd/status.go behind the code FAILURE, which stands for everything in version 3.
var sftpTexts = map[string]class{
	"directory not empty": notEmpty, "is a directory": isDir, "not a directory": notDir, "too many levels of symbolic links": tooManyLink,
	"name too long": tooLong, "name not allowed": badName, "in use by another session; try again": busy,
	"an upload of this file was interrupted; upload it completely or remove it first": interrupted, "too many open files": tooManyOpen,
	"too many old versions open in all sessions of this account; close some first": tooManyOpen,
	"too many open handles in this session; close some first":                      tooManyOpen, "already exists": exists, "not possible here": invalid,
	"file too large": tooLarge, "quota exceeded": quota,
}

var sftpText = regexp.MustCompile(`^sftp: "(.*)" \(SSH_FX_FAILURE\)$`)

func sftpSaid(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(notExist, err.Error())
	case errors.Is(err, fs.ErrPermission):
		return failed(permission, err.Error())
	}
	if s := (*sftp.StatusError)(nil); errors.As(err, &s) {
		if m := sftpText.FindStringSubmatch(s.Error()); m != nil {
			if c, ok := sftpTexts[m[1]]; ok {
				return failed(c, m[1])
			}
		}
	}
	return failed(unknown, err.Error())
}

func (c *sftpClient) Lstat(name string) (entry, error) {
	i, err := c.c.Lstat(name)
	if err != nil {
		return entry{}, sftpSaid(err)
	}
	return entryOf(i), nil
}

func (c *sftpClient) Size(name string) (int64, error) {
	i, err := c.c.Stat(name)
	if err != nil {
		return 0, sftpSaid(err)
	}
	if i.IsDir() {
		return 0, failed(isDir, "stat")
	}
	return i.Size(), nil
}

func (c *sftpClient) List(dir string) ([]entry, error) {
	infos, err := c.c.ReadDir(dir)
	if err != nil {
		return nil, sftpSaid(err)
	}
	var out []entry
	for _, i := range infos {
		out = append(out, entryOf(i))
	}
	return out, nil
}

func (c *sftpClient) Mkdir(name string) error         { return sftpSaid(c.c.Mkdir(name)) }
func (c *sftpClient) Rmdir(name string) error         { return sftpSaid(c.c.RemoveDirectory(name)) }
func (c *sftpClient) Remove(name string) error        { return c.ask(fxpRemove, new(wire).text(name)) }
func (c *sftpClient) Rename(from, to string) error    { return sftpSaid(c.c.PosixRename(from, to)) }
func (c *sftpClient) RenameNew(from, to string) error { return sftpSaid(c.c.Rename(from, to)) }
func (c *sftpClient) Symlink(target, link string) error {
	return sftpSaid(c.c.Symlink(target, link))
}
func (c *sftpClient) Chmod(name string, m fs.FileMode) error { return sftpSaid(c.c.Chmod(name, m)) }
func (c *sftpClient) SetTime(name string, t time.Time) error {
	return sftpSaid(c.c.Chtimes(name, t, t))
}
func (c *sftpClient) Truncate(name string, size int64) error {
	return sftpSaid(c.c.Truncate(name, size))
}
func (c *sftpClient) Readlink(name string) (string, error) {
	target, err := c.c.ReadLink(name)
	return target, sftpSaid(err)
}

func (c *sftpClient) Get(name string, off int64) (io.ReadCloser, error) {
	f, err := c.c.Open(name)
	if err != nil {
		return nil, sftpSaid(err)
	}
	i, err := f.Stat()
	if err == nil && i.IsDir() {
		err = failed(isDir, "fstat")
	}
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c *sftpClient) Put(name string, how mode, off int64) (upload, error) {
	f, err := c.c.OpenFile(name, uploadFlags(how))
	if err != nil {
		return nil, sftpSaid(err)
	}
	if how == resume {
		_, err := f.Seek(off, io.SeekStart)
		if err == nil {
			err = f.Truncate(off)
		}
		if err != nil {
			return nil, errors.Join(sftpSaid(err), f.Close())
		}
	}
	return sftpUpload{c, f}, nil
}

type sftpUpload struct {
	c *sftpClient
	f *sftp.File
}

func (u sftpUpload) Write(p []byte) (int, error) {
	n, err := u.f.Write(p)
	return n, sftpSaid(err)
}
func (u sftpUpload) Close() error { return sftpSaid(u.f.Close()) }

// Break: SFTP breaks a transfer only with its connection. Each write was answered, so all of it was taken.
func (u sftpUpload) Break() (bool, error) { return true, errInexpressible }

func (c *sftpClient) Open(name string, flag int) (handle, error) {
	f, err := c.c.OpenFile(name, flag)
	if err != nil {
		return nil, sftpSaid(err)
	}
	return sftpHandle{f}, nil
}

type sftpHandle struct{ f *sftp.File }

func (h sftpHandle) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.f.ReadAt(p, off)
	return n, sftpSaid(err)
}
func (h sftpHandle) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.f.WriteAt(p, off)
	return n, sftpSaid(err)
}
func (h sftpHandle) Truncate(size int64) error { return sftpSaid(h.f.Truncate(size)) }
func (h sftpHandle) Sync() error               { return sftpSaid(h.f.Sync()) }
func (h sftpHandle) Close() error              { return sftpSaid(h.f.Close()) }
func (h sftpHandle) Size() (int64, error) {
	i, err := h.f.Stat()
	if err != nil {
		return 0, sftpSaid(err)
	}
	return i.Size(), nil
}

func (c *sftpClient) Close() error {
	_ = c.c.Close()
	_ = c.ssh.Close()
	return c.gone()
}

// Cut resets the TCP connection, as a cable that is pulled and a router that says so.
func (c *sftpClient) Cut() error {
	_ = c.nc.(*net.TCPConn).SetLinger(0)
	_ = c.nc.Close()
	return c.gone()
}

func (c *sftpClient) gone() error {
	return c.house.left(c.nc.LocalAddr())
}

// Packet types, flags and statuses: draft-ietf-secsh-filexfer-02, sections 3, 6.3 and 7.
const (
	fxpOpen   = 3
	fxpClose  = 4
	fxpRead   = 5
	fxpWrite  = 6
	fxpRemove = 13
	fxpStatus = 101
	fxpHandle = 102
	fxpData   = 103

	fxfRead, fxfWrite, fxfAppend, fxfCreat, fxfTrunc, fxfExcl = 1, 2, 4, 8, 16, 32
)

// wire builds the fields of a packet.
type wire struct{ b []byte }

func (w *wire) u32(v uint32) *wire {
	w.b = binary.BigEndian.AppendUint32(w.b, v)
	return w
}
func (w *wire) u64(v uint64) *wire {
	w.b = binary.BigEndian.AppendUint64(w.b, v)
	return w
}
func (w *wire) text(s string) *wire {
	w.u32(uint32(len(s))).b = append(w.b, s...)
	return w
}

// packets is a second channel of the session with nothing between the test and the server.
type packets struct {
	in  io.Reader
	out io.Writer
	id  uint32
}

func (c *sftpClient) raw() (*packets, error) {
	if c.packets != nil {
		return c.packets, nil
	}
	s, err := c.ssh.NewSession()
	if err != nil {
		return nil, err
	}
	p := &packets{}
	if p.out, err = s.StdinPipe(); err != nil {
		return nil, err
	}
	if p.in, err = s.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		return nil, err
	}
	if _, err := p.out.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}); err != nil { // INIT, version 3
		return nil, err
	}
	if _, _, _, err := p.receive(); err != nil {
		return nil, err
	}
	c.packets = p
	return p, nil
}

// send sends a request and returns its id.
func (p *packets) send(typ byte, w *wire) (uint32, error) {
	p.id++
	b := binary.BigEndian.AppendUint32(nil, uint32(5+len(w.b)))
	b = binary.BigEndian.AppendUint32(append(b, typ), p.id)
	_, err := p.out.Write(append(b, w.b...))
	return p.id, err
}

func (p *packets) receive() (typ byte, id uint32, rest []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(p.in, b); err != nil {
		return 0, 0, nil, err
	}
	if len(b) < 5 {
		return 0, 0, nil, fmt.Errorf("a packet of %d bytes", len(b))
	}
	return b[0], binary.BigEndian.Uint32(b[1:]), b[5:], nil
}

// status turns the fields of a STATUS into an error.
func status(b []byte) error {
	if len(b) < 8 {
		return failed(unknown, "short status")
	}
	code, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-8) {
		return failed(unknown, "broken status")
	}
	text := string(b[8 : 8+n])
	switch code {
	case 0:
		return nil
	case 1:
		return io.EOF
	case 2:
		return failed(notExist, text)
	case 3:
		if strings.Contains(text, "[SP-") {
			text = "by policy: " + text
		}
		return failed(permission, text)
	}
	if c, ok := sftpTexts[text]; ok {
		return failed(c, text)
	}
	return failed(unknown, fmt.Sprintf("status %d %q", code, text))
}

// ask sends one request that is answered with a status.
func (c *sftpClient) ask(typ byte, w *wire) error {
	p, err := c.raw()
	if err != nil {
		return err
	}
	if _, err := p.send(typ, w); err != nil {
		return err
	}
	got, _, rest, err := p.receive()
	if err != nil {
		return err
	}
	if got != fxpStatus {
		return failed(unknown, fmt.Sprintf("packet type %d", got))
	}
	return status(rest)
}

// openRaw opens with flags of the protocol.
func (c *sftpClient) openRaw(name string, pflags uint32) (string, error) {
	p, err := c.raw()
	if err != nil {
		return "", err
	}
	if _, err := p.send(fxpOpen, new(wire).text(name).u32(pflags).u32(0)); err != nil {
		return "", err
	}
	typ, _, rest, err := p.receive()
	switch {
	case err != nil:
		return "", err
	case typ == fxpStatus:
		return "", status(rest)
	case typ != fxpHandle || len(rest) < 4:
		return "", failed(unknown, fmt.Sprintf("packet type %d", typ))
	}
	return string(rest[4:]), nil
}
