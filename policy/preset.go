package policy

import (
	"slices"
	"time"
)

// Preset is a named set of site settings.
type Preset struct {
	Name, Description string
	Edits             []Edit
}

// Presets are what an operator can begin with. Each sets what it is about and leaves the rest.
func Presets() []Preset { return slices.Clone(presets) }

// FindPreset by name; nil if there is none.
func FindPreset(name string) *Preset {
	if i := slices.IndexFunc(presets, func(p Preset) bool { return p.Name == name }); i >= 0 {
		p := presets[i]
		return &p
	}
	return nil
}

func site(pairs ...string) []Edit {
	var list []Edit
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Edit{Site, pairs[i], pairs[i+1]})
	}
	return list
}

var presets = []Preset{
	{"standard", "what is built in, written down: TLS 1.2 with modern ciphers, keys over SFTP, passwords over FTPS, history of 7 days", site(
		"transport.require_ssl", "true", "transport.tls_min", `"1.2"`, "transport.ciphers", "modern", "transport.ftps_session_binding", "prefer",
		"transport.require_close_notify", "true", "auth.sftp", "[publickey]", "auth.ftps", "[password]", "auth.require_2fa", "false",
		"password.min_length", "12", "password.min_nonletters", "2", "password.history", "5", "session.max", "16", "session.idle", "15m", "session.max_age", "14d",
		"login.per_address", "10/min", "login.per_account", "5/min", "login.ban_after", "15", "login.ban_for", "30m", "backup.retention_days", "7", "backup.grace_days", "0")},
	{"maximum", "as strict as it gets: TLS 1.3, data connections bound to their session, a second factor for everybody, no exception to TLS, history of one day; locked", site(
		"transport.require_ssl", "true", "transport.tls_min", `"1.3"`, "transport.ciphers", "modern", "transport.ftps_session_binding", "require",
		"transport.require_close_notify", "true", "auth.sftp", "[publickey]", "auth.ftps", "[password]", "auth.require_2fa", "true",
		"password.min_length", "16", "password.min_nonletters", "3", "password.history", "24", "session.max", "4", "session.idle", "5m", "session.max_age", "12h",
		"login.per_address", "5/min", "login.per_account", "3/min", "login.ban_after", "5", "login.ban_for", "1d", "backup.retention_days", "1", "backup.grace_days", "0",
		"lock", "[transport.require_ssl, transport.tls_min, transport.ciphers, transport.ftps_session_binding, auth.require_2fa]",
		"limits", "{backup.retention_days: {max: 1}}")},
	{"lab", "for trying things out on a closed network: passwords over SFTP too, short passwords, no bans, sessions that stay", site(
		"auth.sftp", "[publickey, password]", "auth.require_2fa", "false", "password.min_length", "8", "password.min_nonletters", "0", "password.history", "0",
		"login.per_address", "0", "login.per_account", "0", "login.ban_after", "0", "session.max", "64", "session.idle", "0", "session.max_age", "0", "transport.ciphers", "compatible")},
}

// Score counts how many settings of the preset "maximum" the site holds at least as strictly, of how many.
func Score(d *Document) (held, all int, missing []string) {
	top, err := Default().Edit(FindPreset("maximum").Edits...)
	if err != nil {
		panic("policy: internal error: " + err.Error())
	}
	for i := range table {
		if _, ok := top.site.values[table[i].Path]; !ok {
			continue
		}
		want, is := resolveOne(top, top.chain(""), i), resolveOne(d, d.chain(""), i)
		if all++; table[i].Path == retentionPath && is.value.(time.Duration) <= want.value.(time.Duration) || // here short is strict
			table[i].Path != retentionPath && !table[i].resolvedLooser(is, want) {
			held++
		} else {
			missing = append(missing, table[i].Path)
		}
	}
	return held, all, missing
}
