// Package policy decides who may come in, how, and what they may do there.
//
// It is pure: no I/O, no clock of its own, no files. A Document (YAML, checked against one typed table of settings)
// is resolved for one account to an Effective policy; Admit and Permit answer questions about it. The same functions
// serve logins, live sessions and explanations, so an explanation cannot differ from the decision.
//
// Everything exported is immutable once made and safe for concurrent use.
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

// Facts of a connection. Which are known depends on the stage: the zero value of a field means "not known yet", and
// Admit leaves out what depends on it, until Method is known: then the login is complete and nothing is left out.
type Facts struct {
	Protocol   Protocol
	Remote     netip.AddrPort // v4-mapped addresses are unmapped
	Local      netip.AddrPort
	TLS        bool
	TLSVersion uint16 // crypto/tls constants
	Cipher     string // crypto/tls.CipherSuiteName
	Profile    string // SSH: the strictest cipher profile that has everything that was agreed on
	Client     string // SSH ident or FTP CLNT, bounded, for the record
	Method     string // "password", "publickey", "certificate": how the account proved itself

	SecondFactor bool      // a second factor was verified
	Sessions     int       // other live sessions of the account
	Since        time.Time // login; zero = not logged in yet
	LastActive   time.Time // last thing the client did; zero = not logged in yet
}

// Stage of a decision, in order.
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

func (s Stage) String() string {
	switch s {
	case StageListener:
		return "listener"
	case StageAddress:
		return "address"
	case StageTransport:
		return "transport"
	case StageAuth:
		return "authentication"
	case StageSecondFactor:
		return "second factor"
	case StageSession:
		return "session limits"
	case StagePath:
		return "path"
	}
	return "unknown"
}

// Denial says why something was refused: for the client (Message, one sentence), for the operator (all of it).
type Denial struct {
	Code    string // of the table in codes.go; stable
	Stage   Stage
	Rule    string // setting, e.g. "transport.require_ssl = true"
	Origin  string // where the value comes from, e.g. "site (policy.yaml:3, revision 42)"
	Message string // what the client sees
	Hint    string // what to do about it
}

func (d *Denial) Error() string { return d.Message + " [" + d.Code + "]" }

// Op is a file operation.
type Op uint8

const (
	OpList Op = 1 + iota // directory listing
	OpRead
	OpWrite     // create a new file
	OpOverwrite // change an existing file
	OpDelete    // files and directories
	OpRename    // asked for both ends
	OpMkdir
	OpSetAttr // mode and times
	OpSymlink
	// OpStat is looking at one name. It is granted wherever any other right is, and on every directory that leads
	// there, so that a client can walk to what it may use.
	OpStat
	opEnd
)

func (o Op) String() string {
	names := [...]string{"?", "list", "read", "create", "overwrite", "delete", "rename", "mkdir", "setattr", "symlink", "stat"}
	if int(o) < len(names) {
		return names[o]
	}
	return "?"
}

// Effective is the resolved policy of one account (or of the site, before an account is known). Immutable.
type Effective struct {
	Account  string // "" = the site, before an account is known
	Revision uint64
	Groups   []string // of the account, as listed

	AllowFrom    []Networks // every list must contain the address; none = any
	DenyFrom     []Networks // no list may contain it
	Protocols    []Protocol // none until granted
	Transport    Transport
	Auth         Auth
	Password     Password
	Login        Login
	Session      SessionLimits
	Upload       Upload
	Bandwidth    Bandwidth
	Quota        Quota
	Backup       Backup
	Ransom       Ransom
	NeverLockOut []string // of the site
	// Exceptions of this account; the only way to plain FTP.
	Exceptions []Exception

	rights  []rights   // every list must grant
	values  []resolved // by index in the table of settings
	hours   []hours    // every list must contain the time
	names   []nameList // every list must agree
	uniform bool       // the same rights on every path
}

// Networks is one list with the place it comes from.
type Networks struct {
	Prefixes []netip.Prefix
	Origin   Origin
}

func (n Networks) contains(a netip.Addr) bool {
	for _, p := range n.Prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Transport is what the control and data connections must be.
type Transport struct {
	RequireSSL         bool
	TLSMin             uint16 // crypto/tls constant
	Ciphers            string // modern, compatible, legacy-insecure
	FTPSSessionBinding string // off, prefer, require
	RequireCloseNotify bool
}

// Auth lists the methods (publickey, certificate, password) by protocol family.
type Auth struct {
	SFTP, FTPS []string
	Require2FA bool // over every protocol
	// Require2FASFTP and Require2FAFTPS ask for it over one family.
	Require2FASFTP, Require2FAFTPS bool
}

// Wants2FA says whether a login over p needs a second factor, and by which setting: of those that ask for one the first, or the one for
// every protocol if none does.
func (a Auth) Wants2FA(p Protocol) (bool, string) {
	switch {
	case a.Require2FA:
	case p == SFTP && a.Require2FASFTP:
		return true, "auth.require_2fa_sftp"
	case p != SFTP && a.Require2FAFTPS:
		return true, "auth.require_2fa_ftps"
	}
	return a.Require2FA, "auth.require_2fa"
}

// Methods that may log in over p.
func (a Auth) Methods(p Protocol) []string {
	if p == SFTP {
		return a.SFTP
	}
	return a.FTPS
}

// Password is what a new password must be like.
type Password struct {
	MinLength     int // characters
	MinNonletters int // digits and symbols among them
	History       int // passwords, that of now among them, that a new one must differ from
	MaxAgeDays    int
	CheckBreached bool
	Hash          string // pbkdf2, bcrypt, argon2id
}

// Login limits guessing. Rates count failed logins; a login that succeeds costs nothing.
type Login struct {
	PerAddress, PerAccount, PerNetwork Rate
	Delay                              time.Duration // before the answer to the second failure in a row; each next one doubles it; 0 = none
	BanAfter                           int           // failures of one address; 0 = never
	BanFor                             time.Duration
	NeverBan                           []netip.Prefix
}

// Rate is N per Per; N 0 = no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// SessionLimits bound the sessions of one account.
type SessionLimits struct {
	Max          int           // sessions at once
	Idle, MaxAge time.Duration // 0 = no limit
}

// Upload rules.
type Upload struct {
	Interrupted string // keep, hide, discard
	MaxSize     int64  // bytes; 0 = no limit
}

// Bandwidth in bytes per second; 0 = no limit.
type Bandwidth struct {
	SessionUpload, SessionDownload, AccountUpload, AccountDownload int64
}

// Quota of an account.
type Quota struct {
	Bytes, Files int64 // of its current files; 0 = no limit
	History      int64 // bytes of what was replaced or deleted; 0 = no limit
	CountHistory bool  // Bytes is for the history, too
}

// Backup is how long what was replaced or deleted is kept, and who sees it.
type Backup struct {
	Retention time.Duration // how long an account can go back; 0 = not at all, Forever = to its beginning
	Grace     time.Duration // how much longer an operator can
	Purge     string        // after-grace, never
	Least     time.Duration // of Retention; what it keeps, nobody purges early

	SelfService bool // the account may read /.backups
	Show        bool // /.backups is in the listing of /
}

// Ransom is when a session overwrites and deletes so much that it may be malicious.
type Ransom struct {
	Limit   Rate // files overwritten and deleted by one session; N 0 = no limit
	Suspend bool // it may not write any more then; otherwise it is only recorded
}

// Revision is one durable state of the policy. Immutable.
type Revision struct {
	N        uint64 // 0 = the built-in policy, before anybody changed it
	At       time.Time
	Who, Why string
	Document *Document
}

// Resolve is Resolve on the revision's document; origins name the revision.
func (r *Revision) Resolve(account string) *Effective { return resolve(r.Document, account, r.N) }
