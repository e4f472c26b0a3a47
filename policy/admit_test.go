package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	tls12  = 0x0303
	tls13  = 0x0304
	aead12 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	cbc12  = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
	rsa12  = "TLS_RSA_WITH_AES_128_CBC_SHA"
	suite3 = "TLS_AES_128_GCM_SHA256"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func from(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), 50000)
}

const house = `version: 1
site:
  deny_from: [203.0.113.66]
groups:
  partners: {protocols: [sftp, ftps], allow_from: [198.51.100.0/24, 203.0.113.0/24, "2001:db8::/32"]}
  strict: {transport: {tls_min: "1.3"}, protocols: [ftps]}
  old: {transport: {ciphers: compatible}}
accounts:
  acme: {groups: [partners]}
  both: {groups: [partners, strict]}
  weak: {groups: [old], protocols: [ftps-explicit]}
  narrow: {groups: [partners], allow_from: [198.51.100.0/28]}
  second: {protocols: [sftp], auth: {require_2fa: true}}
  either: {protocols: [sftp], auth: {sftp: [publickey, password]}, session: {max: 2, idle: 10m, max_age: 1h}}
  scanner: {protocols: []}
exceptions:
  - {account: scanner, allow: ftp, from: [192.0.2.17/32], until: 2026-11-21, reason: copier}
`

func TestAdmit(t *testing.T) {
	t.Parallel()
	d := mustParse(t, house)
	ftps := func(addr string, version uint16, suite string) Facts {
		return Facts{Protocol: FTPS, Remote: from(addr), TLS: true, TLSVersion: version, Cipher: suite, Method: "password"}
	}
	key := func(addr string) Facts { return Facts{Protocol: SFTP, Remote: from(addr), Method: "publickey"} }
	plain := func(addr string) Facts { return Facts{Protocol: FTP, Remote: from(addr), Method: "password"} }
	with := func(f Facts, change func(*Facts)) Facts { change(&f); return f }
	for _, c := range []struct {
		name, account string
		facts         Facts
		want          string
	}{
		{"key login", "acme", key("198.51.100.5"), ""},
		{"ftps login", "acme", ftps("203.0.113.9", tls13, suite3), ""},
		{"implicit", "acme", with(ftps("203.0.113.9", tls13, suite3), func(f *Facts) { f.Protocol = FTPSImplicit }), ""},
		{"mapped address", "acme", key("::ffff:198.51.100.5"), ""},
		{"unknown account has no protocol", "nobody", key("198.51.100.5"), CodeProtocol},
		{"protocol of another kind", "weak", with(ftps("10.0.0.1", tls13, suite3), func(f *Facts) { f.Protocol = FTPSImplicit }), CodeProtocol},
		{"groups intersect protocols", "both", key("198.51.100.5"), CodeProtocol},
		{"several groups: the strictest", "both", ftps("198.51.100.5", tls12, aead12), CodeTLSVersion},
		{"outside the group's networks", "acme", key("192.0.2.1"), CodeNotAllowed},
		{"inside v6", "acme", key("2001:db8::1"), ""},
		{"account and group intersect", "narrow", key("198.51.100.77"), CodeNotAllowed},
		{"account and group intersect, inside", "narrow", key("198.51.100.7"), ""},
		{"site denies", "acme", key("203.0.113.66"), CodeDenied},
		{"address not known at login", "acme", Facts{Protocol: SFTP, Method: "publickey"}, CodeNotAllowed},
		{"plain", "acme", plain("203.0.113.9"), CodeSSLRequired},
		{"login on 21 without TLS", "acme", with(ftps("203.0.113.9", 0, ""), func(f *Facts) { f.TLS = false }), CodeSSLRequired},
		{"plain by exception on its last day", "scanner", plain("192.0.2.17"), ""},
		{"exception from elsewhere", "scanner", plain("192.0.2.18"), CodeSSLRequired},
		{"cbc is not modern", "acme", ftps("203.0.113.9", tls12, cbc12), CodeCipher},
		{"cbc is compatible", "weak", ftps("203.0.113.9", tls12, cbc12), ""},
		{"no forward secrecy is not compatible", "weak", ftps("203.0.113.9", tls12, rsa12), CodeCipher},
		{"password over sftp", "acme", with(key("198.51.100.5"), func(f *Facts) { f.Method = "password" }), CodeMethod},
		{"password over sftp where granted", "either", with(key("198.51.100.5"), func(f *Facts) { f.Method = "password" }), ""},
		{"no second factor", "second", key("198.51.100.5"), CodeSecondFactor},
		{"second factor", "second", with(key("198.51.100.5"), func(f *Facts) { f.SecondFactor = true }), ""},
		{"third session", "either", with(key("10.0.0.1"), func(f *Facts) { f.Sessions = 2 }), CodeSessions},
		{"second session", "either", with(key("10.0.0.1"), func(f *Facts) { f.Sessions = 1 }), ""},
		{"idle", "either", with(key("10.0.0.1"), func(f *Facts) { f.LastActive = noon.Add(-10 * time.Minute) }), CodeIdle},
		{"old", "either", with(key("10.0.0.1"), func(f *Facts) { f.Since, f.LastActive = noon.Add(-time.Hour), noon }), CodeMaxAge},
		{"at connect nothing but the address is known", "", Facts{Protocol: FTPS, Remote: from("198.51.100.5")}, ""},
		{"at connect, denied", "", Facts{Protocol: FTPS, Remote: from("203.0.113.66")}, CodeDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Admit(Resolve(d, c.account), c.facts, noon)
			switch {
			case got == nil && c.want != "":
				t.Fatalf("admitted, want %s", c.want)
			case got != nil && got.Code != c.want:
				t.Fatalf("got %s (%s, %s), want %q", got, got.Rule, got.Origin, c.want)
			}
		})
	}
	later := noon.Add(12 * time.Hour) // the first instant of the next day
	denial := Admit(Resolve(d, "scanner"), plain("192.0.2.17"), later)
	if denial == nil || denial.Code != CodeSSLRequired || !strings.Contains(denial.Rule, "ended on 2026-11-21") {
		t.Errorf("after its last day the exception gives %+v", denial)
	}
}

func TestAdmitUser(t *testing.T) {
	t.Parallel()
	d := mustParse(t, house)
	begun := Facts{Protocol: FTPS, Remote: from("192.0.2.17")}
	for account, want := range map[string]string{"acme": CodeSSLRequired, "nobody": CodeSSLRequired, "scanner": ""} {
		denial := AdmitUser(Resolve(d, account), begun, noon)
		if (denial == nil) != (want == "") {
			t.Errorf("USER %s before TLS: %v", account, denial)
		}
		if denial != nil && denial.Message != "SSL is required for this account. Use FTP over TLS (AUTH TLS) or port 990." {
			t.Errorf("USER %s: message %q", account, denial.Message)
		}
	}
	begun.TLS, begun.TLSVersion, begun.Cipher = true, tls13, suite3
	if denial := AdmitUser(Resolve(d, "acme"), begun, noon); denial != nil {
		t.Errorf("USER inside TLS: %v", denial)
	}
	// Which cipher is too weak depends on the account, so nothing is refused before it is known.
	begun.TLSVersion, begun.Cipher = tls12, cbc12
	if denial := Admit(Resolve(d, ""), begun, noon); denial != nil {
		t.Errorf("after the handshake, before USER: %v", denial)
	}
	if denial := AdmitUser(Resolve(d, "nobody"), begun, noon); denial == nil || denial.Code != CodeCipher {
		t.Errorf("USER with AES-CBC: %v", denial)
	}
}

func TestDenialNamesItsRule(t *testing.T) {
	t.Parallel()
	r := &Revision{N: 42, Document: mustParse(t, house)}
	got := Admit(r.Resolve("both"), Facts{Protocol: FTPS, Remote: from("198.51.100.5"), TLS: true, TLSVersion: tls12, Cipher: aead12, Method: "password"}, noon)
	if got == nil || got.Rule != `transport.tls_min = "1.3"` || got.Origin != "group strict (policy.yaml:6, revision 42)" || got.Hint == "" {
		t.Fatalf("%+v", got)
	}
}

// Nothing goes out to a client that names an account, a network or a setting of the policy.
func TestRefusalsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	stages := map[string]Stage{"L": StageListener, "A": StageAddress, "T": StageTransport, "U": StageAuth, "F": StageSecondFactor, "S": StageSession, "P": StagePath}
	for _, r := range Refusals() {
		if seen[r.Code] || r.Message == "" || r.Hint == "" || len(r.Message) > 200 || strings.ContainsAny(r.Message, "\r\n") {
			t.Errorf("bad row %+v", r)
		}
		if stages[r.Code[3:4]] != r.Stage {
			t.Errorf("%s is of stage %s", r.Code, r.Stage)
		}
		for _, path := range settingPaths() {
			if strings.Contains(path, ".") && strings.Contains(r.Message, path) {
				t.Errorf("%s tells the client of %s", r.Code, path)
			}
		}
		seen[r.Code] = true
	}
	for op := OpList; op < opEnd; op++ {
		if !seen[pathCode(op)] {
			t.Errorf("operation %s has no code", op)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	e := Resolve(Default(), "a")
	for secret, ok := range map[string]bool{
		"abcdefgh":                      false,
		"abcdefghijkl":                  false,
		"abcdefghij12":                  true,
		"äöüäöüäöü 12":                  true,
		"äöüäöü12":                      false,
		strings.Repeat("a1", 512):       true,
		strings.Repeat("a1", 512) + "a": false,
	} {
		if err := CheckPassword(e, secret); (err == nil) != ok {
			t.Errorf("%q: %v", secret, err)
		} else if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	d := mustParse(b, house)
	b.ReportAllocs()
	for b.Loop() {
		Resolve(d, "both")
	}
}
