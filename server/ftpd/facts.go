package ftpd

import (
	"io/fs"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// factSet is the facts that MLST and MLSD tell; bit i is factNames()[i]. RFC 3659, section 7.
type factSet uint16

const (
	factType factSet = 1 << iota
	factSize
	factModify
	factCreate
	factPerm
	factUnique
	factMode
	factPartial
	factsEnd
)

// factNames in the order of their bits. X.partial is ours: an interrupted upload that may be resumed.
func factNames() []string {
	return []string{"Type", "Size", "Modify", "Create", "Perm", "Unique", "UNIX.mode", "X.partial"}
}

func defaultFacts() factSet { return factsEnd - 1 }

// parseFacts reads the argument of OPTS MLST; unknown facts are ignored (RFC 3659, section 7.9).
func parseFacts(arg string) factSet {
	var set factSet
	for _, want := range strings.Split(arg, ";") {
		for i, name := range factNames() {
			if strings.EqualFold(strings.TrimSpace(want), name) {
				set |= 1 << i
			}
		}
	}
	return set
}

// feature is the list for FEAT, with a star at what is switched on.
func (s factSet) feature() string {
	var b strings.Builder
	for i, name := range factNames() {
		b.WriteString(name)
		if s&(1<<i) != 0 {
			b.WriteByte('*')
		}
		b.WriteByte(';')
	}
	return b.String()
}

// names is the list for the reply to OPTS MLST.
func (s factSet) names() string {
	var b strings.Builder
	for i, name := range factNames() {
		if s&(1<<i) != 0 {
			b.WriteString(name + ";")
		}
	}
	return b.String()
}

const factTime = "20060102150405" // RFC 3659, section 2.3; UTC

// fact appends the facts of e, each with its semicolon. target is where a symlink points.
func (s factSet) fact(b []byte, e entry, perms map[policy.Op]bool, target string) []byte {
	if s&factType != 0 {
		b = append(appendType(append(b, "Type="...), e, target), ';')
	}
	if s&factSize != 0 && e.Mode().IsRegular() {
		b = append(strconv.AppendInt(append(b, "Size="...), e.Size(), 10), ';')
	}
	if s&factModify != 0 {
		b = append(e.ModTime().UTC().AppendFormat(append(b, "Modify="...), factTime), ';')
	}
	if t := e.Created(); s&factCreate != 0 && !t.IsZero() {
		b = append(t.UTC().AppendFormat(append(b, "Create="...), factTime), ';')
	}
	if s&factPerm != 0 {
		b = append(appendPerm(append(b, "Perm="...), e, perms), ';')
	}
	if s&factUnique != 0 && e.Inode() != 0 { // old versions have none: they must not be taken for the file of now
		b = append(strconv.AppendUint(append(b, "Unique="...), e.Inode(), 16), ';')
	}
	if s&factMode != 0 {
		b = append(b, "UNIX.mode=0"...)
		b = append(strconv.AppendUint(b, uint64(e.Mode().Perm()), 8), ';')
	}
	if s&factPartial != 0 && e.Partial() {
		b = append(b, "X.partial=1;"...)
	}
	return b
}

func appendType(b []byte, e entry, target string) []byte {
	switch {
	case e.IsDir():
		return append(b, "dir"...)
	case e.Mode()&fs.ModeSymlink == 0:
		return append(b, "file"...)
	case target == "" || strings.ContainsAny(target, "; \r\n\x00"):
		return append(b, "OS.unix=slink"...) // a target that would end the fact, or all facts (a space), stays untold
	default:
		return append(append(b, "OS.unix=slink:"...), target...)
	}
}

// appendPerm: RFC 3659, section 7.5.5.
func appendPerm(b []byte, e entry, perms map[policy.Op]bool) []byte {
	add := func(c byte, ok bool) {
		if ok {
			b = append(b, c)
		}
	}
	readable, writable := e.Mode()&0o400 != 0, e.Mode()&0o200 != 0
	if e.IsDir() {
		add('c', perms[policy.OpWrite])
		add('d', perms[policy.OpDelete])
		add('e', perms[policy.OpList])
		add('f', perms[policy.OpRename])
		add('l', perms[policy.OpList])
		add('m', perms[policy.OpMkdir])
		add('p', perms[policy.OpDelete])
		return b
	}
	add('a', perms[policy.OpOverwrite] && writable)
	add('d', perms[policy.OpDelete])
	add('f', perms[policy.OpRename])
	add('r', perms[policy.OpRead] && readable)
	add('w', perms[policy.OpOverwrite] && writable)
	return b
}

// parseFactTime reads YYYYMMDDhhmmss[.fraction] in UTC.
func parseFactTime(s string) (time.Time, bool) {
	whole, _, _ := strings.Cut(s, ".")
	if len(whole) != len(factTime) {
		return time.Time{}, false
	}
	t, err := time.Parse(factTime+".999999999", s) // a fraction is accepted, also when the layout has none
	return t, err == nil
}
