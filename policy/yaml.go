package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// The part of YAML that a policy needs: block and flow mappings and lists, plain and quoted words on one line, comments.
// Every document that parses here means the same to every other YAML reader (a test compares). What is refused is what a
// policy has no use for: anchors, tags, merges, text over several lines, several documents.
//
// It is not a library's parser for two reasons: a policy of 10,000 accounts must be read in a fraction of a second, and
// editing needs the exact bytes that each value takes, so that everything around it, comments too, stays as it was written.

// Limits of a document, far above any sensible one.
const (
	MaxDocument = 8 << 20 // bytes
	maxDepth    = 12      // of nested lists and mappings; the schema needs 6
	maxProblems = 20      // reported at once
)

// node is a value with its place: a scalar, a list or a mapping.
type node struct {
	pos        Pos
	start, end int // bytes of the value, without what follows it in its line
	column     int // of the keys or dashes of a block, in bytes from 0
	flow       bool
	shape      shape
	scalar     string
	list       []*node
	fields     []field
}

type field struct {
	key   string
	pos   Pos
	start int // of the key
	after int // behind the colon
	value *node
}

type shape uint8

const (
	isScalar shape = iota
	isList
	isMap
	isNull
)

func (s shape) String() string {
	return [...]string{"a single value", "a list", "a mapping", "nothing"}[s]
}

// find is the place of a key among the fields; -1 if there is none.
func (n *node) find(key string) int {
	return slices.IndexFunc(n.fields, func(f field) bool { return f.key == key })
}

type yamlParser struct {
	text  []byte
	lines []int // where each line begins
	depth int
	// counted is the last place whose column was counted, in bytes, and counts its characters: from there on to the next place of
	// the line only what lies between is counted. A document of one long line takes hours otherwise.
	counted, counts int
}

// parseYAML turns text into nodes.
func parseYAML(text []byte) (root *node, fault *Problem) {
	if len(text) > MaxDocument {
		return nil, problem(Pos{}, "", "the document is larger than %d bytes", MaxDocument)
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, problem(Pos{}, "", "the document is not UTF-8 text")
	}
	p := &yamlParser{text: text, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	if at := unprintable(text); at >= 0 {
		return nil, problem(p.pos(at), "write it as an escape in double quotes if it is meant", "%U is invisible, or the end of a line to some readers", firstRune(text[at:]))
	}
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if fault, ok = r.(*Problem); !ok {
				panic(r)
			}
		}
	}()
	return p.document(), nil
}

func firstRune(text []byte) rune {
	r, _ := utf8.DecodeRune(text)
	return r
}

// fail ends the parsing; parseYAML catches it.
func (p *yamlParser) fail(at int, hint, format string, args ...any) {
	panic(problem(p.pos(at), hint, format, args...))
}

func (p *yamlParser) pos(at int) Pos {
	line := sort.SearchInts(p.lines, at+1) - 1
	if begin := p.lines[line]; p.counted < begin || p.counted > at {
		p.counted, p.counts = begin, 0
	}
	p.counts += utf8.RuneCount(p.text[p.counted:at])
	p.counted = at
	return Pos{line + 1, p.counts + 1}
}

// unprintable finds the first character that YAML does not allow in a text, or takes for a line end in one of its versions and
// not in another: behind it a comment would end for one reader and go on for the next. -1 if there is none.
func unprintable(text []byte) int {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && !(c == '\r' && (i+1 == len(text) || text[i+1] == '\n')) || c == 0x7f {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r <= 0x9f, r == '\u2028', r == '\u2029', r == '\ufeff', r == 0xfffe, r == 0xffff:
			return i
		}
		i += size
	}
	return -1
}

func (p *yamlParser) column(at int) int { return at - p.lines[sort.SearchInts(p.lines, at+1)-1] }

// at is the byte there, 0 at the end.
func (p *yamlParser) at(i int) byte {
	if i < len(p.text) {
		return p.text[i]
	}
	return 0
}

func (p *yamlParser) isEnd(i int) bool {
	c := p.at(i)
	return c == 0 || c == '\n' || c == '\r' && (p.at(i+1) == '\n' || i+1 == len(p.text))
}

func (p *yamlParser) isSpace(i int) bool { return p.at(i) == ' ' || p.at(i) == '\t' || p.isEnd(i) }

// blanks skips spaces in a line.
func (p *yamlParser) blanks(i int) int {
	for p.at(i) == ' ' || p.at(i) == '\t' {
		i++
	}
	return i
}

// lineEnd skips to the end of the line, over a comment; anything else there is a fault.
func (p *yamlParser) lineEnd(i int) int {
	j := p.blanks(i)
	if p.at(j) == '#' && (j > i || p.column(j) == 0) {
		for !p.isEnd(j) {
			j++
		}
	}
	if !p.isEnd(j) {
		p.fail(j, "", "unexpected text after the value")
	}
	return j
}

// next finds the next content at or after the end of a line, over blank lines and comments.
func (p *yamlParser) next(i int) (at, column int) {
	for i < len(p.text) {
		switch c := p.text[i]; {
		case c == '\n':
			i++
		case c == '\r' && p.isEnd(i):
			i++
		case c == ' ':
			i++
		case c == '\t':
			if j := p.blanks(i); !p.isEnd(j) && p.at(j) != '#' {
				p.fail(i, "indent with spaces", "a tab cannot indent")
			} else {
				i = j
			}
		case c == '#':
			for !p.isEnd(i) {
				i++
			}
		default:
			return i, p.column(i)
		}
	}
	return len(p.text), 0
}

func (p *yamlParser) marker(i int, mark string) bool {
	return p.column(i) == 0 && bytes.HasPrefix(p.text[i:], []byte(mark)) && p.isSpace(i+3)
}

func (p *yamlParser) document() *node {
	at, column := p.next(0)
	if at < len(p.text) && p.marker(at, "---") {
		at, column = p.next(p.lineEnd(at + 3))
	}
	if at == len(p.text) {
		return &node{shape: isNull, pos: Pos{1, 1}, start: at, end: at}
	}
	n := p.block(at, column)
	if at, _ = p.next(p.lineEnd(n.end)); at < len(p.text) && p.marker(at, "...") {
		at, _ = p.next(p.lineEnd(at + 3))
	}
	if at < len(p.text) {
		if p.marker(at, "---") {
			p.fail(at, "", "only one document is allowed")
		}
		p.fail(at, "", "this line is not indented like the lines before it")
	}
	return n
}

func (p *yamlParser) enter(at int) {
	if p.depth++; p.depth > maxDepth {
		p.fail(at, "", "lists and mappings are nested too deeply")
	}
}

// block reads a value that begins a line, or stands behind a dash.
func (p *yamlParser) block(at, column int) *node {
	p.enter(at)
	defer func() { p.depth-- }()
	switch {
	case p.at(at) == '-' && p.isSpace(at+1):
		return p.blockList(at, column)
	case p.at(at) == '?' && p.isSpace(at+1):
		p.fail(at, "", "complex keys are not allowed here")
	}
	if _, _, ok := p.key(at, false); ok {
		return p.blockMap(at, column)
	}
	n := p.inline(at, false)
	p.lineEnd(n.end)
	return n
}

func (p *yamlParser) blockMap(at, column int) *node {
	n := &node{shape: isMap, pos: p.pos(at), start: at, column: column}
	seen := map[string]bool{}
	for {
		key, after, ok := p.key(at, false)
		if !ok {
			p.fail(at, "", "expected a key and a colon")
		}
		p.once(seen, key, at)
		f := field{key: key, pos: p.pos(at), start: at, after: after}
		if v := p.blanks(after); p.isEnd(v) || p.at(v) == '#' && v > after {
			f.value = p.below(after, column, true)
			f.value.posOr(f.pos)
		} else {
			if v == after {
				p.fail(after, "", "a space is missing after the colon")
			}
			f.value = p.inline(v, false)
		}
		n.fields = append(n.fields, f)
		n.end = f.value.end
		next, c := p.next(p.lineEnd(n.end))
		if next == len(p.text) || c < column || p.marker(next, "---") || p.marker(next, "...") {
			return n
		}
		if c > column {
			p.fail(next, "", "this line is indented more than the one it belongs to")
		}
		if p.at(next) == '-' && p.isSpace(next+1) {
			return n // of a list around this mapping
		}
		at = next
	}
}

func (p *yamlParser) once(seen map[string]bool, key string, at int) {
	if key == "<<" {
		p.fail(at, "", "anchors, aliases, tags and merges are not allowed here")
	}
	if seen[key] {
		p.fail(at, "", "%q stands here twice", key)
	}
	seen[key] = true
}

func (n *node) posOr(pos Pos) {
	if n.shape == isNull && n.pos == (Pos{}) {
		n.pos = pos
	}
}

// below reads the value on the lines below a key or a dash. A list may stand in the column of its key.
func (p *yamlParser) below(after, column int, ofKey bool) *node {
	next, c := p.next(p.lineEnd(after))
	if next < len(p.text) && !p.marker(next, "---") && !p.marker(next, "...") {
		if c > column || ofKey && c == column && p.at(next) == '-' && p.isSpace(next+1) {
			return p.block(next, c)
		}
	}
	return &node{shape: isNull, start: after, end: after}
}

func (p *yamlParser) blockList(at, column int) *node {
	n := &node{shape: isList, pos: p.pos(at), start: at, column: column}
	for {
		var e *node
		if v := p.blanks(at + 1); p.isEnd(v) || p.at(v) == '#' {
			e = p.below(at+1, column, false)
			e.posOr(p.pos(at))
		} else {
			if bytes.IndexByte(p.text[at:v], '\t') >= 0 {
				p.fail(at+1, "indent with spaces", "a tab cannot indent")
			}
			e = p.block(v, p.column(v))
		}
		n.list = append(n.list, e)
		n.end = e.end
		next, c := p.next(p.lineEnd(n.end))
		if next == len(p.text) || c < column || p.marker(next, "---") || p.marker(next, "...") {
			return n
		}
		if c > column {
			p.fail(next, "", "this line is indented more than the one it belongs to")
		}
		if p.at(next) != '-' || !p.isSpace(next+1) {
			return n // a key of the mapping around a list that stands in its column
		}
		at = next
	}
}

// key reads a key with its colon; after is behind the colon. It does not fail: what is no key may be a value.
func (p *yamlParser) key(at int, flow bool) (key string, after int, ok bool) {
	switch p.at(at) {
	case '"', '\'':
		n, whole := p.tryQuoted(at)
		if !whole {
			return "", 0, false
		}
		end := p.blanks(n.end)
		return n.scalar, end + 1, p.at(end) == ':' && (flow || p.isSpace(end+1))
	case '[', '{', '&', '*', '!', '|', '>', '%', '@', '`', ',', '#', ']', '}':
		return "", 0, false
	}
	end, colon := p.plain(at, flow)
	if !colon || end == at {
		return "", 0, false
	}
	key = string(bytes.TrimRight(p.text[at:end], " \t"))
	return key, end + 1, !strings.HasSuffix(key, ":") // readers differ about a::
}

// plain finds the end of a plain word, and whether it ended at the colon of a key.
func (p *yamlParser) plain(at int, flow bool) (end int, colon bool) {
	for i := at; ; i++ {
		c := p.at(i)
		switch {
		case p.isEnd(i):
			return i, false
		case c == '#' && i > at && (p.text[i-1] == ' ' || p.text[i-1] == '\t'):
			return i, false
		case c == ':' && (p.isSpace(i+1) || flow && strings.IndexByte(",[]{}", p.at(i+1)) >= 0):
			return i, true
		case flow && strings.IndexByte(",[]{}", c) >= 0:
			return i, false
		}
	}
}

// inline reads a value that begins within a line.
func (p *yamlParser) inline(at int, flow bool) *node {
	n := &node{pos: p.pos(at), start: at}
	switch c := p.at(at); {
	case c == '{' || c == '[':
		p.enter(at)
		defer func() { p.depth-- }()
		if c == '{' {
			return p.flowMap(n)
		}
		return p.flowList(n)
	case c == '"' || c == '\'':
		q, whole := p.tryQuoted(at)
		if !whole {
			p.fail(at, "end it in the same line", "a quoted text does not end, or has an escape that is not known")
		}
		return q
	case c == '&' || c == '*' || c == '!':
		p.fail(at, "", "anchors, aliases, tags and merges are not allowed here")
	case c == '|' || c == '>':
		p.fail(at, "write it in quotes, in one line", "text over several lines is not allowed here")
	case strings.IndexByte("%@`,]}#", c) >= 0, (c == '-' || c == '?' || c == ':') && (p.isSpace(at+1) || strings.IndexByte(",[]{}", p.at(at+1)) >= 0):
		p.fail(at, "put it in quotes if it is meant as text", "a value cannot begin with %q", c)
	}
	end, colon := p.plain(at, flow)
	if colon {
		p.fail(end, "put it in quotes if it is meant as text", "a second colon in one value")
	}
	n.scalar = string(bytes.TrimRight(p.text[at:end], " \t"))
	n.end = at + len(n.scalar)
	switch n.scalar {
	case "null", "Null", "NULL", "~":
		n.shape = isNull
	}
	return n
}

// tryQuoted reads a quoted text in one line.
func (p *yamlParser) tryQuoted(at int) (*node, bool) {
	n := &node{pos: p.pos(at), start: at}
	quote := p.at(at)
	for i := at + 1; !p.isEnd(i); i++ {
		switch {
		case quote == '"' && p.text[i] == '\\':
			i++
		case quote == '\'' && p.text[i] == quote && p.at(i+1) == quote:
			i++
		case p.text[i] == quote:
			n.end = i + 1
			if quote == '\'' {
				n.scalar = strings.ReplaceAll(string(p.text[at+1:i]), "''", "'")
				return n, true
			}
			// The escapes of JSON are those of YAML that anybody writes.
			text := bytes.ReplaceAll(p.text[at:i+1], []byte("\t"), []byte(`\t`))
			return n, json.Unmarshal(text, &n.scalar) == nil
		}
	}
	return n, false
}

// gap skips spaces, line ends and comments between the parts of a flow collection.
func (p *yamlParser) gap(i int) int {
	for {
		switch {
		case p.isEnd(i) && i < len(p.text), p.at(i) == ' ', p.at(i) == '\t':
			i++
		case p.at(i) == '#' && i > 0 && p.isSpace(i-1):
			for !p.isEnd(i) {
				i++
			}
		default:
			return i
		}
	}
}

// part goes to the next part of a flow collection, or says that it ended.
func (p *yamlParser) part(i int, open int, closing byte, first bool) (int, bool) {
	i = p.gap(i)
	if !first && p.at(i) == ',' {
		i = p.gap(i + 1)
	} else if !first && p.at(i) != closing && p.at(i) != 0 {
		p.fail(i, "", "expected a comma or %q", closing)
	}
	if p.at(i) == 0 {
		p.fail(open, "", "%q is not closed", p.text[open])
	}
	return i, p.at(i) == closing
}

func (p *yamlParser) flowMap(n *node) *node {
	n.shape, n.flow = isMap, true
	seen := map[string]bool{}
	for at, first := n.start+1, true; ; first = false {
		i, done := p.part(at, n.start, '}', first)
		if done {
			n.end = i + 1
			return n
		}
		key, after, ok := p.key(i, true)
		f := field{key: key, pos: p.pos(i), start: i, after: after}
		if !ok {
			p.fail(i, "write key: value", "expected a key and a colon")
		}
		p.once(seen, key, i)
		if v := p.gap(after); p.at(v) == ',' || p.at(v) == '}' {
			f.value = &node{shape: isNull, pos: f.pos, start: after, end: after}
		} else {
			f.value = p.inline(v, true)
		}
		n.fields = append(n.fields, f)
		at = f.value.end
	}
}

func (p *yamlParser) flowList(n *node) *node {
	n.shape, n.flow = isList, true
	for at, first := n.start+1, true; ; first = false {
		i, done := p.part(at, n.start, ']', first)
		if done {
			n.end = i + 1
			return n
		}
		e := p.inline(i, true)
		n.list = append(n.list, e)
		at = e.end
	}
}

// problem is an error at a place; Parse adds the file name.
func problem(p Pos, hint, format string, args ...any) *Problem {
	return &Problem{Pos: p, Message: fmt.Sprintf(format, args...), Hint: hint}
}

func (n *node) want(s shape) *Problem {
	if n.shape == s {
		return nil
	}
	return problem(n.pos, "", "expected %s, found %s", s, n.shape)
}
