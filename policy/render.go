package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// render writes the document in its canonical layout: settings in the order of the table.
func (d *Document) render() []byte {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if !d.site.empty() {
		b.WriteString("site:\n")
		d.site.render(&b, "  ")
	}
	renderLevels(&b, "groups", d.groups)
	renderLevels(&b, "accounts", d.accounts)
	if len(d.exceptions) > 0 {
		b.WriteString("exceptions:\n")
		for _, x := range d.exceptions {
			b.WriteString("  - " + x.render() + "\n")
		}
	}
	if len(d.tests) > 0 {
		b.WriteString("tests:\n")
		for _, t := range d.tests {
			b.WriteString("  - " + t.render() + "\n")
		}
	}
	return []byte(b.String())
}

func renderLevels(b *strings.Builder, key string, levels map[string]*Level) {
	if len(levels) == 0 {
		return
	}
	b.WriteString(key + ":\n")
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		if l := levels[name]; l.empty() {
			fmt.Fprintf(b, "  %s: {}\n", quote(name))
		} else {
			fmt.Fprintf(b, "  %s:\n", quote(name))
			l.render(b, "    ")
		}
	}
}

func (l *Level) empty() bool {
	return len(l.values) == 0 && len(l.lock) == 0 && len(l.limits) == 0 && len(l.groups) == 0
}

func (l *Level) render(b *strings.Builder, indent string) {
	if len(l.groups) > 0 {
		fmt.Fprintf(b, "%sgroups: %s\n", indent, flowList(l.groupNames(), quote))
	}
	section := ""
	for i := range table {
		s := &table[i]
		v, ok := l.values[s.Path]
		if !ok {
			continue
		}
		head, key, nested := strings.Cut(s.Path, ".")
		if !nested {
			fmt.Fprintf(b, "%s%s: %s\n", indent, head, s.format(v.value))
			continue
		}
		if head != section {
			fmt.Fprintf(b, "%s%s:\n", indent, head)
			section = head
		}
		fmt.Fprintf(b, "%s  %s: %s\n", indent, key, s.format(v.value))
	}
	if len(l.lock) > 0 {
		var names []string
		for _, k := range l.lock {
			names = append(names, k.name)
		}
		fmt.Fprintf(b, "%slock: %s\n", indent, flowList(names, quote))
	}
	if len(l.limits) > 0 {
		fmt.Fprintf(b, "%slimits:\n", indent)
		for _, m := range l.limits {
			fmt.Fprintf(b, "%s  %s: {%s}\n", indent, m.path, strings.Join(m.text, ", "))
		}
	}
}

func (x *Exception) render() string {
	return fmt.Sprintf("{account: %s, allow: ftp, from: %s, until: %s, reason: %s}",
		quote(x.Account), networkSetting.format(x.From), x.Until.Format(time.DateOnly), quote(x.Reason))
}

func (t *Test) render() string {
	parts := []string{"account: " + quote(t.Account)}
	for _, f := range []struct{ key, value string }{{"protocol", t.Protocol}, {"addr", t.Addr}} {
		if f.value != "" {
			parts = append(parts, f.key+": "+quote(f.value))
		}
	}
	if t.Port != 0 {
		parts = append(parts, fmt.Sprintf("port: %d", t.Port))
	}
	if t.TLS != "" {
		parts = append(parts, "tls: "+t.TLS)
	}
	if t.Method != "" {
		parts = append(parts, "method: "+quote(t.Method))
	}
	if t.SecondFactor != "" {
		parts = append(parts, "second_factor: "+t.SecondFactor)
	}
	if t.Do != "" {
		parts = append(parts, "do: "+quote(t.Do))
	}
	parts = append(parts, "expect: "+t.Expect)
	if t.Code != "" {
		parts = append(parts, "code: "+quote(t.Code))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
