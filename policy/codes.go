package policy

// Codes of refusals: SP-, a letter for the stage, two digits. They never change their meaning.
const (
	CodeProtocol     = "SP-L11"
	CodeSealed       = "SP-L21"
	CodeNotAllowed   = "SP-A11"
	CodeDenied       = "SP-A21"
	CodeBanned       = "SP-A31"
	CodeSSLRequired  = "SP-T21"
	CodeTLSVersion   = "SP-T22"
	CodeCipher       = "SP-T23"
	CodeMethod       = "SP-U11"
	CodeAddressRate  = "SP-U21"
	CodeAccountRate  = "SP-U22"
	CodeBusy         = "SP-U23"
	CodeTooManyKeys  = "SP-U24"
	CodeNetworkRate  = "SP-U25"
	CodeMustChange   = "SP-U31"
	CodeSecondFactor = "SP-F11"
	CodeCodeNeeded   = "SP-F12"
	CodeCodeUsed     = "SP-F13"
	CodeCodeNotFIPS  = "SP-F14"
	CodeCodeRate     = "SP-F21"
	CodeSessions     = "SP-S11"
	CodeServerFull   = "SP-S12"
	CodeAddressFull  = "SP-S13"
	CodeLoginTimeout = "SP-S14"
	CodeDamaged      = "SP-S15"
	CodeMaintenance  = "SP-S16"
	CodeIdle         = "SP-S21"
	CodeMaxAge       = "SP-S22"
	CodeHours        = "SP-S23"
	CodeKilled       = "SP-S31"
	CodeShutdown     = "SP-S32"
	CodeAccountGone  = "SP-S33"
	CodeCredential   = "SP-S34"
	CodeSuspended    = "SP-S41"
	CodeList         = "SP-P11"
	CodeRead         = "SP-P12"
	CodeWrite        = "SP-P13"
	CodeOverwrite    = "SP-P14"
	CodeDelete       = "SP-P15"
	CodeRename       = "SP-P16"
	CodeMkdir        = "SP-P17"
	CodeSetAttr      = "SP-P18"
	CodeSymlink      = "SP-P19"
	CodeStat         = "SP-P20"
	CodeReserved     = "SP-P31"
	CodeHistory      = "SP-P32"
	CodeName         = "SP-P44"
	CodeMaxSize      = "SP-P41"
	CodeQuotaBytes   = "SP-P42"
	CodeQuotaFiles   = "SP-P43"
	CodeQuotaHistory = "SP-P45"
)

// Refusal is a row of the table of codes: the one place that says what a refusal means, to whom. docs/reference/refusals.md
// is made from it.
type Refusal struct {
	Code    string
	Stage   Stage
	Message string // what the client sees: one sentence or two, no names, no networks
	Meaning string // what the operator sees beside rule and origin
	Hint    string // for the operator: the way out
}

// Refusals is the table, in order.
func Refusals() []Refusal { return append([]Refusal(nil), refusals...) }

var refusals = []Refusal{
	{CodeProtocol, StageListener, "This account may not use this protocol.",
		"the protocol is not among those granted to the account",
		"grant it under protocols of the account or of one of its groups"},
	{CodeSealed, StageListener, "The server is sealed: nobody can log in until an operator unseals it. Try again later.",
		"the server has no keys, so it lets nobody in",
		"`sallyport status` says why, `sallyport unseal` unseals"},
	{CodeNotAllowed, StageAddress, "Connections from your address are not allowed.",
		"an allow list of site, group or account does not contain the address",
		"add the network to allow_from at the place named, if it belongs there"},
	{CodeDenied, StageAddress, "Connections from your address are not allowed.",
		"a deny list of site, group or account contains the address",
		"take the network out of deny_from at the place named"},
	{CodeBanned, StageAddress, "Too many failed logins from your address. Try again later.",
		"the address failed too many logins and is banned for a while",
		"see the bans of the server; login.never_ban keeps a network from being banned"},
	{CodeSSLRequired, StageTransport, "SSL is required for this account. Use FTP over TLS (AUTH TLS) or port 990.",
		"FTP without TLS, and no exception of the policy admits it from this address today",
		`client side, choose "Require explicit FTP over TLS"; server side, an exception with networks, reason and end date`},
	{CodeTLSVersion, StageTransport, "This TLS version is too old for this account. Use a client with a newer TLS version.",
		"the TLS version that was agreed on is older than the policy wants",
		"lower transport.tls_min at the place named, or update the client"},
	{CodeCipher, StageTransport, "This cipher is too weak for this account. Use a client with modern ciphers.",
		"the cipher that was agreed on is not in the profile of the policy",
		"loosen transport.ciphers at the place named, or update the client"},
	{CodeMethod, StageAuth, "This way to log in is not allowed for this account.",
		"the account proved itself in a way that the policy does not allow over this protocol",
		"add the method to auth.sftp or auth.ftps, or log in another way"},
	{CodeAddressRate, StageAuth, "Too many failed logins. Wait a minute and try again.",
		"the address failed more logins lately than it may; each further try waits",
		"login.per_address limits failed logins of one address"},
	{CodeAccountRate, StageAuth, "Too many failed logins. Wait a minute and try again.",
		"passwords of the account failed more often lately than they may; each further try waits",
		"login.per_account limits failed passwords of one account"},
	{CodeBusy, StageAuth, "The server is busy with other logins. Try again in a moment.",
		"too many passwords wait to be checked",
		"many passwords are being checked; look for guessing in the audit log"},
	{CodeTooManyKeys, StageAuth, "Too many keys were offered. Configure the client to offer the right one.",
		"the client offered more keys than a connection may try",
		"ssh -o IdentitiesOnly=yes -i KEY"},
	{CodeNetworkRate, StageAuth, "Too many failed logins. Wait a minute and try again.",
		"the network failed more logins lately than it may; each further try waits",
		"login.per_network limits failed logins of one network"},
	{CodeMustChange, StageAuth, "Password change required: send SITE PSWD <old password> <new password> now, or log in once with an SSH client.",
		"the password is right, and must be changed before anything else",
		"the operator asked for it, or password.max_age_days has passed; `sallyport account passwd` sets another one"},
	{CodeSecondFactor, StageSecondFactor, "A second factor is required for this account.",
		"the policy wants a second factor and none was given",
		"auth.require_2fa, or the one of the protocol, is set at the place named: `sallyport account 2fa enable NAME` gives the account one"},
	{CodeCodeNeeded, StageSecondFactor, "A code is required: send the password directly followed by the six digits of your authenticator.",
		"the account has a second factor and its client sent none",
		"the account has a second factor; `sallyport account 2fa status NAME`"},
	{CodeCodeUsed, StageSecondFactor, "This code was used already. Wait for the next one.",
		"the code is right, and opened a connection before",
		"each code opens one connection; a client that opens several needs a key or a certificate"},
	{CodeCodeNotFIPS, StageSecondFactor, "This server may not check codes of your authenticator. Use a recovery code, or ask the operator for a new second factor.",
		"the second factor uses HMAC-SHA-1, which fips140=only forbids",
		"`sallyport account 2fa reset NAME`, then `enable`, makes one of HMAC-SHA-256 (docs/FIPS.md)"},
	{CodeCodeRate, StageSecondFactor, "Too many wrong codes. Wait before you try again.",
		"codes of the account failed more often lately than they may",
		"somebody who has the first factor is guessing codes, or a clock is wrong; `sallyport account unlock NAME` ends the wait"},
	{CodeSessions, StageSession, "This account has too many sessions open. Close one and try again.",
		"the account has as many sessions as it may have at once",
		"raise session.max at the place named, or end a session"},
	{CodeServerFull, StageSession, "The server has too many connections. Try again later.",
		"the server has as many connections as it may have, or too many that have not logged in",
		"raise the limit of connections in sallyport.yaml"},
	{CodeAddressFull, StageSession, "Too many connections from your address. Close one and try again.",
		"the address has as many connections as it may have, or too many that have not logged in",
		"raise the limit of connections per address in sallyport.yaml"},
	{CodeLoginTimeout, StageSession, "The login took too long.",
		"the connection did not log in within the time for it",
		"the client connected and did not log in in time"},
	{CodeDamaged, StageSession, "The storage of this account is damaged. The operator has been told; nobody can log in until it is repaired.",
		"the volume of the account does not open",
		"`sallyport vfs verify --account NAME` says what is damaged, and with --repair brings back what can be brought back"},
	{CodeMaintenance, StageSession, "The storage of this account is being repaired. Try again in a few minutes.",
		"a repair of the volume is under way, and nobody may write meanwhile",
		"a repair of this volume is under way"},
	{CodeIdle, StageSession, "The session was idle for too long.",
		"the client did nothing for as long as the policy allows",
		"session.idle at the place named"},
	{CodeMaxAge, StageSession, "The session reached its greatest age. Log in again.",
		"the session is as old as the policy allows",
		"session.max_age at the place named"},
	{CodeHours, StageSession, "This account may not be used at this time.",
		"a list of hours of site, group or account does not contain the time",
		"session.hours at the place named"},
	{CodeKilled, StageSession, "The session was ended by the operator.",
		"an operator ended the session, or its connection was closed",
		"see the audit log for who ended it"},
	{CodeShutdown, StageSession, "The server is shutting down. Try again later.",
		"the server stops",
		"the server was stopped"},
	{CodeAccountGone, StageSession, "This account may no longer log in.",
		"the account was disabled or removed while the session lived",
		"the account was disabled or removed"},
	{CodeCredential, StageSession, "The credential of this session is no longer valid. Log in again.",
		"what the session proved itself with was changed, removed, or has expired",
		"the password was changed, or the key removed or expired"},
	{CodeSuspended, StageSession, "This session overwrote or deleted so many files that it may not change anything any more. If that was meant, log in again; if not, tell the operator: all of it can be restored.",
		"the session overwrote and deleted more files than ransom.limit, and ransom.action is suspend",
		"look at the session in the audit log; `sallyport backup restore --at TIME --exact` takes back what it did; raise ransom.limit at the place named if it was meant"},
	{CodeList, StagePath, "You have no right to list this directory.",
		"list is not granted on the directory",
		"grant list under paths"},
	{CodeRead, StagePath, "You have no right to read this file.",
		"read is not granted on the file",
		"grant read under paths"},
	{CodeWrite, StagePath, "You have no right to create files here.",
		"neither create nor write is granted on the name",
		"grant create or write under paths"},
	{CodeOverwrite, StagePath, "You have no right to change this file.",
		"write is not granted on the existing file",
		"grant write under paths"},
	{CodeDelete, StagePath, "You have no right to delete this.",
		"delete is not granted on the name",
		"grant delete under paths"},
	{CodeRename, StagePath, "You have no right to rename this.",
		"rename is not granted on one of the two names, or on something below a directory that is moved",
		"grant rename under paths, for both ends"},
	{CodeMkdir, StagePath, "You have no right to make directories here.",
		"mkdir is not granted on the name",
		"grant mkdir under paths"},
	{CodeSetAttr, StagePath, "You have no right to change attributes here.",
		"write is not granted on the name whose mode or times were to change",
		"grant write under paths"},
	{CodeSymlink, StagePath, "You have no right to make symbolic links here.",
		"symlink is not granted on the name",
		"grant symlink under paths"},
	{CodeStat, StagePath, "You have no right to see this.",
		"no right is granted on the name or below it",
		"grant a right on it under paths"},
	{CodeReserved, StagePath, "What is in /.backups cannot be changed; copy it to another place to restore it.",
		"the name lies where the volume shows its history, and nobody writes there",
		"a copy out of /.backups, over SFTP or with SITE RESTORE, brings earlier files back"},
	{CodeHistory, StagePath, "Earlier states of files are not open to this account.",
		"the policy does not let the account look into /.backups",
		"backup.self_service opens it; an operator restores with `sallyport backup restore`"},
	{CodeName, StagePath, "Files of this name may not be uploaded.",
		"a pattern that denies matches the name, or none of a list that allows does",
		"upload.allow_names and upload.deny_names at the place named"},
	{CodeMaxSize, StagePath, "The file is larger than this account may upload.",
		"the upload grew beyond the largest file that the policy allows",
		"raise upload.max_size at the place named"},
	{CodeQuotaBytes, StagePath, "The storage quota of this account is used up.",
		"the upload would take the account beyond its bytes",
		"raise quota.bytes at the place named, or delete files"},
	{CodeQuotaFiles, StagePath, "This account has as many files as its quota allows.",
		"the new name would take the account beyond its number of files",
		"raise quota.files at the place named, or delete files"},
	{CodeQuotaHistory, StagePath, "The space for replaced and deleted files of this account is used up, so nothing can be replaced or deleted now. Ask the operator, or wait until old ones are destroyed.",
		"what would be replaced or deleted must be kept, and would take history beyond its bytes; nothing is destroyed early to make room",
		"raise quota.history at the place named, or shorten backup.retention_days; `sallyport backup list` shows what is kept"},
}

func pathCode(op Op) string {
	switch op {
	case OpList:
		return CodeList
	case OpRead:
		return CodeRead
	case OpWrite:
		return CodeWrite
	case OpOverwrite:
		return CodeOverwrite
	case OpDelete:
		return CodeDelete
	case OpRename:
		return CodeRename
	case OpMkdir:
		return CodeMkdir
	case OpSetAttr:
		return CodeSetAttr
	case OpSymlink:
		return CodeSymlink
	}
	return CodeStat
}

// Deny makes the denial of a code of the table.
func Deny(code, rule, origin string) *Denial { return deny(code, rule, origin) }

func deny(code, rule, origin string) *Denial {
	i, ok := refusalIndex[code]
	if !ok {
		panic("policy: internal error: no such code: " + code)
	}
	r := &refusals[i]
	return &Denial{Code: code, Stage: r.Stage, Rule: rule, Origin: origin, Message: r.Message, Hint: r.Hint}
}

// refusalIndex finds the row of a code: refusals come by the thousand. Read-only.
var refusalIndex = indexRefusals()

func indexRefusals() map[string]int {
	rows := make(map[string]int, len(refusals))
	for i := range refusals {
		rows[refusals[i].Code] = i
	}
	return rows
}
