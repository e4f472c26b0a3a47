package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// rank orders scalar values from loose to strict; larger is stricter.
func (s *Setting) rank(v any) float64 {
	var r float64
	switch v := v.(type) {
	case bool:
		if v {
			r = 1
		}
	case int64:
		r = float64(v)
	case time.Duration:
		r = float64(v)
	case Rate:
		if v.N == 0 {
			return -1e300
		}
		r = v.perSecond()
	case string:
		return float64(slices.Index(s.Values, v)) // Values go from loose to strict
	}
	if s.ZeroIsNone && r == 0 {
		return -1e300
	}
	if s.Stricter == Lower || s.Stricter == False {
		return -r
	}
	return r
}

// looser says whether a allows anything that b does not.
func (s *Setting) looser(a, b any) bool {
	switch s.Kind {
	case KindSet:
		return !contains(b.([]string), a.([]string))
	case KindWords:
		a, b := a.([]string), b.([]string)
		if s.Stricter == Longer {
			return !contains(a, b)
		}
		if len(a) == 0 || len(b) == 0 { // empty = any
			return len(a) == 0 && len(b) > 0
		}
		return !contains(b, a)
	case KindNames: // more names protect more
		return !contains(a.([]string), b.([]string))
	case KindNetworks:
		a, b := a.([]netip.Prefix), b.([]netip.Prefix)
		if s.Stricter == Longer {
			return !covered(b, a)
		}
		if s.ZeroIsNone && (len(a) == 0 || len(b) == 0) { // empty = any
			return len(a) == 0 && len(b) > 0
		}
		return !covered(a, b)
	case KindPaths:
		return rightsLooser(resolved{value: a}, resolved{value: b})
	}
	return s.rank(a) < s.rank(b)
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(w string) bool { return !slices.Contains(all, w) })
}

// covered says whether every network of inner lies in one of outer.
func covered(inner, outer []netip.Prefix) bool {
	for _, i := range inner {
		if !slices.ContainsFunc(outer, func(o netip.Prefix) bool { return o.Bits() <= i.Bits() && o.Contains(i.Addr()) }) {
			return false
		}
	}
	return true
}

// strictest of the values that several groups give: the strictest of an order, the intersection of sets.
func (s *Setting) strictest(a, b any) any {
	switch s.Kind {
	case KindSet:
		var both []string
		for _, w := range s.Values { // in the order of the table, so that the order of groups cannot matter
			if slices.Contains(a.([]string), w) && slices.Contains(b.([]string), w) {
				both = append(both, w)
			}
		}
		return both
	case KindNames:
		return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.([]string), b.([]string)))))
	case KindNetworks, KindPaths, KindWords:
		panic("policy: internal error: lists are kept side by side: " + s.Path)
	}
	if cmp.Less(s.rank(a), s.rank(b)) {
		return b
	}
	return a
}
