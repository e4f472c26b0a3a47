package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"pgregory.net/rapid"
)

// same compares what two readers made of a text: shapes, keys and words.
func same(n *node, other ast.Node) bool {
	switch o := other.(type) {
	case nil:
		return n.shape == isNull
	case *ast.MappingNode:
		return sameFields(n, o.Values)
	case *ast.MappingValueNode:
		return sameFields(n, []*ast.MappingValueNode{o})
	case *ast.SequenceNode:
		if n.shape != isList || len(n.list) != len(o.Values) {
			return false
		}
		for i := range o.Values {
			if !same(n.list[i], o.Values[i]) {
				return false
			}
		}
		return true
	case *ast.StringNode:
		return n.shape == isScalar && n.scalar == o.Value
	case *ast.NullNode:
		return n.shape == isNull
	}
	return n.shape == isScalar && n.scalar == other.GetToken().Value
}

func sameFields(n *node, values []*ast.MappingValueNode) bool {
	if n.shape != isMap || len(n.fields) != len(values) {
		return false
	}
	for i, v := range values {
		key := v.Key.GetToken().Value
		if n.fields[i].key != key || !same(n.fields[i].value, v.Value) {
			return false
		}
	}
	return true
}

// compare reports when another reader takes a text for something else than parseYAML does.
func compare(t interface{ Fatalf(string, ...any) }, text []byte) {
	n, p := parseYAML(text)
	if p != nil {
		return
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		t.Fatalf("another reader refuses it: %v\n%s", err, text)
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body != nil {
			body = d.Body
		}
	}
	if !same(n, body) {
		t.Fatalf("another reader takes it for something else: %v\n%s", body, text)
	}
}

func TestYAMLMeansWhatOthersRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		operations, house, "", "# nothing\n", "---\nversion: 1\n...\n", "a: b # c\n", "a: b#c\n", "a:\n- b\n- c: d\n  e: f\nx: y\n", "a:\n  - - b\n    - c\n  -\n    d\n",
		"a: {b, : c}\n", "a: {b: [c, 'it''s', \"x\\ny\"], \"k\": v,}\n", "a: {\n  b: c, # why\n  # more\n  d: [e,\n f]\n}\n", "a: \"# no comment\"\n", "a: 'x: y'\n",
		"a: -1\nb: .5\nc: 1.2\nd: ~\ne: null\nf:\ng: true\n", "a: http://x\n", "a: [2001:db8::/32, ::1]\n", "\"a b\": c\r\nd: e\r\n", "a:\n\n  # c\n\n  b: c\n # d\ne: f\n",
		"a: 2027-01-31\n", "a: 10/min\n", "x: {a: , b: c}\n", "a: 'ö'\nö: b # ü\n", "a: \"\\u00e4\"\n", "a:   \n    b:   c   \n",
	} {
		compare(t, []byte(text))
	}
}

// What one reader takes for the end of a line and another does not could hide a setting behind a comment; what is invisible
// could write over what an operator reads on a terminal.
func TestYAMLRefusesInvisibleCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"\r", "\u0085", "\u2028", "\u2029", "\ufeff", "\x1b", "\x07", "\x7f", "\v", "\u009b"} {
		for _, text := range []string{"a: b # c" + c + "d: e\n", "a: 'b" + c + "c'\n", c + "a: b\n"} {
			if _, p := parseYAML([]byte(text)); p == nil {
				t.Errorf("%q is taken", text)
			}
		}
	}
	_, p := parseYAML([]byte("a: b\nc: ö \r d\n"))
	if p == nil || p.Pos != (Pos{2, 6}) {
		t.Errorf("found at %+v", p)
	}
}

// Places are right in whatever order they are asked for, and asking for all of them reads a long line once.
func TestYAMLPlacesOfOneLongLine(t *testing.T) {
	t.Parallel()
	text := []byte("a: ö, b\nä: [" + strings.Repeat("ö, ", 1<<18) + "x]\n")
	n, fault := parseYAML(text)
	if fault != nil {
		t.Fatal(fault)
	}
	list := n.fields[1].value.list
	if got := list[len(list)-1].pos; got != (Pos{2, 5 + 3<<18}) {
		t.Errorf("the last is at %+v", got)
	}
	p := &yamlParser{text: text, lines: []int{0, bytes.IndexByte(text, '\n') + 1}}
	for _, w := range []struct {
		at   int
		want Pos
	}{{9, Pos{2, 1}}, {11, Pos{2, 2}}, {3, Pos{1, 4}}, {5, Pos{1, 5}}, {11, Pos{2, 2}}, {0, Pos{1, 1}}} {
		if got := p.pos(w.at); got != w.want {
			t.Errorf("byte %d is at %+v, want %+v", w.at, got, w.want)
		}
	}
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{operations, house, "a: {b: [c, 'd'], \"e\": f}\n", "- a\n- b: c\n  d:\n  - e\n", "a: b\n c: d\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, p := parseYAML(text); p == nil {
			checkSpans(t, text, n)
		}
	})
}

// checkSpans: the bytes of a value, alone, are the value; those of parts lie within those of the whole, in order.
func checkSpans(t interface{ Fatalf(string, ...any) }, text []byte, n *node) {
	if n.start < 0 || n.end < n.start || n.end > len(text) {
		t.Fatalf("span %d to %d of %d", n.start, n.end, len(text))
	}
	if n.shape == isScalar {
		if again, p := parseYAML(text[n.start:n.end]); p != nil || again.shape != isScalar || again.scalar != n.scalar {
			t.Fatalf("%q alone is not %q", text[n.start:n.end], n.scalar)
		}
	}
	at := n.start
	for _, part := range append(n.list, values(n)...) {
		if part.start < at || part.end > n.end {
			t.Fatalf("a part from %d to %d of a whole from %d to %d", part.start, part.end, at, n.end)
		}
		at = part.end
		checkSpans(t, text, part)
	}
}

func values(n *node) []*node {
	var list []*node
	for _, f := range n.fields {
		list = append(list, f.value)
	}
	return list
}

// Layout does not change what a document means: block or flow, comments, blank lines.
func TestYAMLLayouts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		layout(t, &b, 0, 3)
		n, p := parseYAML([]byte(b.String()))
		if p != nil {
			t.Fatalf("%v: %s\n%s", p.Pos, p.Message, b.String())
		}
		checkSpans(t, []byte(b.String()), n)
		compare(t, []byte(b.String()))
	})
}

// layout writes a mapping at an indent.
func layout(t *rapid.T, b *strings.Builder, indent, depth int) {
	for i := range rapid.IntRange(1, 3).Draw(t, "keys") {
		if rapid.Bool().Draw(t, "comment") {
			b.WriteString(strings.Repeat(" ", rapid.IntRange(0, 6).Draw(t, "at")) + "# a: {comment\n")
		}
		b.WriteString(strings.Repeat(" ", indent) + string(rune('a'+i)) + ":")
		tail := rapid.SampledFrom([]string{"", " # x", "  "}).Draw(t, "tail")
		switch k := rapid.IntRange(0, 6).Draw(t, "kind"); {
		case k == 0 && depth > 0:
			b.WriteString(tail + "\n")
			layout(t, b, indent+rapid.IntRange(1, 4).Draw(t, "more"), depth-1)
		case k == 1:
			b.WriteString(tail + "\n")
			pad := strings.Repeat(" ", indent+rapid.IntRange(0, 3).Draw(t, "dash"))
			for range rapid.IntRange(1, 3).Draw(t, "items") {
				b.WriteString(pad + "- " + rapid.SampledFrom([]string{"x", "{k: v}", "[p, q]", "k: v\n" + pad + "  l: w", "'s'"}).Draw(t, "item") + tail + "\n")
			}
		default:
			b.WriteString(" " + rapid.SampledFrom([]string{"word", "'it''s # no'", "\"q: \\\"x\\\"\"", "{p: {q: r}, s: [t, u]}", "[1.2, 10.0.0.0/8]", "{}", "[]", "5m"}).Draw(t, "value") + tail + "\n")
		}
	}
}
