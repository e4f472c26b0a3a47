package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/server/admin"
)

// host is a fresh state on free ports. Host keys are shared between hosts:
// making an RSA key takes longer than everything else.
func host(t *testing.T, hostKeys string) *Loaded {
	t.Helper()
	dir := t.TempDir()
	l, err := LoadConfig(Source{NoFile: true, Flags: map[string]string{
		"state.dir": filepath.Join(dir, "state"), "seal.key_file": filepath.Join(dir, "seal.key"), "passive.ports": "", "hostkeys.dir": hostKeys,
		"listeners": `[{protocol: sftp, address: "127.0.0.1:0"}]`, "log.level": "error",
	}})
	check(t, err)
	check(t, CreateState(t.Context(), l.Config))
	return l
}

func result(findings []Finding, check string) (Result, string) {
	worst, detail := Result(""), ""
	for _, f := range findings {
		if f.Check == check && (worst == "" || worst == OK || f.Result == Fail) {
			worst, detail = f.Result, f.Detail+" / "+f.Hint
		}
	}
	return worst, detail
}

func legacyUntil(day string) func(*testing.T, *Loaded) *admin.Status {
	return func(_ *testing.T, l *Loaded) *admin.Status {
		l.Algorithms = Algorithms{ProfileLegacy, Legacy{"OPS-377 old scanner", day}}
		return nil
	}
}

// The last day is offered to its end, and nothing is without a reason or after a date that is none.
func TestLegacyAlgorithmsEnd(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		check(t, err)
		return v
	}
	a := Algorithms{ProfileLegacy, Legacy{"old scanner", "2027-01-31"}}
	for _, tt := range []struct {
		a    Algorithms
		now  time.Time
		want bool
	}{
		{a, at("2027-01-31T23:59:59Z"), true},
		{a, at("2027-02-01T00:00:00Z"), false},
		{Algorithms{ProfileLegacy, Legacy{"", "2027-01-31"}}, at("2026-01-31T00:00:00Z"), false},
		{Algorithms{ProfileLegacy, Legacy{"old scanner", "soon"}}, at("2026-01-31T00:00:00Z"), false},
		{Algorithms{ProfileCompatible, a.Legacy}, at("2026-01-31T00:00:00Z"), false},
	} {
		if got := tt.a.offersLegacy(tt.now); got != tt.want {
			t.Errorf("%+v at %s: %v", tt.a, tt.now, got)
		}
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, check string
		want        Result
		say         string
		spoil       func(t *testing.T, l *Loaded) *admin.Status
		later       time.Duration
	}{
		{"nothing", "state", OK, "is private", nil, 0},
		{"no state", "state", Fail, "sallyport init", func(_ *testing.T, l *Loaded) *admin.Status { l.State.Dir += "x"; return nil }, 0},
		{"open state directory", "state", Fail, "chmod 0700", func(t *testing.T, l *Loaded) *admin.Status { check(t, os.Chmod(l.State.Dir, 0o755)); return nil }, 0},
		{"open key file", "seal", Fail, "chmod 0600", func(t *testing.T, l *Loaded) *admin.Status { check(t, os.Chmod(l.KeyFile(), 0o644)); return nil }, 0},
		{"no key file", "seal", Fail, "no such file", func(t *testing.T, l *Loaded) *admin.Status { check(t, os.Remove(l.KeyFile())); return nil }, 0},
		{"self-signed", "certificate", Warn, "self-signed", nil, 0},
		{"soon over", "certificate", Warn, "expires in 23 days", nil, 800 * 24 * time.Hour},
		{"over", "certificate", Fail, "expired", nil, 900 * 24 * time.Hour},
		{"certificate gone", "certificate", Fail, "server.crt", func(t *testing.T, l *Loaded) *admin.Status {
			pairs, _ := l.Certificates()
			check(t, os.Remove(pairs[0].Certificate))
			return nil
		}, 0},
		{"open host key", "host key", Fail, "chmod 0600", func(t *testing.T, l *Loaded) *admin.Status {
			own := t.TempDir()
			data, err := os.ReadFile(filepath.Join(l.HostKeyDir(), "ssh_host_ed25519_key"))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(own, "ssh_host_ed25519_key"), data, 0o640))
			l.HostKeys.Dir = own
			return nil
		}, 0},
		{"port taken", "port", Fail, "another program has this port", func(t *testing.T, l *Loaded) *admin.Status {
			open, err := listenAll(t.Context(), l.Listeners, nil, new(handover).take)
			check(t, err)
			t.Cleanup(func() { closeAll(open) })
			l.Listeners[0].Address = open[0].Addr().String()
			return nil
		}, 0},
		{"another listener", "port", Fail, "restart it", func(_ *testing.T, l *Loaded) *admin.Status {
			l.Listeners[0].Address = "127.0.0.1:2022"
			return &admin.Status{State: "ready", PID: os.Getpid(), Listeners: []admin.Listener{{Protocol: "sftp", Address: "127.0.0.1:2023"}}}
		}, 0},
		{"modern", "algorithms", OK, "profile modern", nil, 0},
		{"legacy", "algorithms", Warn, "offer insecure algorithms (legacy-insecure) until 2999-01-31: OPS-377 old scanner", legacyUntil("2999-01-31"), 0},
		{"legacy that ended", "algorithms", Warn, "ended on 2020-01-31: modern is offered instead", legacyUntil("2020-01-31"), 0},
		{"less than maximum", "policy", Warn, "1 of 2 settings of the preset maximum hold for the site; missing: auth.require_2fa", func(*testing.T, *Loaded) *admin.Status {
			return &admin.Status{PID: os.Getpid(), Maximum: &admin.Score{Held: 1, Of: 2, Missing: []string{"auth.require_2fa"}}}
		}, 0},
		{"maximum", "policy", OK, "2 of 2", func(*testing.T, *Loaded) *admin.Status {
			return &admin.Status{PID: os.Getpid(), Maximum: &admin.Score{Held: 2, Of: 2}}
		}, 0},
	}
	hostKeys := filepath.Join(t.TempDir(), "hostkeys")
	_, err := OpenHostKeys(hostKeys)
	check(t, err)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := host(t, hostKeys)
			var running *admin.Status
			if tt.spoil != nil {
				running = tt.spoil(t, l)
			}
			findings := Doctor(t.Context(), l, running, time.Now().Add(tt.later))
			got, detail := result(findings, tt.check)
			if got != tt.want || !strings.Contains(detail, tt.say) {
				t.Errorf("%s: %s %q, want %s with %q\n%+v", tt.check, got, detail, tt.want, tt.say, findings)
			}
			for _, f := range findings {
				if f.Result == Fail && f.Hint == "" {
					t.Errorf("no way out for %+v", f)
				}
			}
		})
	}
}

func TestDoctorNamesAServerThatRunsAsRoot(t *testing.T) {
	t.Parallel()
	if uid, err := processUID(os.Getpid()); err != nil || uid != os.Geteuid() {
		t.Errorf("this process runs as %d (%v), want %d", uid, err, os.Geteuid())
	}
	want := OK
	if os.Geteuid() == 0 {
		want = Warn
	}
	dir := t.TempDir() // ours
	for name, tt := range map[string]struct {
		d    *doctor
		want Result
		say  string
	}{
		"running":     {&doctor{c: &Config{}, running: &admin.Status{PID: os.Getpid()}}, want, "the server runs as"},
		"not running": {&doctor{c: &Config{State: State{Dir: dir}}}, want, "the state directory belongs to"},
		"not there":   {&doctor{c: &Config{State: State{Dir: dir + "/none"}}}, Warn, "not known"},
	} {
		tt.d.user()
		if got, detail := result(tt.d.out, "user"); got != tt.want || !strings.Contains(detail, tt.say) {
			t.Errorf("%s: %s %q, want %s with %q", name, got, detail, tt.want, tt.say)
		}
	}
}
