// Package policy decides. It is pure: no I/O, no clock of its own, no files.
// The same functions serve logins, live sessions and explanations.
package policy

import (
	"net/netip"
	"time"
)

// Protocol names how a session came in.
type Protocol string

const (
	SFTP         Protocol = "sftp"
	FTPS         Protocol = "ftps"          // explicit, AUTH TLS
	FTPSImplicit Protocol = "ftps-implicit" // TLS from the first byte
	FTP          Protocol = "ftp"           // plain; only through a dated exception
)

// Facts of a connection. Which are known depends on the stage.
type Facts struct {
	Protocol   Protocol
	Remote     netip.AddrPort // v4-mapped addresses are unmapped
	Local      netip.AddrPort
	TLS        bool
	TLSVersion uint16 // crypto/tls constants
	Cipher     string
	Client     string // SSH ident or FTP CLNT, bounded, for the record
	Method     string // "password", "publickey": how the account proved itself
}

// Stage of a decision, in order (OPERATIONS.md).
type Stage int

const (
	StageListener Stage = 1 + iota
	StageAddress
	StageTransport
	StageAuth
	StageSecondFactor
	StageSession
	StagePath
)

// Denial says why something was refused: for the client (Message, one sentence), for the operator (all of it).
type Denial struct {
	Code    string // e.g. "SP-T21"; stable
	Stage   Stage
	Rule    string // setting, e.g. "transport.require_ssl = true"
	Origin  string // where the value comes from, e.g. "site (revision 42)"
	Message string // what the client sees
	Hint    string // what to do about it
}

func (d *Denial) Error() string { return d.Message + " [" + d.Code + "]" }

// Op is a file operation.
type Op uint8

const (
	OpList Op = 1 + iota // directory listing and stat
	OpRead
	OpWrite     // create a new file
	OpOverwrite // change an existing file
	OpDelete
	OpRename
	OpMkdir
	OpSetAttr
	OpSymlink
)

// Effective is the resolved policy of one account (or of the site, before an account is known). Immutable.
// Fields are typed settings with their origin; see the schema for defaults.
type Effective struct {
	Account   string
	Revision  uint64
	Transport Transport
	Session   SessionLimits
	Upload    Upload
	Login     Login
	Auth      Auth
}

type Transport struct {
	RequireSSL         bool
	TLSMin             uint16 // crypto/tls constant
	Ciphers            string // modern, compatible, legacy-insecure
	FTPSSessionBinding string // off, prefer, require
	RequireCloseNotify bool
}
type SessionLimits struct {
	Max          int
	Idle, MaxAge time.Duration
}
type Upload struct {
	Interrupted string // keep, hide, discard
	MaxSize     int64  // bytes; 0 = no limit
}
type Login struct {
	PerAddress, PerAccount Rate
	BanAfter               int
	BanFor                 time.Duration
	NeverBan               []netip.Prefix
}
type Rate struct {
	N   int
	Per time.Duration
}
type Auth struct{ SFTP, FTPS []string } // methods: publickey, password

// Admit decides on a connection: at connect, at USER, at login, and again on every change. Stages whose facts are not yet known are left out.
func Admit(p *Effective, f Facts, now time.Time) *Denial { panic("skeleton") }

// Permit decides on a file operation; resolved canonical paths, both ends of a rename.
func Permit(p *Effective, op Op, path ...string) *Denial { panic("skeleton") }
