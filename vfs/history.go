package vfs

import (
	"cmp"
	"context"
	"io/fs"
	"math"
	"slices"
	"strings"

	"sallyport/vfs/meta"
)

// maxHomes is how many directories that a path led to are looked into, the newest first.
const maxHomes = 64

// stay says that an inode was at a place, in [since, until); until is MaxInt64 for what is there now.
type stay struct {
	id           meta.Inode
	since, until int64
	name         string
}

// reachable is since when history may be looked at now, ns since 1970; MaxInt64 for not at all.
func (h *History) reachable() int64 {
	now, horizon := h.w.vol.fs.o.Now(), h.horizon()
	if !horizon.Before(now) {
		return math.MaxInt64
	}
	return max(nanos(horizon), 0)
}

// components takes a path apart: the names, without "" and "."; ".." goes up.
func components(name string) ([]string, error) {
	if len(name) > MaxPath {
		return nil, ErrNameTooLong
	}
	var out []string
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "" || c == ".":
		case c == "..":
			out = out[:max(len(out)-1, 0)]
		case len(c) > MaxName:
			return nil, ErrNameTooLong
		case strings.IndexByte(c, 0) >= 0:
			return nil, ErrBadName
		default:
			out = append(out, c)
		}
	}
	if len(out) > MaxDepth {
		return nil, ErrNameTooLong
	}
	return out, nil
}

// stays finds what was at a path since the horizon, oldest first: the newest maxHomes. Symlinks are not followed: what they led to
// has a path of its own. It costs a bounded number of records for each component, whatever came and went there.
func (h *History) stays(ctx context.Context, tx *meta.Tx, name string) ([]stay, error) {
	homes, last, err := h.homes(ctx, tx, name)
	if err != nil || last == "" {
		return homes, err
	}
	at, err := h.newest(tx, homes, last, h.reachable())
	if err == nil && len(at) == 0 {
		err = fs.ErrNotExist
	}
	return at, err
}

// homes are the directories that the last component of a path was in, oldest first, and that component; for the root itself and "".
func (h *History) homes(ctx context.Context, tx *meta.Tx, name string) (at []stay, last string, err error) {
	parts, err := components(name)
	if err != nil {
		return nil, "", err
	}
	after := h.reachable()
	if after == math.MaxInt64 {
		return nil, "", ErrNotKept
	}
	at = []stay{{id: meta.Root, until: math.MaxInt64, name: "/"}}
	for i, c := range parts {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		if i == len(parts)-1 {
			return at, c, nil
		}
		if at, err = h.newest(tx, at, c, after); err != nil {
			return nil, "", err
		}
		if len(at) == 0 {
			return nil, "", fs.ErrNotExist
		}
	}
	return at, "", nil
}

// newest finds what had a name last in directories while they were at their place, oldest first: the last maxHomes.
func (h *History) newest(tx *meta.Tx, homes []stay, name string, after int64) (out []stay, err error) {
	for _, dir := range slices.Backward(homes) {
		spelled, err := spelling(tx, dir, name, after)
		if err != nil {
			return nil, err
		}
		err = tx.NameBack(dir.id, spelled, max(after, dir.since), dir.until, func(e meta.Entry) bool {
			out = append(out, dir.holds(&e))
			return len(out) < maxHomes
		})
		if err != nil {
			return nil, err
		}
		if len(out) == maxHomes {
			break
		}
	}
	slices.Reverse(out)
	return out, nil
}

// maxSpellings is how many names of the same NFC form are tried that are no such form themselves, live and past ones each.
const maxSpellings = 16

// spelling is the name in a directory that is meant: the exact one, else the only one with the same NFC form.
func spelling(tx *meta.Tx, dir stay, name string, after int64) (string, error) {
	had := func(name string) (bool, error) { return tx.HadName(dir.id, name, max(after, dir.since), dir.until) }
	if ok, err := had(name); ok || err != nil {
		return name, err
	}
	others, err := tx.Spellings(dir.id, name, maxSpellings)
	if err != nil {
		return name, err
	}
	found := ""
	for _, other := range others {
		ok, err := had(other)
		if err != nil {
			return name, err
		}
		if ok && found != "" {
			return name, nil // several, none of them exactly this one
		}
		if ok {
			found = other
		}
	}
	return cmp.Or(found, name), nil
}

// holds is the stay of what had a name in a directory while that was at its place.
func (s *stay) holds(e *meta.Entry) stay {
	in := stay{id: e.Inode, since: max(e.Since, s.since), until: s.until, name: e.Name}
	if e.Until != 0 {
		in.until = min(in.until, e.Until)
	}
	return in
}

// stayPage is how many of those that had a path are read in one view: programs that save under another name and rename it make a new
// file each time.
const stayPage = 1024

// staysFrom finds those that ended after an instant, the oldest, at most so many, and after which instant to go on; MaxInt64 if these are all.
func (h *History) staysFrom(ctx context.Context, tx *meta.Tx, name string, from int64, most int) (at []stay, next int64, err error) {
	homes, last, err := h.homes(ctx, tx, name)
	if err != nil || last == "" {
		return homes, math.MaxInt64, err
	}
	after, looked := h.reachable(), 0
	next = math.MaxInt64
	for _, dir := range homes {
		spelled, err := spelling(tx, dir, last, after)
		if err != nil {
			return nil, 0, err
		}
		err = tx.NameHistory(dir.id, spelled, max(after, from, dir.since), func(e meta.Entry) bool {
			s := dir.holds(&e)
			if s.since < s.until {
				at = append(at, s)
			}
			if looked++; looked < most {
				return s.since < dir.until
			}
			next = s.until - 1 // what came then may begin at this one's end
			return false
		})
		if err != nil || next != math.MaxInt64 {
			return at, next, err
		}
	}
	if len(at) == 0 && from <= after {
		return nil, 0, fs.ErrNotExist
	}
	return at, next, nil
}
