package policy

import (
	"net/netip"
	"testing"
	"time"
)

// A credential is a way in where, and over what, it can be used; no other.
func TestLockedTriesEachCredentialWhereItOpens(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	key := Door{Method: "publickey", Over: OverSSH}
	near := Door{Method: "publickey", Over: OverSSH, From: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")}}
	password := Door{Method: "password"}
	certificate := Door{Method: "certificate", Over: OverTLS}
	for _, c := range []struct {
		what, site string
		doors      []Door
		second     bool
		code       string // "" = a way in
	}{
		{"a key over SFTP", "protocols: [sftp]", []Door{key}, false, ""},
		{"a key over FTPS", "protocols: [ftps]", []Door{key}, false, CodeMethod},
		{"a TLS certificate over SFTP", "protocols: [sftp], auth: {sftp: [certificate]}", []Door{certificate}, false, CodeMethod},
		{"a TLS certificate over FTPS", "protocols: [ftps], auth: {ftps: [certificate]}", []Door{certificate}, false, ""},
		{"a key from a network that is allowed in part", "protocols: [sftp], allow_from: [198.51.100.64/26]", []Door{near}, false, ""},
		{"a key from a network that is not allowed", "protocols: [sftp], allow_from: [198.51.100.128/25]", []Door{near}, false, CodeNotAllowed},
		{"a password and no second factor", "protocols: [ftps], auth: {require_2fa: true}", []Door{password}, false, CodeSecondFactor},
		{"a password and a second factor", "protocols: [ftps], auth: {require_2fa: true}", []Door{password}, true, ""},
		{"a password beside a certificate", "protocols: [ftps], auth: {require_2fa: true, ftps: [password, certificate]}", []Door{{Method: "password", Over: OverTLS, TwoFactor: true}}, false, ""},
		{"nothing", "protocols: [sftp, ftps]", nil, true, CodeMethod},
		{"no protocol", "session: {max: 1}", []Door{key, password}, true, CodeProtocol},
	} {
		d, err := Parse("", []byte("version: 1\nsite: {"+c.site+"}\n"))
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		got := ""
		if l := Locked(Resolve(d, "alice"), Means{c.doors, c.second}, now); l != nil {
			got = l.Code
		}
		if got != c.code {
			t.Errorf("%s: %q, want %q", c.what, got, c.code)
		}
	}
}
