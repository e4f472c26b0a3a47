package policy

import (
	"bytes"
	"slices"
	"strings"
)

// patcher changes the text of a document in place. It knows the bytes of every value from the parser and leaves all others
// alone. Document.edited checks what it did.
type patcher struct {
	text []byte
	cuts []cut
}

type cut struct {
	from, to int
	text     string
}

func (p *patcher) put(from, to int, text string) { p.cuts = append(p.cuts, cut{from, to, text}) }

func (p *patcher) done() []byte {
	slices.SortStableFunc(p.cuts, func(a, b cut) int { return a.from - b.from })
	var b bytes.Buffer
	at := 0
	for _, c := range p.cuts {
		b.Write(p.text[at:c.from])
		b.WriteString(c.text)
		at = c.to
	}
	b.Write(p.text[at:])
	return b.Bytes()
}

// lineStart and lineEnd are the bounds of the line around a byte; the end is behind the line feed.
func (p *patcher) lineStart(at int) int { return bytes.LastIndexByte(p.text[:at], '\n') + 1 }

func (p *patcher) lineEnd(at int) int {
	if i := bytes.IndexByte(p.text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(p.text)
}

// addLine puts a line behind the one around a byte.
func (p *patcher) addLine(at int, line string) {
	end := p.lineEnd(at)
	if end > 0 && p.text[end-1] != '\n' {
		line = "\n" + line
	}
	p.put(end, end, line+"\n")
}

// editText sets the value at some keys of a document, or drops them if it is empty.
func editText(text []byte, keys []string, value string) ([]byte, error) {
	root, fault := parseYAML(text)
	if fault != nil {
		return nil, &ParseError{Name: DefaultName, Problems: []*Problem{fault}, text: text}
	}
	p := &patcher{text: text}
	if value == "" {
		p.drop(root, keys)
	} else {
		p.set(root, keys, value)
	}
	return p.done(), nil
}

// step finds the first of some keys in a mapping. A setting may be written section.key in one.
func step(n *node, keys []string) (i, used int) {
	if len(keys) == 2 {
		if i := n.find(keys[0] + "." + keys[1]); i >= 0 {
			return i, 2
		}
	}
	return n.find(keys[0]), 1
}

func (p *patcher) set(n *node, keys []string, value string) {
	i, used := step(n, keys)
	if i < 0 {
		p.insert(n, keys, value)
		return
	}
	f := &n.fields[i]
	rest := keys[used:]
	switch v := f.value; {
	case len(rest) == 0:
		if v.shape == isMap && value == "{}" {
			return // a level that is there
		}
		p.replace(n, f, value)
	case v.shape == isMap && (len(v.fields) > 0 || n.flow || !grows(keys[0])):
		p.set(v, rest, value)
	case v.shape == isNull && !n.flow && v.start == v.end || v.shape == isMap && grows(keys[0]) && !n.flow:
		p.put(v.start, v.end, "") // accounts: {} becomes a block, with what stands behind it in its line
		p.addLine(v.end, nest(rest, value, n.column+2))
	default:
		p.replace(n, f, "{"+flowNest(rest, value)+"}")
	}
}

// grows says whether a mapping of this key gets a line per entry.
func grows(key string) bool { return key == "groups" || key == "accounts" || key == "site" }

// insert adds keys to a mapping that lacks the first of them.
func (p *patcher) insert(n *node, keys []string, value string) {
	switch {
	case n.shape == isNull: // an empty document
		p.addLine(len(p.text), nest(keys, value, 0))
	case n.flow && len(n.fields) == 0:
		p.put(n.start+1, n.start+1, flowNest(keys, value))
	case n.flow:
		end := n.fields[len(n.fields)-1].value.end
		p.put(end, end, ", "+flowNest(keys, value))
	default:
		p.addLine(n.end, nest(keys, value, n.column))
	}
}

// nest writes keys below each other, the last two in one line.
func nest(keys []string, value string, column int) string {
	pad := strings.Repeat(" ", column)
	isSetting := len(keys) == 2 && isSection(keys[0]) // in a level
	switch {
	case len(keys) == 1:
		return pad + quote(keys[0]) + ": " + value
	case isSetting:
		return pad + keys[0] + ": {" + keys[1] + ": " + value + "}"
	}
	return pad + quote(keys[0]) + ":\n" + nest(keys[1:], value, column+2)
}

func flowNest(keys []string, value string) string {
	if len(keys) == 1 {
		return quote(keys[0]) + ": " + value
	}
	return quote(keys[0]) + ": {" + flowNest(keys[1:], value) + "}"
}

func (p *patcher) replace(n *node, f *field, value string) {
	v := f.value
	if v.start == v.end { // key: and nothing
		p.put(f.after, f.after, " "+value)
		return
	}
	if v.shape == isList && !v.flow {
		if list, fault := parseYAML([]byte(value)); fault == nil && list.shape == isList {
			p.mergeList(n, v, list, []byte(value))
			return
		}
	}
	if v.shape == isMap && !v.flow { // limits over several lines
		p.put(f.after, f.after, " "+value)
		p.put(p.lineStart(v.start), p.lineEnd(v.end), "")
		return
	}
	p.put(v.start, v.end, value)
}

// mergeList brings a block list to new entries, line by line: what stays keeps its line and its comment.
func (p *patcher) mergeList(parent, old, list *node, text []byte) {
	var wanted []string
	for _, e := range list.list {
		wanted = append(wanted, string(text[e.start:e.end]))
	}
	var kept []string
	for i, e := range old.list {
		mine := e.canonical()
		at := slices.IndexFunc(list.list, func(o *node) bool { return o.canonical() == mine })
		if at >= 0 && !slices.Contains(kept, wanted[at]) {
			kept = append(kept, wanted[at])
			continue
		}
		from, to := p.lineStart(e.start), p.lineEnd(e.end)
		if i == 0 && len(wanted) == 0 {
			p.put(from, e.end, strings.Repeat(" ", parent.column+2)+"[]")
			continue
		}
		p.put(from, to, "")
	}
	pad := strings.Repeat(" ", old.column)
	for _, w := range wanted {
		if !slices.Contains(kept, w) {
			p.addLine(old.end, pad+"- "+w)
		}
	}
}

// canonical is a value in one spelling, for comparison.
func (n *node) canonical() string {
	switch n.shape {
	case isNull:
		return "null"
	case isList:
		return flowList(n.list, (*node).canonical)
	case isMap:
		var list []string
		for _, f := range n.fields {
			list = append(list, quote(f.key)+": "+f.value.canonical())
		}
		return "{" + strings.Join(list, ", ") + "}"
	}
	return quote(n.scalar)
}

// drop removes what stands at some keys, and a section or list that is empty then.
func (p *patcher) drop(n *node, keys []string) bool {
	i, used := step(n, keys)
	if i < 0 {
		return false
	}
	f := &n.fields[i]
	if rest := keys[used:]; len(rest) > 0 {
		if f.value.shape != isMap {
			return false
		}
		if j, u := step(f.value, rest); len(f.value.fields) > 1 || j < 0 || u < len(rest) {
			if !p.drop(f.value, rest) {
				return false
			}
			return len(p.cuts) > 0
		}
		// The only entry goes: the whole goes, but for a group or an account, which stays as an empty one.
		if !isSection(keys[0]) && !grows(keys[0]) {
			if v := f.value; v.flow || n.flow {
				p.put(v.start, v.end, "{}")
			} else {
				p.put(f.after, f.after, " {}")
				p.put(p.lineStart(v.start), p.lineEnd(v.end), "")
			}
			return true
		}
	}
	p.dropField(n, i)
	return true
}

func (p *patcher) dropField(n *node, i int) {
	f := &n.fields[i]
	switch {
	case !n.flow:
		p.put(p.lineStart(f.start), p.lineEnd(f.value.end), "")
	case i > 0:
		p.put(n.fields[i-1].value.end, f.value.end, "")
	case len(n.fields) > 1:
		p.put(f.start, n.fields[1].start, "")
	default:
		p.put(f.start, f.value.end, "")
	}
}

// dropEntries removes the entries of a list of the document that are about an account, and the list if none is left.
func dropEntries(text []byte, key, account string) ([]byte, error) {
	root, fault := parseYAML(text)
	if fault != nil {
		return nil, &ParseError{Name: DefaultName, Problems: []*Problem{fault}, text: text}
	}
	at := root.find(key)
	if at < 0 || root.fields[at].value.shape != isList {
		return text, nil
	}
	p, list := &patcher{text: text}, root.fields[at].value
	var gone []int
	for i, e := range list.list {
		if j := e.find("account"); j >= 0 && e.fields[j].value.scalar == account {
			gone = append(gone, i)
		}
	}
	if len(gone) > 0 && len(gone) == len(list.list) {
		p.dropField(root, at)
		return p.done(), nil
	}
	for n, i := range gone {
		switch e := list.list[i]; {
		case !list.flow:
			p.put(p.lineStart(e.start), p.lineEnd(e.end), "")
		case i > n: // something before it stays
			p.put(list.list[i-1].end, e.end, "")
		default:
			p.put(e.start, list.list[i+1].start, "")
		}
	}
	return p.done(), nil
}
