package policy

import (
	"fmt"
	"path"
	"strings"
)

// Do is what a client wants, in words: "put /in/a.csv", "rename /in/a /in/b".
type Do struct {
	Op    Op
	Paths []string
}

var doWords = []struct {
	words string
	op    Op
	paths int
}{
	{"put create upload", OpWrite, 1}, {"overwrite append write", OpOverwrite, 1}, {"get read download", OpRead, 1}, {"ls list dir", OpList, 1},
	{"rm delete rmdir", OpDelete, 1}, {"rename mv", OpRename, 2}, {"mkdir", OpMkdir, 1}, {"chmod touch setattr", OpSetAttr, 1}, {"ln symlink", OpSymlink, 1}, {"stat", OpStat, 1},
}

// ParseDo reads a word and its paths; a path may be in double quotes.
func ParseDo(text string) (Do, error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	var known []string
	for _, d := range doWords {
		for _, w := range strings.Fields(d.words) {
			known = append(known, w)
			if w != word {
				continue
			}
			paths, err := doPaths(rest)
			if err == nil && len(paths) != d.paths {
				err = fmt.Errorf("%s takes %d path(s), not %d", word, d.paths, len(paths))
			}
			return Do{d.op, paths}, err
		}
	}
	hint := suggest(word, known)
	if hint == "" {
		hint = "known are " + strings.Join(known, ", ")
	}
	return Do{}, fmt.Errorf("%q is nothing that a client does (%s)", word, hint)
}

func doPaths(text string) ([]string, error) {
	var list []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		var p string
		if quoted, ok := strings.CutPrefix(text, `"`); ok {
			if p, text, ok = strings.Cut(quoted, `"`); !ok {
				return nil, fmt.Errorf("a quoted path does not end")
			}
		} else {
			p, text, _ = strings.Cut(text, " ")
		}
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("path %q must begin with a slash", p)
		}
		list = append(list, path.Clean(p))
	}
	return list, nil
}

func (d Do) String() string { return d.Op.String() + " " + strings.Join(d.Paths, " ") }
