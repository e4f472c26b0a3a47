package policy

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]byte{"policy.md": Reference(), "refusals.md": RefusalsReference()} {
		got, err := os.ReadFile(filepath.Join("../docs/reference", file))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/reference/%s is not what the table says (%v): run `make docs`", file, err)
		}
	}
}

// Every row says all there is to say, and its example is a value.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	for _, s := range Settings() {
		if s.Description == "" || s.Since == "" || s.Example == "" || s.Scope == 0 || s.Stricter == 0 {
			t.Errorf("%s: description %q, since %q, example %q, scope %v, stricter %v", s.Path, s.Description, s.Since, s.Example, s.Scope, s.Stricter)
		}
		d, err := Default().Set(Site, s.Path, s.Example)
		if err != nil {
			t.Errorf("%s: the example: %v", s.Path, err)
			continue
		}
		got, _ := d.Get(Site, s.Path)
		if again, err := Default().Set(Site, s.Path, got); err != nil || !bytes.Equal(again.render(), d.render()) {
			t.Errorf("%s: the example %s is shown as %s, which is not the same: %v", s.Path, s.Example, got, err)
		}
		if s.Kind == KindNetworks || s.Kind == KindPaths || s.Kind == KindWords || s.Path == "protocols" {
			continue // lists that start empty: their default is no value that anybody would write
		}
		if _, err := Default().Set(Site, s.Path, s.DefaultText()); err != nil {
			t.Errorf("%s: the default: %v", s.Path, err)
		}
	}
}

// Codes stand in the table once each, in the stage that their letter says, and nowhere in the program as text.
func TestEveryCodeIsInTheTable(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "Code") {
			constants[v.Names[0].Name], _ = strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	letters := map[Stage]byte{StageListener: 'L', StageAddress: 'A', StageTransport: 'T', StageAuth: 'U', StageSecondFactor: 'F', StageSession: 'S', StagePath: 'P'}
	seen := map[string]bool{}
	for _, r := range Refusals() {
		if seen[r.Code] {
			t.Errorf("%s stands twice", r.Code)
		}
		seen[r.Code] = true
		if r.Code[3] != letters[r.Stage] || r.Message == "" || r.Meaning == "" || r.Hint == "" {
			t.Errorf("%+v", r)
		}
	}
	used := usedCodes(t)
	for name, code := range constants {
		if !seen[code] {
			t.Errorf("%s (%s) is not in the table", name, code)
		}
		if !used[name] {
			t.Errorf("%s is never given", name)
		}
	}
	if len(constants) < 30 || len(seen) != len(constants) {
		t.Errorf("%d constants, %d rows", len(constants), len(seen))
	}
}

// usedCodes are the constants that the program refers to outside of their table. A code written as text is an error.
func usedCodes(t *testing.T) map[string]bool {
	t.Helper()
	literal, name := regexp.MustCompile(`"SP-[A-Z][0-9]{2}"`), regexp.MustCompile(`\bCode[A-Z]\w*`)
	used := map[string]bool{}
	for _, dir := range []string{".", "../server", "../cmd/sallyport"} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "codes.go" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if found := literal.Find(text); found != nil {
				t.Errorf("%s writes %s instead of its constant", path, found)
			}
			for _, n := range name.FindAll(text, -1) {
				used[string(n)] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "func pathCode")
	for _, n := range name.FindAllString(after, -1) {
		used[n] = true
	}
	return used
}
