package session

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/vfs"
)

// How many instants /.backups lists of each kind. Any other can be reached by its name.
const (
	hourly = 24
	daily  = 62
)

// listInstants offers useful instants, of which nothing was purged: whole hours of the last day, midnights, and those before many names went or many files were
// overwritten.
func (h *past) listInstants(ctx context.Context, fn func([]*vfs.Info) error) error {
	now := h.g.now().UTC()
	oldest, err := h.g.history().First()
	if err != nil {
		return err
	}
	if root, err := h.g.view.Stat("/"); err == nil {
		if made := root.(*vfs.Info).Created(); oldest.Before(made) {
			oldest = made // before, there was nothing
		}
	}
	seen := map[string]bool{}
	batch := []*vfs.Info{vfs.VirtualDir(versionsDir, now)}
	offer := func(at time.Time) {
		if name := FormatInstant(at); !seen[name] && !at.Before(oldest) {
			seen[name] = true
			batch = append(batch, vfs.VirtualDir(name, at))
		}
	}
	hour := now.Truncate(time.Hour)
	for i := range hourly {
		offer(hour.Add(-time.Duration(i) * time.Hour))
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for i := range daily {
		offer(midnight.AddDate(0, 0, -i))
	}
	rows, err := h.g.history().Losses(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		offer(r.Before.Truncate(time.Millisecond))
	}
	slices.SortFunc(batch, func(a, b *vfs.Info) int { return strings.Compare(a.Name(), b.Name()) }) // who lists with curl sees them as they come
	return fn(batch)
}

// errEnough ends a walk that has found what it looked for.
var errEnough = errors.New("session: found")

const versionTime = "2006-01-02T150405Z"

// versionName is the name of a version in the listing of its path: the second since when the path had it, its number, which later changes of
// its times do not change, and the extension, so that programs know what it is. Names sort by time.
func versionName(of string, v *vfs.PathVersion) (name, ext string) {
	base, ext := path.Base(of), path.Ext(of)
	if ext == base { // a name that begins with its only dot has none
		ext = ""
	}
	name = v.At.UTC().Format(versionTime) + "_" + strconv.FormatUint(v.Number, 10)
	if v.State == vfs.VersionInterrupted {
		name += ".interrupted"
	}
	return name, ext
}

// namer names the versions of a path one after the other. Two of one second and number, of files that had the path one after
// the other, are told apart.
type namer struct {
	of   string
	used map[string]int
}

func (n *namer) name(v *vfs.PathVersion) string {
	name, ext := versionName(n.of, v)
	if n.used == nil {
		n.used = map[string]int{}
	}
	second := name[:len(versionTime)-1]
	if n.used[name]++; n.used[name] == 1 {
		if len(n.used) > 1024 { // of this second only
			for u := range n.used {
				if !strings.HasPrefix(u, second) {
					delete(n.used, u)
				}
			}
		}
		return name + ext
	}
	return name + "~" + strconv.Itoa(n.used[name]) + ext
}

// version finds the version that a path below versions names.
func (h *past) version(at string) (found vfs.PathVersion, err error) {
	of, leaf := path.Split(at)
	of = path.Clean(of)
	none := &fs.PathError{Op: "stat", Path: h.name, Err: fs.ErrNotExist}
	text, _, _ := strings.Cut(leaf, "_")
	second, perr := time.Parse(versionTime, text)
	if perr != nil || of == "/" {
		return found, none
	}
	n, looked := namer{of: of}, 0
	err = h.g.history().Versions(context.Background(), of, second, func(v vfs.PathVersion) error {
		if looked++; looked%512 == 0 { // a clock that stood still may have put very many into one second
			if _, err := h.g.begin(); err != nil {
				return err
			}
		}
		if !v.At.Before(second.Add(time.Second)) {
			return none
		}
		if n.name(&v) == leaf {
			found = v
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return found, nil
	case err == nil:
		err = none
	}
	return found, err
}

// statVersion tells of a path below versions: a name that something had, or one of its versions.
func (h *past) statVersion(at string) (*vfs.Info, error) {
	base := path.Base(h.name)
	last, _, _, err := h.g.history().Last(at)
	if err == nil {
		return vfs.VirtualDir(base, last.ModTime()), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	v, verr := h.version(at)
	if verr != nil {
		return nil, err
	}
	return v.Named(base), nil
}

// listVersions lists the names that a directory had, and the versions that a file of that path had. Where there was the one and
// the other, both are there.
func (h *past) listVersions(ctx context.Context, at string, show, fn func([]*vfs.Info) error) error {
	history := h.g.history()
	_, file, dir, err := history.Last(at)
	if err != nil {
		if _, verr := h.version(at); verr == nil {
			err = &fs.PathError{Op: "readdir", Path: h.name, Err: vfs.ErrNotDir}
		}
		return err
	}
	if dir {
		err := history.Names(ctx, at, func(batch []*vfs.Info) error {
			for i, n := range batch {
				batch[i] = vfs.VirtualDir(n.Name(), n.ModTime())
			}
			return show(batch)
		})
		if err != nil {
			return err
		}
	}
	if !file {
		return nil
	}
	tell := func(batch []*vfs.Info) error {
		if _, err := h.g.begin(); err != nil { // a long listing ends with its session
			return err
		}
		return fn(batch)
	}
	n := namer{of: at}
	var batch []*vfs.Info
	err = history.Versions(ctx, at, time.Time{}, func(v vfs.PathVersion) error {
		if batch = append(batch, v.Named(n.name(&v))); len(batch) < 256 {
			return nil
		}
		full := batch
		batch = nil
		return tell(full)
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return tell(batch)
}

// openVersion opens a version. reach says whether it may still be read, when the policy has changed.
func (h *past) openVersion(ctx context.Context, at string) (*vfs.File, func() error, error) {
	v, err := h.version(at)
	if err != nil {
		if _, _, _, lerr := h.g.history().Last(at); lerr == nil {
			err = &fs.PathError{Op: "open", Path: h.name, Err: vfs.ErrIsDir}
		}
		return nil, nil, err
	}
	history := h.g.history()
	f, err := history.OpenVersion(ctx, path.Dir(at), v)
	return f, func() error { return history.Has(v) }, err
}
