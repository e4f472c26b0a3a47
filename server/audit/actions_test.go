package audit

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference/audit.md")

func TestTheReferenceOfActionsIsCurrent(t *testing.T) {
	t.Parallel()
	const file = "../../docs/reference/audit.md"
	if *update {
		if err := os.WriteFile(file, Reference(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, Reference()) {
		t.Errorf("%s is not current (go test ./server/audit -run Reference -update): %v", file, err)
	}
}

// Every constant is in the list, and nobody makes an action any other way: not by conversion and not as a bare string.
func TestTheListOfActionsIsClosed(t *testing.T) {
	t.Parallel()
	set := token.NewFileSet()
	var constants []Action
	used := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		in := f.Name.Name == "audit"
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if id, ok := n.Type.(*ast.Ident); ok && in && id.Name == "Action" && len(n.Values) == 1 {
					text, _ := strconv.Unquote(n.Values[0].(*ast.BasicLit).Value)
					constants = append(constants, Action(text))
				}
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && id.Name == "audit" {
					used[n.Sel.Name] = true
				}
			case *ast.KeyValueExpr:
				if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Action" {
					if lit, ok := n.Value.(*ast.BasicLit); ok {
						t.Errorf("%s: an action as a bare string: %s", set.Position(n.Pos()), lit.Value)
					}
				}
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Action" && !strings.HasSuffix(path, "auditsearch.go") {
					if id, ok := s.X.(*ast.Ident); ok && id.Name == "audit" {
						t.Errorf("%s: an action by conversion", set.Position(n.Pos()))
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil || len(constants) < 30 || !used["PolicyApply"] {
		t.Fatalf("%d constants, %v", len(constants), err)
	}
	list := Actions()
	slices.Sort(list)
	slices.Sort(constants)
	if !slices.Equal(list, constants) {
		t.Errorf("listed %q\nconstants %q", list, constants)
	}
	for _, m := range Meanings() {
		if m.Text == "" {
			t.Errorf("%s means nothing", m.Action)
		}
	}
}
