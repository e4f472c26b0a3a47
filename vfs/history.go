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

	"golang.org/x/text/unicode/norm"

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
// has a path of its own.
func (h *History) stays(tx *meta.Tx, name string) ([]stay, error) {
	at, _, err := h.staysFrom(tx, name, math.MinInt64, 0)
	return at, err
}

// stayPage is how many of those that had a path are read in one view: programs that save under another name and rename it make a new
// file each time.
const stayPage = 1024

// staysFrom finds those that ended after an instant, the oldest, and says whether there may be more than most. most = 0: the newest.
func (h *History) staysFrom(tx *meta.Tx, name string, from int64, most int) (at []stay, more bool, err error) {
	parts, err := components(name)
	if err != nil {
		return nil, false, err
	}
	after := h.reachable()
	if after == math.MaxInt64 {
		return nil, false, ErrNotKept
	}
	at = []stay{{id: meta.Root, until: math.MaxInt64, name: "/"}}
	for i, c := range parts {
		ended, least := after, 0
		if i == len(parts)-1 {
			ended, least = max(after, from), most
		}
		var next []stay
		for _, dir := range at {
			n, err := tx.Node(dir.id)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, false, err
			}
			if err != nil || n.Kind != meta.Dir {
				continue
			}
			spelled := c
			if folded := norm.NFC.String(c); folded != c { // typed on a system that takes letters apart?
				var any []stay
				if err := h.into(tx, dir, c, after, 1, &any); err != nil {
					return nil, false, err
				}
				if len(any)+len(next) == 0 {
					spelled = folded
				}
			}
			if err := h.into(tx, dir, spelled, ended, least, &next); err != nil {
				return nil, false, err
			}
			if more = least > 0 && len(next) >= least; more {
				break
			}
		}
		slices.SortStableFunc(next, func(a, b stay) int { return cmp.Compare(a.since, b.since) })
		if at = next; least == 0 {
			at = next[max(0, len(next)-maxHomes):]
		}
	}
	if len(at) == 0 && from <= after {
		return nil, false, fs.ErrNotExist
	}
	return at, more, nil
}

// into adds what had a name in a directory while that was at its place, until there are most; 0 = all.
func (h *History) into(tx *meta.Tx, dir stay, name string, after int64, most int, out *[]stay) error {
	return tx.NameHistory(dir.id, name, max(after, dir.since), func(e meta.Entry) bool {
		s := stay{id: e.Inode, since: max(e.Since, dir.since), until: dir.until, name: e.Name}
		if e.Until != 0 {
			s.until = min(s.until, e.Until)
		}
		if s.since < s.until {
			*out = append(*out, s)
		}
		return s.since < dir.until && (most == 0 || len(*out) < most)
	})
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
			at, more, err := h.staysFrom(tx, name, from, most)
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
			if next = math.MaxInt64; more {
				next = at[len(at)-1].until - 1 // what came next may begin at this one's end
			}
			return nil
		})
	})
	return page, next, err
}

// versionsOf adds the versions that a file or symlink had while it was at its place: those that began after from and
// ended after an instant. It ends between two versions when there are enough.
func versionsOf(tx *meta.Tx, s stay, after, from int64, page []PathVersion) ([]PathVersion, error) {
	n, err := tx.Node(s.id)
	if err != nil || n.Kind == meta.Dir {
		return page, absentIsFine(err)
	}
	var cur *PathVersion // without its end yet
	begin := len(page)
	end := func(until int64, state VersionState) {
		if cur == nil {
			return
		}
		if cur.State = state; until != math.MaxInt64 {
			cur.Until = time.Unix(0, until)
		}
		if cur.At.UnixNano() > from && until > after {
			page = slices.Insert(page, begin, *cur) // before the broken ones that came while it was current
		}
		cur, begin = nil, len(page)
	}
	full := false
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
			return true
		}
		end(v.At, VersionSuperseded)
		cur, full = &p, len(page) >= versionPage
		return !full
	})
	switch {
	case err != nil || full:
	case s.until == math.MaxInt64:
		end(s.until, VersionLive)
	default:
		end(s.until, VersionDeleted)
	}
	return page, err
}

// Last is what was at a path last since the horizon, and whether there was a file or symlink, and a directory: a path can have been
// both, one after the other.
func (h *History) Last(name string) (last *Info, file, dir bool, err error) {
	err = h.w.run("stat", name, func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			at, err := h.stays(tx, name)
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

// Names streams the names that a directory had since the horizon, each once, also of directories that are gone; in no particular order.
// The Info of each is that of what had the name last.
func (h *History) Names(ctx context.Context, name string, fn func([]*Info) error) error {
	var out []*Info
	err := h.w.run("readdir", name, func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) error {
			out = nil
			at, err := h.stays(tx, name)
			if err != nil {
				return err
			}
			after, seen := h.reachable(), map[string]bool{}
			for _, s := range slices.Backward(at) { // what had a name last comes first
				if err := ctx.Err(); err != nil {
					return err
				}
				if out, err = namesOf(tx, s, after, seen, out); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(out, listBatch) {
		if err := fn(some); err != nil {
			return err
		}
	}
	return nil
}

// namesOf adds the names that a directory had while it was at its place.
func namesOf(tx *meta.Tx, s stay, after int64, seen map[string]bool, out []*Info) ([]*Info, error) {
	dir, err := tx.Node(s.id)
	if err != nil || dir.Kind != meta.Dir {
		return out, absentIsFine(err)
	}
	var failed error
	add := func(e meta.Entry) bool {
		if seen[e.Name] || e.Since >= s.until || e.Until != 0 && e.Until <= s.since {
			return true
		}
		seen[e.Name] = true
		n, err := tx.Node(e.Inode)
		if err != nil {
			failed = absentIsFine(err)
			return failed == nil
		}
		out = append(out, &Info{name: e.Name, node: *n, past: true})
		return true
	}
	_, err = tx.List(s.id, nil, func(e meta.Entry, _ *meta.Node) bool { return add(e) })
	if err == nil && failed == nil {
		err = tx.PastNames(s.id, after, add)
	}
	return out, errors.Join(failed, err)
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
