package policy

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

// oracle decides slowly and in the plainest way, from the text as another YAML reader understands it. It shares nothing with
// the package but the names of protocols and codes.
type oracle struct {
	doc     map[string]any
	account string
}

func newOracle(t interface{ Fatal(...any) }, text, account string) *oracle {
	o := &oracle{account: account, doc: map[string]any{}}
	if err := yaml.Unmarshal([]byte(text), &o.doc); err != nil {
		t.Fatal(err)
	}
	return o
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }
func asList(v any) []any         { l, _ := v.([]any); return l }

func words(v any) []string {
	var out []string
	for _, e := range asList(v) {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// said looks a setting up in one level, written in either way.
func said(level map[string]any, path string) (any, bool) {
	if v, ok := level[path]; ok {
		return v, true
	}
	head, key, nested := strings.Cut(path, ".")
	if !nested {
		return nil, false
	}
	v, ok := asMap(level[head])[key]
	return v, ok
}

func (o *oracle) own() map[string]any { return asMap(asMap(o.doc["accounts"])[o.account]) }

func (o *oracle) groups() []map[string]any {
	var out []map[string]any
	for _, g := range words(o.own()["groups"]) {
		out = append(out, asMap(asMap(o.doc["groups"])[g]))
	}
	return out
}

// values of a setting at the nearest rank that says something.
func (o *oracle) values(path string) []any {
	if v, ok := said(o.own(), path); ok {
		return []any{v}
	}
	var of []any
	for _, g := range o.groups() {
		if v, ok := said(g, path); ok {
			of = append(of, v)
		}
	}
	if of != nil {
		return of
	}
	if v, ok := said(asMap(o.doc["site"]), path); ok {
		return []any{v}
	}
	return nil
}

// common words of all lists.
func (o *oracle) common(path string, otherwise ...string) []string {
	lists := o.values(path)
	if lists == nil {
		return otherwise
	}
	var out []string
	for _, w := range []string{"sftp", "ftps-explicit", "ftps-implicit", "publickey", "certificate", "password"} {
		in := true
		for _, l := range lists {
			list := words(l)
			in = in && (slices.Contains(list, w) || strings.HasPrefix(w, "ftps-") && slices.Contains(list, "ftps"))
		}
		if in {
			out = append(out, w)
		}
	}
	return out
}

// strict is the value that comes last in an order from loose to strict.
func (o *oracle) strict(path string, order []string, otherwise string) string {
	best := -1
	for _, v := range o.values(path) {
		best = max(best, slices.Index(order, fmt.Sprint(v)))
	}
	if best < 0 {
		return otherwise
	}
	return order[best]
}

func (o *oracle) least(path string, otherwise time.Duration) time.Duration {
	list := o.values(path)
	if list == nil {
		return otherwise
	}
	var out []time.Duration
	for _, v := range list {
		text := strings.Replace(strings.Replace(fmt.Sprint(v), "14d", "336h", 1), "1d", "24h", 1)
		if d, err := time.ParseDuration(text); err == nil && d > 0 {
			out = append(out, d)
		}
	}
	if out == nil {
		return 0
	}
	return slices.Min(out)
}

func (o *oracle) ranks() []map[string]any {
	return append(append([]map[string]any{asMap(o.doc["site"])}, o.groups()...), o.own())
}

func inside(list any, a netip.Addr) bool {
	for _, n := range words(list) {
		if p, err := netip.ParsePrefix(n); err == nil && p.Contains(a) || n == a.String() {
			return true
		}
	}
	return false
}

func (o *oracle) admit(f Facts, now time.Time) string {
	a := f.Remote.Addr().Unmap()
	plain := f.Protocol == FTP || f.Method != "" && f.Protocol != SFTP && !f.TLS
	name := map[Protocol]string{SFTP: "sftp", FTPS: "ftps-explicit", FTPSImplicit: "ftps-implicit"}[f.Protocol]
	if !plain && !slices.Contains(o.common("protocols"), name) {
		return CodeProtocol
	}
	for _, r := range o.ranks() {
		if inside(r["deny_from"], a) {
			return CodeDenied
		}
	}
	for _, r := range o.ranks() {
		if l := r["allow_from"]; len(asList(l)) > 0 && !inside(l, a) {
			return CodeNotAllowed
		}
	}
	if plain {
		excepted := false
		for _, e := range asList(o.doc["exceptions"]) {
			x := asMap(e)
			last := fmt.Sprint(x["until"])[:10]
			excepted = excepted || x["account"] == o.account && inside(x["from"], a) && now.UTC().Format("2006-01-02") <= last
		}
		if !excepted {
			return CodeSSLRequired
		}
	} else if f.Protocol != SFTP && f.TLS {
		if o.strict("transport.tls_min", []string{"1.2", "1.3"}, "1.2") == "1.3" && f.TLSVersion == tls12 {
			return CodeTLSVersion
		}
		good := map[string][]string{"modern": {suite3, aead12}, "compatible": {suite3, aead12, cbc12}, "legacy-insecure": {suite3, aead12, cbc12, rsa12}}
		if !slices.Contains(good[o.strict("transport.ciphers", []string{"legacy-insecure", "compatible", "modern"}, "modern")], f.Cipher) {
			return CodeCipher
		}
	}
	if f.Method == "" {
		return ""
	}
	return o.login(f, now)
}

func (o *oracle) login(f Facts, now time.Time) string {
	methods := o.common("auth.ftps", "password")
	if f.Protocol == SFTP {
		methods = o.common("auth.sftp", "publickey")
	}
	if !slices.Contains(methods, f.Method) {
		return CodeMethod
	}
	asked := []string{"auth.require_2fa", "auth.require_2fa_ftps"}
	if f.Protocol == SFTP {
		asked[1] = "auth.require_2fa_sftp"
	}
	for _, setting := range asked {
		if o.strict(setting, []string{"false", "true"}, "false") == "true" && !f.SecondFactor {
			return CodeSecondFactor
		}
	}
	for _, r := range o.ranks() {
		if l, ok := said(r, "session.hours"); ok && len(asList(l)) > 0 {
			return CodeHours // noon is on a Saturday, and none of the windows that tests draw is open then
		}
	}
	most := 16
	if list := o.values("session.max"); list != nil {
		most = 1 << 30
		for _, v := range list {
			var n int
			fmt.Sscan(fmt.Sprint(v), &n)
			most = min(most, n)
		}
	}
	if f.Sessions >= most {
		return CodeSessions
	}
	if idle := o.least("session.idle", 15*time.Minute); idle > 0 && now.Sub(f.LastActive) >= idle {
		return CodeIdle
	}
	if age := o.least("session.max_age", 14*24*time.Hour); age > 0 && now.Sub(f.Since) >= age {
		return CodeMaxAge
	}
	return ""
}

// permit: in every list of rights the longest rule above the name must have the verb; a directory on the way to a right may
// be looked at and listed.
func (o *oracle) permit(op Op, name string) bool {
	lists := o.values("paths")
	if lists == nil {
		return false
	}
	for _, l := range lists {
		rules := slices.Clone(asList(l))
		sort.Slice(rules, func(i, j int) bool {
			return len(fmt.Sprint(asMap(rules[i])["path"])) > len(fmt.Sprint(asMap(rules[j])["path"]))
		})
		granted, decided, leads := false, false, false
		for _, r := range rules {
			at, verbs := fmt.Sprint(asMap(r)["path"]), words(asMap(r)["allow"])
			if len(verbs) > 0 && (strings.HasPrefix(at+"/", strings.TrimSuffix(name, "/")+"/")) {
				leads = true
			}
			if !decided && strings.HasPrefix(name+"/", strings.TrimSuffix(at, "/")+"/") {
				decided = true
				granted = slices.ContainsFunc(verbs, func(v string) bool { return grants(v, op) })
			}
		}
		if !granted && !(leads && (op == OpStat || op == OpList)) {
			return false
		}
	}
	return op != OpWrite && op != OpOverwrite || o.named(name)
}

// named: the last part of the name fits a pattern of every list that allows, and none that denies.
func (o *oracle) named(name string) bool {
	fits := func(l any) bool {
		return slices.ContainsFunc(words(l), func(w string) bool {
			ok, err := path.Match(strings.ToLower(w), strings.ToLower(path.Base(name)))
			return ok && err == nil
		})
	}
	for _, r := range o.ranks() {
		if l, ok := said(r, "upload.deny_names"); ok && fits(l) {
			return false
		}
		if l, ok := said(r, "upload.allow_names"); ok && len(asList(l)) > 0 && !fits(l) {
			return false
		}
	}
	return true
}

func grants(verb string, op Op) bool {
	switch op {
	case OpStat:
		return true
	case OpWrite:
		return verb == "create" || verb == "write" || verb == "all"
	case OpOverwrite, OpSetAttr:
		return verb == "write" || verb == "all"
	}
	return verb == op.String() || verb == "all"
}

func compareDecisions(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, d *Document, account string, f Facts, now time.Time) string {
	p, want := Resolve(d, account), newOracle(t, string(d.Text()), account).admit(f, now)
	got := ""
	if den := Admit(p, f, now); den != nil {
		got = den.Code
	}
	if got != want {
		t.Fatalf("Admit says %q, the oracle %q\naccount %s, facts %+v\n%s", got, want, account, f, d.Text())
	}
	return got
}

var oraclePolicies = []string{
	house,
	"version: 1\n",
	"version: 1\nsite: {protocols: [sftp, ftps]}\n",
	"version: 1\nsite: {protocols: [sftp, ftps], transport: {ciphers: compatible}}\naccounts: {acme: {transport: {tls_min: \"1.3\"}}, weak: {}}\n",
	"version: 1\nsite: {protocols: [sftp, ftps], deny_from: [198.51.100.0/24], auth: {sftp: [password]}}\naccounts: {acme: {allow_from: [203.0.113.0/24]}}\n",
	"version: 1\nsite: {protocols: [sftp, ftps-implicit], session.max: 2, session: {idle: 1m}}\ngroups: {g: {protocols: [sftp], session: {idle: 1h}}, h: {session: {max: 1}}}\naccounts: {acme: {groups: [g, h]}, weak: {groups: [h]}, both: {session: {max: 9, idle: 0, max_age: 0}}}\n",
	"version: 1\nsite: {protocols: [sftp, ftps], auth: {require_2fa_ftps: true}}\ngroups: {g: {auth: {require_2fa_sftp: true}}}\naccounts: {acme: {groups: [g]}, both: {groups: [g], auth: {require_2fa_ftps: false}}, weak: {auth: {require_2fa_sftp: false}}}\n",
	"version: 1\ngroups: {g: {protocols: [sftp, ftps-explicit], auth: {require_2fa: true}}, h: {protocols: [ftps], auth: {require_2fa: false, ftps: []}}}\naccounts: {acme: {groups: [h, g]}, both: {groups: [g], auth: {require_2fa: false}}, narrow: {groups: [h]}, weak: {groups: [g]}}\n",
	"version: 1\nsite: {allow_from: [\"2001:db8::/32\", 192.0.2.17/32], protocols: [ftps]}\naccounts: {scanner: {}, acme: {deny_from: [192.0.2.17]}}\nexceptions: [{account: scanner, allow: ftp, from: [192.0.2.0/24], until: 2026-11-20, reason: x}, {account: acme, allow: ftp, from: [192.0.2.0/24], until: 2030-01-01, reason: x}]\n",
}

// Every case of the table is decided twice: by Admit and by the oracle.
func TestOracleAgreesOnTheTable(t *testing.T) {
	t.Parallel()
	cases, seen := 0, map[string]int{}
	for _, text := range oraclePolicies {
		d := mustParse(t, text)
		for _, account := range []string{"acme", "both", "weak", "narrow", "scanner", "nobody"} {
			for _, f := range tableFacts() {
				cases++
				seen[compareDecisions(t, d, account, f, noon)]++
			}
		}
	}
	if t.Logf("%d cases, by code: %v", cases, seen); cases < 200 {
		t.Errorf("only %d cases", cases)
	}
	for _, code := range []string{"", CodeProtocol, CodeNotAllowed, CodeDenied, CodeSSLRequired, CodeTLSVersion, CodeCipher, CodeMethod, CodeSecondFactor, CodeSessions, CodeIdle, CodeMaxAge} {
		if seen[code] == 0 {
			t.Errorf("no case of the table ends with %q", code)
		}
	}
}

func tableFacts() []Facts {
	var list []Facts
	for _, addr := range []string{"198.51.100.5", "203.0.113.66", "192.0.2.17", "2001:db8::1", "::ffff:203.0.113.9"} {
		for _, f := range []Facts{
			{Protocol: SFTP, Method: "publickey"}, {Protocol: SFTP, Method: "password", SecondFactor: true}, {Protocol: SFTP},
			{Protocol: FTPS, TLS: true, TLSVersion: tls13, Cipher: suite3, Method: "password"},
			{Protocol: FTPS, TLS: true, TLSVersion: tls12, Cipher: aead12, Method: "password", SecondFactor: true},
			{Protocol: FTPSImplicit, TLS: true, TLSVersion: tls12, Cipher: cbc12, Method: "password"},
			{Protocol: FTPSImplicit, TLS: true, TLSVersion: tls12, Cipher: rsa12, Method: "certificate"},
			{Protocol: FTPS, Method: "password"}, {Protocol: FTP, Method: "password"},
			{Protocol: SFTP, Method: "publickey", Sessions: 2}, {Protocol: SFTP, Method: "publickey", LastActive: noon.Add(-20 * time.Minute)},
			{Protocol: SFTP, Method: "publickey", Since: noon.Add(-20 * 24 * time.Hour)},
		} {
			f.Remote = from(addr)
			if f.Since.IsZero() {
				f.Since = noon
			}
			if f.LastActive.IsZero() {
				f.LastActive = noon
			}
			list = append(list, f)
		}
	}
	return list
}

// So it is with policies and facts that nobody chose.
func TestOracleAgreesAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := mustDoc(t, smallHouse)
		targets := []Target{Site, GroupTarget("g"), GroupTarget("h"), AccountTarget("a")}
		for range rapid.IntRange(0, 14).Draw(t, "settings") {
			s := rapid.SampledFrom(table).Draw(t, "setting")
			if n, err := d.Set(rapid.SampledFrom(targets).Draw(t, "target"), s.Path, genValue(t, &s)); err == nil {
				d = n
			}
		}
		f := genFacts(t)
		f.SecondFactor = rapid.Bool().Draw(t, "second")
		compareDecisions(t, d, "a", f, noon)
		p, o := Resolve(d, "a"), newOracle(t, string(d.Text()), "a")
		for _, name := range []string{"/", "/a", "/a/b", "/a/b/c/d", "/d/e", "/x", "/ab", "/a/x.csv", "/B1"} {
			for op := OpList; op < opEnd; op++ {
				if got, want := Permit(p, op, name) == nil, o.permit(op, name); got != want {
					t.Fatalf("Permit %s %s: %v, the oracle %v\n%s", op, name, got, want, d.Text())
				}
			}
		}
	})
}

// An explanation refuses exactly what Admit and Permit refuse, for the same reason.
func TestExplanationIsTheDecision(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := randomDoc(t, mustDoc(t, smallHouse), 10, "settings")
		p, f := Resolve(d, "a"), genFacts(t)
		if f.Method == "" {
			f.Method = "password"
		}
		do := Do{Op(rapid.IntRange(int(OpList), int(opEnd)-1).Draw(t, "op")), []string{rapid.SampledFrom([]string{"/", "/a/x", "/d"}).Draw(t, "path")}}
		want := Admit(p, f, noon)
		if want == nil {
			want = Permit(p, do.Op, do.Paths...)
		}
		x := Explain(p, Question{f, &do}, noon)
		if (x.Denial == nil) != (want == nil) || want != nil && *x.Denial != *want || len(x.Steps) != 7 {
			t.Fatalf("explained as %v, decided as %v", x.Denial, want)
		}
	})
}
