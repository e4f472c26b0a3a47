package policy

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// operations is the example of the operations manual: whatever the manual shows must parse.
const operations = `version: 1
site:
  transport: {require_ssl: true, tls_min: "1.2", ciphers: modern, ftps_session_binding: prefer, require_close_notify: true}
  lock: [transport.tls_min]
  limits: {backup.retention_days: {max: 30}}
  allow_from: []                       # networks; empty = any
  deny_from: []
  protocols: []                        # none until granted
  auth: {sftp: [publickey], ftps: [password], require_2fa: false}
  password: {min_length: 12, min_nonletters: 2, history: 5, max_age_days: 0}
  login: {per_address: 10/min, per_account: 5/min, ban_after: 15, ban_for: 30m, never_ban: []}
  session: {max: 16, idle: 15m, max_age: 14d}
  upload: {interrupted: keep, max_size: 0}
  quota: {bytes: 0, files: 0}
  backup: {retention_days: 7, purge: after-grace, grace_days: 0}
groups:
  partners: {protocols: [sftp, ftps], allow_from: [198.51.100.0/24, 203.0.113.0/24],
             paths: [{path: /in, allow: [list, write]}, {path: /out, allow: [list, read]}]}
accounts:
  acme:  {groups: [partners], backup: {retention_days: 30}}
  old-scanner: {}
exceptions:                            # the only way to plain FTP: networks, reason, end date
  - {account: old-scanner, allow: ftp, from: [192.0.2.17/32], until: 2027-01-31, reason: "OPS-377 copier without TLS"}
tests:
  - {account: acme, addr: 203.0.113.9, port: 21, tls: false, expect: refused, code: SP-T21}
  - {account: acme, addr: 198.51.100.5, protocol: sftp, do: "put /in/a.csv", expect: allowed}
`

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse(DefaultName, []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

func TestManualExampleParses(t *testing.T) {
	t.Parallel()
	d := mustParse(t, operations)
	if len(d.Exceptions()) != 1 || len(d.Tests()) != 2 {
		t.Fatalf("exceptions %v, tests %v", d.Exceptions(), d.Tests())
	}
	e := Resolve(d, "acme")
	if e.Backup.Retention != 30*24*time.Hour || len(e.AllowFrom) != 1 || len(e.Protocols) != 3 {
		t.Errorf("resolved %+v", e)
	}
	if _, o := e.Value("backup.retention_days"); o.String() != "account acme (policy.yaml:20)" {
		t.Errorf("origin %q", o)
	}
}

// The defaults of the table are those of the manual, word by word.
func TestManualShowsTheDefaults(t *testing.T) {
	t.Parallel()
	manual, bare := Resolve(mustParse(t, operations), ""), Resolve(Default(), "")
	for i := range table {
		path := table[i].Path
		m, _ := manual.Value(path)
		b, o := bare.Value(path)
		if m != b || o.Level != "built-in" {
			t.Errorf("%s: manual %s, built-in %s from %s", path, m, b, o)
		}
	}
}

func TestRenderIsAFixedPoint(t *testing.T) {
	t.Parallel()
	d := mustParse(t, operations)
	once := mustParse(t, string(d.render()))
	twice := mustParse(t, string(once.render()))
	if !bytes.Equal(once.Text(), twice.Text()) {
		t.Fatalf("render changed\n%s\nto\n%s", once.Text(), twice.Text())
	}
	for _, account := range []string{"", "acme", "old-scanner", "nobody"} {
		for i := range table {
			a, _ := Resolve(d, account).Value(table[i].Path)
			b, _ := Resolve(twice, account).Value(table[i].Path)
			if a != b {
				t.Errorf("%s of %q: %s became %s", table[i].Path, account, a, b)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "policy.yaml:1:1: expected a mapping, found nothing"},
		{"no version", "site: {}\n", "policy.yaml:1:1: version is missing"},
		{"newer", "version: 2\n", "policy.yaml:1:10: unknown version \"2\""},
		{"typo", "version: 1\nsite:\n  transport: {tls_mim: \"1.3\"}\n", "policy.yaml:3:15: unknown setting \"transport.tls_mim\" (did you mean transport.tls_min?)"},
		{"typo of a key", "version: 1\nsitte: {}\n", "policy.yaml:2:1: unknown key \"sitte\" (did you mean site?)"},
		{"bad enum", "version: 1\nsite: {upload: {interrupted: keeep}}\n", "policy.yaml:2:30: upload.interrupted: \"keeep\" is not one of keep, hide, discard (did you mean keep?)"},
		{"bad network", "version: 1\nsite:\n  allow_from: [10.0.0.1/8]\n", "policy.yaml:3:16: allow_from: \"10.0.0.1/8\" has bits beyond its length; the network is 10.0.0.0/8"},
		{"duplicate", "version: 1\nsite: {allow_from: []}\nsite: {}\n", "3:1"},
		{"wrong type", "version: 1\nsite:\n  session: {max: many}\n", "policy.yaml:3:18: session.max: \"many\" is not a whole number"},
		{"out of range", "version: 1\nsite:\n  session: {max: 0}\n", "policy.yaml:3:18: session.max: must be from 1 to 1000000"},
		{"plain ftp", "version: 1\nsite:\n  transport: {require_ssl: false}\n", "policy.yaml:3:28: plain FTP cannot be allowed in general"},
		{"no group", "version: 1\naccounts: {a: {groups: [partner]}}\ngroups: {partners: {}}\n", "policy.yaml:2:25: there is no group \"partner\" (did you mean partners?)"},
		{"limit", "version: 1\nsite: {limits: {backup.retention_days: {max: 30}}}\naccounts:\n  a: {backup: {retention_days: 31}}\n",
			"policy.yaml:4:16: backup.retention_days = 31 of account a is beyond the limit of site (max: 30) (the limit stands at line 2)"},
		{"lock", "version: 1\nsite:\n  transport: {tls_min: \"1.3\"}\n  lock: [transport.tls_min]\naccounts:\n  a: {transport: {tls_min: \"1.2\"}}\n",
			"policy.yaml:6:19: transport.tls_min = \"1.2\" of account a contradicts the lock of site"},
		{"lock of a default", "version: 1\nsite: {lock: [session.max]}\naccounts: {a: {session: {max: 17}}}\n", "policy.yaml:3:26: session.max = 17"},
		{"group lock", "version: 1\ngroups: {g: {paths: [{path: /a, allow: [read]}], lock: [paths]}}\naccounts: {a: {groups: [g], paths: [{path: /, allow: [read]}]}}\n", "policy.yaml:3:29: paths"},
		{"site only", "version: 1\naccounts: {a: {login: {ban_after: 1}}}\n", "policy.yaml:2:24: login.ban_after cannot be set for one account"},
		{"exception without end", "version: 1\nexceptions: [{account: a, allow: ftp, from: [10.0.0.0/8], reason: x}]\n", "until is missing"},
		{"exception against a lock", "version: 1\nsite: {lock: [transport.require_ssl]}\nexceptions: [{account: a, allow: ftp, from: [10.0.0.0/8], reason: x, until: 2027-01-01}]\n", "contradicts the lock"},
		{"anchor", "version: 1\nsite: &x {}\naccounts: {a: *x}\n", "not allowed here"},
		{"merge", "version: 1\nsite: {<<: {}}\n", "not allowed here"},
		{"tag", "version: !!int 1\n", "not allowed here"},
		{"two documents", "version: 1\n---\nversion: 1\n", "only one document"},
		{"path", "version: 1\nsite: {paths: [{path: /a/../b, allow: [read]}]}\n", "must be absolute"},
		{"no verb near", "version: 1\nsite: {paths: [{path: /a, allow: [fly]}]}\n", "unknown verb \"fly\" (verbs are "},
		{"verb", "version: 1\nsite: {paths: [{path: /a, allow: [raed]}]}\n", "unknown verb \"raed\" (did you mean read?)"},
		{"brackets", "version: 1\nsite: " + strings.Repeat("[", 100_000), "nested too deeply"},
		{"dashes", "version: 1\nsite:\n " + strings.Repeat("- ", 100_000) + "a", "nested too deeply"},
		{"question marks", strings.Repeat("? ", 100_000) + "a", "complex keys are not allowed"},
		{"bare dashes", strings.Repeat("-\n", 500_000), "expected a mapping, found a list"},
		{"too large", "version: 1\n#" + strings.Repeat("a", MaxDocument), "larger than"},
		{"not text", "version: 1\n#\xff", "not UTF-8"},
		{"syntax", "version: 1\nsite: {a\n", "policy.yaml:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(DefaultName, []byte(c.text))
			var pe *ParseError
			if !errors.As(err, &pe) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse(DefaultName, []byte("version: 1\nsite:\n  sesion: {}\n  session: {max: x}\naccounts: {a: {bad: 1}}\n"))
	var pe *ParseError
	if !errors.As(err, &pe) || len(pe.Problems) != 3 {
		t.Fatalf("want three problems, got %v", err)
	}
}

func TestSetAndUnset(t *testing.T) {
	t.Parallel()
	d := mustParse(t, operations)
	for _, c := range []struct {
		target      Target
		path, value string
		want        string // "" = refused
	}{
		{Site, "session.idle", "30m", "30m"},
		{AccountTarget("new"), "protocols", "[sftp, ftps]", "[sftp, ftps]"},
		{AccountTarget("new"), "protocols", "[ftps-explicit]", "[ftps-explicit]"},
		{AccountTarget("new"), "groups", "[partners]", "[partners]"},
		{AccountTarget("acme"), "backup.retention_days", "31", ""},
		{AccountTarget("acme"), "transport.tls_min", "1.3", `"1.3"`},
		{GroupTarget("partners"), "quota.bytes", "10GiB", "10GiB"},
		{Site, "allow_from", "[10.0.0.0/8, \"2001:db8::/32\", ::1]", `[10.0.0.0/8, "2001:db8::/32", "::1/128"]`},
		{Site, "paths", "[{path: /, allow: [all]}]", "[{path: /, allow: [all]}]"},
		{Site, "nonsense", "1", ""},
		{AccountTarget("bad name"), "session.max", "1", ""},
		{Target("nowhere x"), "session.max", "1", ""},
	} {
		n, err := d.Set(c.target, c.path, c.value)
		if c.want == "" {
			if err == nil {
				t.Errorf("set %s %s=%s was accepted", c.target, c.path, c.value)
			}
			continue
		}
		if err != nil {
			t.Errorf("set %s %s=%s: %v", c.target, c.path, c.value, err)
			continue
		}
		if got, ok := n.Get(c.target, c.path); !ok || got != c.want {
			t.Errorf("set %s %s=%s reads back as %q", c.target, c.path, c.value, got)
		}
		back, err := n.Unset(c.target, c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := back.Get(c.target, c.path); ok {
			t.Errorf("unset %s %s left %q", c.target, c.path, got)
		}
	}
	if _, ok := d.Get(AccountTarget("new"), "protocols"); ok {
		t.Error("Set changed the document it was asked on")
	}
}

func TestWithout(t *testing.T) {
	t.Parallel()
	d := mustParse(t, operations)
	for _, name := range []string{"acme", "old-scanner"} {
		if !d.Mentions(name) {
			t.Fatalf("%s is not in the document", name)
		}
		n, err := d.Without(name)
		if err != nil {
			t.Fatal(err)
		}
		if n.Mentions(name) || bytes.Contains(n.Text(), []byte(name)) {
			t.Errorf("%s remains in\n%s", name, n.Text())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(operations))
	f.Add([]byte("version: 1\nsite: {paths: [{path: /, allow: [all]}]}\n"))
	f.Add([]byte("version: 1\naccounts:\n  \"1\":\n    quota: {bytes: 1GiB}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(DefaultName, text)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || len(pe.Problems) == 0 {
				t.Fatalf("error without a problem: %v", err)
			}
			return
		}
		again, err := Parse(DefaultName, d.render())
		if err != nil {
			t.Fatalf("own rendering is refused: %v\n%s", err, d.render())
		}
		for _, a := range append(d.Accounts(), "") {
			for i := range table {
				x, _ := Resolve(d, a).Value(table[i].Path)
				y, _ := Resolve(again, a).Value(table[i].Path)
				if x != y {
					t.Fatalf("%s of %q: %s became %s", table[i].Path, a, x, y)
				}
			}
		}
	})
}

func TestSetNamesTheSettingOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, value, want string }{
		{"transport.tls_min", "9", `transport.tls_min: "9" is not one of 1.2, 1.3`},
		{"protocols", "[sftp, smb]", `protocols:1:8: "smb" is not one of sftp, ftps, ftps-implicit, ftps-explicit`},
	} {
		_, err := Default().Set(Site, tt.path, tt.value)
		if err == nil || err.Error() != tt.want {
			t.Errorf("setting %s to %s: %v, want %s", tt.path, tt.value, err, tt.want)
		}
	}
}

// Limits that nothing can fulfil together are an error with its place: one of them would be ignored.
func TestLimitsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version: 1\nsite: {limits: {session.idle: {max: 1m}}}\ngroups: {h: {limits: {session.idle: {min: 14d}}}}\n":                                             "no value of session.idle is within the limits of site (max: 1m) and group h (min: 14d) together",
		"version: 1\nsite: {lock: [transport.ciphers]}\ngroups: {g: {limits: {transport.ciphers: {max: compatible}}}}\n":                                         "the limit of group g on transport.ciphers (max: compatible) loosens what the site locks at modern",
		"version: 1\ngroups: {g: {limits: {session.max: {max: 3}}}, h: {limits: {session.max: {min: 4}}}}\naccounts: {a: {groups: [g, h]}}\n":                    "no value of session.max is within the limits of group g (max: 3) and group h (min: 4) together",
		"version: 1\nsite: {limits: {transport.ciphers: {only: [modern]}}}\ngroups: {h: {limits: {transport.ciphers: {only: [compatible, legacy-insecure]}}}}\n": "no value of transport.ciphers is within the limits of",
	} {
		_, err := Parse(DefaultName, []byte(text))
		var pe *ParseError
		if !errors.As(err, &pe) || !strings.Contains(pe.Error(), want) || pe.Problems[0].Line < 2 {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		"version: 1\nsite: {limits: {session.idle: {max: 1h}}}\ngroups: {h: {limits: {session.idle: {min: 1m}}}}\naccounts: {a: {groups: [h]}}\n",
		"version: 1\nsite: {limits: {transport.ciphers: {only: [modern, compatible]}}}\ngroups: {h: {limits: {transport.ciphers: {only: [compatible, legacy-insecure]}}}}\naccounts: {a: {groups: [h]}}\n",
	} {
		d, err := Parse(DefaultName, []byte(text))
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		if v, _ := Resolve(d, "a").Value("transport.ciphers"); strings.Contains(text, "ciphers") && v != "compatible" {
			t.Errorf("within both limits is compatible, got %s", v)
		}
	}
}
