// Package session knows who is in and what they may do: login, limits, bans, live sessions, and the guard around a volume.
// It knows neither protocol library.
package session

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

var (
	// ErrAuth is one answer for unknown accounts, wrong secrets and disabled accounts.
	ErrAuth = errors.New("session: authentication failed")
	// ErrSealed: the server has no keys yet; logins get one clear sentence.
	ErrSealed = errors.New("session: server is sealed")
)

// Manager is safe for concurrent use.
type Manager struct{}

// Conn is one accepted connection, before and after login. Front-ends get it first thing and Close it last.
type Conn struct{}

// Connect is asked right after accept (TLS not yet begun): caps in total and per address, bans, deny_from/allow_from of the site.
// hangup is called at most once, from any goroutine, when the connection must end (ban, policy change, kill, shutdown); it must not block.
func (m *Manager) Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (*Conn, *policy.Denial) {
	panic("skeleton")
}

// SetFacts updates what is known (TLS state, client ident) and re-admits.
func (c *Conn) SetFacts(f policy.Facts) *policy.Denial { panic("skeleton") }
func (c *Conn) ID() string                             { panic("skeleton") } // random, for logs, audit and error references
func (c *Conn) Close()                                 { panic("skeleton") }

// Precheck is asked at USER, before a secret is sent: transport rules of the account; unknown accounts answer like the site default.
func (c *Conn) Precheck(account string) *policy.Denial { panic("skeleton") }

// KeyAllowed tells whether an SSH public key (wire format) may log in as account; constant shape for unknown accounts. Not a login.
func (c *Conn) KeyAllowed(ctx context.Context, account string, key []byte) error { panic("skeleton") }

// Methods are the authentication methods to offer ("publickey", "password").
func (c *Conn) Methods(account string) []string { panic("skeleton") }

// Credential proves an account; exactly one field is set.
type Credential struct {
	Password  Secret
	PublicKey []byte // SSH wire format; possession already verified by the front-end
}

// Secret never prints.
type Secret string

func (Secret) String() string   { return "[redacted]" }
func (Secret) GoString() string { return "[redacted]" }

// Login authenticates, admits, audits, and opens the volume. Errors: ErrAuth, ErrSealed, *policy.Denial, or an internal error.
func (c *Conn) Login(ctx context.Context, account string, cred Credential) (*Session, error) {
	panic("skeleton")
}

// Session is one logged-in connection. Closed through Conn.Close.
type Session struct{}

func (s *Session) ID() string                { panic("skeleton") }
func (s *Session) Account() string           { panic("skeleton") }
func (s *Session) Policy() *policy.Effective { panic("skeleton") } // current; changes while live
func (s *Session) Files() *Guard             { panic("skeleton") }
func (s *Session) Touch()                    { panic("skeleton") } // activity, for idle limits and session list

// Guard is policy and audit around a volume's view: each call asks Permit on the current policy with resolved canonical paths.
// Errors: those of vfs, or *policy.Denial. Safe for concurrent use.
type Guard struct{}

func (g *Guard) Stat(name string) (*vfs.Info, error)  { panic("skeleton") }
func (g *Guard) Lstat(name string) (*vfs.Info, error) { panic("skeleton") }
func (g *Guard) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	panic("skeleton")
}
func (g *Guard) ReadDir(ctx context.Context, name string, fn func([]*vfs.Info) error) error {
	panic("skeleton")
}
func (g *Guard) Mkdir(name string, perm fs.FileMode) error    { panic("skeleton") }
func (g *Guard) MkdirAll(name string, perm fs.FileMode) error { panic("skeleton") }
func (g *Guard) Remove(name string) error                     { panic("skeleton") } // file or symlink
func (g *Guard) Rmdir(name string) error                      { panic("skeleton") }
func (g *Guard) RemoveAll(name string) error                  { panic("skeleton") }
func (g *Guard) Rename(from, to string) error                 { panic("skeleton") } // replaces
func (g *Guard) RenameNew(from, to string) error              { panic("skeleton") } // fs.ErrExist
func (g *Guard) Symlink(target, link string) error            { panic("skeleton") }
func (g *Guard) Readlink(name string) (string, error)         { panic("skeleton") }
func (g *Guard) Resolve(name string) (string, error)          { panic("skeleton") }
func (g *Guard) SetAttr(name string, a vfs.AttrChange) error  { panic("skeleton") }
func (g *Guard) LsetAttr(name string, a vfs.AttrChange) error { panic("skeleton") }

// Space is what statvfs and AVBL tell. Quota 0 = none; then Free is the host's.
func (g *Guard) Space() (Space, error) { panic("skeleton") }

type Space struct{ BytesTotal, BytesFree, FilesTotal, FilesFree uint64 }

// Perms are the rights of the account on a path now, for MLST's Perm fact: a set of policy.Op.
func (g *Guard) Perms(name string) map[policy.Op]bool { panic("skeleton") }

// File is an open handle with its audit event; embeds nothing so that no method gets lost.
type File struct{}

func (f *File) Name() string                              { panic("skeleton") }
func (f *File) Read(p []byte) (int, error)                { panic("skeleton") }
func (f *File) Write(p []byte) (int, error)               { panic("skeleton") }
func (f *File) Seek(off int64, whence int) (int64, error) { panic("skeleton") }
func (f *File) ReadAt(p []byte, off int64) (int, error)   { panic("skeleton") }
func (f *File) WriteAt(p []byte, off int64) (int, error)  { panic("skeleton") }
func (f *File) ReadFrom(r io.Reader) (int64, error)       { panic("skeleton") }
func (f *File) WriteTo(w io.Writer) (int64, error)        { panic("skeleton") }
func (f *File) Stat() (*vfs.Info, error)                  { panic("skeleton") }
func (f *File) SetAttr(a vfs.AttrChange) error            { panic("skeleton") }
func (f *File) Truncate(n int64) error                    { panic("skeleton") }
func (f *File) Sync() error                               { panic("skeleton") }
func (f *File) TransferError(err error)                   { panic("skeleton") }
func (f *File) Close() error                              { panic("skeleton") }

var (
	_ = os.O_RDONLY
	_ = time.Now
)
