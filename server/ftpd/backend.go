package ftpd

import (
	"context"
	"io"
	"io/fs"
	"time"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// backend is what this package uses of session.Door. The second implementation is the fault injector of the tests.
type backend interface {
	Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial)
}

// visitor is *session.Conn: a connection before and after login.
type visitor interface {
	SetFacts(f policy.Facts) *policy.Denial
	ID() string
	Precheck(account string) *policy.Denial
	WantsCertificate() bool
	SetCertificate(chain [][]byte)
	Login(ctx context.Context, account string, cred session.Credential) (member, error)
	ChangePassword(ctx context.Context, account string, old, secret session.Secret) error
	Close()
}

// member is *session.Session: a connection after login.
type member interface {
	Account() string
	Policy() *policy.Effective
	Touch()
	Files() volume
}

// volume is *session.Guard.
type volume interface {
	Stat(name string) (entry, error)
	Lstat(name string) (entry, error)
	OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (file, error)
	ReadDir(ctx context.Context, name string, fn func(entry) error) error
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	Remove(name string) error
	Rmdir(name string) error
	RemoveAll(name string) error
	Rename(from, to string) error
	Symlink(target, link string) error
	Readlink(name string) (string, error)
	SetAttr(name string, a vfs.AttrChange) error
	Space() (session.Space, error)
	Perms(name string) map[policy.Op]bool
	Restore(ctx context.Context, name, instant string) (vfs.RestoreTotals, error)
}

// file is *session.File.
type file interface {
	io.ReadWriteSeeker
	io.ReaderFrom
	io.WriterTo
	io.Closer
	Truncate(n int64) error
	TransferError(err error)
}

// entry is *vfs.Info.
type entry interface {
	fs.FileInfo
	Created() time.Time
	Inode() uint64
	Partial() bool
}

var (
	_ entry = (*vfs.Info)(nil)
	_ file  = (*session.File)(nil)
)

// The adapters below only turn concrete results into the interfaces above.

type manager struct{ m session.Door }

func (m manager) Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial) {
	c, d := m.m.Connect(ctx, f, hangup)
	if d != nil {
		return nil, d
	}
	return sessionConn{c}, nil
}

type sessionConn struct{ *session.Conn }

func (c sessionConn) Login(ctx context.Context, account string, cred session.Credential) (member, error) {
	s, err := c.Conn.Login(ctx, account, cred)
	if err != nil {
		return nil, err
	}
	return sessionMember{s}, nil
}

type sessionMember struct{ *session.Session }

func (m sessionMember) Files() volume { return guard{m.Session.Files()} }

type guard struct{ *session.Guard }

func (g guard) Stat(name string) (entry, error)  { return info(g.Guard.Stat(name)) }
func (g guard) Lstat(name string) (entry, error) { return info(g.Guard.Lstat(name)) }

func (g guard) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (file, error) {
	f, err := g.Guard.OpenFile(ctx, name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (g guard) ReadDir(ctx context.Context, name string, fn func(entry) error) error {
	return g.Guard.ReadDir(ctx, name, func(batch []*vfs.Info) error {
		for _, i := range batch {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// info keeps a nil *vfs.Info from becoming a non-nil entry.
func info(i *vfs.Info, err error) (entry, error) {
	if err != nil {
		return nil, err
	}
	return i, nil
}
