package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Mark says what a change does to what is allowed.
type Mark string

const (
	Looser  Mark = "LOOSER"  // somebody may do more, or it cannot be shown that nobody may
	Tighter Mark = "tighter" // somebody may do less, and nobody more
	Same    Mark = ""        // nobody may do more or less
)

// Difference is one change between two documents.
type Difference struct {
	Key  string `json:"key"`           // site.session.max, accounts.acme, exceptions, tests
	Old  string `json:"old,omitempty"` // YAML; empty = nothing was said
	New  string `json:"new,omitempty"`
	Mark Mark   `json:"mark,omitempty"`
}

// IsLooser says whether one of the changes loosens: those need a reason.
func IsLooser(list []Difference) bool {
	return slices.ContainsFunc(list, func(d Difference) bool { return d.Mark == Looser })
}

// Diff compares two documents setting by setting, in the order of levels and of the table. Comments and layout do not count.
func Diff(old, new *Document) []Difference {
	d := &differ{old: old, new: new, changed: map[string]map[string]bool{}}
	targets := []Target{Site}
	for _, g := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.Groups(), new.Groups())))) {
		targets = append(targets, GroupTarget(g))
	}
	for _, a := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.Accounts(), new.Accounts())))) {
		targets = append(targets, AccountTarget(a))
	}
	for _, t := range targets {
		d.find(t)
	}
	for i := range d.list {
		d.list[i].Mark = d.mark(&d.list[i], d.at[i])
	}
	return append(append(d.list, diffExceptions(old, new)...), diffTests(old, new)...)
}

type differ struct {
	old, new *Document
	list     []Difference
	at       []place
	changed  map[string]map[string]bool // paths that differ, by level
	members  map[string]map[string]bool // accounts by group, in either document; made when needed
	alike    map[likeness]Mark          // what was found out for accounts that say nothing themselves
}

type place struct {
	target Target
	path   string
}

// levelPaths are the paths of a level beside those of the table.
var levelPaths = []string{"groups", "lock", "limits"}

// find adds the differences of one level, without marks.
func (d *differ) find(t Target) {
	o, n := d.old.level(t), d.new.level(t)
	if o != nil && n != nil && o.same(n) {
		return
	}
	prefix := keyOf(t)
	if o == nil || n == nil {
		d.add(t, "", Difference{Key: prefix, Old: presence(o), New: presence(n)})
	}
	for i := range len(table) + len(levelPaths) {
		path := ""
		if i < len(levelPaths) {
			path = levelPaths[i]
		} else {
			path = table[i-len(levelPaths)].Path
		}
		was, is := o.text(path), n.text(path)
		if was != is && !(path == "groups" && o.sameGroups(n)) {
			d.add(t, path, Difference{Key: prefix + "." + path, Old: was, New: is})
		}
	}
}

func keyOf(t Target) string {
	kind, name, nested := strings.Cut(string(t), " ")
	if !nested {
		return kind
	}
	return kind + "s." + name
}

func presence(l *Level) string {
	if l == nil {
		return ""
	}
	return "{}"
}

// same is a quick comparison of what most accounts are between two revisions: equal.
func (l *Level) same(o *Level) bool {
	if len(l.values) != len(o.values) || len(l.lock) != len(o.lock) || len(l.limits) != len(o.limits) || len(l.groups) != len(o.groups) {
		return false
	}
	for path := range l.values {
		if l.text(path) != o.text(path) {
			return false
		}
	}
	return l.text("lock") == o.text("lock") && l.text("limits") == o.text("limits") && l.sameGroups(o)
}

// sameGroups: their order means nothing.
func (l *Level) sameGroups(o *Level) bool {
	return l != nil && o != nil && contains(l.groupNames(), o.groupNames()) && contains(o.groupNames(), l.groupNames())
}

// text of a path as it is written in the canonical form; "" if nothing is said.
func (l *Level) text(path string) string {
	if l == nil {
		return ""
	}
	switch path {
	case "groups":
		if len(l.groups) == 0 {
			return ""
		}
	case "lock":
		if len(l.lock) == 0 {
			return ""
		}
	case "limits":
		if len(l.limits) == 0 {
			return ""
		}
	default:
		if _, ok := l.values[path]; !ok {
			return ""
		}
	}
	return l.format(path)
}

func (d *differ) add(t Target, path string, x Difference) {
	d.list, d.at = append(d.list, x), append(d.at, place{t, path})
	if d.changed[string(t)] == nil {
		d.changed[string(t)] = map[string]bool{}
	}
	d.changed[string(t)][path] = true
}

// mark judges a difference by what it does to those whom it reaches: resolved, before and after.
func (d *differ) mark(x *Difference, at place) Mark {
	m := Same
	switch at.path {
	case "":
		return Same // the settings of the level are judged one by one
	case "groups":
		for i := range table {
			m = worse(m, d.compare(strings.TrimPrefix(string(at.target), "account "), i))
		}
		return m
	case "lock":
		o, n := d.old.level(at.target), d.new.level(at.target)
		return boundsMark(!contains(n.lockNames(), o.lockNames()), m)
	case "limits":
		for i := range table {
			m = worse(m, d.reach(at.target, i))
		}
		return boundsMark(d.widens(at.target), m)
	}
	return d.reach(at.target, settingIndex(at.path))
}

// boundsMark of locks and limits: taking one away allows what the level below may do later.
func boundsMark(wider bool, m Mark) Mark {
	if wider || m == Looser {
		return Looser
	}
	return Tighter
}

func (l *Level) lockNames() []string {
	if l == nil {
		return nil
	}
	var list []string
	for _, r := range l.lock {
		list = append(list, r.name)
	}
	return list
}

// widens says whether a limit is gone or reaches further than before.
func (d *differ) widens(t Target) bool {
	o, n := d.old.level(t), d.new.level(t)
	if o == nil {
		return false
	}
	for _, was := range o.limits {
		s := &table[settingIndex(was.path)]
		i := -1
		if n != nil {
			i = slices.IndexFunc(n.limits, func(m limit) bool { return m.path == was.path })
		}
		if i < 0 {
			return true
		}
		is := n.limits[i]
		if was.min != nil && (is.min == nil || s.less(is.min, was.min)) || was.max != nil && (is.max == nil || s.less(was.max, is.max)) ||
			was.only != nil && (is.only == nil || !contains(was.only, is.only)) {
			return true
		}
	}
	return false
}

func worse(a, b Mark) Mark {
	if a == Looser || b == Looser {
		return Looser
	}
	if a == Tighter || b == Tighter {
		return Tighter
	}
	return Same
}

// stranger is the name of nobody; it is below the site like an account that the document does not know.
const stranger = ""

// reach compares a setting for everybody at or below a level. Who has an own difference in it is judged there.
func (d *differ) reach(t Target, i int) Mark {
	kind, name, _ := strings.Cut(string(t), " ")
	path := table[i].Path
	switch kind {
	case "account":
		return d.compare(name, i)
	case "group":
		m := d.compareLevels([]rung{{d.old.site}, {d.old.groups[name]}}, []rung{{d.new.site}, {d.new.groups[name]}}, i)
		for a := range d.membersOf(name) {
			if own := d.changed["account "+a]; !own[path] && !own["groups"] {
				m = worse(m, d.compare(a, i))
			}
		}
		return m
	}
	m := d.compare(stranger, i)
	for a := range d.new.accounts {
		if m == Looser {
			break
		}
		own := d.changed["account "+a]
		if own[path] || own["groups"] {
			continue
		}
		elsewhere := false
		for _, g := range d.new.accounts[a].groups {
			other := d.changed["group "+g.name]
			elsewhere = elsewhere || other[path] || other["limits"]
		}
		if !elsewhere {
			m = worse(m, d.compare(a, i))
		}
	}
	return m
}

func (d *differ) membersOf(group string) map[string]bool {
	if d.members == nil {
		d.members = map[string]map[string]bool{}
		for _, doc := range []*Document{d.old, d.new} {
			for a, l := range doc.accounts {
				for _, g := range l.groups {
					if d.members[g.name] == nil {
						d.members[g.name] = map[string]bool{}
					}
					d.members[g.name][a] = true
				}
			}
		}
	}
	return d.members[group]
}

// likeness of accounts that say nothing of a setting: what it is for them depends on their groups alone.
type likeness struct {
	setting  int
	old, new string
}

// compare a setting for an account before and after.
func (d *differ) compare(account string, i int) Mark {
	o, n := d.old.accounts[account], d.new.accounts[account]
	if o.says(i) || n.says(i) {
		return d.compareLevels(d.old.chain(account), d.new.chain(account), i)
	}
	like := likeness{i, o.groupKey(), n.groupKey()}
	m, known := d.alike[like]
	if !known {
		m = d.compareLevels(d.old.chain(account), d.new.chain(account), i)
		if d.alike == nil {
			d.alike = map[likeness]Mark{}
		}
		d.alike[like] = m
	}
	return m
}

func (l *Level) says(i int) bool {
	if l == nil {
		return false
	}
	_, ok := l.values[table[i].Path]
	return ok
}

// groupKey tells the groups of an account; nothing else can stand between it and the site.
func (l *Level) groupKey() string {
	switch {
	case l == nil || len(l.groups) == 0:
		return ""
	case len(l.groups) == 1:
		return l.groups[0].name
	}
	names := l.groupNames()
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (d *differ) compareLevels(old, new []rung, i int) Mark {
	was, is := resolveOne(d.old, present(old), i), resolveOne(d.new, present(new), i)
	switch {
	case table[i].resolvedLooser(is, was):
		return Looser
	case table[i].resolvedLooser(was, is):
		return Tighter
	}
	return Same
}

// present leaves out levels that a document does not have.
func present(chain []rung) []rung {
	var list []rung
	for _, r := range chain {
		r = slices.DeleteFunc(slices.Clone(r), func(l *Level) bool { return l == nil })
		list = append(list, r)
	}
	return list
}

// resolvedLooser says whether a may allow anything that b does not. Of networks it errs towards yes: that two small ones
// make a large one is not seen.
func (s *Setting) resolvedLooser(a, b resolved) bool {
	switch {
	case s.Kind == KindPaths:
		return rightsLooser(a, b)
	case s.Kind == KindWords && s.Stricter == Longer:
		return !contains(slices.Concat(a.words()...), slices.Concat(b.words()...))
	case s.Kind == KindWords:
		for _, was := range b.words() {
			if len(was) > 0 && !slices.ContainsFunc(a.words(), func(is []string) bool { return len(is) > 0 && contains(was, is) }) {
				return true
			}
		}
		return false
	case s.Path == "allow_from":
		for _, was := range b.parts() {
			if len(was) > 0 && !slices.ContainsFunc(a.parts(), func(is []netip.Prefix) bool { return len(is) > 0 && covered(is, was) }) {
				return true
			}
		}
		return false
	case s.Path == "deny_from":
		return !covered(slices.Concat(b.parts()...), slices.Concat(a.parts()...))
	}
	return s.looser(a.value, b.value)
}

func (r resolved) parts() [][]netip.Prefix {
	var list [][]netip.Prefix
	for _, part := range append([]resolved{r}, r.more...) {
		list = append(list, part.value.([]netip.Prefix))
	}
	return list
}

func (r resolved) words() [][]string {
	var list [][]string
	for _, part := range append([]resolved{r}, r.more...) {
		list = append(list, part.value.([]string))
	}
	return list
}

// rightsLooser compares at every path where rights can change: those of rules, and the ways to them.
func rightsLooser(a, b resolved) bool {
	x, y := rightsOf(a), rightsOf(b)
	return slices.ContainsFunc(points(x, y), func(at string) bool {
		mine, theirs := combined(x, at), combined(y, at)
		return mine&^theirs != 0
	})
}

func rightsOf(r resolved) []rights {
	var list []rights
	for _, part := range append([]resolved{r}, r.more...) {
		list = append(list, newRights(part.value.([]PathRight), part.origin))
	}
	return list
}

// points are the paths of rules, a name below each, and the ways to them.
func points(lists ...[]rights) []string {
	seen := map[string]bool{}
	for _, list := range lists {
		for _, r := range list {
			for _, u := range r.rules {
				seen[strings.TrimSuffix(u.path, "/")+"/\x00"] = true // no rule can have this name
				for at := u.path; ; at = at[:max(strings.LastIndexByte(at, '/'), 1)] {
					seen[at] = true
					if at == "/" || strings.LastIndexByte(at, '/') == 0 && len(at) == 1 {
						break
					}
				}
			}
		}
	}
	return slices.Collect(maps.Keys(seen))
}

func combined(list []rights, at string) opSet {
	all := ^opSet(0)
	for i := range list {
		set, _ := list[i].at(at)
		if list[i].leads(at) {
			set |= ops(OpStat, OpList)
		}
		all &= set
	}
	return all
}

func diffExceptions(old, new *Document) []Difference {
	return diffLists("exceptions", old.exceptions, new.exceptions, (*Exception).render, func(gone bool) Mark {
		if gone {
			return Tighter
		}
		return Looser
	})
}

func diffTests(old, new *Document) []Difference {
	return diffLists("tests", old.tests, new.tests, (*Test).render, func(bool) Mark { return Same })
}

func diffLists[T any](key string, old, new []T, text func(*T) string, mark func(gone bool) Mark) []Difference {
	var was, is []string
	for i := range old {
		was = append(was, text(&old[i]))
	}
	for i := range new {
		is = append(is, text(&new[i]))
	}
	var list []Difference
	for _, e := range was {
		if !slices.Contains(is, e) {
			list = append(list, Difference{Key: key, Old: e, Mark: mark(true)})
		}
	}
	for _, e := range is {
		if !slices.Contains(was, e) {
			list = append(list, Difference{Key: key, New: e, Mark: mark(false)})
		}
	}
	return list
}
