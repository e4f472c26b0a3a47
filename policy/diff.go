package policy

import (
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
