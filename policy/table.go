package policy

import (
	"net/netip"
	"time"
)

var methods = []string{"publickey", "certificate", "password"}

// table is read-only. OPERATIONS.md "Policy" explains the model.
var table = []Setting{
	{Path: "transport.require_ssl", Kind: KindBool, Default: true, Stricter: True, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `true`,
		Description: "Refuse FTP without TLS before a password is sent. It cannot be switched off here: an entry under exceptions admits one account from named networks until a date.",
		apply:       func(e *Effective, v any) { e.Transport.RequireSSL = v.(bool) }},
	{Path: "transport.tls_min", Kind: KindEnum, Values: []string{"1.2", "1.3"}, Default: "1.2", Stricter: Later, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `"1.3"`,
		Description: "Oldest TLS version that may log in.",
		apply:       func(e *Effective, v any) { e.Transport.TLSMin = tlsVersion(v.(string)) }},
	{Path: "transport.ciphers", Kind: KindEnum, Values: []string{"legacy-insecure", "compatible", "modern"}, Default: "modern", Stricter: Later, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `compatible`,
		Description: "Cipher profile that may log in: modern is AEAD with forward secrecy, compatible adds CBC with forward secrecy, legacy-insecure takes whatever the listener offers.",
		apply:       func(e *Effective, v any) { e.Transport.Ciphers = v.(string) }},
	{Path: "transport.ftps_session_binding", Kind: KindEnum, Values: []string{"off", "prefer", "require"}, Default: "prefer", Stricter: Later, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `require`,
		Description: "Whether a data connection must resume the TLS session of its control connection. prefer: once one has, every later one must.",
		apply:       func(e *Effective, v any) { e.Transport.FTPSSessionBinding = v.(string) }},
	{Path: "transport.require_close_notify", Kind: KindBool, Default: true, Stricter: True, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `false`,
		Description: "Take an FTPS upload that ends without the TLS close alert as interrupted, because it may have been cut off.",
		apply:       func(e *Effective, v any) { e.Transport.RequireCloseNotify = v.(bool) }},
	{Path: "allow_from", Kind: KindNetworks, Default: []netip.Prefix(nil), ZeroIsNone: true, Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[198.51.100.0/24, "2001:db8::/32"]`,
		Description: "Networks that may connect; empty means any. The lists of site, groups and account must all contain the address."},
	{Path: "deny_from", Kind: KindNetworks, Default: []netip.Prefix(nil), Stricter: Longer, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[203.0.113.66]`,
		Description: "Networks that may not connect. The lists of site, groups and account add up."},
	{Path: "protocols", Kind: KindSet, Values: []string{"sftp", "ftps", "ftps-implicit", "ftps-explicit"}, Default: []string(nil), Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[sftp, ftps]`,
		Description: "Protocols that may log in; none until granted. ftps means both kinds of FTPS.",
		apply:       func(e *Effective, v any) { e.Protocols = protocols(v.([]string)) }},
	{Path: "auth.sftp", Kind: KindSet, Values: methods, Default: []string{"publickey"}, Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[publickey, password]`,
		Description: "How an account may prove itself over SFTP: with a listed key, with a certificate of a trusted authority, with a password.",
		apply:       func(e *Effective, v any) { e.Auth.SFTP = v.([]string) }},
	{Path: "auth.ftps", Kind: KindSet, Values: []string{"password", "certificate"}, Default: []string{"password"}, Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[password, certificate]`,
		Description: "How an account may prove itself over FTPS: with a password, with a TLS client certificate of a trusted authority or pinned to it. Where a second factor is required, the two together are one.",
		apply:       func(e *Effective, v any) { e.Auth.FTPS = v.([]string) }},
	{Path: "auth.require_2fa", Kind: KindBool, Default: false, Stricter: True, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `true`,
		Description: "Refuse logins without a second factor: a code of an authenticator, or over FTPS a client certificate beside the password. An account that has a second factor is asked for it in any case.",
		apply:       func(e *Effective, v any) { e.Auth.Require2FA = v.(bool) }},
	{Path: "password.min_length", Kind: KindInt, Unit: "characters", Min: 1, Max: 1024, Default: int64(12), Stricter: Higher, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `16`,
		Description: "Shortest new password.",
		apply:       func(e *Effective, v any) { e.Password.MinLength = int(v.(int64)) }},
	{Path: "password.min_nonletters", Kind: KindInt, Unit: "characters", Max: 1024, Default: int64(2), Stricter: Higher, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `3`,
		Description: "Digits and symbols that a new password must contain.",
		apply:       func(e *Effective, v any) { e.Password.MinNonletters = int(v.(int64)) }},
	{Path: "password.history", Kind: KindInt, Unit: "passwords", Max: 100, Default: int64(5), Stricter: Higher, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `10`,
		Description: "Passwords, that of now among them, that a new one must differ from.",
		apply:       func(e *Effective, v any) { e.Password.History = int(v.(int64)) }},
	{Path: "password.max_age_days", Kind: KindInt, Unit: "days", Max: 36500, Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `365`,
		Description: "Days until a password must be changed, at the next login after them; 0 means never.",
		apply:       func(e *Effective, v any) { e.Password.MaxAgeDays = int(v.(int64)) }},
	{Path: "password.check_breached", Kind: KindBool, Default: true, Stricter: True, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `false`,
		Description: "Refuse new passwords that are tried first: common and leaked ones, words and names, also with a few digits or symbols around them. The list is in the program; nothing is asked over the network.",
		apply:       func(e *Effective, v any) { e.Password.CheckBreached = v.(bool) }},
	{Path: "password.hash", Kind: KindEnum, Values: []string{"pbkdf2", "bcrypt", "argon2id"}, Default: "bcrypt", Stricter: Later, Scope: AtSite, Enforced: true, Since: "0.1", Example: `argon2id`,
		Description: "How passwords are stored: PBKDF2-HMAC-SHA-256 with 600,000 iterations, bcrypt with cost 12, or argon2id with 19 MiB and two passes. Stored ones of another kind are verified, and stored anew when they log in. Under fips140=only it is always pbkdf2.",
		apply:       func(e *Effective, v any) { e.Password.Hash = v.(string) }},
	{Path: "login.per_address", Kind: KindRate, Default: Rate{10, time.Minute}, ZeroIsNone: true, Stricter: Lower, Scope: AtSite, Enforced: true, Since: "0.1", Example: `20/min`,
		Description: "Failed logins of one address (IPv6: of one /64) before further attempts wait; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Login.PerAddress = v.(Rate) }},
	{Path: "login.per_account", Kind: KindRate, Default: Rate{5, time.Minute}, ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `3/min`,
		Description: "Failed passwords of one account before further ones wait; 0 means no limit. An address that logged in to the account lately is not held back by the failures of others.",
		apply:       func(e *Effective, v any) { e.Login.PerAccount = v.(Rate) }},
	{Path: "login.per_network", Kind: KindRate, Default: Rate{60, time.Minute}, ZeroIsNone: true, Stricter: Lower, Scope: AtSite, Enforced: true, Since: "0.1", Example: `100/min`,
		Description: "Failed logins of one network (IPv4: /24, IPv6: /48) before further attempts wait; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Login.PerNetwork = v.(Rate) }},
	{Path: "login.delay", Kind: KindDuration, Default: time.Second, Stricter: Higher, Scope: AtSite, Enforced: true, Since: "0.1", Example: `2s`,
		Description: "How long the answer to the second wrong password in a row of one address waits; each next one waits twice as long, up to 16 s. 0 means no wait.",
		apply:       func(e *Effective, v any) { e.Login.Delay = v.(time.Duration) }},
	{Path: "login.ban_after", Kind: KindInt, Unit: "failures", Max: 1_000_000, Default: int64(15), ZeroIsNone: true, Stricter: Lower, Scope: AtSite, Enforced: true, Since: "0.1", Example: `10`,
		Description: "Failed logins of one address, within login.ban_for, that ban it; 0 means never. The same wrong password again does not count. Accounts that logged in from the address within a day are spared.",
		apply:       func(e *Effective, v any) { e.Login.BanAfter = int(v.(int64)) }},
	{Path: "login.ban_for", Kind: KindDuration, Min: int64(time.Second), Default: 30 * time.Minute, Stricter: Higher, Scope: AtSite, Enforced: true, Since: "0.1", Example: `2h`,
		Description: "How long a ban lasts.",
		apply:       func(e *Effective, v any) { e.Login.BanFor = v.(time.Duration) }},
	{Path: "login.never_ban", Kind: KindNetworks, Default: []netip.Prefix(nil), Stricter: Shorter, Scope: AtSite, Enforced: true, Since: "0.1", Example: `[192.0.2.0/24]`,
		Description: "Networks that are never banned; their failed logins are still limited. Empty means none.",
		apply:       func(e *Effective, v any) { e.Login.NeverBan = v.([]netip.Prefix) }},
	{Path: "session.max", Kind: KindInt, Unit: "sessions", Min: 1, Max: 1_000_000, Default: int64(16), Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `4`,
		Description: "Sessions of one account at once.",
		apply:       func(e *Effective, v any) { e.Session.Max = int(v.(int64)) }},
	{Path: "session.idle", Kind: KindDuration, Default: 15 * time.Minute, ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `5m`,
		Description: "A session without activity ends after this; 0 means never.",
		apply:       func(e *Effective, v any) { e.Session.Idle = v.(time.Duration) }},
	{Path: "session.max_age", Kind: KindDuration, Default: 14 * 24 * time.Hour, ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `1d`,
		Description: "A session ends this long after its login; 0 means never.",
		apply:       func(e *Effective, v any) { e.Session.MaxAge = v.(time.Duration) }},
	{Path: "session.hours", Kind: KindWords, Default: []string(nil), ZeroIsNone: true, Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `["mon-fri 08:00-18:00 Europe/Berlin"]`,
		Description: "When sessions are allowed: days, hours, and a time zone (UTC without one), as in \"mon-fri 08:00-18:00 Europe/Berlin\"; empty means always. The lists of site, groups and account must all contain the time; sessions end when it passes.",
		check:       func(text string) error { _, err := parseWindow(text); return err }, hint: hoursHint},
	{Path: "upload.allow_names", Kind: KindWords, Default: []string(nil), ZeroIsNone: true, Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `["*.csv", "report-????.pdf"]`,
		Description: "Patterns for names of uploaded files, as *.csv, without regard to case; empty means any. The lists of site, groups and account must all match.",
		check:       parsePattern},
	{Path: "upload.deny_names", Kind: KindWords, Default: []string(nil), Stricter: Longer, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `["*.exe"]`,
		Description: "Patterns for names that no uploaded file may have, without regard to case. The lists of site, groups and account add up.",
		check:       parsePattern},
	{Path: "upload.interrupted", Kind: KindEnum, Values: []string{"keep", "hide", "discard"}, Default: "keep", Stricter: Later, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `discard`,
		Description: "What becomes of a broken upload of a new name: keep it as partial, visible and resumable; hide it, resumable by its name but not listed; or discard it.",
		apply:       func(e *Effective, v any) { e.Upload.Interrupted = v.(string) }},
	{Path: "upload.max_size", Kind: KindSize, Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `10GiB`,
		Description: "Largest file; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Upload.MaxSize = v.(int64) }},
	{Path: "bandwidth.session_upload", Kind: KindSize, Unit: "bytes per second", Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `10MB`,
		Description: "Bytes per second that one session may upload; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Bandwidth.SessionUpload = v.(int64) }},
	{Path: "bandwidth.session_download", Kind: KindSize, Unit: "bytes per second", Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `10MB`,
		Description: "Bytes per second that one session may download; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Bandwidth.SessionDownload = v.(int64) }},
	{Path: "bandwidth.account_upload", Kind: KindSize, Unit: "bytes per second", Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `50MB`,
		Description: "Bytes per second that all sessions of an account together may upload; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Bandwidth.AccountUpload = v.(int64) }},
	{Path: "bandwidth.account_download", Kind: KindSize, Unit: "bytes per second", Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `50MB`,
		Description: "Bytes per second that all sessions of an account together may download; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Bandwidth.AccountDownload = v.(int64) }},
	{Path: "quota.bytes", Kind: KindSize, Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `500GB`,
		Description: "Bytes of all current files of an account; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Quota.Bytes = v.(int64) }},
	{Path: "quota.files", Kind: KindInt, Unit: "files", Default: int64(0), ZeroIsNone: true, Stricter: Lower, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `100000`,
		Description: "Number of current files of an account; 0 means no limit.",
		apply:       func(e *Effective, v any) { e.Quota.Files = v.(int64) }},
	{Path: "backup.retention_days", Kind: KindInt, Unit: "days", Max: 36500, Default: int64(7), Stricter: Higher, Scope: Anywhere, Since: "0.1", Example: `30`,
		Description: "Days that replaced and deleted files stay restorable.",
		apply:       func(e *Effective, v any) { e.Backup.RetentionDays = int(v.(int64)) }},
	{Path: "backup.purge", Kind: KindEnum, Values: []string{"after-grace", "never"}, Default: "after-grace", Stricter: Later, Scope: Anywhere, Since: "0.1", Example: `never`,
		Description: "Whether what is past its retention is destroyed.",
		apply:       func(e *Effective, v any) { e.Backup.Purge = v.(string) }},
	{Path: "backup.grace_days", Kind: KindInt, Unit: "days", Max: 36500, Default: int64(0), Stricter: Higher, Scope: Anywhere, Since: "0.1", Example: `3`,
		Description: "Days between the end of retention and destruction.",
		apply:       func(e *Effective, v any) { e.Backup.GraceDays = int(v.(int64)) }},
	{Path: "guard.never_lock_out", Kind: KindNames, Default: []string(nil), Stricter: Longer, Scope: AtSite, Enforced: true, Since: "0.2", Example: `[backup-bot]`,
		Description: "Accounts that no change of the policy may lock out: one after which none of its doors would be open to such an account is refused.",
		apply:       func(e *Effective, v any) { e.NeverLockOut = v.([]string) }},
	{Path: "paths", Kind: KindPaths, Default: []PathRight(nil), Stricter: Shorter, Scope: Anywhere, Enforced: true, Since: "0.1", Example: `[{path: /in, allow: [list, write]}, {path: /out, allow: [list, read]}]`,
		Description: "Rights by path; the longest path that contains the name decides; none until granted. Verbs: list, read, create (new files only), write (new and existing files, their modes and times), delete, rename, mkdir, symlink, all. Of several groups every one must grant."},
}

func tlsVersion(text string) uint16 {
	if text == "1.3" {
		return 0x0304
	}
	return 0x0303
}

// protocols of an expanded list.
func protocols(words []string) []Protocol {
	var list []Protocol
	for _, w := range words {
		if w == "ftps-explicit" {
			w = string(FTPS)
		}
		list = append(list, Protocol(w))
	}
	return list
}
