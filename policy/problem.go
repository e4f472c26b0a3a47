package policy

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Problem is one fault of a document.
type Problem struct {
	Pos
	Message string
	Hint    string
}

// ParseError lists what is wrong with a document.
type ParseError struct {
	Name     string // of the file
	Problems []*Problem

	text []byte // for Excerpt
}

// Error is file:line:col: message, one line per problem.
func (e *ParseError) Error() string { return e.lines(func(*Problem) string { return "" }) }

// Excerpt is Error with the line of each problem below it, and a mark under the place.
func (e *ParseError) Excerpt() string { return e.lines(e.excerpt) }

func (e *ParseError) lines(more func(*Problem) string) string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Name)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
		}
		b.WriteString(": " + p.Message)
		if p.Hint != "" {
			b.WriteString(" (" + p.Hint + ")")
		}
		b.WriteString(more(p))
	}
	return b.String()
}

// excerptWidth bounds a shown line, characters: somebody may have written the whole policy in one.
const excerptWidth = 120

func (e *ParseError) excerpt(p *Problem) string {
	rest := e.text
	for range p.Line - 1 {
		_, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			return ""
		}
		rest = after
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if p.Line < 1 || p.Col < 1 || !utf8.Valid(line) {
		return ""
	}
	shown := []rune(strings.ReplaceAll(strings.TrimRight(string(line), "\r"), "\t", " "))
	from := max(0, min(p.Col-1, len(shown))-excerptWidth/2)
	shown = shown[from:min(len(shown), from+excerptWidth)]
	margin := fmt.Sprintf("%5d", p.Line)
	return fmt.Sprintf("\n%s | %s\n%s | %s^", margin, string(shown), strings.Repeat(" ", len(margin)), strings.Repeat(" ", p.Col-1-from))
}
