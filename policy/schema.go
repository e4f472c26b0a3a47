package policy

import (
	"slices"
	"strings"
)

// Stricter says in which direction a setting gets tighter.
type Stricter uint8

func (s Stricter) String() string {
	return [...]string{"?", "lower", "higher", "true", "false", "later word", "shorter list", "longer list"}[s]
}

const (
	Lower Stricter = 1 + iota
	Higher
	True
	False
	Later   // a later word of Values
	Shorter // fewer members allow less; for allow lists of networks, empty = any is the loosest
	Longer  // more members deny more
)

// Scope is where a setting may stand.
type Scope uint8

const (
	AtSite Scope = 1 << iota
	AtGroup
	AtAccount
	Anywhere = AtSite | AtGroup | AtAccount
)

func (s Scope) String() string {
	var list []string
	for _, at := range []struct {
		scope Scope
		name  string
	}{{AtSite, "site"}, {AtGroup, "group"}, {AtAccount, "account"}} {
		if s&at.scope != 0 {
			list = append(list, at.name)
		}
	}
	return strings.Join(list, ", ")
}

// Setting is one row of the table: validation, resolution, documentation and defaults all come from here.
type Setting struct {
	Path        string // as in the document: section.key
	Kind        Kind
	Unit        string // of plain numbers
	Default     any
	Stricter    Stricter
	Scope       Scope
	Values      []string // of KindEnum (loose to strict) and KindSet
	Min, Max    int64    // of numbers; Max 0 = none
	ZeroIsNone  bool     // 0, or the empty list, means no limit
	Description string
	Example     string // a value as it would stand in a document
	Since       string // first version that knows it

	check func(string) error    // of one word of KindWords
	hint  string                // when check fails
	apply func(*Effective, any) // copies a resolved value into its field; nil for lists that are combined
}

// combined says whether the lists of all levels are kept and all hold, so that nothing below can loosen them.
func (s *Setting) combined() bool {
	return s.Kind == KindWords || s.Path == "allow_from" || s.Path == "deny_from"
}

// Settings is the table, in the order of the documentation.
func Settings() []Setting { return slices.Clone(table) }

// Lookup finds a setting by path; nil if there is none.
func Lookup(path string) *Setting {
	if i := settingIndex(path); i >= 0 {
		s := table[i]
		return &s
	}
	return nil
}

// DefaultText is the built-in value as it would stand in a document.
func (s *Setting) DefaultText() string { return s.format(s.Default) }

// index finds the row of a path, and sections are the mappings that group settings. Both are read-only.
var index, sections = indexTable()

func indexTable() (map[string]int, map[string]bool) {
	rows, heads := map[string]int{}, map[string]bool{}
	for i := range table {
		rows[table[i].Path] = i
		if head, _, nested := strings.Cut(table[i].Path, "."); nested {
			heads[head] = true
		}
	}
	return rows, heads
}

func settingIndex(path string) int {
	if i, ok := index[path]; ok {
		return i
	}
	return -1
}

func isSection(key string) bool { return sections[key] }

func settingPaths() []string {
	var list []string
	for i := range table {
		list = append(list, table[i].Path)
	}
	return list
}
