package policy

import (
	"bytes"
	"fmt"
	"slices"
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

// fail ends the parsing; parseYAML catches it.
func (p *yamlParser) fail(at int, hint, format string, args ...any) {
	panic(problem(p.pos(at), hint, format, args...))
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
