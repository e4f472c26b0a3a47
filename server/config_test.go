package server

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, text string, environ ...string) (*Loaded, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := LoadConfig(Source{File: file, Environ: environ})
	if err != nil {
		// The directory differs in every run; the tests name the file alone.
		var errs ConfigErrors
		if !errors.As(err, &errs) {
			t.Fatalf("error is %T (%v), want ConfigErrors", err, err)
		}
		for _, e := range errs {
			e.File = strings.TrimPrefix(e.File, filepath.Dir(file)+"/")
		}
		return nil, errs
	}
	return l, nil
}

func TestEveryKeyHasADefault(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# only a comment\n", "{}\n"} {
		l, err := load(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if l.Listeners[0].Address != ":2022" || l.Log.Level != "info" || l.Shutdown.Drain != 10*time.Second {
			t.Errorf("%q: got %+v", text, l.Config)
		}
		for _, s := range l.Settings() {
			if s.Origin != "default" {
				t.Errorf("%q: %s has origin %s", text, s.Key, s.Origin)
			}
		}
	}
}

func TestConfigValuesAndOrigins(t *testing.T) {
	t.Parallel()
	l, err := load(t, `
state:
  dir: /srv/sp
log:
  level: debug
listeners:
  - {protocol: sftp, address: "127.0.0.1:0"}
`, "SALLYPORT_SHUTDOWN__DRAIN=3s", "SALLYPORT_ADMIN__UIDS=[7, 8]", "SALLYPORT_CONFIG=ignored", "HOME=/root")
	if err != nil {
		t.Fatal(err)
	}
	if l.State.Dir != "/srv/sp" || l.Log.Level != "debug" || l.Log.Format != "auto" || len(l.Listeners) != 1 ||
		l.Shutdown.Drain != 3*time.Second || !slices.Equal(l.Admin.UIDs, []uint32{7, 8}) || l.Limits.WindowMemory != 256<<20 {
		t.Errorf("got %+v", l.Config)
	}
	if l.KeyFile() != "/srv/sp.key" || l.AdminSocket() != "/srv/sp/admin.sock" {
		t.Errorf("derived: %s %s", l.KeyFile(), l.AdminSocket())
	}
	want := map[string]string{
		"state.dir": l.File + ":3:8", "log.level": l.File + ":5:10", "log.format": "default",
		"listeners": l.File + ":7:3", "shutdown.drain": "env SALLYPORT_SHUTDOWN__DRAIN", "admin.uids": "env SALLYPORT_ADMIN__UIDS",
	}
	for _, s := range l.Settings() {
		if w, ok := want[s.Key]; ok && s.Origin != w {
			t.Errorf("origin of %s = %q, want %q", s.Key, s.Origin, w)
		}
	}
}

func TestConfigErrorsSayWhere(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want, hint string }{
		{"unknown key", "log:\n  levle: info\n", `sallyport.yaml:2:3: unknown key "levle"`, `did you mean "level"?`},
		{"unknown section", "logg: {}\n", `sallyport.yaml:1:1: unknown key "logg"`, `did you mean "log"?`},
		{"syntax", "log: {level: info\n", `sallyport.yaml:1:`, ""},
		{"type", "shutdown: {drain: [1]}\n", `sallyport.yaml:1:`, ""},
		{"value", "log:\n  level: loud\n", `sallyport.yaml:2:10: log.level: "loud" is not one of debug, info, warn, error`, ""},
		{"duplicate", "log: {level: info}\nlog: {level: warn}\n", `sallyport.yaml:2:1:`, ""},
		{"address", "listeners:\n  - protocol: sftp\n    address: nonsense\n", `sallyport.yaml:3:14: listeners[0].address: "nonsense" is not HOST:PORT`, "HOST:PORT"},
		{"missing address", "listeners:\n  - protocol: sftp\n", `sallyport.yaml:2:5: listeners[0].address:`, "HOST:PORT"},
		{"protocol", "listeners: [{protocol: ftp, address: ':21'}]\n", `sallyport.yaml:1:24: listeners[0].protocol: "ftp" is not one of`, ""},
		{"twice", "listeners: [{protocol: sftp, address: ':21'}, {protocol: ftps-explicit, address: ':21'}]\n", `:21 is taken by listeners[0]`, ""},
		{"key inside state", "state: {dir: /s}\nseal: {key_file: /s/k}\n", "sallyport.yaml:2:18: seal.key_file: the seal key must not lie in the state directory", "copies the state directory"},
		{"relative", "state: {dir: here}\n", `sallyport.yaml:1:14: state.dir: "here" is not an absolute path`, ""},
		{"ports", "passive: {ports: 9-5}\n", `sallyport.yaml:1:18: passive.ports: "9-5" is not a range of ports`, "FIRST-LAST"},
		{"public", "passive: {public_address: example.org}\n", `is neither auto nor an IPv4 address`, ""},
		{"health in the open", "health: {address: ':8080'}\n", `health.address: must be a loopback address`, "plain HTTP"},
		{"profile", "algorithms:\n  profile: legacy\n", `sallyport.yaml:2:12: algorithms.profile: "legacy" is not one of modern, compatible, legacy-insecure`, ""},
		{"legacy without an end", "algorithms:\n  profile: legacy-insecure\n  legacy: {reason: old scanner}\n", `sallyport.yaml:2:12: algorithms.profile: legacy-insecure needs a reason and an end`, "algorithms.legacy.until"},
		{"legacy without a reason", "algorithms:\n  profile: legacy-insecure\n  legacy: {until: 2027-01-31}\n", `legacy-insecure needs a reason and an end`, "algorithms.legacy.reason"},
		{"legacy until when", "algorithms: {profile: legacy-insecure, legacy: {reason: x, until: soon}}\n", `algorithms.legacy.until: "soon" is not a date`, "2027-01-31"},
		{"two documents", "log: {}\n---\nlog: {}\n", "more than one YAML document", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.text)
			var errs ConfigErrors
			if !errors.As(err, &errs) {
				t.Fatalf("%q: error %v", tt.text, err)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(errs.Hint(), tt.hint) {
				t.Errorf("%q:\n got %q (hint %q)\nwant %q (hint %q)", tt.text, err, errs.Hint(), tt.want, tt.hint)
			}
		})
	}
}

func TestAnEmptySectionKeepsItsDefaults(t *testing.T) {
	t.Parallel()
	l, err := load(t, "log:\nshutdown:\nlisteners:\n")
	if err != nil {
		t.Fatal(err)
	}
	if l.Log.Level != "info" || l.Shutdown.Drain != 10*time.Second || len(l.Listeners) != 3 {
		t.Errorf("got %+v", l.Config)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"SALLYPORT_LOG__LEVLE=x":     "env SALLYPORT_LOG__LEVLE: names no setting",
		"SALLYPORT_SEAL__KEY=00":     "names no setting",
		"SALLYPORT_LOG__LEVEL=x":     `log.level (env SALLYPORT_LOG__LEVEL): "x" is not one of`,
		"SALLYPORT_SHUTDOWN__DRAIN=": "",
		"SALLYPORT_ADMIN__UIDS=[x]":  "env SALLYPORT_ADMIN__UIDS",
	} {
		_, err := load(t, "", env)
		if want == "" {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", env, err, want)
		}
	}
}

func TestNoConfigFileNamedIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := LoadConfig(Source{File: filepath.Join(t.TempDir(), "none.yaml")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
}
