package vfs

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
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

// PathVersion is one content that a path had. Changes of mode and times alone make none: the Info is the file with the last attributes that it
// had while it had that content.
type PathVersion struct {
	*Info
	Number uint64    // of the first version with this content, of those that are kept; Info.Version is the last
	At     time.Time // since when the path had it; the server's instants, which a client cannot set
	AttrAt time.Time // since when it had these attributes: restoring this instant brings back what is shown. Not before At
	Until  time.Time // when that ended; zero while it is live, and At if it never was current
	Writer string    // who made the version, as ViewOptions.Writer; empty for what the server did by itself
	State  VersionState
}

const (
	// versionPage is about how many versions are told of one view.
	versionPage = 512
	// versionsLooked is how many one view reads that are told as part of one: programs that set the times of a file again and again make very many.
	versionsLooked = 4096
)

// Versions calls fn with the versions that a path had since the horizon, oldest first, whether the path is there now or not: with those
// that it had from an instant on, and with all if since is zero. Versions in a row that differ in their attributes only are told as one. What was a directory has none. fs.ErrNotExist if nothing was
// there, ErrNotKept if nothing is kept. An error of fn ends it and is returned as it is.
func (h *History) Versions(ctx context.Context, name string, since time.Time, fn func(PathVersion) error) error {
	from := int64(math.MinInt64)
	if !since.IsZero() {
		from = nanos(since) - 1
	}
	r := &versionReader{h: h, name: name, from: from, most: stayPage}
	for more := true; more; {
		var page []PathVersion
		var err error
		if page, more, err = r.view(ctx); err != nil {
			return err
		}
		for i := range page {
			if err := fn(page[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// versionReader reads the versions of a path, some in each view.
type versionReader struct {
	h    *History
	name string
	most int   // of files that had the path, in one view
	from int64 // what was made until then is read

	page   []PathVersion
	looked int          // versions in this view that are part of one told
	cur    *PathVersion // whose end is not read yet; it may be of the view before
	due    bool         // it is to be told, and not only known to tell when the next one begins
	begin  int          // where in the page it belongs: before the broken ones that came while it was current
}

// view is next in a view of its own.
func (r *versionReader) view(ctx context.Context) (page []PathVersion, more bool, err error) {
	err = r.h.w.run("versions", r.name, func(_ context.Context, c *core) error {
		return c.db.View(func(tx *meta.Tx) (err error) { page, more, err = r.next(ctx, tx); return err })
	})
	return page, more, err
}

// next reads the next versions, perhaps none, and says whether there may be more.
func (r *versionReader) next(ctx context.Context, tx *meta.Tx) (page []PathVersion, more bool, err error) {
	at, next, err := r.h.staysFrom(ctx, tx, r.name, r.from, r.most)
	if err != nil {
		return nil, false, err
	}
	after := r.h.reachable()
	r.looked = 0
	for i := range at {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		if at[i].until <= max(after, r.from) {
			continue
		}
		full, err := r.stay(tx, &at[i], after)
		if err != nil {
			return nil, false, err
		}
		if full {
			return r.told(), true, nil
		}
	}
	if r.from = next; next != math.MaxInt64 {
		return r.told(), true, nil
	}
	return r.page, false, nil
}

// told takes out of the page what can be told by now.
func (r *versionReader) told() []PathVersion {
	page := r.page
	r.page = nil
	if r.cur != nil {
		page, r.page = page[:r.begin:r.begin], page[r.begin:]
	}
	r.begin = 0
	return page
}

// stay reads the versions that a file or symlink had while it was at its place: those that began after from and ended after an
// instant. full: there are enough for one view, and from says where to go on.
func (r *versionReader) stay(tx *meta.Tx, s *stay, after int64) (full bool, err error) {
	if r.cur != nil && r.cur.node.ID != s.id { // purged meanwhile
		r.cur = nil
	}
	n, err := tx.Node(s.id)
	if err != nil || n.Kind == meta.Dir {
		return false, absentIsFine(err)
	}
	was, from, torn := r.cur, r.from, false
	err = tx.VersionsAfter(n, max(after, r.from, s.since), func(v *meta.Version, alike bool) bool {
		switch {
		case v.At >= s.until:
			return false
		case v.State == meta.Interrupted:
			if v.At > max(after, from) {
				p := pathVersion(n, s, v)
				p.State, p.Until = VersionInterrupted, p.At
				r.page, r.from = append(r.page, *p), v.At
			}
			torn = len(r.page) >= versionPage
			return !torn
		case was != nil && v.N == was.Version(): // it goes on
			was = nil
			return true
		case alike && r.cur != nil:
			r.cur.node.Version, r.cur.node.Attr, r.cur.AttrAt = v.N, v.Attr, time.Unix(0, max(v.At, s.since))
			r.looked++
		default:
			r.end(s, v.At, after)
			r.cur = pathVersion(n, s, v)
			r.due = r.cur.At.UnixNano() > from
		}
		full = len(r.page) >= versionPage || r.looked >= versionsLooked
		r.from = max(r.from, v.At)
		return !full
	})
	if err != nil || full {
		return full, err
	}
	until := s.until
	if torn && r.cur != nil { // when it ended lies behind more broken ones than there is room for
		if until, err = tx.ReplacedAt(n, r.cur.Version()); err != nil {
			return false, err
		}
	}
	r.end(s, until, after)
	return torn, nil
}

// pathVersion is a version of what was at a place.
func pathVersion(n *meta.Node, s *stay, v *meta.Version) *PathVersion {
	at := *n
	at.Version, at.Attr, at.Interrupted = v.N, v.Attr, false
	since := time.Unix(0, max(v.At, s.since))
	return &PathVersion{Info: &Info{name: s.name, node: at, past: true}, Number: v.N, At: since, AttrAt: since, Writer: v.Writer}
}

// end puts what was current until an instant into the page.
func (r *versionReader) end(s *stay, until, after int64) {
	if cur := r.cur; cur != nil {
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
		if r.due && until > after {
			r.page = slices.Insert(r.page, r.begin, *cur)
		}
	}
	r.cur, r.begin = nil, len(r.page)
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
