package policy

import (
	"bytes"
	"sort"
	"unicode/utf8"
)

func firstRune(text []byte) rune {
	r, _ := utf8.DecodeRune(text)
	return r
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
