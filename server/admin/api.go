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
	Copies    *Copies    `json:"copies,omitempty"`
	Audit     []string   `json:"audit,omitempty"` // what is wrong with the audit log; among the warnings, too
	Clock     string     `json:"clock,omitempty"` // what is wrong with the clock; among the warnings, too
}

// Copies is what the server knows of copies of its state; zero times = there was none.
type Copies struct {
	Last    time.Time `json:"last,omitzero"`
	Damaged uint64    `json:"damaged"` // accounts that are not whole in it
	Drill   time.Time `json:"drill,omitzero"`
}

// Score is how much of the preset "maximum" the policy of the site holds; accounts that ask for less are not counted.
type Score struct {
	Held    int      `json:"held"`
	Of      int      `json:"of"`
	Missing []string `json:"missing,omitempty"` // settings
}

// Listener that is open, with the port that it really has.
type Listener struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
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
