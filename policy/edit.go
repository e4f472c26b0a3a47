package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Edit is one change of a document: Target sets Path to Value (YAML, flow style: "15m", "[sftp, ftps]"). Without a value
// the target says nothing of it any more. The path "groups" lists the groups of an account, "lock" and "limits" are those of
// the site or a group. Without a path it is the level itself that is made (Value "{}") or dropped ("").
type Edit struct {
	Target      Target
	Path, Value string
}

// Set returns a document in which target sets path to value. What is not touched stays as it was written, comments too. A
// value that contradicts a lock or a limit is an error, as in Parse. A level that is not there yet is made.
func (d *Document) Set(t Target, path, value string) (*Document, error) {
	return d.Edit(Edit{t, path, value})
}

// Unset returns a document in which target says nothing of path.
func (d *Document) Unset(t Target, path string) (*Document, error) { return d.Edit(Edit{t, path, ""}) }

// Edit returns a document with all changes made, or the first error.
func (d *Document) Edit(list ...Edit) (*Document, error) {
	want, text := d.clone(), d.text
	for _, e := range list {
		value, err := want.apply(e)
		if err != nil {
			return nil, err
		}
		if text, err = editText(text, keysOf(e), value); err != nil {
			return nil, err
		}
	}
	return d.edited(want, text)
}

// Without returns a document that says nothing of an account: no section, no exception, no test.
func (d *Document) Without(account string) (*Document, error) {
	want := d.clone()
	delete(want.accounts, account)
	want.exceptions = slices.DeleteFunc(want.exceptions, func(e Exception) bool { return e.Account == account })
	want.tests = slices.DeleteFunc(want.tests, func(t Test) bool { return t.Account == account })
	if s := want.site.values["guard.never_lock_out"]; s.value != nil {
		want.site.values["guard.never_lock_out"] = Value{value: slices.DeleteFunc(slices.Clone(s.value.([]string)), func(n string) bool { return n == account }), Pos: s.Pos}
	}
	text, err := editText(d.text, []string{"accounts", account}, "")
	if err != nil {
		return nil, err
	}
	for _, list := range []string{"exceptions", "tests"} {
		if text, err = dropEntries(text, list, account); err != nil {
			return nil, err
		}
	}
	if s := want.site.values["guard.never_lock_out"]; s.value != nil {
		if text, err = editText(text, []string{"site", "guard", "never_lock_out"}, flowList(s.value.([]string), quote)); err != nil {
			return nil, err
		}
	}
	return d.edited(want, text)
}

// edited reads the new text. It must say what was wanted: an edit of text that went wrong must not become policy. Where a
// layout cannot be edited the document is written anew, with its comments on top, so that none is lost.
func (d *Document) edited(want *Document, text []byte) (*Document, error) {
	canonical := want.render()
	got, err := Parse(d.name, text)
	if err == nil && bytes.Equal(got.render(), canonical) {
		return got, nil
	}
	plain, plainErr := Parse(d.name, append(commentsOf(d.text), canonical...))
	if plainErr != nil { // the edit itself is wrong: beyond a limit, against a lock
		if err != nil {
			return nil, err // with the positions that the operator knows
		}
		return nil, plainErr
	}
	return plain, nil
}

func commentsOf(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		if i := bytes.IndexByte(line, '#'); i >= 0 && (i == 0 || line[i-1] == ' ') {
			b.Write(append(bytes.TrimRight(line[i:], "\r\n"), '\n'))
		}
	}
	return b.Bytes()
}

// apply makes one change without text and returns the value as it is written.
func (d *Document) apply(e Edit) (string, error) {
	drop := strings.TrimSpace(e.Value) == ""
	kind, name, _ := strings.Cut(string(e.Target), " ")
	if e.Path == "" && drop {
		switch kind {
		case "group":
			for _, a := range d.Accounts() {
				if slices.Contains(d.GroupsOf(a), name) {
					return "", fmt.Errorf("group %s has members: account %s", name, a)
				}
			}
			delete(d.groups, name)
		case "account":
			delete(d.accounts, name)
		default:
			return "", fmt.Errorf("%s cannot be dropped", e.Target)
		}
		return "", nil
	}
	if drop {
		if l := d.level(e.Target); l != nil {
			l.unset(e.Path)
		}
		return "", nil
	}
	l, err := d.makeLevel(e.Target)
	if err != nil || e.Path == "" {
		return "{}", err
	}
	n, p := parseYAML([]byte(e.Value))
	if p == nil && e.Path == "limits" && l.scope != AtAccount {
		b := &builder{}
		l.limits = nil
		if b.limits(l, n); len(b.problems) > 0 {
			p = b.problems[0]
		}
	} else if p == nil {
		p = l.set(e.Path, Pos{}, n)
	}
	if p != nil {
		told := *p // the error begins with the path: once is enough, and so is a value that begins where it begins
		told.Message = strings.TrimPrefix(p.Message, e.Path+": ")
		if told.Pos == (Pos{Line: 1, Col: 1}) {
			told.Pos = Pos{}
		}
		return "", &ParseError{Name: e.Path, Problems: []*Problem{&told}}
	}
	return l.format(e.Path), nil
}

func (l *Level) unset(path string) {
	delete(l.values, path)
	switch path {
	case "groups":
		l.groups = nil
	case "lock":
		l.lock = nil
	case "limits":
		l.limits = nil
	}
}

// format is what a level says of a path, in flow style.
func (l *Level) format(path string) string {
	switch path {
	case "groups":
		return flowList(l.groupNames(), quote)
	case "lock":
		return flowList(l.lock, func(r ref) string { return quote(r.name) })
	case "limits":
		var list []string
		for _, m := range l.limits {
			list = append(list, m.path+": {"+strings.Join(m.text, ", ")+"}")
		}
		return "{" + strings.Join(list, ", ") + "}"
	}
	return table[settingIndex(path)].format(l.values[path].value)
}

// keysOf an edit, from the top of the document.
func keysOf(e Edit) []string {
	kind, name, _ := strings.Cut(string(e.Target), " ")
	keys := []string{"site"}
	if kind != "site" {
		keys = []string{kind + "s", name}
	}
	if head, key, nested := strings.Cut(e.Path, "."); nested {
		return append(keys, head, key)
	}
	if e.Path != "" {
		keys = append(keys, e.Path)
	}
	return keys
}
