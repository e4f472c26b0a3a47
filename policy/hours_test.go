package policy

import (
	"testing"
	"time"
)

func TestHours(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		d, err := time.Parse("2006-01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		hours string
		at    string // UTC; 2026-11-27 is a Friday
		open  bool
	}{
		{`[]`, "2026-11-27 03:00:00", true},
		{`["mon-fri 08:00-18:00"]`, "2026-11-27 07:59:59", false},
		{`["mon-fri 08:00-18:00"]`, "2026-11-27 08:00:00", true},
		{`["mon-fri 08:00-18:00"]`, "2026-11-27 17:59:59", true},
		{`["mon-fri 08:00-18:00"]`, "2026-11-27 18:00:00", false},
		{`["mon-fri 08:00-18:00"]`, "2026-11-28 12:00:00", false},
		{`["mon-fri 08:00-18:00", "sat 10:00-14:00"]`, "2026-11-28 12:00:00", true},
		{`["daily 22:00-06:00"]`, "2026-11-27 23:00:00", true},
		{`["daily 22:00-06:00"]`, "2026-11-27 05:59:00", true},
		{`["daily 22:00-06:00"]`, "2026-11-27 06:00:00", false},
		{`["fri 22:00-06:00"]`, "2026-11-28 05:00:00", true},  // began on Friday
		{`["fri 22:00-06:00"]`, "2026-11-27 05:00:00", false}, // began on Thursday
		{`["sat-mon 00:00-24:00"]`, "2026-11-29 23:59:59", true},
		{`["sat-mon 00:00-24:00"]`, "2026-11-27 12:00:00", false},
		{`["mon-fri 08:00-18:00 Europe/Berlin"]`, "2026-11-27 07:00:00", true}, // winter: UTC+1
		{`["mon-fri 08:00-18:00 Europe/Berlin"]`, "2026-11-27 17:00:00", false},
		{`["mon-fri 08:00-18:00 Europe/Berlin"]`, "2026-07-03 06:00:00", true}, // summer: UTC+2
		{`["mon-fri 08:00-18:00 Europe/Berlin"]`, "2026-07-03 16:00:00", false},
		{`["sun 02:00-03:00 Europe/Berlin"]`, "2026-10-25 00:30:00", true}, // the hour that comes twice
		{`["sun 02:00-03:00 Europe/Berlin"]`, "2026-10-25 01:30:00", true},
		{`["thu 20:00-22:00 America/New_York"]`, "2026-11-27 01:30:00", true}, // Thursday there
	} {
		d := mustParse(t, "version: 1\nsite: {protocols: [sftp], session: {hours: "+c.hours+"}}\naccounts: {a: {}}\n")
		now := at(c.at)
		f := Facts{Protocol: SFTP, Remote: from("192.0.2.1"), Method: "publickey", Since: now, LastActive: now}
		got := Admit(Resolve(d, "a"), f, now)
		if (got == nil) != c.open || got != nil && got.Code != CodeHours {
			t.Errorf("%s at %s: %v", c.hours, c.at, got)
		}
	}
	for _, bad := range []string{"", "mon", "mon 8:00-18:00", "mon 08:00", "mon 24:00-01:00", "mon 08:00-25:00", "mo 08:00-09:00", "mon 08:00-09:00 Nowhere/City", "mon 08:00-09:00 Local", "mon 08:60-09:00", "mon 08:00-09:00 UTC x"} {
		if _, err := Parse("p", []byte("version: 1\nsite: {session: {hours: ["+quote(bad)+"]}}\n")); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Lists of several levels must all contain the time.
func TestHoursIntersect(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `version: 1
site: {protocols: [sftp], session: {hours: ["mon-fri 06:00-20:00"]}}
groups: {g: {session: {hours: ["daily 12:00-24:00"]}}}
accounts: {a: {groups: [g], session: {hours: ["daily 00:00-15:00"]}}}
`)
	e := Resolve(d, "a")
	day := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for hour := range 24 {
		now := day.Add(time.Duration(hour) * time.Hour)
		f := Facts{Protocol: SFTP, Remote: from("192.0.2.1"), Method: "publickey", Since: now, LastActive: now}
		if got, want := Admit(e, f, now) == nil, hour >= 12 && hour < 15; got != want {
			t.Errorf("at %d: %v", hour, got)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `version: 1
site: {upload: {deny_names: ["*.exe", ".*"]}}
groups: {g: {upload: {allow_names: ["*.csv", "report-????.pdf", "*.EXE"], deny_names: ["secret*"]}}}
accounts: {a: {groups: [g], paths: [{path: /, allow: [all]}]}, b: {paths: [{path: /, allow: [all]}]}}
`)
	a, b := Resolve(d, "a"), Resolve(d, "b")
	for _, c := range []struct {
		name string
		a, b bool
	}{
		{"/x.csv", true, true}, {"/dir.d/X.CSV", true, true}, {"/x.txt", false, true}, {"/x.exe", false, false}, {"/X.Exe", false, false}, {"/.hidden", false, false},
		{"/.hidden.csv", false, false}, {"/secret.csv", false, true}, {"/report-2026.pdf", true, true}, {"/report-202.pdf", false, true}, {"/x.csv/y", false, true},
	} {
		for e, want := range map[*Effective]bool{a: c.a, b: c.b} {
			for _, op := range []Op{OpWrite, OpOverwrite} {
				got := Permit(e, op, c.name)
				if (got == nil) != want || got != nil && got.Code != CodeName {
					t.Errorf("%s %s %s: %v", e.Account, op, c.name, got)
				}
			}
			if d := Permit(e, OpRead, c.name); d != nil {
				t.Errorf("reading %s: %v", c.name, d)
			}
			if d := Permit(e, OpMkdir, c.name); d != nil {
				t.Errorf("a directory %s: %v", c.name, d)
			}
		}
	}
	for _, bad := range []string{"", "[", "a/b", "[a-"} {
		if _, err := Parse("p", []byte("version: 1\nsite: {upload: {allow_names: ["+quote(bad)+"]}}\n")); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// An account that asks for modern ciphers takes no SSH connection that agreed on others, at login or later.
func TestSSHCiphersOfAnAccount(t *testing.T) {
	t.Parallel()
	d := mustParse(t, "version: 1\nsite: {protocols: [sftp]}\naccounts: {strict: {}, old: {transport: {ciphers: compatible}}}\n")
	for _, c := range []struct {
		account, profile string
		good             bool
	}{
		{"strict", "modern", true}, {"strict", "compatible", false}, {"strict", "", true},
		{"old", "modern", true}, {"old", "compatible", true}, {"old", "legacy-insecure", false}, {"", "compatible", true},
	} {
		f := Facts{Protocol: SFTP, Remote: from("192.0.2.1"), Profile: c.profile}
		p := Resolve(d, c.account)
		for what, got := range map[string]*Denial{"Admit": Admit(p, f, noon), "AdmitUser": AdmitUser(p, f, noon)} {
			if (got == nil) != c.good || got != nil && got.Code != CodeCipher {
				t.Errorf("%s of %q with %q: %v", what, c.account, c.profile, got)
			}
		}
	}
}
