package policy

import (
	"slices"
	"testing"
)

func TestPermit(t *testing.T) {
	t.Parallel()
	e := Resolve(mustParse(t, `version: 1
groups:
  drop: {paths: [{path: /in, allow: [list, write]}, {path: /out, allow: [list, read]}, {path: /in/closed, allow: []}, {path: /deep/er/box, allow: [create]}, {path: "/caf\u00e9", allow: [read]}]}
  nodelete: {paths: [{path: /, allow: [list, read, write, mkdir, rename]}]}
accounts:
  a: {groups: [drop]}
  b: {groups: [drop, nodelete]}
  c: {paths: [{path: /, allow: [all]}]}
`), "a")
	for _, c := range []struct {
		op   Op
		path []string
		want string
	}{
		{OpWrite, []string{"/in/x"}, ""},
		{OpOverwrite, []string{"/in/x"}, ""},
		{OpSetAttr, []string{"/in/x"}, ""},
		{OpRead, []string{"/in/x"}, CodeRead},
		{OpDelete, []string{"/in/x"}, CodeDelete},
		{OpWrite, []string{"/inx"}, CodeWrite},
		{OpWrite, []string{"/in/closed/x"}, CodeWrite},
		{OpStat, []string{"/in/closed/x"}, CodeStat},
		{OpRead, []string{"/out/a/b"}, ""},
		{OpList, []string{"/"}, ""},
		{OpList, []string{"/deep"}, ""},
		{OpStat, []string{"/deep/er"}, ""},
		{OpStat, []string{"/deep/other"}, CodeStat},
		{OpRead, []string{"/deep"}, CodeRead},
		{OpWrite, []string{"/deep/er/box/new"}, ""},
		{OpOverwrite, []string{"/deep/er/box/new"}, CodeOverwrite},
		{OpRead, []string{"/cafe\u0301/menu"}, ""}, // the other spelling of the same name
		{OpRead, []string{"/cafe\u0301/\xff"}, ""}, // also with bytes behind it that are no name's spelling
		{OpRead, []string{"/cafe/menu"}, CodeRead},
		{OpRename, []string{"/in/a", "/in/b"}, CodeRename},
		{OpRead, []string{"/in/\xff\xfe"}, CodeRead},
		{OpRead, []string{"/out/\xff\xfe"}, ""},
		{OpRead, []string{"/out/a", "/in/a"}, CodeRead},
		{OpWrite, []string{"/.backups/x"}, CodeReserved},
		{OpMkdir, []string{"/.backups"}, CodeReserved},
	} {
		got := Permit(e, c.op, c.path...)
		if (got == nil) != (c.want == "") || got != nil && got.Code != c.want {
			t.Errorf("%s %q: got %v, want %q", c.op, c.path, got, c.want)
		}
	}
}

func TestEveryGroupMustGrant(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `version: 1
groups:
  x: {paths: [{path: /a, allow: [read, write]}]}
  y: {paths: [{path: /, allow: [read]}]}
accounts: {one: {groups: [x, y]}, none: {}, all: {paths: [{path: /, allow: [all]}]}}
`)
	one := Resolve(d, "one")
	if Permit(one, OpRead, "/a/f") != nil || Permit(one, OpWrite, "/a/f") == nil || Permit(one, OpRead, "/b") == nil {
		t.Error("rights of two groups do not intersect")
	}
	if one.Uniform() || !Resolve(d, "all").Uniform() {
		t.Error("Uniform is wrong")
	}
	for op := OpList; op < opEnd; op++ {
		if Permit(Resolve(d, "none"), op, "/") == nil {
			t.Errorf("an account without grants may %s", op)
		}
		if Permit(Resolve(d, "all"), op, "/x/y") != nil {
			t.Errorf("all does not grant %s", op)
		}
	}
}

func TestShows(t *testing.T) {
	t.Parallel()
	e := Resolve(mustParse(t, `version: 1
accounts: {a: {paths: [{path: /in, allow: [list]}, {path: /in/hidden, allow: []}, {path: /x/y, allow: [read]}]}}
`), "a")
	for _, c := range []struct {
		dir, child string
		want       bool
	}{
		{"/", "/in", true}, {"/", "/x", true}, {"/", "/other", false},
		{"/x", "/x/y", true}, {"/x", "/x/z", false},
		{"/in", "/in/f", true}, {"/in", "/in/hidden", false},
	} {
		if got := e.Shows(c.dir, c.child); got != c.want {
			t.Errorf("%s in %s: shown %v", c.child, c.dir, got)
		}
	}
	if e.ListsAll("/in") || e.ListsAll("/") || !e.ListsAll("/in/sub") {
		t.Error("ListsAll is wrong")
	}
}

func TestSettingsTable(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, s := range Settings() {
		if s.Description == "" || s.Since == "" || s.Stricter == 0 || s.Scope == 0 || s.Kind == 0 {
			t.Errorf("%s: row is not complete", s.Path)
		}
		if slices.Contains(paths, s.Path) {
			t.Errorf("%s stands twice", s.Path)
		}
		paths = append(paths, s.Path)
		n, p := parseYAML([]byte(s.DefaultText()))
		if p != nil {
			t.Fatalf("%s: default %s: %v", s.Path, s.DefaultText(), p)
		}
		v, p := s.parse(n)
		if p != nil {
			t.Fatalf("%s: default %s: %v", s.Path, s.DefaultText(), p)
		}
		if s.format(v) != s.DefaultText() || s.looser(v, s.Default) || s.looser(s.Default, v) {
			t.Errorf("%s: default reads back as %s", s.Path, s.format(v))
		}
	}
}

func TestPermitTree(t *testing.T) {
	t.Parallel()
	e := Resolve(mustParse(t, "version: 1\naccounts: {a: {paths: [{path: /, allow: [all]}, {path: /a/b/closed, allow: []}, {path: /a/bc, allow: [list]}]}}\n"), "a")
	for path, ok := range map[string]bool{"/x": true, "/a/b/open": true, "/a/b": false, "/a": false, "/": false, "/a/b/closed": false, "/a/b/closed/x": false, "/a/bcd": true} {
		if d := PermitTree(e, OpRename, path); (d == nil) != ok {
			t.Errorf("%s: %v", path, d)
		}
	}
}
