package policy

import (
	"fmt"
	"strings"
)

// Reference is docs/reference/policy.md: every setting, made from the table.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(`# Policy settings

Made from the table in ` + "`policy/table.go`" + ` by ` + "`make docs`" + `; a test says so when it is out of date. The JSON Schema for editors is what
` + "`sallyport policy schema`" + ` prints.

A policy is YAML: ` + "`version: 1`" + `, then ` + "`site`, `groups`, `accounts`, `exceptions` and `tests`" + `. A value is the nearest explicit one of account, groups,
site, built-in; of several groups the strictest. Allow lists of networks must all contain an address, deny lists add up. ` + "`lock: [SETTING]`" + ` at
the site or a group forbids anything looser below; ` + "`limits: {SETTING: {min:, max:, only:}}`" + ` bounds it. What contradicts a lock or a limit is an error
with its place, never ignored. Keys of ` + "`sallyport policy get` and `set` are `site.SETTING`, `groups.NAME.SETTING` and `accounts.NAME.SETTING`" + `.

`)
	b.WriteString("| setting | type | default | stricter | at | since |\n|---|---|---|---|---|---|\n")
	for i := range table {
		s := &table[i]
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | `%s` | %s | %s | %s |\n", s.Path, anchor(s.Path), s.typeText(), s.DefaultText(), s.Stricter, s.Scope, s.Since)
	}
	section := ""
	for i := range table {
		s := &table[i]
		if head, _, nested := strings.Cut(s.Path, "."); nested && head != section {
			section = head
			fmt.Fprintf(&b, "\n## %s\n", head)
		} else if !nested && section != "" {
			section = ""
			b.WriteString("\n## without a section\n")
		}
		s.reference(&b)
	}
	b.WriteString(levelReference)
	return []byte(b.String())
}

func (s *Setting) reference(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n", s.Path, s.Description)
	fmt.Fprintf(b, "Type: %s. Default: `%s`. Stricter: %s. May stand at: %s. Since %s.", s.typeText(), s.DefaultText(), s.Stricter, s.Scope, s.Since)
	if s.ZeroIsNone {
		b.WriteString(" 0 or an empty list means no limit.")
	}
	fmt.Fprintf(b, " Example: `%s: %s`\n", s.Path, s.Example)
}

// typeText says what may be written.
func (s *Setting) typeText() string {
	text := s.Kind.String()
	if s.Unit != "" {
		text += " of " + s.Unit
	}
	switch {
	case len(s.Values) > 0:
		text += ": " + strings.Join(s.Values, ", ")
	case s.Max > 0:
		text += fmt.Sprintf(", %s to %s", s.formatNumber(s.Min), s.formatNumber(s.Max))
	case s.Min > 0:
		text += ", at least " + s.formatNumber(s.Min)
	}
	return text
}

func anchor(path string) string { return strings.ReplaceAll(path, ".", "") }

const levelReference = `
## Beside the settings

- ` + "`groups: [NAME, ...]`" + ` of an account. Their order means nothing.
- ` + "`lock: [SETTING, ...]`" + ` and ` + "`limits: {SETTING: {min: 1, max: 30}}`, `{only: [WORD, ...]}`" + ` of the site and of groups.
- ` + "`exceptions: [{account: NAME, allow: ftp, from: [NETWORK], until: 2027-01-31, reason: TEXT}]`" + `: the only way to FTP without TLS. ` + "`until`" + ` is the last day, UTC.
- ` + "`tests: [{account: NAME, addr: ADDRESS, port: N, protocol: WORD, tls: false, method: WORD, second_factor: false, do: \"put /in/a\", expect: refused, code: SP-T21}]`" + `:
  what must hold. They run with ` + "`policy test`" + `, before a change is made, and when the server starts. Without ` + "`protocol`" + ` the port decides: 21 is FTPS with AUTH TLS, 990 is
  implicit FTPS, everything else SFTP. What a test does not say is as a good client would have it.
`

// RefusalsReference is docs/reference/refusals.md: every code, made from the table.
func RefusalsReference() []byte {
	var b strings.Builder
	b.WriteString("# Refusals\n\nMade from the table in `policy/codes.go` by `make docs`; a test says so when it is out of date. A code is `SP-`, a letter for the stage, two\n" +
		"digits; it never changes its meaning. The client gets the sentence and the code. The operator gets rule and origin too: in the log, in `sallyport audit tail`,\n" +
		"and, for any connection past, present or imagined, from `sallyport policy explain`.\n")
	stage := Stage(0)
	for _, r := range refusals {
		if r.Stage != stage {
			stage = r.Stage
			fmt.Fprintf(&b, "\n## Stage %d: %s\n\n| code | the client sees | what happened | way out |\n|---|---|---|---|\n", stage, stage)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Code, r.Message, r.Meaning, r.Hint)
	}
	return []byte(b.String())
}
