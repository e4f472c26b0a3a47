package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Origin is the place that gave a value.
type Origin struct {
	Level    string // "built-in", "site", "group partners", "account acme"
	Document string // file name of the document
	Pos      Pos
	Revision uint64
	Clamped  string // the limit that changed the value, "" = none
}

func (o Origin) String() string {
	s := o.Level
	switch {
	case s == "":
		s = "built-in"
	case o.Pos.Line > 0 && o.Revision > 0: // by hand: it is in every refusal, and they come by the thousand
		s += " (" + o.Document + ":" + itoa(o.Pos.Line) + ", revision " + strconv.FormatUint(o.Revision, 10) + ")"
	case o.Pos.Line > 0:
		s += " (" + o.Document + ":" + itoa(o.Pos.Line) + ")"
	}
	if o.Clamped != "" {
		s += ", held by " + o.Clamped
	}
	return s
}

// Unnamed is an origin, as String wrote it, without the name of an account. Logs and the audit log know accounts by their ids, and
// must not say beside an id whose it is.
func Unnamed(origin string) string {
	rest, named := strings.CutPrefix(origin, "account ")
	if !named {
		return origin
	}
	if end := strings.IndexAny(rest, " ,"); end >= 0 {
		return "account" + rest[end:]
	}
	return "account"
}

// resolved is one value with its origin. Lists that are combined keep every part.
type resolved struct {
	value  any
	origin Origin
	more   []resolved // further lists, for allow_from, deny_from and paths
}

func itoa(n int) string { return strconv.Itoa(n) }

// Resolve computes the policy of an account, known to the document or not; "" gives the policy of the site.
// Value = nearest explicit of account > groups > site > built-in, of several groups the strictest, clamped by limits.
// allow_from lists intersect over all levels, deny_from lists add up.
func Resolve(d *Document, account string) *Effective { return resolve(d, account, 0) }

func resolve(d *Document, account string, revision uint64) *Effective {
	e := &Effective{Account: account, Revision: revision, values: make([]resolved, len(table))}
	chain := d.chain(account)
	if l := d.accounts[account]; l != nil {
		e.Groups = l.groupNames()
	}
	for i := range table {
		e.values[i] = resolveOne(d, chain, i)
		e.stamp(&e.values[i])
		if table[i].apply != nil {
			table[i].apply(e, e.values[i].value)
		}
	}
	e.holdRetention()
	e.AllowFrom = e.networks("allow_from")
	e.DenyFrom = e.networks("deny_from")
	e.resolveHours()
	e.resolveNames()
	e.resolvePaths()
	for _, x := range d.exceptions {
		if account != "" && x.Account == account {
			e.Exceptions = append(e.Exceptions, x)
		}
	}
	return e
}

// rung is the levels of one rank: the site, the groups of the account, the account.
type rung []*Level

// chain goes from the site to the account.
func (d *Document) chain(account string) []rung {
	chain := []rung{{d.site}}
	l := d.accounts[account]
	if account == "" || l == nil {
		return chain
	}
	var groups rung
	for _, g := range l.groups {
		groups = append(groups, d.groups[g.name])
	}
	slices.SortFunc(groups, func(a, b *Level) int { return strings.Compare(a.name, b.name) }) // their order must not matter
	return append(chain, groups, rung{l})
}

func originOf(d *Document, l *Level, v Value) Origin {
	return Origin{Level: l.name, Document: d.name, Pos: v.Pos}
}

// stamp names the revision in the origins of a value.
func (e *Effective) stamp(r *resolved) {
	r.origin.Revision = e.Revision
	for i := range r.more {
		r.more[i].origin.Revision = e.Revision
	}
}

// resolveOne setting.
func resolveOne(d *Document, chain []rung, i int) resolved {
	if table[i].combined() {
		return combine(d, chain, i)
	}
	return nearest(d, chain, i)
}

// nearest explicit value. Paths of several groups are kept side by side, because every one must grant.
func nearest(d *Document, chain []rung, i int) resolved {
	s := &table[i]
	r := resolved{value: s.Default, origin: Origin{Level: "built-in"}}
	for _, rung := range slices.Backward(chain) {
		found := false
		for _, l := range rung {
			v, ok := l.values[s.Path]
			if !ok {
				continue
			}
			mine := resolved{value: v.value, origin: originOf(d, l, v)}
			switch {
			case !found:
				r, found = mine, true
			case s.Kind == KindPaths:
				r.more = append(r.more, mine)
			case s.Kind == KindSet:
				r.value = s.strictest(r.value, v.value)
				r.origin.Level += " and " + l.name
			case s.looser(r.value, v.value):
				r = mine
			}
		}
		if found {
			break
		}
	}
	return clamp(r, s, d, chain)
}

// clamp applies limits of every level to a value that no level wrote down (a written one beyond a limit is an error, and so are limits
// that contradict each other).
func clamp(r resolved, s *Setting, d *Document, chain []rung) resolved {
	for _, rung := range slices.Backward(chain) {
		for _, l := range rung {
			for _, m := range l.limits {
				if m.path != s.Path {
					continue
				}
				if v, changed := m.clamp(s, r.value); changed {
					r.value = v
					r.origin.Clamped = fmt.Sprintf("limits of %s (%s:%d)", l.name, d.name, m.pos.Line)
				}
			}
		}
	}
	if r.origin.Clamped != "" && s.Kind == KindEnum { // one limit may have led out of another
		if w := s.strictestWithin(limitsOf(chain, s.Path)); w != "" && slices.ContainsFunc(limitsOf(chain, s.Path), func(m *limit) bool { _, changed := m.clamp(s, r.value); return changed }) {
			r.value = w
		}
	}
	return r
}

func combine(d *Document, chain []rung, i int) resolved {
	r := resolved{value: table[i].Default, origin: Origin{Level: "built-in"}}
	for _, rung := range chain {
		for _, l := range rung {
			v, ok := l.values[table[i].Path]
			if !ok || emptyList(v.value) {
				continue
			}
			mine := resolved{value: v.value, origin: originOf(d, l, v)}
			if r.origin.Level == "built-in" {
				r = mine
			} else {
				r.more = append(r.more, mine)
			}
		}
	}
	return r
}

func emptyList(v any) bool {
	switch v := v.(type) {
	case []netip.Prefix:
		return len(v) == 0
	case []string:
		return len(v) == 0
	}
	return false
}

// parts are the lists of a combined setting that say something.
func (e *Effective) parts(path string) []resolved {
	r := e.values[settingIndex(path)]
	return slices.DeleteFunc(append([]resolved{r}, r.more...), func(p resolved) bool { return emptyList(p.value) })
}

func (e *Effective) networks(path string) []Networks {
	r := e.values[settingIndex(path)]
	var list []Networks
	for _, part := range append([]resolved{r}, r.more...) {
		if p := part.value.([]netip.Prefix); len(p) > 0 {
			list = append(list, Networks{Prefixes: p, Origin: part.origin})
		}
	}
	return list
}

func (e *Effective) resolvePaths() {
	r := e.values[settingIndex("paths")]
	for _, part := range append([]resolved{r}, r.more...) {
		e.rights = append(e.rights, newRights(part.value.([]PathRight), part.origin))
	}
	e.uniform = isUniform(e.rights) && len(e.names) == 0 // a symlink could lead to another name
}

func (e *Effective) origin(path string) Origin { return e.values[settingIndex(path)].origin }

// Value returns a setting as it would stand in a document, and where it comes from. Of lists that are combined it is
// the first part; Rows shows all.
func (e *Effective) Value(path string) (string, Origin) {
	i := settingIndex(path)
	if i < 0 {
		return "", Origin{}
	}
	return table[i].format(e.values[i].value), e.values[i].origin
}

// Row is one line of "policy show".
type Row struct {
	Path   string `json:"setting"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Rows are all settings in the order of the table.
func (e *Effective) Rows() []Row {
	var rows []Row
	for i := range table {
		r := e.values[i]
		for _, part := range append([]resolved{r}, r.more...) {
			rows = append(rows, Row{table[i].Path, table[i].format(part.value), part.origin.String()})
		}
	}
	return rows
}
