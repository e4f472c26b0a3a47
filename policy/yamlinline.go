package policy

import (
	"bytes"
	"encoding/json"
	"strings"
)

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
