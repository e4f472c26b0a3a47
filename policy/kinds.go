package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind of a setting's value; the Go type that holds it stands beside it.
type Kind uint8

const (
	KindBool     Kind = 1 + iota // bool
	KindInt                      // int64
	KindSize                     // int64, bytes
	KindDuration                 // time.Duration
	KindRate                     // Rate
	KindEnum                     // string, one of Values
	KindSet                      // []string out of Values
	KindNetworks                 // []netip.Prefix
	KindPaths                    // []PathRight
	KindWords                    // []string, each as Setting.check has it
	KindNames                    // []string, names of accounts
	KindSpan                     // time.Duration, written in days; may be Forever
)

func (k Kind) String() string {
	return [...]string{"?", "true or false", "whole number", "size", "duration", "rate", "word", "list of words", "list of networks", "list of path rights", "list of texts", "list of accounts", "time in days (30), or as 36h, or forever"}[k]
}

// parse reads a value of the setting.
func (s *Setting) parse(n *node) (any, *Problem) {
	switch s.Kind {
	case KindSet, KindNetworks, KindPaths, KindWords, KindNames:
		if p := n.want(isList); p != nil {
			return nil, p
		}
		return s.parseList(n)
	}
	if p := n.want(isScalar); p != nil {
		return nil, p
	}
	v, err := s.parseScalar(n.scalar)
	if err != nil {
		hint := ""
		if s.Kind == KindEnum {
			hint = suggest(n.scalar, s.Values)
		}
		return nil, problem(n.pos, hint, "%s: %v", s.Path, err)
	}
	return v, nil
}

func (s *Setting) parseScalar(text string) (any, error) {
	switch s.Kind {
	case KindBool:
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fmt.Errorf("%q is not true or false", text)
	case KindInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, s.inRange(n)
	case KindSize:
		n, err := parseSize(text)
		if err != nil {
			return nil, err
		}
		return n, s.inRange(n)
	case KindDuration:
		d, err := parseDuration(text)
		if err != nil {
			return nil, err
		}
		return d, s.inRange(int64(d))
	case KindSpan:
		return parseSpan(text)
	case KindRate:
		return parseRate(text)
	case KindEnum:
		if !slices.Contains(s.Values, text) {
			return nil, fmt.Errorf("%q is not one of %s", text, strings.Join(s.Values, ", "))
		}
		return text, nil
	}
	panic("policy: internal error: not a scalar: " + s.Path)
}

func (s *Setting) inRange(n int64) error {
	if n < s.Min || (s.Max > 0 && n > s.Max) {
		if s.Max > 0 {
			return fmt.Errorf("must be from %s to %s", s.formatNumber(s.Min), s.formatNumber(s.Max))
		}
		return fmt.Errorf("must be at least %s", s.formatNumber(s.Min))
	}
	return nil
}

func (s *Setting) formatNumber(n int64) string {
	switch s.Kind {
	case KindDuration:
		return formatDuration(time.Duration(n))
	case KindSize:
		return formatSize(n)
	}
	return strconv.FormatInt(n, 10)
}

func (s *Setting) parseList(n *node) (any, *Problem) {
	var words []string
	var nets []netip.Prefix
	var paths []PathRight
	for _, item := range n.list {
		if s.Kind == KindPaths {
			r, p := parsePathRight(item)
			if p != nil {
				return nil, p
			}
			if slices.ContainsFunc(paths, func(o PathRight) bool { return o.Path == r.Path }) {
				return nil, problem(item.pos, "merge the two entries", "path %s is listed twice", r.Path)
			}
			paths = append(paths, r)
			continue
		}
		if p := item.want(isScalar); p != nil {
			return nil, p
		}
		if s.Kind == KindNetworks {
			net, err := parseNetwork(item.scalar)
			if err != nil {
				return nil, problem(item.pos, "write it as 198.51.100.0/24, 2001:db8::/32 or a single address", "%s: %v", s.Path, err)
			}
			nets = append(nets, net)
			continue
		}
		if s.Kind == KindWords {
			if err := s.check(item.scalar); err != nil {
				return nil, problem(item.pos, s.hint, "%s: %v", s.Path, err)
			}
		}
		if s.Kind == KindNames && !ValidName(item.scalar) {
			return nil, problem(item.pos, nameRule, "%q is not a name", item.scalar)
		}
		if s.Kind == KindSet && !slices.Contains(s.Values, item.scalar) {
			return nil, problem(item.pos, suggest(item.scalar, s.Values), "%s: %q is not one of %s", s.Path, item.scalar, strings.Join(s.Values, ", "))
		}
		if !slices.Contains(words, item.scalar) {
			words = append(words, item.scalar)
		}
	}
	switch s.Kind {
	case KindNetworks:
		return nets, nil
	case KindPaths:
		return paths, nil
	}
	if s.Path == "protocols" {
		return expandFTPS(words), nil
	}
	return words, nil
}

// expandFTPS writes the short word ftps out, so that lists can be compared and intersected member by member.
func expandFTPS(words []string) []string {
	var list []string
	for _, w := range words {
		more := []string{w}
		if w == "ftps" {
			more = []string{"ftps-explicit", "ftps-implicit"}
		}
		for _, m := range more {
			if !slices.Contains(list, m) {
				list = append(list, m)
			}
		}
	}
	return list
}

// foldFTPS is its inverse, for people.
func foldFTPS(words []string) []string {
	if !slices.Contains(words, "ftps-explicit") || !slices.Contains(words, "ftps-implicit") {
		return words
	}
	var list []string
	for _, w := range words {
		switch w {
		case "ftps-explicit":
			list = append(list, "ftps")
		case "ftps-implicit":
		default:
			list = append(list, w)
		}
	}
	return list
}

// parseNetwork reads a prefix or an address. Host bits must be zero: 10.1.2.3/8 is more likely a slip than a wish.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a network", text)
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is a mapped IPv4 network; write it as IPv4", text)
	}
	if p.Masked() != p {
		return p, fmt.Errorf("%q has bits beyond its length; the network is %s", text, p.Masked())
	}
	return p, nil
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

func parseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is not a size; write bytes or 10GiB, 500MB", text)
	}
	return n * factor, nil
}

// formatSize takes the unit with which the number is shortest.
func formatSize(n int64) string {
	number, suffix := strconv.FormatInt(n, 10), ""
	for _, u := range units {
		if n > 0 && u.bytes > 1 && n%u.bytes == 0 {
			if in := strconv.FormatInt(n/u.bytes, 10); len(in) < len(number) {
				number, suffix = in, u.suffix
			}
		}
	}
	return number + suffix
}

var dayPart = regexp.MustCompile(`^([0-9]{1,5})d`)

// parseDuration is time.ParseDuration with days in front: 14d, 1d12h, 15m, 0.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write 30s, 15m, 2h, 14d", text)
	rest, days := text, int64(0)
	if m := dayPart.FindStringSubmatch(text); m != nil {
		days, _ = strconv.ParseInt(m[1], 10, 64)
		if rest = text[len(m[0]):]; rest == "" {
			rest = "0"
		}
	}
	const most = 36500 * 24 * time.Hour
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d%time.Second != 0 || d > most || days > int64(most/(24*time.Hour)) {
		return 0, bad
	}
	if d += time.Duration(days) * 24 * time.Hour; d > most {
		return 0, bad
	}
	return d, nil
}

func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	var b strings.Builder
	if d >= day {
		fmt.Fprintf(&b, "%dd", d/day)
		d %= day
	}
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit {
			fmt.Fprintf(&b, "%d%s", d/u.unit, u.name)
			d %= u.unit
		}
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}

var per = []struct {
	name string
	d    time.Duration
}{{"s", time.Second}, {"min", time.Minute}, {"hour", time.Hour}, {"day", 24 * time.Hour}}

func parseRate(text string) (Rate, error) {
	if text == "0" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	for _, u := range per {
		if u.name == unit && err == nil && n >= 0 && n <= 1_000_000 {
			if n == 0 {
				return Rate{}, nil
			}
			return Rate{N: n, Per: u.d}, nil
		}
	}
	return Rate{}, fmt.Errorf("%q is not a rate; write 10/min (s, min, hour, day), 0 for no limit", text)
}

func (r Rate) String() string {
	for _, u := range per {
		if u.d == r.Per && r.N > 0 {
			return strconv.Itoa(r.N) + "/" + u.name
		}
	}
	return "0"
}

// perSecond of a rate, for comparison.
func (r Rate) perSecond() float64 { return float64(r.N) / r.Per.Seconds() }

// format writes a value as YAML in flow style; parsing it gives the value back.
func (s *Setting) format(v any) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return s.formatNumber(v)
	case time.Duration:
		if s.Kind == KindSpan {
			return formatSpan(v)
		}
		return formatDuration(v)
	case Rate:
		return v.String()
	case string:
		return quote(v)
	case []string:
		if s.Path == "protocols" {
			v = foldFTPS(v)
		}
		return flowList(v, quote)
	case []netip.Prefix:
		return flowList(v, func(p netip.Prefix) string { return quote(p.String()) })
	case []PathRight:
		return flowList(v, PathRight.String)
	}
	panic(fmt.Sprintf("policy: internal error: value of type %T", v))
}

func flowList[T any](list []T, format func(T) string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, e := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(format(e))
	}
	b.WriteByte(']')
	return b.String()
}

// isPlain says whether every YAML reader takes s for a string as it stands: letters, digits, / _ - and single dots inside, beginning with
// a letter or /; or an IPv4 address or network. Not by a regular expression: every refusal and every line of a difference asks.
func isPlain(s string) bool {
	if s == "" || s[len(s)-1] == '.' {
		return false
	}
	if digit(s[0]) {
		return isIPv4(s)
	}
	if !letter(s[0]) && s[0] != '/' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c == '.' && s[i-1] != '.' {
			continue
		}
		if !letter(c) && !digit(c) && c != '/' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// isIPv4 wants four numbers and perhaps the length of a network; whether they are small enough does not matter here.
func isIPv4(s string) bool {
	dots, slashes := 0, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if digit(c) {
			continue
		}
		if i == 0 || i+1 == len(s) || !digit(s[i-1]) || c != '.' && c != '/' || c == '.' && slashes > 0 {
			return false
		}
		if c == '.' {
			dots++
		} else {
			slashes++
		}
	}
	return dots == 3 && slashes <= 1
}

func digit(c byte) bool  { return '0' <= c && c <= '9' }
func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// quote writes a string so that every YAML reader gives it back as a string.
func quote(s string) string {
	if isPlain(s) {
		reserved := false
		if len(s) <= len("false") {
			switch strings.ToLower(s) {
			case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
				reserved = true
			}
		}
		if !reserved {
			return s
		}
	}
	q, err := json.Marshal(s) // a JSON string is a YAML string
	if err != nil {
		panic("policy: internal error: " + err.Error())
	}
	return string(q)
}

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
