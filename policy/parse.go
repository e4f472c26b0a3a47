package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads and checks a document; name stands before positions. The error is a *ParseError.
func Parse(name string, text []byte) (*Document, error) {
	root, p := parseYAML(text)
	if p != nil {
		return nil, &ParseError{Name: name, Problems: []*Problem{p}, text: text}
	}
	b := &builder{doc: &Document{name: name, text: slices.Clone(text), site: newLevel("site", AtSite),
		groups: map[string]*Level{}, accounts: map[string]*Level{}}}
	b.document(root)
	if len(b.problems) == 0 {
		b.checkReferences()
	}
	if len(b.problems) == 0 {
		b.checkBounds()
	}
	if len(b.problems) > 0 {
		slices.SortStableFunc(b.problems, func(x, y *Problem) int { return x.Line - y.Line })
		return nil, &ParseError{Name: name, Problems: b.problems[:min(len(b.problems), maxProblems)], text: b.doc.text}
	}
	return b.doc, nil
}

// builder collects problems, so that an operator sees all of them at once.
type builder struct {
	doc      *Document
	problems []*Problem
}

func (b *builder) add(p *Problem) {
	if p != nil {
		b.problems = append(b.problems, p)
	}
}

func (b *builder) document(root *node) {
	if p := root.want(isMap); p != nil {
		p.Hint = "a policy begins with version: 1"
		b.add(p)
		return
	}
	versioned := false
	for _, f := range root.fields {
		switch f.key {
		case "version":
			versioned = true
			if f.value.scalar != "1" {
				b.add(problem(f.value.pos, "this version reads version: 1", "unknown version %q", f.value.scalar))
			}
		case "site":
			b.level(b.doc.site, f.value)
		case "groups":
			b.levels(f.value, "group", AtGroup, b.doc.groups)
		case "accounts":
			b.levels(f.value, "account", AtAccount, b.doc.accounts)
		case "exceptions":
			b.exceptions(f.value)
		case "tests":
			b.tests(f.value)
		default:
			b.add(problem(f.pos, suggest(f.key, []string{"version", "site", "groups", "accounts", "exceptions", "tests"}), "unknown key %q", f.key))
		}
	}
	if !versioned {
		b.add(problem(root.pos, "begin with version: 1", "version is missing"))
	}
}

func (b *builder) levels(n *node, kind string, scope Scope, into map[string]*Level) {
	if n.shape == isNull {
		return
	}
	if p := n.want(isMap); p != nil {
		b.add(p)
		return
	}
	for _, f := range n.fields {
		if !ValidName(f.key) {
			b.add(problem(f.pos, nameRule, "%q is not a name", f.key))
			continue
		}
		l := newLevel(kind+" "+f.key, scope)
		into[f.key] = l
		b.level(l, f.value)
	}
}

func (b *builder) level(l *Level, n *node) {
	if n.shape == isNull {
		return
	}
	if p := n.want(isMap); p != nil {
		b.add(p)
		return
	}
	for _, f := range n.fields {
		switch {
		case f.key == "limits" && l.scope != AtAccount:
			b.limits(l, f.value)
		case settingIndex(f.key) < 0 && isSection(f.key):
			b.section(l, f)
		default:
			b.add(l.set(f.key, f.pos, f.value))
		}
	}
}

func (b *builder) section(l *Level, f field) {
	if f.value.shape == isNull {
		return
	}
	if p := f.value.want(isMap); p != nil {
		b.add(p)
		return
	}
	for _, g := range f.value.fields {
		b.add(l.set(f.key+"."+g.key, g.pos, g.value))
	}
}

// set reads one key of a level: a setting, lock or groups.
func (l *Level) set(key string, pos Pos, n *node) *Problem {
	switch {
	case key == "lock" && l.scope != AtAccount:
		return l.setRefs(&l.lock, n)
	case key == "groups" && l.scope == AtAccount:
		return l.setRefs(&l.groups, n)
	}
	i := settingIndex(key)
	if i < 0 {
		known := append(slices.Sorted(maps.Keys(sections)), append(settingPaths(), "lock", "limits", "groups")...)
		return problem(pos, suggest(key, known), "unknown setting %q", key)
	}
	s := &table[i]
	if s.Scope&l.scope == 0 {
		return problem(pos, "it belongs under "+strings.ReplaceAll(s.Scope.String(), ", ", " or "), "%s cannot be set for one %s", key, strings.Fields(l.name)[0])
	}
	v, p := s.parse(n)
	if p != nil {
		return p
	}
	if key == "transport.require_ssl" && v == false {
		return problem(n.pos, "add an entry under exceptions: account, allow: ftp, from, until, reason",
			"plain FTP cannot be allowed in general")
	}
	l.values[key] = Value{value: v, Pos: pos}
	return nil
}

func (l *Level) setRefs(into *[]ref, n *node) *Problem {
	if p := n.want(isList); p != nil {
		return p
	}
	*into = nil
	for _, e := range n.list {
		if p := e.want(isScalar); p != nil {
			return p
		}
		if slices.ContainsFunc(*into, func(r ref) bool { return r.name == e.scalar }) {
			return problem(e.pos, "", "%q is listed twice", e.scalar)
		}
		*into = append(*into, ref{e.scalar, e.pos})
	}
	return nil
}

// listed parses the elements of a list, which may be left empty. An element with a problem is left out of it.
func listed[T any](b *builder, n *node, parse func(*node) (T, *Problem)) (all []T) {
	if n.shape == isNull {
		return nil
	}
	if p := n.want(isList); p != nil {
		b.add(p)
		return nil
	}
	for _, e := range n.list {
		t, p := parse(e)
		b.add(p)
		if p == nil {
			all = append(all, t)
		}
	}
	return all
}

func (b *builder) exceptions(n *node) {
	b.doc.exceptions = listed(b, n, parseException)
}

func parseException(n *node) (Exception, *Problem) {
	x := Exception{Pos: n.pos}
	if p := n.want(isMap); p != nil {
		return x, p
	}
	seen := map[string]bool{}
	for _, f := range n.fields {
		seen[f.key] = true
		if f.key != "from" {
			if p := f.value.want(isScalar); p != nil {
				return x, p
			}
		}
		switch f.key {
		case "account":
			x.Account = f.value.scalar
		case "allow":
			if f.value.scalar != string(FTP) {
				return x, problem(f.value.pos, "", "an exception can only allow ftp")
			}
		case "from":
			nets, p := networkSetting.parse(f.value)
			if p != nil {
				return x, p
			}
			x.From = nets.([]netip.Prefix)
		case "until":
			day, err := time.Parse(time.DateOnly, f.value.scalar)
			if err != nil {
				return x, problem(f.value.pos, "write it as 2027-01-31", "%q is not a date", f.value.scalar)
			}
			x.Until = day
		case "reason":
			x.Reason = strings.TrimSpace(f.value.scalar)
		default:
			return x, problem(f.pos, suggest(f.key, exceptionKeys), "unknown key %q in an exception", f.key)
		}
	}
	for _, k := range exceptionKeys {
		if !seen[k] {
			return x, problem(n.pos, "an exception names account, allow: ftp, from, until and reason", "%s is missing", k)
		}
	}
	if len(x.From) == 0 || x.Reason == "" {
		return x, problem(n.pos, "", "an exception needs networks and a reason")
	}
	return x, nil
}

var (
	exceptionKeys  = []string{"account", "allow", "from", "until", "reason"}
	networkSetting = &Setting{Path: "from", Kind: KindNetworks}
)

func (b *builder) tests(n *node) {
	b.doc.tests = listed(b, n, parseTest)
}

func parseTest(n *node) (Test, *Problem) {
	t := Test{Pos: n.pos}
	if p := n.want(isMap); p != nil {
		return t, p
	}
	for _, f := range n.fields {
		if p := f.value.want(isScalar); p != nil {
			return t, p
		}
		v, ok := f.value.scalar, true
		switch f.key {
		case "account":
			t.Account = v
		case "protocol":
			t.Protocol, ok = v, slices.Contains(testProtocols, v)
		case "addr":
			t.Addr = v
			_, err := netip.ParseAddr(v)
			ok = err == nil
		case "port":
			port, err := strconv.ParseUint(v, 10, 16)
			t.Port, ok = int(port), err == nil
		case "tls":
			t.TLS, ok = v, v == "true" || v == "false"
		case "second_factor":
			t.SecondFactor, ok = v, v == "true" || v == "false"
		case "method":
			t.Method = v
		case "do":
			t.Do = v
			if _, err := ParseDo(v); err != nil {
				return t, problem(f.value.pos, "", "%v", err)
			}
		case "expect":
			t.Expect, ok = v, v == "allowed" || v == "refused"
		case "code":
			t.Code = v
		default:
			return t, problem(f.pos, suggest(f.key, testKeys), "unknown key %q in a test", f.key)
		}
		if !ok {
			return t, problem(f.value.pos, "", "%q is not a value of %s", v, f.key)
		}
	}
	if t.Account == "" || t.Expect == "" {
		return t, problem(n.pos, "", "a test needs account and expect")
	}
	return t, nil
}

var (
	testProtocols = []string{"sftp", "ftps", "ftps-explicit", "ftps-implicit", "ftp"}
	testKeys      = []string{"account", "protocol", "addr", "port", "tls", "method", "second_factor", "do", "expect", "code"}
)

// checkReferences: groups must exist, locks and limits must name settings.
func (b *builder) checkReferences() {
	groups := b.doc.Groups()
	for _, l := range b.doc.accounts {
		for _, g := range l.groups {
			if b.doc.groups[g.name] == nil {
				b.add(problem(g.pos, suggest(g.name, groups), "there is no group %q", g.name))
			}
		}
	}
	for _, l := range b.doc.levels() {
		for _, k := range l.lock {
			if settingIndex(k.name) < 0 {
				b.add(problem(k.pos, suggest(k.name, settingPaths()), "there is no setting %q to lock", k.name))
			}
		}
	}
	for _, x := range b.doc.exceptions {
		for _, rung := range b.doc.chain(x.Account) {
			for _, l := range rung {
				if i := slices.IndexFunc(l.lock, func(r ref) bool { return r.name == "transport.require_ssl" }); i >= 0 {
					b.add(problem(x.Pos, "", "the exception contradicts the lock of transport.require_ssl at %s (line %d)", l.name, l.lock[i].pos.Line))
				}
			}
		}
		if !ValidName(x.Account) {
			b.add(problem(x.Pos, nameRule, "%q is not a name", x.Account))
		}
	}
}

// levels in a fixed order: site, groups, accounts.
func (d *Document) levels() []*Level {
	list := []*Level{d.site}
	for _, g := range d.Groups() {
		list = append(list, d.groups[g])
	}
	for _, a := range d.Accounts() {
		list = append(list, d.accounts[a])
	}
	return list
}

func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Col) }
