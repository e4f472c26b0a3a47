package admin

import (
	"time"
)

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
	Required  bool      `json:"required"` // by the policy, over one of its protocols at least
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
