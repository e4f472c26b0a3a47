package policy

import (
	"bytes"
	"errors"
	"strings"
)

// Format lays a document out: two spaces per level, one blank line at most, no blanks at the ends of lines. Comments, order
// and the inside of lines stay. The error is a *ParseError, as of Parse.
func Format(name string, text []byte) ([]byte, error) {
	d, err := Parse(name, text)
	if err != nil {
		return nil, err
	}
	root, _ := parseYAML(text)
	f := &formatter{indent: map[int]int{}}
	f.node(root, 0)
	var out bytes.Buffer
	blank, shift, at := true, 0, 0
	lines := strings.Split(strings.TrimRight(string(text), " \t\r\n"), "\n")
	pads := f.pads(lines)
	for i, line := range lines {
		bare := strings.TrimSpace(line)
		if bare == "" {
			blank = blank || out.Len() == 0
			if !blank {
				out.WriteByte('\n')
			}
			blank = true
			continue
		}
		blank = false
		if want, ok := pads[i+1]; ok {
			at = len(line) - len(strings.TrimLeft(line, " "))
			shift = want - at
		}
		now := len(line) - len(strings.TrimLeft(line, " "))
		out.WriteString(strings.Repeat(" ", max(now+shift, 0)) + bare + "\n")
	}
	again, err := Parse(name, out.Bytes())
	if err != nil || !bytes.Equal(again.render(), d.render()) {
		return nil, errors.New("the layout of this document cannot be changed without changing what it says")
	}
	return out.Bytes(), nil
}

type formatter struct{ indent map[int]int } // by line: where its first key or dash should stand

// node places the keys and dashes of a block at a column.
func (f *formatter) node(n *node, column int) {
	if n.flow {
		return
	}
	for _, v := range n.fields {
		if _, placed := f.indent[v.pos.Line]; !placed { // behind a dash it stands where the dash puts it
			f.indent[v.pos.Line] = column
		}
		f.node(v.value, column+2)
	}
	for _, e := range n.list {
		f.node(e, column+2)
	}
}

// pads adds dashes, which are no nodes, and comments, which go with what follows them.
func (f *formatter) pads(lines []string) map[int]int {
	pads := map[int]int{}
	for i := len(lines); i >= 1; i-- {
		bare := strings.TrimSpace(lines[i-1])
		want, ok := f.indent[i]
		if strings.HasPrefix(bare, "- ") && ok {
			want -= 2 // the key behind the dash was placed, the dash stands before it
		}
		if strings.HasPrefix(bare, "#") {
			if next, found := pads[i+1]; found {
				pads[i] = next
			}
			continue
		}
		if ok {
			pads[i] = want
		}
	}
	return pads
}
