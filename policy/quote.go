package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

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
