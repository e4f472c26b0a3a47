package vfs

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"sallyport/vfs/meta"
)

// VersionState is what became of a version.
type VersionState uint8

const (
	VersionLive        VersionState = 1 + iota // it is current, under the path that was asked for
	VersionSuperseded                          // another version of the path took its place
	VersionDeleted                             // its name was removed, replaced by something else or renamed away while it was current
	VersionInterrupted                         // a broken overwrite: it never was current, and is not whole
)

// String names the state.
func (s VersionState) String() string {
	switch s {
	case VersionLive:
		return "live"
	case VersionSuperseded:
		return "superseded"
	case VersionDeleted:
		return "deleted"
	case VersionInterrupted:
		return "interrupted"
	}
	return "unknown"
}

// PathVersion is one content, or set of attributes, that a path had. The Info is the file as of that version.
type PathVersion struct {
	*Info
	At     time.Time // since when the path had it; the server's instants, which a client cannot set
	Until  time.Time // when that ended; zero while it is live, and At if it never was current
	Writer string    // who made the version, as ViewOptions.Writer; empty for what the server did by itself
	State  VersionState
}

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

// versionPage is about how many versions are read in one view.
const versionPage = 512

// Versions calls fn with the versions that a path had since the horizon, oldest first, whether the path is there now or not: with those
// that it had from an instant on, and with all if since is zero. What was a directory has none. fs.ErrNotExist if nothing was
// there, ErrNotKept if nothing is kept. An error of fn ends it and is returned as it is.
func (h *History) Versions(ctx context.Context, name string, since time.Time, fn func(PathVersion) error) error {
	from := int64(math.MinInt64)
	if !since.IsZero() {
		from = nanos(since) - 1
	}
	for {
		page, next, err := h.versionPage(ctx, name, from, stayPage)
		if err != nil {
			return err
		}
		for i := range page {
			if err := fn(page[i]); err != nil {
				return err
			}
		}
		if next == math.MaxInt64 {
			return nil
		}
		from = next
	}
}

// versionPage reads the next versions that begin after an instant, of most files, and says after which the next page begins; MaxInt64 if
// there is none.
func (h *History) versionPage(ctx context.Context, name string, from int64, most int) (page []PathVersion, next int64, err error) {
	err = h.w.run("versions", name, func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			page = nil
			at, more, err := h.staysFrom(ctx, tx, name, from, most)
			if err != nil {
				return err
			}
			after := h.reachable()
			for _, s := range at {
				if err := ctx.Err(); err != nil {
					return err
				}
				if s.until <= max(after, from) {
					continue
				}
				if page, err = versionsOf(tx, s, after, from, page); err != nil {
					return err
				}
				if len(page) >= versionPage {
					next = page[len(page)-1].At.UnixNano()
					return nil
				}
			}
			next = more
			return nil
		})
	})
	return page, next, err
}

// versionsOf adds the versions that a file or symlink had while it was at its place: those that began after from and
// ended after an instant. It ends when there are enough.
func versionsOf(tx *meta.Tx, s stay, after, from int64, page []PathVersion) ([]PathVersion, error) {
	n, err := tx.Node(s.id)
	if err != nil || n.Kind == meta.Dir {
		return page, absentIsFine(err)
	}
	var cur *PathVersion // without its end yet
	begin := len(page)
	end := func(until int64) {
		if cur == nil {
			return
		}
		switch {
		case until < s.until:
			cur.State = VersionSuperseded
		case s.until == math.MaxInt64:
			cur.State = VersionLive
		default:
			cur.State = VersionDeleted
		}
		if until = min(until, s.until); until != math.MaxInt64 {
			cur.Until = time.Unix(0, until)
		}
		if cur.At.UnixNano() > from && until > after {
			page = slices.Insert(page, begin, *cur) // before the broken ones that came while it was current
		}
		cur, begin = nil, len(page)
	}
	full, torn := false, false
	err = tx.VersionsAfter(n, max(after, from, s.since), func(v *meta.Version) bool {
		if v.At >= s.until {
			return false
		}
		at := *n
		at.Version, at.Attr, at.Interrupted = v.N, v.Attr, false
		p := PathVersion{Info: &Info{name: s.name, node: at, past: true}, At: time.Unix(0, max(v.At, s.since)), Writer: v.Writer}
		if v.State == meta.Interrupted {
			if v.At > max(after, from) {
				p.State, p.Until = VersionInterrupted, p.At
				page = append(page, p)
			}
			torn = len(page) >= versionPage
			return !torn
		}
		end(v.At)
		cur, full = &p, len(page) >= versionPage
		return !full
	})
	if err != nil || full {
		return page, err
	}
	until := s.until
	if torn && cur != nil { // when it ended lies behind more broken ones than there is room for
		if until, err = tx.ReplacedAt(n, cur.Version()); err != nil {
			return page, err
		}
	}
	end(until)
	return page, nil
}

// Last is what was at a path last since the horizon, and whether there was a file or symlink, and a directory: a path can have been
// both, one after the other.
func (h *History) Last(name string) (last *Info, file, dir bool, err error) {
	err = h.w.run("stat", name, func(ctx context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			at, err := h.stays(ctx, tx, name)
			for _, s := range at {
				n, err := tx.Node(s.id)
				if err != nil {
					if err = absentIsFine(err); err != nil {
						return err
					}
					continue
				}
				last = &Info{name: s.name, node: *n, past: true}
				dir = dir || n.Kind == meta.Dir
				file = file || n.Kind != meta.Dir
			}
			if err == nil && last == nil {
				err = ErrPurged
			}
			return err
		})
	})
	return last, file, dir, err
}

// Has tells whether a version that Versions told of may still be looked at: ErrNotKept if not.
func (h *History) Has(v PathVersion) error {
	if after := h.reachable(); after == math.MaxInt64 || !v.Until.IsZero() && v.Until.UnixNano() <= after {
		return ErrNotKept
	}
	return nil
}

// Target is where a symlink led in this version; fs.ErrInvalid for anything else.
func (v *PathVersion) Target() (string, error) {
	if v.node.Kind != meta.Symlink {
		return "", fail("readlink", v.name, fs.ErrInvalid)
	}
	return v.node.Target, nil
}

// OpenVersion opens a version that Versions told of, for reading, whatever the owner's mode bits are now: those of the version bind.
func (h *History) OpenVersion(ctx context.Context, name string, v PathVersion) (*File, error) {
	return h.open(ctx, name, func(_ *core, tx *meta.Tx) (place, *meta.Version, error) {
		if err := h.Has(v); err != nil {
			return place{}, nil, err
		}
		at := place{slot: slot{name: v.name}, path: name, node: &v.node}
		if err := readable(&at); err != nil {
			return at, nil, err
		}
		stored, err := tx.Version(v.node.ID, v.node.Version)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrPurged
		}
		return at, stored, err
	})
}
