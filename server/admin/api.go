package admin

import (
	"log/slog"
	"time"
)

// Secret is a password on its way to the server. It travels in JSON and
// prints nowhere.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Change is what every changing request carries.
type Change struct {
	Reason string `json:"reason,omitempty"` // recorded with the revision and in audit
}

// Empty is a request or an answer without content.
type Empty struct{}

// Status of a running server.
type Status struct {
	Version   string     `json:"version"`
	PID       int        `json:"pid"`
	State     string     `json:"state"` // starting, unsealing, ready, sealed, sealing, stopping
	Sealed    *Sealed    `json:"sealed,omitempty"`
	Started   time.Time  `json:"started"`
	StateDir  string     `json:"state_dir"`
	FIPS140   string     `json:"fips140"` // off; on or only, and the module
	Seal      string     `json:"seal"`
	Revision  uint64     `json:"revision"` // of the policy
	Accounts  int        `json:"accounts"`
	Sessions  int        `json:"sessions"`
	Listeners []Listener `json:"listeners"`
	Warnings  []string   `json:"warnings,omitempty"`
	Maximum   *Score     `json:"maximum,omitempty"`
	Audit     []string   `json:"audit,omitempty"` // what is wrong with the audit log; among the warnings, too
}

// Score is how much of the preset "maximum" the policy of the site holds; accounts that ask for less are not counted.
type Score struct {
	Held    int      `json:"held"`
	Of      int      `json:"of"`
	Missing []string `json:"missing,omitempty"` // settings
}

// Sealed says why a server is sealed, and what to do.
type Sealed struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Hint   string    `json:"hint,omitempty"`
	Next   time.Time `json:"next,omitzero"` // when the server tries again by itself
}

// SealState is what has to be given to unseal a server.
type SealState struct {
	State  string `json:"state"` // as of Status
	Kind   string `json:"kind"`  // keyfile, passphrase, shares, transit, helper
	Reason string `json:"reason,omitempty"`
	Label  string `json:"label,omitempty"` // of transit and helper: where the key is
	Have   int    `json:"have,omitempty"`  // shares given so far
	Need   int    `json:"need,omitempty"`  // shares needed; 0 for other kinds
	Set    string `json:"set,omitempty"`   // of shares
	Note   string `json:"note,omitempty"`  // for the person who just gave something
}

// Unseal is what one person gives: one of the secrets, or none where the server
// finds the key by itself.
type Unseal struct {
	Passphrase Secret `json:"passphrase,omitempty"`
	Share      Secret `json:"share,omitempty"`
	Forget     bool   `json:"forget,omitempty"` // the shares given so far
	// Kit is a recovery kit; Identity opens it if it is encrypted.
	Kit      Secret `json:"kit,omitempty"`
	Identity Secret `json:"identity,omitempty"`
}

// SealChange seals the root key in another way, or by another secret.
type SealChange struct {
	Change
	To         string `json:"to"` // as SealState.Kind
	Passphrase Secret `json:"passphrase,omitempty"`
	Threshold  int    `json:"threshold,omitempty"` // of shares
	Shares     int    `json:"shares,omitempty"`
	// Recipients, one for each share, are age recipients or SSH public keys.
	Recipients []string `json:"recipients,omitempty"`
}

// SealChanged has the shares, once and never again.
type SealChanged struct {
	Kind   string  `json:"kind"`
	Set    string  `json:"set,omitempty"`
	Shares []Share `json:"shares,omitempty"`
	// Old is what still opens older copies of seal.json.
	Old string `json:"old"`
}

// Share of a set, readable or encrypted to a recipient.
type Share struct {
	Number    int    `json:"number"`
	Recipient string `json:"recipient,omitempty"`
	Text      Secret `json:"text"`
}

// KitExport makes a recovery kit for a recipient.
type KitExport struct {
	Change
	Recipient string `json:"recipient"`
}

// KitRef names a recovery kit.
type KitRef struct {
	Change
	ID string `json:"id"`
}

// Kit is a recovery kit, encrypted to its recipient.
type Kit struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// Listener that is open, with the port that it really has.
type Listener struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// PathRight grants operations below a path, e.g. {"/in", ["list","write"]}.
type PathRight struct {
	Path  string   `json:"path"`
	Allow []string `json:"allow"`
}

// AccountAdd makes an account that has exactly what is given and nothing else.
type AccountAdd struct {
	Change
	Name      string      `json:"name"`
	Groups    []string    `json:"groups,omitempty"`
	Protocols []string    `json:"protocols,omitempty"`
	Paths     []PathRight `json:"paths,omitempty"`
	Password  Secret      `json:"password,omitempty"`
	Keys      []string    `json:"keys,omitempty"` // authorized_keys lines
}

// AccountRef names an account.
type AccountRef struct {
	Change
	Name string `json:"name"`
}

// Account as operators see it. No secret is ever among it.
type Account struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Enabled   bool      `json:"enabled"`
	Created   time.Time `json:"created"`
	Groups    []string  `json:"groups,omitempty"`
	Protocols []string  `json:"protocols"`
	Paths     string    `json:"paths"`    // rights in force, YAML
	Password  bool      `json:"password"` // has one
	Second    bool      `json:"second_factor"`
	// MustChange: the password may only be used to choose another one.
	MustChange bool  `json:"must_change,omitempty"`
	Keys       []Key `json:"keys"`
	Sessions   int   `json:"sessions"`
}

// Accounts is sorted by name.
type Accounts struct {
	Accounts []Account `json:"accounts"`
}

// Key is an account's public key.
type Key struct {
	Fingerprint string    `json:"fingerprint"` // SHA256:…
	Algorithm   string    `json:"algorithm"`
	Comment     string    `json:"comment,omitempty"`
	Added       time.Time `json:"added,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	From        []string  `json:"from,omitempty"`
	Authority   bool      `json:"cert_authority,omitempty"` // certificates that it signed log in, not it
	Principals  []string  `json:"principals,omitempty"`
}

// Keys of an account.
type Keys struct {
	Keys []Key `json:"keys"`
}

// KeysAdd adds public keys, authorized_keys lines or TLS certificates in PEM.
type KeysAdd struct {
	Change
	Account string   `json:"account"`
	Keys    []string `json:"keys"`
}

// AuthorityAdd trusts an authority: a public key in authorized_keys form, or a certificate in PEM.
type AuthorityAdd struct {
	Change
	Text string `json:"text"`
}

// TrustRef names an authority by its fingerprint, or a revocation by what it says.
type TrustRef struct {
	Change
	What string `json:"what"`
}

// Authority whose certificates may log in.
type Authority struct {
	Fingerprint string    `json:"fingerprint"`
	Kind        string    `json:"kind"` // ssh, x509
	Comment     string    `json:"comment,omitempty"`
	Added       time.Time `json:"added"`
}

// Revocation of a certificate or key.
type Revocation struct {
	What  string    `json:"what"`
	Added time.Time `json:"added"`
}

// Trust of the site.
type Trust struct {
	Authorities []Authority  `json:"authorities"`
	Revoked     []Revocation `json:"revoked"`
}

// KeysRemove removes the key with this fingerprint.
type KeysRemove struct {
	Change
	Account     string `json:"account"`
	Fingerprint string `json:"fingerprint"`
}

// Passwd sets a password, or the hash of one that another system made; with neither it only asks for a change.
type Passwd struct {
	Change
	Account    string `json:"account"`
	Password   Secret `json:"password,omitempty"`
	Hash       Secret `json:"hash,omitempty"`
	MustChange bool   `json:"must_change,omitempty"` // at the next login
}

// SecondEnable gives an account a second factor.
type SecondEnable struct {
	Change
	Account string `json:"account"`
	Issuer  string `json:"issuer,omitempty"` // how authenticators show the server; "" = Sallyport
}

// Enrolment is told once and kept nowhere in clear.
type Enrolment struct {
	URI      Secret   `json:"uri"` // otpauth://
	Recovery []Secret `json:"recovery_codes"`
}

// SecondFactor of an account as operators see it.
type SecondFactor struct {
	Account   string    `json:"account"`
	Enabled   bool      `json:"enabled"`
	Since     time.Time `json:"since,omitzero"`
	Algorithm string    `json:"algorithm,omitempty"`
	Recovery  int       `json:"recovery_codes_left"`
	Required  bool      `json:"required"` // by the policy
}

// Session that is logged in.
type Session struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	Protocol string    `json:"protocol"`
	Remote   string    `json:"remote"`
	Client   string    `json:"client,omitempty"`
	Method   string    `json:"method"`
	Since    time.Time `json:"since"`
	Active   time.Time `json:"active"` // last activity
	BytesIn  uint64    `json:"bytes_in"`
	BytesOut uint64    `json:"bytes_out"`
}

// Sessions is sorted by start.
type Sessions struct {
	Sessions []Session `json:"sessions"`
}

// SessionKill ends one session by id, or all of an account.
type SessionKill struct {
	Change
	ID      string `json:"id,omitempty"`
	Account string `json:"account,omitempty"`
}

// Killed counts.
type Killed struct {
	Killed int `json:"killed"`
}

// PolicyQuery asks for what holds for an account (Account set), or for what
// stands in the document at Key ("site.session.max", "accounts.acme"; all when
// both are empty).
type PolicyQuery struct {
	Account string `json:"account,omitempty"`
	Key     string `json:"key,omitempty"`
}

// Setting of the policy with where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // YAML
	Origin string `json:"origin,omitempty"`
}

// Policy is settings as of a revision.
type Policy struct {
	Revision uint64    `json:"revision"`
	Account  string    `json:"account,omitempty"`
	Settings []Setting `json:"settings"`
	Document string    `json:"document,omitempty"` // YAML, when the whole policy was asked for
}

// PolicySet changes settings of the document in one revision. Base 0 means
// "whatever is current"; another base that is not current is a conflict.
type PolicySet struct {
	Change
	Set     []KeyValue    `json:"set"`
	Base    uint64        `json:"base,omitempty"`
	Confirm time.Duration `json:"confirm,omitempty"` // as in PolicyChange
	Yes     bool          `json:"yes,omitempty"`
}

// KeyValue is one setting; the value is YAML, empty removes the setting.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Revision that a change made.
type Revision struct {
	Revision uint64 `json:"revision"`
}

// AuditTail asks for the last records, oldest first.
type AuditTail struct {
	Last    int  `json:"last,omitempty"`
	Resolve bool `json:"resolve,omitempty"` // names instead of account ids; needs the right
}

// AuditSearch asks for the records to which all applies that is set.
type AuditSearch struct {
	Account string    `json:"account,omitempty"` // id or name
	Action  string    `json:"action,omitempty"`
	Code    string    `json:"code,omitempty"`
	Addr    string    `json:"addr,omitempty"` // address or network
	Session string    `json:"session,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"` // 0 = all
	Resolve bool      `json:"resolve,omitempty"`
}

// AuditExport asks for the log in a form that proves itself.
type AuditExport struct {
	Change
	Format string    `json:"format"` // json, cef
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
}

// AuditLine of an export, without its newline.
type AuditLine struct {
	Line string `json:"line"`
}

// AuditKey checks checkpoints and exports.
type AuditKey struct {
	Version uint32 `json:"version"`
	Public  string `json:"public"` // PEM
}

// AuditRecord is one event. Account is an id, or a name where that was asked for. Fields vary by action.
type AuditRecord struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Action   string    `json:"action"`
	Account  string    `json:"account,omitempty"`
	Session  string    `json:"session,omitempty"`
	Who      string    `json:"who,omitempty"` // operator
	Remote   string    `json:"remote,omitempty"`
	Protocol string    `json:"protocol,omitempty"`
	Client   string    `json:"client,omitempty"`
	Method   string    `json:"method,omitempty"`
	Path     string    `json:"path,omitempty"`
	To       string    `json:"to,omitempty"`
	Op       string    `json:"op,omitempty"`
	Bytes    uint64    `json:"bytes,omitempty"`
	Version  uint64    `json:"version,omitempty"`
	Revision uint64    `json:"revision,omitempty"`
	Count    uint64    `json:"count,omitempty"` // of like events that this one stands for; 0 = 1
	Result   string    `json:"result,omitempty"`
	Code     string    `json:"code,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

// AuditRecords in order.
type AuditRecords struct {
	Records []AuditRecord `json:"records"`
}

// Check is what a verification found. No findings means all is well.
type Check struct {
	Checked  map[string]uint64 `json:"checked"` // counts by kind: records, files, bytes …
	Findings []string          `json:"findings"`
}

// HostKey of the server.
type HostKey struct {
	Kind        string `json:"kind"`
	Algorithm   string `json:"algorithm"`
	Fingerprint string `json:"fingerprint"`
	Public      string `json:"public"` // known_hosts form without the host
}

// HostKeys of the server.
type HostKeys struct {
	Keys []HostKey `json:"keys"`
}

// HostKeyRotate names the kinds to replace; none means all.
type HostKeyRotate struct {
	Change
	Kinds []string `json:"kinds,omitempty"`
}

// Cert is a TLS certificate in use.
type Cert struct {
	File        string    `json:"file"`
	Subject     string    `json:"subject"`
	Names       []string  `json:"names"`
	Key         string    `json:"key"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"`
	SelfSigned  bool      `json:"self_signed"`
}

// Certs in the order in which they are tried.
type Certs struct {
	Certs []Cert `json:"certs"`
}

// VolumeRef names the volumes of an account, or all.
type VolumeRef struct {
	Account string `json:"account,omitempty"`
}

// ScrubStatus is what the verification in the background has done since the start of the server.
type ScrubStatus struct {
	Interval string    `json:"interval"` // between two rounds; 0s = none
	Rate     int64     `json:"rate"`     // bytes per second; 0 = no limit
	Running  bool      `json:"running"`
	Began    time.Time `json:"began,omitzero"` // the last round
	Ended    time.Time `json:"ended,omitzero"` // the last whole one
	Rounds   uint64    `json:"rounds"`
	Volumes  uint64    `json:"volumes"` // verified, in all rounds
	Bytes    uint64    `json:"bytes"`
	Findings uint64    `json:"findings"`
	Damaged  uint64    `json:"damaged"` // volumes with findings, in the last round
}

// VolumeRepair asks for the plan of a repair, or, with the ID of a plan, for its execution. The sessions of the account end.
type VolumeRepair struct {
	Change
	Account string `json:"account"`
	// Fallback makes the newest whole version of a file current where the current one is damaged.
	Fallback bool   `json:"fallback,omitempty"`
	Plan     string `json:"plan,omitempty"`
}

// VolumeStat of one account, bytes unless said.
type VolumeStat struct {
	Account      string `json:"account"`
	LiveBytes    uint64 `json:"live_bytes"`
	HistoryBytes uint64 `json:"history_bytes"`
	DoomedBytes  uint64 `json:"doomed_bytes"`
	Files        uint64 `json:"files"`
	Dirs         uint64 `json:"dirs"`
	Versions     uint64 `json:"versions"`
	Blobs        uint64 `json:"blobs"`
	Damaged      uint64 `json:"damaged"`
	Error        string `json:"error,omitempty"` // why the volume does not open; the counts are then 0
}

// VolumeStats is sorted by account.
type VolumeStats struct {
	Volumes []VolumeStat `json:"volumes"`
}

// Ban of an address.
type Ban struct {
	Address  string    `json:"address"`
	Until    time.Time `json:"until"`
	Failures int       `json:"failures"` // logins that brought it about
}

// Bans in force.
type Bans struct {
	Bans []Ban `json:"bans"`
}

// BanAdd keeps an address or network out.
type BanAdd struct {
	Change
	Address string `json:"address"`
	For     string `json:"for,omitempty"` // "30m"; "" = 24h
}

// BanRef names a banned address.
type BanRef struct {
	Change
	Address string `json:"address"`
}
