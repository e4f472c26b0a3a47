package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits of a document, far above any sensible one. The depth limit is checked before the YAML library sees the text,
// because its parser recurses.
const (
	MaxDocument = 1 << 20 // bytes
	maxDepth    = 12      // of nested lists and mappings; the schema needs 6
	maxBare     = 1000    // lines that hold a dash alone; the parser's time grows with their square
	maxProblems = 20      // reported at once
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
}

// Error is file:line:col: message, one line per problem.
func (e *ParseError) Error() string {
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
	}
	return b.String()
}

// parseYAML turns text into nodes, refusing what a policy has no use for: anchors, tags, merges, several documents.
func parseYAML(text []byte) (*node, *Problem) {
	if len(text) > MaxDocument {
		return nil, problem(Pos{}, "", "the document is larger than %d bytes", MaxDocument)
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, problem(Pos{}, "", "the document is not UTF-8 text")
	}
	if p := checkDepth(text); p != nil {
		return nil, p
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			return nil, problem(posOf(d.Body), "", "only one document is allowed")
		}
		body = d.Body
	}
	if body == nil {
		return &node{shape: isNull, pos: Pos{1, 1}}, nil
	}
	return convert(body)
}

// checkDepth bounds nesting in flow style (brackets) and compact block style (dashes and question marks in one line).
// It does not know strings, so it errs on the side of refusing.
func checkDepth(text []byte) *Problem {
	depth, bare := 0, 0
	for i, line := range bytes.Split(text, []byte("\n")) {
		dashes := 0
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth {
				return problem(Pos{i + 1, 1}, "", "lists and mappings are nested too deeply")
			}
		}
		if bytes.Equal(bytes.TrimSpace(line), []byte("-")) {
			if bare++; bare > maxBare {
				return problem(Pos{i + 1, 1}, "", "too many list entries without a value")
			}
		}
		for _, w := range bytes.Fields(line) {
			if len(w) > 1 {
				break
			}
			if dashes++; dashes > maxDepth {
				return problem(Pos{i + 1, 1}, "", "lists and mappings are nested too deeply")
			}
		}
		if len(line)-len(bytes.TrimLeft(line, " ")) > 256 {
			return problem(Pos{i + 1, 1}, "", "the line is indented too deeply")
		}
	}
	return nil
}

func syntaxProblem(err error) *Problem {
	var ye yaml.Error
	if errors.As(err, &ye) {
		p := Pos{}
		if t := ye.GetToken(); t != nil && t.Position != nil {
			p = Pos{t.Position.Line, t.Position.Column}
		}
		return problem(p, "", "%s", ye.GetMessage())
	}
	return problem(Pos{}, "", "not YAML")
}

func posOf(n ast.Node) Pos {
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		t = m.Values[0].Key.GetToken()
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		t = v.Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return Pos{}
	}
	return Pos{t.Position.Line, t.Position.Column}
}

func convert(n ast.Node) (*node, *Problem) {
	pos := posOf(n)
	switch n := n.(type) {
	case *ast.MappingNode:
		return convertMap(pos, n.Values)
	case *ast.MappingValueNode:
		return convertMap(pos, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out := &node{pos: pos, shape: isList}
		for _, v := range n.Values {
			c, p := convert(v)
			if p != nil {
				return nil, p
			}
			out.list = append(out.list, c)
		}
		return out, nil
	case *ast.StringNode:
		return &node{pos: pos, scalar: n.Value}, nil
	case *ast.LiteralNode:
		return &node{pos: pos, scalar: n.Value.Value}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{pos: pos, scalar: n.GetToken().Value}, nil // as written: 1.2 stays 1.2
	case *ast.NullNode:
		return &node{pos: pos, shape: isNull}, nil
	}
	return nil, problem(pos, "", "anchors, aliases, tags and merges are not allowed here")
}

func convertMap(pos Pos, values []*ast.MappingValueNode) (*node, *Problem) {
	out := &node{pos: pos, shape: isMap}
	seen := map[string]bool{}
	for _, v := range values {
		k, ok := v.Key.(ast.Node)
		if !ok || v.Key.IsMergeKey() {
			return nil, problem(pos, "", "anchors, aliases, tags and merges are not allowed here")
		}
		key, p := convert(k)
		if p != nil {
			return nil, p
		}
		if p := key.want(isScalar); p != nil {
			return nil, p
		}
		if seen[key.scalar] {
			return nil, problem(key.pos, "", "%q stands here twice", key.scalar)
		}
		seen[key.scalar] = true
		value := &node{shape: isNull, pos: key.pos}
		if v.Value != nil {
			if value, p = convert(v.Value); p != nil {
				return nil, p
			}
		}
		out.fields = append(out.fields, field{key.scalar, key.pos, value})
	}
	return out, nil
}
