package vfs

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
)

// semantics has one test for each numbered sentence of docs/SEMANTICS.md.
func semantics() map[string]func(*testing.T) {
	all := map[string]func(*testing.T){}
	for _, part := range []map[string]func(*testing.T){contentSentences, nameSentences, attrSentences, interruptSentences, durabilitySentences, keySentences, historySentences, limitSentences} {
		maps.Copy(all, part)
	}
	return all
}

func TestSemantics(t *testing.T) {
	t.Parallel()
	for id, test := range semantics() {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func TestEverySentenceHasATest(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/SEMANTICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var written []string
	for _, m := range regexp.MustCompile(`(?m)^- \*\*([A-Z]\d+)\*\*`).FindAllSubmatch(doc, -1) {
		written = append(written, string(m[1]))
	}
	slices.Sort(written)
	tested := slices.Sorted(maps.Keys(semantics()))
	if !slices.Equal(written, tested) {
		t.Fatalf("docs/SEMANTICS.md has %q, tests are %q", written, tested)
	}
}
