package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc = regexp.MustCompile(`(?m)^func (\w+)\(t \*testing\.T\)[^{]*\{\n(?s:.*?)^\}`)
	// leftOut is a skip that hangs on the mode, however it asks for it.
	leftOut = regexp.MustCompile(`(?s)if (?:approved\.Only\(\)|errors\.Is\(err, \w+\.ErrNotFIPS\))[^{]*\{\s*t\.Skip\(`)
)

// TestWhatFIPSLeavesOutIsListed: a test that is skipped under fips140=only stands in docs/FIPS.md, with the reason, and nothing
// else stands there; so do the stories that `make fips` does not tell.
func TestWhatFIPSLeavesOutIsListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/FIPS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## What `make fips` leaves out\n")
	if !ok {
		t.Fatal("docs/FIPS.md does not say what make fips leaves out")
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .{10,} \\|$").FindAllStringSubmatch(section, -1) {
		listed[row[1]] = true
	}
	found := map[string]bool{}
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "../../*_test.go").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	for path := range strings.FieldsSeq(string(out)) {
		code, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range testFunc.FindAllStringSubmatch(string(code), -1) {
			if leftOut.MatchString(f[0]) {
				found[strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../")+" "+f[1]] = true
			}
		}
	}
	make, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`(?m)^FIPS_STORIES := (.*)$`).FindSubmatch(make)
	if told == nil {
		t.Fatal("the Makefile names no stories")
	}
	stories, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stories {
		name := strings.TrimSuffix(filepath.Base(s), ".txtar")
		if !regexp.MustCompile(`(^| )` + name + `( |$)`).Match(told[1]) {
			found["story "+name] = true
		}
	}
	for what := range found {
		if !listed[what] {
			t.Errorf("%s is left out under fips140=only, and docs/FIPS.md does not say so", what)
		}
	}
	for what := range listed {
		if !found[what] {
			t.Errorf("docs/FIPS.md says that %s is left out, which is not so", what)
		}
	}
	if len(found) < 3 {
		t.Errorf("only %d found: the check did not look at the tests", len(found))
	}
}
