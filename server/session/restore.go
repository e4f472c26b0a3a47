package session

import (
	"context"
	"io/fs"
	"path"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// Restore brings back what was at a path at an instant, a file or a directory with all that is below it, to where it was. What
// came later is kept, what is replaced goes to history. A path below /.backups says both itself, and instant is empty then.
//
// It needs the right to read the path and to write it, and for a directory to make directories and symlinks in it; names and sizes of
// files are judged one by one before anything is done, and the quota of the account counts.
func (g *Guard) Restore(ctx context.Context, name, instant string) (vfs.RestoreTotals, error) {
	from, at, err := g.meant(name, instant)
	if err != nil {
		return vfs.RestoreTotals{}, err
	}
	p, err := g.begin()
	if err != nil {
		return vfs.RestoreTotals{}, err
	}
	if d := g.s.suspended(p); d != nil {
		return vfs.RestoreTotals{}, g.s.denied(d, policy.OpWrite, from)
	}
	if !p.Uniform() { // it makes symlinks and directories: nobody may be on the way through them
		g.s.account.names.Lock()
		defer g.s.account.names.Unlock()
	}
	ask := vfs.RestoreAsk{At: at, From: from}
	then := g.history().At(at)
	i, err := then.Lstat(from)
	if at, rerr := then.Resolve(from, false); rerr == nil {
		ask.From = at
	} else {
		ask.From = reachedBy(then.Resolve, from)
	}
	// Whether something existed is told to those only who may see it, wherever symlinks led.
	if d := policy.Permit(p, policy.OpStat, ask.From); d != nil {
		return vfs.RestoreTotals{}, g.s.denied(d, policy.OpStat, ask.From)
	}
	if err != nil {
		return vfs.RestoreTotals{}, err
	}
	if ask.To, err = g.view.Resolve(ask.From, false); err != nil {
		ask.To = g.reached(ask.From)
	}
	if err := g.mayRestore(p, ask, i); err != nil {
		return vfs.RestoreTotals{}, err
	}
	plan, err := g.history().PlanRestore(ctx, ask)
	if err != nil {
		return vfs.RestoreTotals{}, err
	}
	for item, err := range plan.Items(ctx) {
		if err != nil {
			return vfs.RestoreTotals{}, err
		}
		if item.Dir { // what is in use now may not be when its turn comes: it is judged, too
			continue
		}
		d := policy.PermitName(p, item.Path)
		if d == nil {
			d = tooLarge(p, int64(item.Bytes))
		}
		if d != nil {
			return vfs.RestoreTotals{}, g.s.denied(d, policy.OpWrite, item.Path)
		}
	}
	plan.Progress = func(vfs.RestoreTotals) error { _, err := g.begin(); return err }
	err = plan.Execute(ctx)
	return plan.Result(), g.damage(err, ask.To)
}

// meant is the path of then and the instant that are asked for.
func (g *Guard) meant(name, instant string) (from string, at time.Time, err error) {
	h, err := g.past(name)
	if err != nil {
		return "", at, err
	}
	none := &fs.PathError{Op: "restore", Path: name, Err: fs.ErrNotExist}
	switch {
	case h == nil && instant == "":
		return "", at, none
	case h == nil:
		if h, err = g.past(path.Join(policy.Reserved, path.Base("/"+instant))); err != nil { // says what is wrong with it
			return "", at, err
		}
		if h.root || h.versions {
			return "", at, none
		}
		return clean(name), h.at, nil
	case instant != "" || h.root:
		return "", at, none
	case h.versions:
		if err := h.permit(policy.OpStat, h.rest); err != nil { // before it is told whether there is such a version
			return "", at, err
		}
		v, err := h.version(h.rest)
		if err != nil {
			return "", at, err
		}
		if v.State == vfs.VersionInterrupted { // it never was what the path was
			return "", at, none
		}
		return path.Dir(h.rest), v.At, nil
	}
	return h.rest, h.at, nil
}

// mayRestore asks for the rights on everything at and below the place, and on the directories above it that are missing. Who may
// write and set attributes may overwrite, too.
func (g *Guard) mayRestore(p *policy.Effective, ask vfs.RestoreAsk, what *vfs.Info) error {
	ops := []policy.Op{policy.OpWrite, policy.OpOverwrite}
	switch {
	case what.IsDir():
		ops = []policy.Op{policy.OpMkdir, policy.OpSetAttr, policy.OpSymlink}
	case what.Mode()&fs.ModeSymlink != 0:
		ops = append(ops, policy.OpSymlink)
	}
	for _, op := range ops {
		if d := policy.PermitTree(p, op, ask.To); d != nil {
			return g.s.denied(d, op, ask.To)
		}
	}
	for dir := path.Dir(ask.To); dir != "/"; dir = path.Dir(dir) {
		if _, err := g.view.Lstat(dir); err == nil {
			break
		}
		if d := policy.Permit(p, policy.OpMkdir, dir); d != nil {
			return g.s.denied(d, policy.OpMkdir, dir)
		}
	}
	if d := policy.PermitTree(p, policy.OpRead, ask.From); d != nil {
		return g.s.denied(d, policy.OpRead, ask.From)
	}
	return nil
}
