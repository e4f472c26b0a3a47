package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var genNets = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24", "2001:db8::/32", "2001:db8:1::/48"}), 0, 3, rapid.ID)

// genValue draws the text of a value of a setting.
func genValue(t *rapid.T, s *Setting) string {
	list := func(words []string) string { return flowList(words, quote) }
	switch s.Kind {
	case KindBool:
		if s.Path == "transport.require_ssl" {
			return "true"
		}
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, s.Path)
	case KindEnum:
		return quote(rapid.SampledFrom(s.Values).Draw(t, s.Path))
	case KindSet:
		return list(rapid.SliceOfNDistinct(rapid.SampledFrom(s.Values), 0, -1, rapid.ID).Draw(t, s.Path))
	case KindWords:
		words := []string{"*.csv", "a*", "b?"}
		if s.Path == "session.hours" {
			words = []string{"mon-fri 08:00-18:00", "sat 11:00-13:00 Europe/Berlin", "daily 22:00-06:00"}
		}
		return list(rapid.SliceOfNDistinct(rapid.SampledFrom(words), 0, -1, rapid.ID).Draw(t, s.Path))
	case KindNetworks:
		return list(genNets.Draw(t, s.Path))
	case KindRate:
		return rapid.SampledFrom([]string{"0", "1/min", "5/min", "1/s"}).Draw(t, s.Path)
	case KindDuration:
		return rapid.SampledFrom([]string{"1m", "15m", "1d", "14d"}).Draw(t, s.Path)
	case KindSpan:
		return rapid.SampledFrom([]string{"0", "36h", "7", "30", "forever"}).Draw(t, s.Path)
	case KindPaths:
		var rules []string
		for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"/", "/a", "/a/b", "/a/b/c", "/d"}), 0, 4, rapid.ID).Draw(t, "paths") {
			v := rapid.SliceOfNDistinct(rapid.SampledFrom(verbWords()), 0, 3, rapid.ID).Draw(t, "verbs")
			rules = append(rules, PathRight{p, v}.String())
		}
		return flowList(rules, func(r string) string { return r })
	}
	return fmt.Sprint(rapid.Int64Range(max(s.Min, 0), max(s.Min, 3)).Draw(t, s.Path))
}

func genFacts(t *rapid.T) Facts {
	f := Facts{
		Protocol: rapid.SampledFrom([]Protocol{SFTP, FTPS, FTPSImplicit, FTP}).Draw(t, "protocol"),
		Remote:   from(rapid.SampledFrom([]string{"10.1.2.3", "10.9.9.9", "192.0.2.17", "2001:db8:1::1", "198.51.100.1"}).Draw(t, "address")),
		Method:   rapid.SampledFrom([]string{"", "password", "publickey"}).Draw(t, "method"),
		Sessions: rapid.IntRange(0, 3).Draw(t, "sessions"),
		Since:    noon.Add(-rapid.SampledFrom([]time.Duration{0, time.Hour, 48 * time.Hour}).Draw(t, "age")),
	}
	f.LastActive = noon.Add(-rapid.SampledFrom([]time.Duration{0, 2 * time.Minute, time.Hour}).Draw(t, "idle"))
	if f.Protocol != FTP && f.Protocol != SFTP && rapid.Bool().Draw(t, "tls") {
		f.TLS, f.TLSVersion, f.Cipher = true, tls12, rapid.SampledFrom([]string{aead12, cbc12, rsa12}).Draw(t, "cipher")
		if rapid.Bool().Draw(t, "1.3") {
			f.TLSVersion, f.Cipher = tls13, suite3
		}
	}
	return f
}

// Tightening one setting at one level never admits what was refused, whatever else the document says.
func TestTighteningNeverAdmits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := mustDoc(t, "version: 1\ngroups: {g: {}, h: {}}\naccounts: {a: {groups: [g, h]}}\n"+
			"exceptions: [{account: a, allow: ftp, from: [192.0.2.0/24], until: 2026-12-01, reason: test}]\n")
		targets := []Target{Site, GroupTarget("g"), GroupTarget("h"), AccountTarget("a")}
		for range rapid.IntRange(0, 12).Draw(t, "settings") {
			s := rapid.SampledFrom(table).Draw(t, "setting")
			target := rapid.SampledFrom(targets).Draw(t, "target")
			if n, err := d.Set(target, s.Path, genValue(t, &s)); err == nil {
				d = n
			}
		}
		s := rapid.SampledFrom(table).Draw(t, "tightened")
		target := rapid.SampledFrom(targets).Draw(t, "at")
		if s.Scope&d.level(target).scope == 0 {
			return
		}
		old, explicit := d.level(target).values[s.Path]
		tight, err := d.Set(target, s.Path, genValue(t, &s))
		if err != nil {
			return
		}
		value := tight.level(target).values[s.Path].value
		if !explicit || s.looser(value, old.value) { // not a tightening
			return
		}
		before, after := Resolve(d, "a"), Resolve(tight, "a")
		f := genFacts(t)
		if was := Admit(before, f, noon); was != nil && Admit(after, f, noon) == nil {
			t.Fatalf("%s from %s to %s admits what was refused with %v\n%s", s.Path, s.format(old.value), s.format(value), was, d.render())
		}
		op := Op(rapid.IntRange(int(OpList), int(opEnd)-1).Draw(t, "op"))
		path := rapid.SampledFrom([]string{"/", "/a", "/a/b", "/a/b/c/d", "/d/e", "/x"}).Draw(t, "path")
		if was := Permit(before, op, path); was != nil && Permit(after, op, path) == nil {
			t.Fatalf("%s from %s to %s permits %s %s, refused with %v before", s.Path, s.format(old.value), s.format(value), op, path, was)
		}
	})
}

// What several groups give is never looser than what any one of them gives.
func TestSeveralGroupsAreTheStrictest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := mustDoc(t, "version: 1\ngroups: {g: {}, h: {}}\naccounts: {both: {groups: [g, h]}, one: {groups: [g]}}\n")
		for _, s := range table {
			for _, g := range []Target{GroupTarget("g"), GroupTarget("h")} {
				if s.Scope&AtGroup != 0 {
					n, err := d.Set(g, s.Path, genValue(t, &s))
					if err != nil && s.Path == leastPath { // above the retention that was drawn
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					d = n
				}
			}
		}
		both, one := Resolve(d, "both"), Resolve(d, "one")
		for i := range table {
			s := &table[i]
			if s.Kind != KindNetworks && s.Kind != KindPaths && s.Kind != KindWords && s.looser(both.values[i].value, one.values[i].value) {
				t.Fatalf("%s: %s of two groups is looser than %s of one", s.Path, s.format(both.values[i].value), s.format(one.values[i].value))
			}
		}
		f := genFacts(t)
		for _, account := range []*Effective{both} {
			f.Method = rapid.SampledFrom([]string{"password", "publickey"}).Draw(t, "method")
			if Admit(account, f, noon) == nil && Admit(one, f, noon) != nil {
				t.Fatalf("two groups admit what one refuses: %+v", f)
			}
		}
	})
}

func mustDoc(t *rapid.T, text string) *Document {
	d, err := Parse(DefaultName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLimitsClampDefaults(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `version: 1
site: {limits: {session.max: {max: 4}, transport.tls_min: {min: "1.3"}, auth.sftp: {only: [publickey]}, upload.max_size: {max: 1GiB}, upload.interrupted: {only: [hide, discard]}}}
`)
	e := Resolve(d, "a")
	if e.Session.Max != 4 || e.Transport.TLSMin != tls13 || e.Upload.MaxSize != 1<<30 || !slices.Equal(e.Auth.SFTP, []string{"publickey"}) || e.Upload.Interrupted != "discard" {
		t.Errorf("%+v", e)
	}
	if _, o := e.Value("session.max"); o.String() != "built-in, held by limits of site (policy.yaml:2)" {
		t.Errorf("origin %q", o)
	}
	if _, err := d.Set(AccountTarget("a"), "upload.max_size", "0"); err == nil {
		t.Error("no limit at all was accepted above a maximum of 1 GiB")
	}
}

func TestBoundaryOfNetworks(t *testing.T) {
	t.Parallel()
	s := Lookup("allow_from")
	p := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, l := range list {
			out = append(out, netip.MustParsePrefix(l))
		}
		return out
	}
	for _, c := range []struct {
		a, b   []netip.Prefix
		looser bool
	}{
		{p(), p("10.0.0.0/8"), true}, {p("10.0.0.0/8"), p(), false}, {p(), p(), false},
		{p("10.1.0.0/16"), p("10.0.0.0/8"), false}, {p("10.0.0.0/8"), p("10.1.0.0/16"), true}, {p("10.0.0.0/8"), p("192.0.2.0/24"), true},
	} {
		if got := s.looser(c.a, c.b); got != c.looser {
			t.Errorf("%v against %v: looser %v", c.a, c.b, got)
		}
	}
}
