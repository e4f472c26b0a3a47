package policy

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// PathRight grants verbs on a path and everything below it, until a longer path says otherwise.
type PathRight struct {
	Path  string // canonical, NFC
	Allow []string
}

func (r PathRight) String() string {
	return "{path: " + quote(r.Path) + ", allow: " + flowList(r.Allow, quote) + "}"
}

// opSet is a set of Op, one bit each.
type opSet uint16

func ops(list ...Op) opSet {
	var s opSet
	for _, o := range list {
		s |= 1 << o
	}
	return s
}

func (s opSet) has(o Op) bool { return s&(1<<o) != 0 }

// verbs are what a document grants; each also grants OpStat.
var verbs = []struct {
	word string
	ops  opSet
}{
	{"list", ops(OpList)},
	{"read", ops(OpRead)},
	{"create", ops(OpWrite)},
	{"write", ops(OpWrite, OpOverwrite, OpSetAttr)},
	{"delete", ops(OpDelete)},
	{"rename", ops(OpRename)},
	{"mkdir", ops(OpMkdir)},
	{"symlink", ops(OpSymlink)},
	{"all", ops(OpList, OpRead, OpWrite, OpOverwrite, OpDelete, OpRename, OpMkdir, OpSetAttr, OpSymlink)},
}

func verbWords() []string {
	var list []string
	for _, v := range verbs {
		list = append(list, v.word)
	}
	return list
}

// parsePathRight reads {path: /in, allow: [list, write]}.
func parsePathRight(n *node) (PathRight, *Problem) {
	var r PathRight
	if p := n.want(isMap); p != nil {
		p.Hint = "write {path: /in, allow: [list, write]}"
		return r, p
	}
	for _, f := range n.fields {
		switch f.key {
		case "path":
			if p := f.value.want(isScalar); p != nil {
				return r, p
			}
			r.Path = norm.NFC.String(f.value.scalar)
			if !strings.HasPrefix(r.Path, "/") || path.Clean(r.Path) != r.Path || strings.ContainsRune(r.Path, 0) {
				return r, problem(f.value.pos, "", "path %q must be absolute, without . or .. and without a slash at the end", f.value.scalar)
			}
		case "allow":
			if p := f.value.want(isList); p != nil {
				return r, p
			}
			for _, v := range f.value.list {
				if p := v.want(isScalar); p != nil {
					return r, p
				}
				if !slices.Contains(verbWords(), v.scalar) {
					return r, problem(v.pos, cmp.Or(suggest(v.scalar, verbWords()), "verbs are "+strings.Join(verbWords(), ", ")), "unknown verb %q", v.scalar)
				}
				if !slices.Contains(r.Allow, v.scalar) {
					r.Allow = append(r.Allow, v.scalar)
				}
			}
		default:
			return r, problem(f.pos, suggest(f.key, []string{"path", "allow"}), "unknown key %q in a path right", f.key)
		}
	}
	if r.Path == "" {
		return r, problem(n.pos, "write {path: /in, allow: [list, write]}", "path is missing")
	}
	return r, nil
}

// rights are one list of path rights, compiled.
type rights struct {
	rules  []rule // longest path first
	origin Origin
}

type rule struct {
	path string
	ops  opSet
}

func newRights(list []PathRight, o Origin) rights {
	r := rights{origin: o}
	for _, p := range list {
		var set opSet
		for _, w := range p.Allow {
			for _, v := range verbs {
				if v.word == w {
					set |= v.ops
				}
			}
		}
		if set != 0 {
			set |= ops(OpStat)
		}
		r.rules = append(r.rules, rule{p.Path, set})
	}
	slices.SortFunc(r.rules, func(a, b rule) int { return len(b.path) - len(a.path) })
	return r
}

// below says whether name is dir or lies below it.
func below(name, dir string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(name, dir) && (len(name) == len(dir) || name[len(dir)] == '/')
}

// at returns the rights on a canonical path, without those of ways that only lead somewhere.
func (r *rights) at(name string) (opSet, string) {
	for i := range r.rules {
		if below(name, r.rules[i].path) {
			return r.rules[i].ops, r.rules[i].path
		}
	}
	return 0, ""
}

// allows adds the ways: a directory that leads to a right may be looked at and listed; Shows says what a listing shows.
func (r *rights) allows(op Op, name string) bool {
	if set, _ := r.at(name); set.has(op) {
		return true
	}
	return (op == OpStat || op == OpList) && r.leads(name)
}

// leads says whether name is, or is on the way to, a path with rights.
func (r *rights) leads(name string) bool {
	return slices.ContainsFunc(r.rules, func(u rule) bool { return u.ops != 0 && below(u.path, name) })
}

// Shows says whether a listing of dir shows child (its canonical path): where dir may be listed everything with any
// right, in a directory that is only a way what leads on.
func (p *Effective) Shows(dir, child string) bool {
	dir, child = fold(dir), fold(child)
	for i := range p.rights {
		r := &p.rights[i]
		if set, _ := r.at(dir); set.has(OpList) && !r.allows(OpStat, child) || !set.has(OpList) && !r.leads(child) {
			return false
		}
	}
	return len(p.rights) > 0
}

// fold is the NFC form in which rules are written. A component that is not UTF-8 stays as it is, and folds no other: it must
// not carry a decomposed directory past the rule for its composed name.
func fold(name string) string {
	if isASCII(name) {
		return name
	}
	if utf8.ValidString(name) {
		return norm.NFC.String(name)
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if utf8.ValidString(p) {
			parts[i] = norm.NFC.String(p)
		}
	}
	return strings.Join(parts, "/")
}

// Reserved is where the volume shows its history; nobody writes there.
const Reserved = "/.backups"

// Permit decides on a file operation; every path must be permitted. Paths are resolved and canonical (symlinks
// followed); a rename gives both ends. Rules match names by their NFC form, so that a rule cannot be evaded by another
// spelling of the same name.
func Permit(p *Effective, op Op, paths ...string) *Denial {
	for _, name := range paths {
		name = fold(name)
		if below(name, Reserved) && op != OpStat && op != OpList && op != OpRead {
			return deny(CodeReserved, "path "+Reserved, "built-in")
		}
		if len(p.rights) == 0 {
			return deny(pathCode(op), "paths = []", p.origin("paths").String())
		}
		for i := range p.rights {
			if r := &p.rights[i]; !r.allows(op, name) {
				return denyPath(op, r, name)
			}
		}
		if op == OpWrite || op == OpOverwrite {
			if d := PermitName(p, name); d != nil {
				return d
			}
		}
	}
	return nil
}

func denyPath(op Op, r *rights, name string) *Denial {
	set, at := r.at(name)
	rule := "paths has no entry for it"
	if at != "" {
		rule = "paths: " + at + " allows " + set.String()
	}
	return deny(pathCode(op), rule, r.origin.String())
}

func (s opSet) String() string {
	var list []string
	for o := OpList; o < OpStat; o++ {
		if s.has(o) {
			list = append(list, o.String())
		}
	}
	if list == nil {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Uniform says whether every path has the same rights, so that which path an operation reaches cannot matter
// (but for Reserved).
func (p *Effective) Uniform() bool { return p.uniform }

// ListsAll says whether everything in the directory may be seen, so that a listing needs no filter.
func (p *Effective) ListsAll(dir string) bool {
	dir = fold(dir)
	for i := range p.rights {
		r := &p.rights[i]
		if set, _ := r.at(dir); !set.has(OpList) {
			return false
		}
		for j := range r.rules {
			if r.rules[j].ops == 0 && below(r.rules[j].path, dir) {
				return false
			}
		}
	}
	return len(p.rights) > 0
}

// isUniform: no list distinguishes paths.
func isUniform(list []rights) bool {
	for i := range list {
		for _, r := range list[i].rules {
			if r.path != "/" {
				return false
			}
		}
	}
	return true
}

// PermitTree is Permit for an operation on everything at and below a path, such as moving a directory away: every rule
// below it must permit it too.
func PermitTree(p *Effective, op Op, name string) *Denial {
	if d := Permit(p, op, name); d != nil {
		return d
	}
	name = fold(name)
	for i := range p.rights {
		r := &p.rights[i]
		for _, u := range r.rules {
			if below(u.path, name) && !u.ops.has(op) {
				return denyPath(op, r, u.path)
			}
		}
	}
	return nil
}
