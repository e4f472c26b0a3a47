package policy

import (
	"fmt"
	"slices"
	"strings"
)

// limit bounds a setting at one level and below: numbers and ordered words from min to max, words and lists to only.
type limit struct {
	path     string
	pos      Pos
	min, max any // of the setting's type; nil = none
	only     []string
	text     []string // as rendered: "max: 30"
}

// limits reads {backup.retention_days: {max: 30}, protocols: {only: [sftp]}}.
func (b *builder) limits(l *Level, n *node) {
	if n.shape == isNull {
		return
	}
	if p := n.want(isMap); p != nil {
		b.add(p)
		return
	}
	for _, f := range n.fields {
		i := settingIndex(f.key)
		if i < 0 {
			b.add(problem(f.pos, suggest(f.key, settingPaths()), "there is no setting %q to limit", f.key))
			continue
		}
		m, p := parseLimit(&table[i], f)
		b.add(p)
		if p == nil {
			l.limits = append(l.limits, m)
		}
	}
}

func parseLimit(s *Setting, f field) (limit, *Problem) {
	m := limit{path: f.key, pos: f.pos}
	if s.Kind == KindNetworks || s.Kind == KindPaths || s.Kind == KindWords || s.Kind == KindNames || s.Kind == KindBool {
		return m, problem(f.pos, "use lock", "%s cannot have limits", f.key)
	}
	if p := f.value.want(isMap); p != nil {
		p.Hint = "write {min: …, max: …} or {only: […]}"
		return m, p
	}
	for _, g := range f.value.fields {
		switch {
		case (g.key == "min" || g.key == "max") && s.Kind != KindSet:
			v, p := s.parse(g.value)
			if p != nil {
				return m, p
			}
			if g.key == "min" {
				m.min = v
			} else {
				m.max = v
			}
			m.text = append(m.text, g.key+": "+s.format(v))
		case g.key == "only" && (s.Kind == KindSet || s.Kind == KindEnum):
			set := &Setting{Path: s.Path, Kind: KindSet, Values: s.Values}
			v, p := set.parse(g.value)
			if p != nil {
				return m, p
			}
			m.only = v.([]string)
			m.text = append(m.text, "only: "+set.format(m.only))
		default:
			return m, problem(g.pos, suggest(g.key, []string{"min", "max", "only"}), "%s cannot be limited by %q", f.key, g.key)
		}
	}
	if len(m.text) == 0 {
		return m, problem(f.pos, "write {min: …, max: …} or {only: […]}", "the limit is empty")
	}
	if m.min != nil && m.max != nil && s.less(m.max, m.min) {
		return m, problem(f.pos, "", "min is above max")
	}
	return m, nil
}

// less orders values as people write them: smaller numbers, earlier words; "no limit" is above everything.
func (s *Setting) less(a, b any) bool {
	ra, rb := s.size(a), s.size(b)
	return ra < rb
}

func (s *Setting) size(v any) float64 {
	r := (&Setting{Kind: s.Kind, Values: s.Values, Stricter: Higher}).rank(v)
	if s.ZeroIsNone && (r == 0 || r == -1e300) {
		return 1e300
	}
	return r
}

// clamp brings a value into the limit.
func (m *limit) clamp(s *Setting, v any) (any, bool) {
	switch {
	case s.Kind == KindSet:
		if m.only == nil {
			return v, false
		}
		both := s.strictest(v, m.only)
		return both, len(both.([]string)) != len(v.([]string))
	case m.only != nil && !slices.Contains(m.only, v.(string)):
		best := m.only[0]
		for _, w := range m.only {
			if s.rank(w) > s.rank(best) {
				best = w
			}
		}
		return best, true
	case m.min != nil && s.less(v, m.min):
		return m.min, true
	case m.max != nil && s.less(m.max, v):
		return m.max, true
	}
	return v, false
}

// checkBounds finds explicit values beyond a limit or looser than a lock, of the same level or above.
func (b *builder) checkBounds() {
	b.checkChain([]rung{{b.doc.site}})
	for _, g := range b.doc.Groups() {
		chain := []rung{{b.doc.site}, {b.doc.groups[g]}}
		b.checkChain(chain)
		for _, m := range b.doc.groups[g].limits {
			b.checkAgree(chain, m.path, m.pos)
			b.checkLocked(chain, &m)
		}
	}
	for _, a := range b.doc.Accounts() {
		b.checkChain(b.doc.chain(a))
		b.checkGroups(b.doc.accounts[a])
	}
}

// checkGroups finds a lock of one group of an account that another of its groups would loosen.
func (b *builder) checkGroups(l *Level) {
	if len(l.groups) < 2 {
		return
	}
	chain := b.doc.chain(strings.TrimPrefix(l.name, "account "))
	for _, g := range chain[1] {
		for _, m := range g.limits {
			b.checkAgree(chain, m.path, l.groups[0].pos)
		}
		for _, k := range g.lock {
			i := settingIndex(k.name)
			held := resolveOne(b.doc, []rung{chain[0], {g}}, i)
			if got := resolveOne(b.doc, chain[:2], i); table[i].resolvedLooser(got, held) {
				at := l.groups[slices.IndexFunc(l.groups, func(r ref) bool { return "group "+r.name == g.name })]
				b.add(problem(at.pos, fmt.Sprintf("the lock stands at line %d", k.pos.Line), "%s = %s of %s contradicts the lock of %s, and %s is in both",
					k.name, table[i].format(got.value), got.origin.Level, g.name, l.name))
			}
		}
	}
}

// checkLocked finds a limit of a group that loosens what the site locks, without any value: {max: compatible} where modern is locked.
// Of several groups none can then, as a limit never turns a stricter value into a looser one than it makes of the site's.
func (b *builder) checkLocked(chain []rung, m *limit) {
	i := settingIndex(m.path)
	for _, k := range b.doc.site.lock {
		if k.name != m.path {
			continue
		}
		held, got := resolveOne(b.doc, chain[:1], i), resolveOne(b.doc, chain, i)
		if table[i].resolvedLooser(got, held) {
			b.add(problem(m.pos, fmt.Sprintf("the lock stands at line %d", k.pos.Line), "the limit of %s on %s (%s) loosens what the site locks at %s",
				chain[1][0].name, m.path, strings.Join(m.text, ", "), table[i].format(held.value)))
		}
	}
}

// checkAgree finds limits that nothing can fulfil together: one of them would be ignored silently.
func (b *builder) checkAgree(chain []rung, path string, at Pos) {
	s := &table[settingIndex(path)]
	list := limitsOf(chain, path)
	if len(list) < 2 || s.fulfils(list) {
		return
	}
	var said []string
	for _, l := range slices.Concat(chain...) {
		for _, m := range l.limits {
			if m.path == path {
				said = append(said, l.name+" ("+strings.Join(m.text, ", ")+")")
			}
		}
	}
	b.add(problem(at, "", "no value of %s is within the limits of %s together", path, strings.Join(said, " and ")))
}

func limitsOf(chain []rung, path string) []*limit {
	var list []*limit
	for _, rung := range chain {
		for _, l := range rung {
			for i := range l.limits {
				if l.limits[i].path == path {
					list = append(list, &l.limits[i])
				}
			}
		}
	}
	return list
}

// fulfils says whether there is a value within all the limits.
func (s *Setting) fulfils(list []*limit) bool {
	switch s.Kind {
	case KindSet: // what the lists have in common, if it is nothing
		return true
	case KindEnum:
		return s.strictestWithin(list) != ""
	}
	var least, most any
	for _, m := range list {
		if m.min != nil && (least == nil || s.less(least, m.min)) {
			least = m.min
		}
		if m.max != nil && (most == nil || s.less(m.max, most)) {
			most = m.max
		}
	}
	return least == nil || most == nil || !s.less(most, least)
}

// strictestWithin is the strictest word within all the limits; "" if there is none.
func (s *Setting) strictestWithin(list []*limit) string {
	best := ""
	for _, w := range s.Values {
		beyond := slices.ContainsFunc(list, func(m *limit) bool { _, changed := m.clamp(s, w); return changed })
		if !beyond && (best == "" || s.rank(w) > s.rank(best)) {
			best = w
		}
	}
	return best
}

// checkChain checks the values of the last rung against everything above it (and limits of its own level).
func (b *builder) checkChain(chain []rung) {
	last := len(chain) - 1
	for _, l := range chain[last] {
		for i := range table {
			s := &table[i]
			v, ok := l.values[s.Path]
			if !ok {
				continue
			}
			b.checkLimits(chain, s, l, v)
			b.checkLocks(chain[:last], s, l, v)
			b.checkLeast(chain, s, l, v)
		}
	}
}

func (b *builder) checkLimits(chain []rung, s *Setting, l *Level, v Value) {
	for _, rung := range chain {
		for _, above := range rung {
			for _, m := range above.limits {
				if m.path != s.Path {
					continue
				}
				if _, changed := m.clamp(s, v.value); changed {
					b.add(problem(v.Pos, fmt.Sprintf("the limit stands at line %d", m.pos.Line),
						"%s = %s of %s is beyond the limit of %s (%s)", s.Path, s.format(v.value), l.name, above.name, strings.Join(m.text, ", ")))
				}
			}
		}
	}
}

func (b *builder) checkLocks(above []rung, s *Setting, l *Level, v Value) {
	for depth, rung := range above {
		for _, a := range rung {
			i := slices.IndexFunc(a.lock, func(r ref) bool { return r.name == s.Path })
			if i < 0 {
				continue
			}
			locked := s.Default
			for _, up := range append(slices.Clone(above[:depth]), []*Level{a}) {
				for _, u := range up {
					if w, ok := u.values[s.Path]; ok {
						locked = w.value
					}
				}
			}
			if s.combined() {
				continue // lists of all levels combine; nothing below can loosen them
			}
			if s.looser(v.value, locked) {
				b.add(problem(v.Pos, fmt.Sprintf("the lock stands at line %d; only something as strict or stricter than %s may stand here", a.lock[i].pos.Line, s.format(locked)),
					"%s = %s of %s contradicts the lock of %s", s.Path, s.format(v.value), l.name, a.name))
			}
		}
	}
}
