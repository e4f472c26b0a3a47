package ftpd

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// driver is what the library asks: settings, login, files. One per connection. Its errors reach the client only through
// phrase, which reads them from the operation, never from the library's text.
type driver struct{ c *control }

var (
	_ ftpserver.MainDriver                        = (*driver)(nil)
	_ ftpserver.MainDriverExtensionPassiveWrapper = (*driver)(nil)
	_ ftpserver.ClientDriver                      = (*driver)(nil)
	_ ftpserver.ClientDriverExtentionFileTransfer = (*driver)(nil)
	_ ftpserver.ClientDriverExtensionRemoveDir    = (*driver)(nil)
)

// GetSettings switches off what we answer ourselves. The library sees a plain connection without a clock: TLS and deadlines
// are ours.
func (d *driver) GetSettings() (*ftpserver.Settings, error) {
	return &ftpserver.Settings{
		Listener:               &oneShot{conn: d.c},
		IdleTimeout:            -1, // 0 would be 15 minutes
		ConnectionTimeout:      int(max(d.c.srv.limits.data/time.Second, 1)),
		TLSRequired:            ftpserver.ClearOrEncrypted,
		DefaultTransferType:    ftpserver.TransferTypeBinary,
		DisableASCIIConversion: true,
		DisableActiveMode:      true, // PORT and EPRT are passive channels that dial (channel.go)
		DisableSite:            true,
		DisableLISTArgs:        true,
		DisableMLSD:            true,
		DisableMLST:            true,
		DisableMFMT:            true,
		DisableSTAT:            true,
		Banner:                 "-",
	}, nil
}

func (d *driver) ClientConnected(cc ftpserver.ClientContext) (string, error) {
	d.c.cc = cc
	return "", nil
}

// ClientDisconnected is the library's last word on a connection.
func (d *driver) ClientDisconnected(ftpserver.ClientContext) { close(d.c.gone) }

// GetTLSConfig is never asked for a purpose: AUTH and PROT do not reach the library.
func (d *driver) GetTLSConfig() (*tls.Config, error) { return nil, errors.ErrUnsupported }

// AuthUser runs at PASS, when cmdPass has logged in or has been refused.
func (d *driver) AuthUser(_ ftpserver.ClientContext, user, _ string) (ftpserver.ClientDriver, error) {
	m := d.c.entering
	if m == nil {
		return nil, d.c.current().failure()
	}
	d.c.mu.Lock()
	d.c.login = m
	d.c.mu.Unlock()
	d.c.settle(user)
	return d, nil
}

// WrapPassiveListener replaces the listener that the library has just opened, on every address of the host, by the channel
// that PASV, EPSV, PORT or EPRT prepared.
func (d *driver) WrapPassiveListener(ln net.Listener) (net.Listener, error) {
	unlisten(ln)
	d.c.mu.Lock()
	ch := d.c.channel
	d.c.mu.Unlock()
	if ch == nil {
		_ = ln.Close()
		return nil, errNoChannel
	}
	ch.placeholder = ln
	return ch, nil
}

// GetHandle opens what a transfer command is about. Flags and offset are not the library's to know: REST is ours.
func (d *driver) GetHandle(name string, _ int, _ int64) (ftpserver.FileTransfer, error) {
	o := d.c.current()
	t, err := d.c.open(o, name)
	if err != nil {
		return nil, o.fail(err)
	}
	o.work = t
	return t, nil
}

// note records an error with the command under way.
func (d *driver) note(err error) error { return d.c.current().fail(err) }

func (d *driver) files() volume { return d.c.login.Files() }

// Stat serves CWD, CDUP, RNFR, SIZE and MDTM. RNFR is about the name itself, which may be a dangling symlink.
func (d *driver) Stat(name string) (os.FileInfo, error) {
	stat := d.files().Stat
	if d.c.current().verb == "RNFR" {
		stat = d.files().Lstat
	}
	i, err := stat(name)
	if err != nil {
		return nil, d.note(err)
	}
	return i, nil
}

func (d *driver) Mkdir(name string, perm os.FileMode) error {
	return d.note(d.files().Mkdir(name, perm))
}
func (d *driver) Remove(name string) error     { return d.note(d.files().Remove(name)) }
func (d *driver) RemoveDir(name string) error  { return d.note(d.files().Rmdir(name)) }
func (d *driver) Rename(from, to string) error { return d.note(d.files().Rename(from, to)) }

// The rest of afero.Fs is reached by no command that is passed on.

func (d *driver) Name() string { return "sallyport" }

func (d *driver) Create(string) (afero.File, error) { return nil, errors.ErrUnsupported }
func (d *driver) Open(string) (afero.File, error)   { return nil, errors.ErrUnsupported }
func (d *driver) OpenFile(string, int, os.FileMode) (afero.File, error) {
	return nil, errors.ErrUnsupported
}
func (d *driver) MkdirAll(string, os.FileMode) error         { return errors.ErrUnsupported }
func (d *driver) RemoveAll(string) error                     { return errors.ErrUnsupported }
func (d *driver) Chmod(string, os.FileMode) error            { return errors.ErrUnsupported }
func (d *driver) Chown(string, int, int) error               { return errors.ErrUnsupported }
func (d *driver) Chtimes(string, time.Time, time.Time) error { return errors.ErrUnsupported }

// oneShot is a listener with one connection. The library's accept loop takes its second error for an orderly end.
type oneShot struct {
	conn  *control
	taken bool
}

func (l *oneShot) Accept() (net.Conn, error) {
	if l.taken {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.taken = true
	return l.conn, nil
}

func (l *oneShot) Close() error   { return nil }
func (l *oneShot) Addr() net.Addr { return l.conn.LocalAddr() }
