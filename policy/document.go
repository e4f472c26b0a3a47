package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Document is a whole policy as people write it: the site, groups, accounts, exceptions and tests. A Document has been
// checked (syntax, types, ranges, locks, limits), so resolving it cannot fail. Immutable.
type Document struct {
	name       string // file name for positions
	text       []byte
	site       *Level
	groups     map[string]*Level
	accounts   map[string]*Level
	exceptions []Exception
	tests      []Test
}

// Pos is a place in a document, counted from 1; zero = none.
type Pos struct{ Line, Col int }

// Level is one set of explicit values: the site, a group or an account.
type Level struct {
	name   string // "site", "group partners", "account acme"
	scope  Scope
	values map[string]Value
	lock   []ref
	limits []limit
	groups []ref // of an account
}

// Value is one explicit value.
type Value struct {
	value any
	Pos   Pos
}

type ref struct {
	name string
	pos  Pos
}

func (l *Level) groupNames() []string {
	var names []string
	for _, g := range l.groups {
		names = append(names, g.name)
	}
	return names
}

// Exception admits one account to plain FTP from some networks until a date: the only way to do so.
type Exception struct {
	Account string
	From    []netip.Prefix
	Until   time.Time // the last day, UTC
	Reason  string
	Pos     Pos
}

func (e *Exception) end() time.Time { return e.Until.AddDate(0, 0, 1) }

func (e *Exception) matches(a netip.Addr, now time.Time) bool {
	return now.Before(e.end()) && slices.ContainsFunc(e.From, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Test is one expectation about the policy, kept with it.
type Test struct {
	Account  string
	Protocol string
	Addr     string
	Port     int
	TLS      string // "", "true", "false"
	Method   string
	// SecondFactor is "", "true" or "false".
	SecondFactor string
	Do           string
	Expect       string // allowed, refused
	Code         string
	Pos          Pos
}

// DefaultName is what positions call a document that came without a file.
const DefaultName = "policy.yaml"

// Default is the built-in document: nothing is granted.
func Default() *Document {
	d, err := Parse(DefaultName, []byte("version: 1\n"))
	if err != nil {
		panic("policy: internal error: " + err.Error())
	}
	return d
}

// Text is the document as YAML. The caller must not change it.
func (d *Document) Text() []byte { return d.text }

// Renamed is the document under another file name for positions.
func (d *Document) Renamed(name string) *Document {
	c := *d
	c.name = name
	return &c
}

// Accounts and Groups are the names that the document speaks of, sorted.
func (d *Document) Accounts() []string { return slices.Sorted(maps.Keys(d.accounts)) }
func (d *Document) Groups() []string   { return slices.Sorted(maps.Keys(d.groups)) }

// Exceptions are all entries, past ones included.
func (d *Document) Exceptions() []Exception { return slices.Clone(d.exceptions) }

// Tests are the expectations kept with the policy.
func (d *Document) Tests() []Test { return slices.Clone(d.tests) }

// GroupsOf an account, as listed.
func (d *Document) GroupsOf(account string) []string {
	if l := d.accounts[account]; l != nil {
		return l.groupNames()
	}
	return nil
}

// Target names a level of a document: Site, GroupTarget(name) or AccountTarget(name).
type Target string

// Site is the level of everybody.
const Site Target = "site"

// GroupTarget and AccountTarget name a level below the site.
func GroupTarget(name string) Target   { return Target("group " + name) }
func AccountTarget(name string) Target { return Target("account " + name) }

func (d *Document) level(t Target) *Level {
	kind, name, _ := strings.Cut(string(t), " ")
	switch kind {
	case "site":
		return d.site
	case "group":
		return d.groups[name]
	case "account":
		return d.accounts[name]
	}
	return nil
}

// Get returns the explicit value at a target; false if the target sets none.
func (d *Document) Get(t Target, path string) (string, bool) {
	l := d.level(t)
	if l == nil {
		return "", false
	}
	if slices.Contains(levelPaths, path) {
		text := l.text(path)
		return text, text != ""
	}
	v, ok := l.values[path]
	if !ok {
		return "", false
	}
	return table[settingIndex(path)].format(v.value), true
}

// Mentions says whether the document speaks of an account.
func (d *Document) Mentions(account string) bool {
	return d.accounts[account] != nil || slices.ContainsFunc(d.exceptions, func(e Exception) bool { return e.Account == account })
}

// Allows says whether any level, or the default, has a word in a setting of words.
func (d *Document) Allows(path, word string) bool {
	has := func(v any) bool { return slices.Contains(v.([]string), word) }
	if i := settingIndex(path); has(table[i].Default) {
		return true
	}
	return slices.ContainsFunc(d.levels(), func(l *Level) bool {
		v, ok := l.values[path]
		return ok && has(v.value)
	})
}

func (d *Document) clone() *Document {
	c := &Document{name: d.name, site: d.site.clone(), groups: map[string]*Level{}, accounts: map[string]*Level{},
		exceptions: slices.Clone(d.exceptions), tests: slices.Clone(d.tests)}
	for n, l := range d.groups {
		c.groups[n] = l.clone()
	}
	for n, l := range d.accounts {
		c.accounts[n] = l.clone()
	}
	return c
}

func (l *Level) clone() *Level {
	c := *l
	c.values = maps.Clone(l.values)
	c.lock, c.limits, c.groups = slices.Clone(l.lock), slices.Clone(l.limits), slices.Clone(l.groups)
	return &c
}

func (d *Document) makeLevel(t Target) (*Level, error) {
	if l := d.level(t); l != nil {
		return l, nil
	}
	kind, name, _ := strings.Cut(string(t), " ")
	if !ValidName(name) {
		return nil, fmt.Errorf("%q is not a name: %s", name, nameRule)
	}
	l := newLevel(string(t), AtAccount)
	switch kind {
	case "group":
		l.scope = AtGroup
		d.groups[name] = l
	case "account":
		d.accounts[name] = l
	default:
		return nil, fmt.Errorf("%q is not a place of a policy", t)
	}
	return l, nil
}

func newLevel(name string, scope Scope) *Level {
	return &Level{name: name, scope: scope, values: map[string]Value{}}
}

const nameRule = "1 to 64 of a-z A-Z 0-9 . _ @ -"

// ValidName says whether s can name an account or a group.
func ValidName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '@' || c == '-') {
			return false
		}
	}
	return true
}
