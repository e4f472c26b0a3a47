package policy

import (
	"slices"
	"strings"
)

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
