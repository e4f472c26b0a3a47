package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

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
