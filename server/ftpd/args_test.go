package ftpd

import (
	"strings"
	"testing"
	"time"
)

// FuzzArguments gives every parser of a command's argument anything: what it takes has one meaning and stays in bounds.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{
		"Type;Size;modify;X.partial;", "20261127120000.5", "20260230000000", "99991231235959", "202611271200", "755", "07777", "1,2,3,4,5,6", "256,0,0,0,0,0",
		"|1|192.0.2.1|21|", "|2|::ffff:192.0.2.1|65536|", "||||", `"a ""quoted"" name" 1 9223372036854775807`, `"f" 5 5`, "name 1 2", "150 Opening.", "\u017fite chmod", "l\u0131st", "099 x", "1  9", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if set := parseFacts(s); set >= factsEnd || parseFacts(set.names()) != set {
			t.Errorf("facts of %q are %b", s, set)
		}
		for _, parse := range []func(string) (time.Time, bool){parseFactTime, parseSiteTime} {
			if at, ok := parse(s); ok && (at.Location() != time.UTC || at.Year() < 0 || at.Year() > 9999) {
				t.Errorf("time of %q is %v", s, at)
			}
		}
		if m, ok := parseMode(s); ok && m&^0o777 != 0 {
			t.Errorf("mode of %q is %o", s, m)
		}
		if a, ok := parsePort(s); ok && (!a.Addr().Is4() || strings.Count(s, ",") != 5) {
			t.Errorf("PORT %q is %v", s, a)
		}
		if a, ok := parseEprt(s); ok && (!a.IsValid() || a.Addr().Zone() != "" || a.Addr().Is4In6()) {
			t.Errorf("EPRT %q is %v", s, a)
		}
		if _, r, ok := parseChecksum(s); ok && r != nil && (r.start < 0 || r.end < r.start) {
			t.Errorf("the range of %q is %+v", s, *r)
		}
		if code, _, ok := parseReply(s); ok && (code < 100 || code > 999) {
			t.Errorf("reply %q has code %d", s, code)
		}
		verb, rest := splitCommand(s)
		given, _, _ := strings.Cut(s, " ")
		for i := range len(given) { // a verb differs from what was sent in the case of ASCII letters and nothing else
			if len(verb) != len(given) || verb[i] != given[i] && (given[i]|0x20 != verb[i]|0x20 || verb[i] < 'A' || verb[i] > 'Z') {
				t.Errorf("command %q is %q and %q", s, verb, rest)
				break
			}
		}
		if word, rest := cutWord(s); len(word)+len(rest) > len(s) {
			t.Errorf("%q is %q and %q", s, word, rest)
		}
	})
}
