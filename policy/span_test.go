package policy

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestRetentionIsDaysHoursOrForever(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"0": 0, "30": 30 * day, "30d": 30 * day, "36h": 36 * time.Hour, "1d12h": 36 * time.Hour, "forever": Forever, "36500": 36500 * day} {
		e := Resolve(mustParse(t, "version: 1\nsite: {backup: {retention_days: "+text+"}}\n"), "a")
		if e.Backup.Retention != want {
			t.Errorf("%s is %v", text, e.Backup.Retention)
		}
	}
	for _, text := range []string{"-1", "36501", "for ever", "1.5", "30 days", ""} {
		if _, err := Default().Set(Site, "backup.retention_days", quote(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestReachAndExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		b             Backup
		reach, expiry time.Time // expiry of what was superseded now; zero = never
	}{
		{Backup{Retention: 7 * day, Grace: day}, now.Add(-7 * day), now.Add(8 * day)},
		{Backup{}, now, now},
		{Backup{Retention: 7 * day, Purge: PurgeNever}, now.Add(-7 * day), time.Time{}},
		{Backup{Retention: Forever}, time.Time{}, time.Time{}},
		{Backup{Retention: day, Grace: Forever}, now.Add(-day), time.Time{}},
		{Backup{Retention: 36500 * day, Grace: 36500 * day}, now.Add(-36500 * day), now.Add(36500 * day).Add(36500 * day)},
	} {
		at, ok := c.b.Expiry(now)
		if got := c.b.Reach(now); !got.Equal(c.reach) || ok == c.expiry.IsZero() || ok && !at.Equal(c.expiry) {
			t.Errorf("%+v: reach %v, expiry %v %v", c.b, got, at, ok)
		}
	}
}

// Whoever may change an account cannot have its history destroyed sooner than site and groups say.
func TestLeastRetentionHoldsBelow(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `version: 1
site: {backup: {min_retention_days: 14}}
groups: {g: {backup: {min_retention_days: 20}}}
accounts: {a: {}, b: {groups: [g]}, c: {groups: [g], backup: {retention_days: 30}}}
`)
	for name, want := range map[string]time.Duration{"": 14 * day, "a": 14 * day, "b": 20 * day, "c": 30 * day} {
		if e := Resolve(d, name); e.Backup.Retention != want {
			t.Errorf("%q keeps %v, want %v", name, e.Backup.Retention, want)
		}
	}
	value, o := Resolve(d, "a").Value("backup.retention_days")
	if value != "14" || o.String() != "built-in, held by backup.min_retention_days of site (policy.yaml:2)" {
		t.Errorf("shown as %s of %s", value, o)
	}
	for _, c := range []struct {
		target Target
		path   string
		value  string
		want   string
	}{
		{AccountTarget("a"), "backup.retention_days", "13", "backup.retention_days = 13 of account a is below backup.min_retention_days = 14 of site"},
		{AccountTarget("b"), "backup.retention_days", "0", "below backup.min_retention_days = 20 of group g"},
		{AccountTarget("a"), "backup.min_retention_days", "0", "cannot be set for one account"},
		{Site, "backup.retention_days", "7", "backup.retention_days = 7 of site is below"},
		{GroupTarget("g"), "backup.retention_days", "19", "below backup.min_retention_days = 20 of group g"},
		{AccountTarget("c"), "backup.retention_days", "20", ""},
	} {
		_, err := d.Set(c.target, c.path, c.value)
		var pe *ParseError
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &pe) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s = %s: %v, want %q", c.target, c.path, c.value, err, c.want)
		}
	}
}

// Shortening what is kept is looser: somebody's data goes.
func TestShorterRetentionIsLooser(t *testing.T) {
	t.Parallel()
	d := mustParse(t, "version: 1\nsite: {backup: {retention_days: 30, purge: never, grace_days: 3, min_retention_days: 2}}\n")
	for _, c := range []struct {
		path, value string
		want        Mark
	}{
		{"backup.retention_days", "7", Looser}, {"backup.retention_days", "forever", Tighter}, {"backup.grace_days", "71h", Looser},
		{"backup.purge", "after-grace", Looser}, {"backup.min_retention_days", "0", Looser}, {"backup.min_retention_days", "3", Tighter},
		{"backup.self_service", "false", Tighter}, {"backup.show", "true", Looser},
		{"quota.history", "1GB", Tighter}, {"quota.count_history", "true", Tighter}, {"ransom.limit", "0", Looser}, {"ransom.limit", "10/s", Tighter}, {"ransom.limit", "10/min", Tighter},
		{"ransom.action", "suspend", Tighter},
	} {
		n, err := d.Set(Site, c.path, c.value)
		if err != nil {
			t.Fatal(err)
		}
		if list := Diff(d, n); len(list) != 1 || list[0].Mark != c.want {
			t.Errorf("%s = %s: %+v, want %s", c.path, c.value, list, c.want)
		}
	}
}
