package sftpd

import (
	"context"
	"io/fs"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// What this package needs of server/session, as interfaces: the adapters below
// are the real ones; tests put in what the real ones never do (a panic, a Close
// that blocks, an error of a kind nobody knows).
type (
	// gate is who may come in.
	gate interface {
		connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial)
	}
	// visitor is one connection, before and after login.
	visitor interface {
		ID() string
		SetFacts(policy.Facts) *policy.Denial
		Methods() []string
		KeyAllowed(ctx context.Context, account string, key []byte) error
		login(ctx context.Context, account string, c session.Credential) (guest, error)
		Close()
	}
	// guest is one logged-in session.
	guest interface {
		Account() string
		Touch()
		tree() tree
	}
	// tree is the account's files; *session.Guard but for the concrete types.
	tree interface {
		stat(name string) (info, error)
		lstat(name string) (info, error)
		openFile(ctx context.Context, name string, flag int, perm fs.FileMode) (file, error)
		readDir(ctx context.Context, name string, fn func(info) error) error
		Mkdir(name string, perm fs.FileMode) error
		Remove(name string) error
		Rmdir(name string) error
		Rename(from, to string) error
		RenameNew(from, to string) error
		Symlink(target, link string) error
		Readlink(name string) (string, error)
		Resolve(name string) (string, error)
		SetAttr(name string, a vfs.AttrChange) error
		LsetAttr(name string, a vfs.AttrChange) error
		Space() (session.Space, error)
	}
	// file is an open handle; *session.File but for the concrete types.
	file interface {
		stat() (info, error)
		ReadAt(p []byte, off int64) (int, error)
		WriteAt(p []byte, off int64) (int, error)
		Write(p []byte) (int, error)
		SetAttr(a vfs.AttrChange) error
		Sync() error
		TransferError(err error)
		Close() error
	}
)

type managerGate struct{ session.Door }

func (g managerGate) connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (visitor, *policy.Denial) {
	c, d := g.Connect(ctx, f, hangup)
	if d != nil {
		return nil, d
	}
	return connVisitor{c}, nil
}

type connVisitor struct{ *session.Conn }

func (v connVisitor) login(ctx context.Context, account string, c session.Credential) (guest, error) {
	s, err := v.Login(ctx, account, c)
	if err != nil {
		return nil, err
	}
	return sessionGuest{s}, nil
}

type sessionGuest struct{ *session.Session }

func (g sessionGuest) tree() tree { return guardTree{g.Files()} }

type guardTree struct{ *session.Guard }

func (t guardTree) stat(name string) (info, error)  { return asInfo(t.Stat(name)) }
func (t guardTree) lstat(name string) (info, error) { return asInfo(t.Lstat(name)) }

func (t guardTree) openFile(ctx context.Context, name string, flag int, perm fs.FileMode) (file, error) {
	f, err := t.OpenFile(ctx, name, flag, perm)
	if err != nil {
		return nil, err
	}
	return guardFile{f}, nil
}

func (t guardTree) readDir(ctx context.Context, name string, fn func(info) error) error {
	return t.ReadDir(ctx, name, func(batch []*vfs.Info) error {
		for _, fi := range batch {
			if err := fn(fi); err != nil {
				return err
			}
		}
		return nil
	})
}

type guardFile struct{ *session.File }

func (f guardFile) stat() (info, error) { return asInfo(f.Stat()) }

// asInfo keeps a nil *vfs.Info from becoming a non-nil interface.
func asInfo(fi *vfs.Info, err error) (info, error) {
	if err != nil {
		return nil, err
	}
	return fi, nil
}
