package policy

import (
	"fmt"
	"net/netip"
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
