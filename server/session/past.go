package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// versionsDir is where the versions of each path are, below policy.Reserved.
const versionsDir = "versions"

// ErrInstant means that a name directly below policy.Reserved is no instant. It is an fs.ErrNotExist.
var ErrInstant = fmt.Errorf("session: no instant: %w", fs.ErrNotExist)

// ErrNoHistory means that the policy keeps nothing of the past for the account. It is a vfs.ErrNotKept.
var ErrNoHistory = fmt.Errorf("session: no history: %w", vfs.ErrNotKept)

// past is a path below policy.Reserved: /.backups itself, /.backups/<instant>/…, or /.backups/versions/….
type past struct {
	g        *Guard
	p        *policy.Effective
	name     string // clean
	root     bool   // /.backups
	versions bool
	label    string    // the instant, as it was written
	at       time.Time // the instant
	rest     string    // path behind it, absolute
}

// past takes a name apart that lies where the history is shown; nil if it does not. An instant that is none is ErrInstant.
func (g *Guard) past(name string) (*past, error) {
	name = clean(name)
	tail, in := strings.CutPrefix(name, policy.Reserved)
	if !in || tail != "" && tail[0] != '/' {
		return nil, nil
	}
	p, err := g.begin()
	if err != nil {
		return nil, err
	}
	h := &past{g: g, p: p, name: name, root: tail == ""}
	if !p.Backup.SelfService {
		return nil, g.s.denied(p.Deny(policy.CodeHistory, "backup.self_service"), policy.OpStat, name)
	}
	if !g.keeps(p) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: ErrNoHistory}
	}
	if h.root {
		h.rest = "/"
		return h, nil
	}
	label, rest, _ := strings.Cut(tail[1:], "/")
	h.rest = "/" + rest
	if label == versionsDir {
		h.versions = true
		return h, nil
	}
	at, ok := ParseInstant(label)
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: ErrInstant}
	}
	h.label, h.at = label, at
	return h, nil
}

func (g *Guard) now() time.Time { return g.s.conn.m.now() }

// history is as far back as the policy in force lets the account look.
func (g *Guard) history() *vfs.History {
	return g.view.History(func() time.Time { return g.s.conn.m.reach(g.s.Policy().Backup) })
}

// shows tells whether the listing of / has the history.
func (g *Guard) shows(p *policy.Effective) bool {
	return p.Backup.Show && p.Backup.SelfService && g.keeps(p)
}

// keeps tells whether there is any past to look at.
func (g *Guard) keeps(p *policy.Effective) bool {
	return p.Backup.Retention > 0
}

// permit asks for the right on the path behind the instant: who may not read a file may not read what it was.
func (h *past) permit(op policy.Op, at string) error {
	if d := policy.Permit(h.p, op, at); d != nil {
		return h.g.s.denied(d, op, h.inside(at))
	}
	return nil
}

// inside is the name of a path of then.
func (h *past) inside(at string) string {
	switch {
	case h.root:
		return policy.Reserved
	case h.versions:
		return path.Join(policy.Reserved, versionsDir, at)
	}
	return path.Join(policy.Reserved, h.label, at)
}

// look is one operation on the volume of then: what may be done is asked of the path that it finds, in the transaction that uses it.
type look struct {
	*vfs.Past
	h      *past
	op     policy.Op
	at     string // the path that was found
	denial *policy.Denial
}

func (h *past) look(op policy.Op) *look {
	l := &look{h: h, op: op}
	l.Past = h.g.history().At(h.at).Judged(func(at string) error {
		l.at = at
		if l.denial = policy.Permit(h.p, op, at); l.denial != nil {
			return l.denial
		}
		if h.g.testOnlyUsing != nil {
			h.g.testOnlyUsing()
		}
		return nil
	})
	return l
}

// answer is the error of the operation; a refusal is recorded.
func (l *look) answer(err error) error {
	if l.denial != nil {
		return l.h.g.s.denied(l.denial, l.op, l.h.inside(l.at))
	}
	return err
}

// stat is Stat, or Lstat without follow.
func (h *past) stat(follow bool) (*vfs.Info, error) {
	base := path.Base(h.name)
	if h.root || h.versions {
		if err := h.permit(policy.OpStat, h.rest); err != nil {
			return nil, err
		}
		if h.root {
			return vfs.VirtualDir(base, h.g.now()), nil
		}
		return h.statVersion(h.rest)
	}
	then := h.look(policy.OpStat)
	stat := then.Lstat
	if follow {
		stat = then.Stat
	}
	i, err := stat(h.rest)
	if err = then.answer(err); err != nil {
		return nil, err
	}
	if then.at == "/" {
		return i.Named(base), nil
	}
	return i, nil
}

// was tells whether there is something at a name of the history, as far as the account may see it: of a refusal to write there, whether it
// would have made a name or changed one. It records nothing.
func (g *Guard) was(name string) bool {
	h, err := g.past(name)
	switch {
	case h == nil || err != nil:
		return false
	case h.root:
		return true
	case h.versions:
		if policy.Permit(h.p, policy.OpStat, h.rest) != nil {
			return false
		}
		_, err = h.statVersion(h.rest)
	default:
		_, err = h.look(policy.OpStat).Lstat(h.rest)
	}
	return err == nil
}

func (h *past) readlink() (string, error) {
	if !h.root && !h.versions {
		then := h.look(policy.OpStat)
		target, err := then.Readlink(h.rest)
		return target, then.answer(err)
	}
	if err := h.permit(policy.OpStat, h.rest); err != nil {
		return "", err
	}
	if h.root {
		return "", &fs.PathError{Op: "readlink", Path: h.name, Err: fs.ErrInvalid}
	}
	v, err := h.version(h.rest)
	if err != nil {
		return "", err
	}
	return v.Target()
}

// readDir lists a directory of the history.
func (h *past) readDir(ctx context.Context, fn func([]*vfs.Info) error) error {
	show := func(at string) func(batch []*vfs.Info) error {
		return func(batch []*vfs.Info) error {
			if _, err := h.g.begin(); err != nil { // a long listing ends with its session
				return err
			}
			if h.p.ListsAll(at) {
				return fn(batch)
			}
			var seen []*vfs.Info
			for _, i := range batch {
				if h.p.Shows(at, path.Join(at, i.Name())) {
					seen = append(seen, i)
				}
			}
			if len(seen) == 0 {
				return nil
			}
			return fn(seen)
		}
	}
	if h.root || h.versions {
		if err := h.permit(policy.OpList, h.rest); err != nil {
			return err
		}
		if h.root {
			return h.listInstants(ctx, fn)
		}
		return h.listVersions(ctx, h.rest, show(h.rest), fn)
	}
	then := h.look(policy.OpList)
	return then.answer(then.ReadDir(ctx, h.rest, func(batch []*vfs.Info) error { return show(then.at)(batch) }))
}

// open opens a file of the history for reading.
func (h *past) open(ctx context.Context) (*File, error) {
	var f *vfs.File
	var reach func() error
	at := h.rest
	if h.root || h.versions {
		err := h.permit(policy.OpRead, at)
		switch {
		case err != nil:
		case h.root:
			err = &fs.PathError{Op: "open", Path: h.name, Err: vfs.ErrIsDir}
		default:
			f, reach, err = h.openVersion(ctx, at)
		}
		if err != nil {
			return nil, h.g.damage(err, h.inside(at))
		}
		at = path.Dir(at) // whose version it is
	} else {
		then := h.look(policy.OpRead)
		var err error
		f, err = then.OpenHandle(ctx, at)
		if err = then.answer(err); err != nil {
			return nil, h.g.damage(err, h.inside(then.at))
		}
		at, reach = then.at, then.Reach
	}
	name := h.inside(at)
	if h.versions {
		name = h.inside(h.rest)
	}
	out := &File{g: h.g, f: f, path: name, rights: at, reach: reach}
	out.judged.Store(h.p)
	return out, nil
}

// canonical is what Resolve answers.
func (h *past) canonical() (string, error) {
	if h.root || h.versions {
		return h.inside(h.rest), h.permit(policy.OpStat, h.rest)
	}
	then := h.look(policy.OpStat)
	at, err := then.Resolve(h.rest, true)
	if err = then.answer(err); err != nil {
		return "", err
	}
	return h.inside(at), nil
}

// perms are the rights on a name of the history: what of the reading ones the account has on the path behind it.
func (h *past) perms() map[policy.Op]bool {
	at := h.rest
	if h.versions {
		at = path.Dir(at)
	}
	set := permsOf(h.p, at)
	for op := range set {
		if op != policy.OpStat && op != policy.OpList && op != policy.OpRead {
			delete(set, op)
		}
	}
	return set
}

// instantForms are how an instant may be written; the first three are how listings write it. Always UTC.
func instantForms() []string {
	return []string{"2006-01-02T1504Z", "2006-01-02T150405Z", "2006-01-02T150405.999999999Z",
		"2006-01-02", "2006-01-02T15:04Z", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05.999999999Z"}
}

// ParseInstant reads an instant as it stands in /.backups: 2026-11-20T1430Z, with seconds and a fraction of them or without, or the
// day alone; hours and minutes may have colons. What is left out is zero: the state at the beginning of that minute or day.
func ParseInstant(text string) (time.Time, bool) {
	if _, fraction, _ := strings.Cut(text, "."); len(fraction) > len("999999999Z") || strings.Contains(text, ",") { // time.Parse would drop the rest
		return time.Time{}, false
	}
	for _, form := range instantForms() {
		if at, err := time.Parse(form, text); err == nil && at.Year() >= 1970 && at.Year() < 2262 {
			return at, true
		}
	}
	return time.Time{}, false
}

// FormatInstant writes an instant as short as that can be, as ParseInstant reads it.
func FormatInstant(at time.Time) string {
	at = at.UTC()
	switch {
	case at.Nanosecond() != 0:
		return at.Format("2006-01-02T150405.999999999Z")
	case at.Second() != 0:
		return at.Format("2006-01-02T150405Z")
	}
	return at.Format("2006-01-02T1504Z")
}

// OldestWhole is the earliest instant that is whole, as ParseInstant reads it, if that is why an earlier one was refused. It is on a full second.
func OldestWhole(err error) (instant string, ok bool) {
	not, ok := errors.AsType[*vfs.NotWhole](err)
	if !ok {
		return "", false
	}
	return FormatInstant(not.Since.Add(time.Second - 1).Truncate(time.Second)), true
}

// pastly runs an operation on the history, if there was no error on the way to it.
func pastly[T any](_ *past, err error, fn func() (T, error)) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return fn()
}
