package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// nameRule is one list of patterns for names of uploaded files, in lower case.
type nameList struct {
	patterns []string
	allow    bool
	origin   Origin
}

func parsePattern(text string) error {
	if _, err := path.Match(strings.ToLower(fold(text)), "x"); err != nil || text == "" || strings.Contains(text, "/") {
		return fmt.Errorf("%q is not a pattern of a file's name; write *.csv, report-????.pdf, [0-9]*", text)
	}
	return nil
}

func (p *Effective) resolveNames() {
	for _, setting := range []string{"upload.deny_names", "upload.allow_names"} {
		for _, part := range p.parts(setting) {
			l := nameList{allow: setting == "upload.allow_names", origin: part.origin}
			for _, text := range part.value.([]string) {
				l.patterns = append(l.patterns, strings.ToLower(fold(text)))
			}
			p.names = append(p.names, l)
		}
	}
}

// PermitName says whether a file may be uploaded, or a file renamed, to a path: its last component must match a pattern of every
// list that allows and none of one that denies. Case does not matter. Directories may have any name.
func PermitName(p *Effective, name string) *Denial {
	if len(p.names) == 0 {
		return nil
	}
	base := strings.ToLower(path.Base(fold(name)))
	for i := range p.names {
		l := &p.names[i]
		matched := slices.ContainsFunc(l.patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, base)
			return ok && err == nil
		})
		if matched != l.allow {
			rule := "upload.deny_names"
			if l.allow {
				rule = "upload.allow_names"
			}
			return deny(CodeName, rule, l.origin.String())
		}
	}
	return nil
}
