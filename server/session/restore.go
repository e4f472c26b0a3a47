package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// Why nothing is restored. Both are fs.ErrNotExist.
var (
	ErrNotThen = fmt.Errorf("session: nothing was there then: %w", fs.ErrNotExist)
	ErrWhich   = fmt.Errorf("session: versions, and none of them: %w", fs.ErrNotExist)
)

// Restore brings back what was at a path at an instant, a file or a directory with all that is below it, to where it was. What
// came later is kept, what is replaced goes to history. A path below /.backups says both itself, and instant is empty then.
//
// It needs the right to read the path and to write it, and for a directory to make directories and symlinks in it; names and sizes of
// files are judged one by one before anything is done, and the quota of the account counts. What is about to be done is judged once more
// with each transaction, by the paths that directories have then and the policy that is in force then. Others of the account wait for one transaction
// at most, and where rights differ by path only.
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
	if !g.keeps(p) {
		return vfs.RestoreTotals{}, &fs.PathError{Op: "restore", Path: from, Err: ErrNoHistory}
	}
	ask := vfs.RestoreAsk{At: at, From: from}
	// Whether something existed is told to those only who may see it, wherever symlinks led.
	then := (&past{g: g, p: p, label: FormatInstant(at), at: at}).look(policy.OpStat)
	i, err := then.Lstat(from)
	if then.at != "" {
		ask.From = then.at
	}
	if then.denial != nil {
		return vfs.RestoreTotals{}, g.s.denied(then.denial, policy.OpStat, ask.From)
	}
	if errors.Is(err, fs.ErrNotExist) && !says(err, vfs.ErrNotKept, vfs.ErrFuture, vfs.ErrNothingYet, vfs.ErrPurged) {
		err = &fs.PathError{Op: "restore", Path: from, Err: ErrNotThen}
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
	g.watch(plan)
	plan.Progress = func(vfs.RestoreTotals) error { _, err := g.begin(); return err } // also where nothing is changed
	err = plan.Execute(ctx)
	return plan.Result(), g.damage(err, ask.To)
}

// watch has each transaction of a restore judged. It makes symlinks and gives directories their names back: nobody may be on the way
// through them, and nobody may rename what it goes on in.
func (g *Guard) watch(plan *vfs.RestorePlan) {
	var p *policy.Effective // of the transaction
	plan.Enter = func() func() {
		p = g.s.Policy()
		if p.Uniform() {
			return func() {}
		}
		g.s.account.names.Lock()
		return g.s.account.names.Unlock
	}
	plan.Judge = func(items []vfs.RestoreItem) error {
		if _, err := g.begin(); err != nil {
			return err
		}
		if d := g.s.suspended(p); d != nil {
			return g.s.denied(d, policy.OpWrite, plan.Ask.To)
		}
		for i := range items {
			if err := g.mayChange(p, &items[i]); err != nil {
				return err
			}
		}
		if g.testOnlyUsing != nil {
			g.testOnlyUsing()
		}
		return nil
	}
}

// mayChange asks for the rights on one name that is restored.
func (g *Guard) mayChange(p *policy.Effective, item *vfs.RestoreItem) error {
	ops := []policy.Op{policy.OpWrite, policy.OpOverwrite}
	switch {
	case item.Dir && item.Action == vfs.RestoreCreate:
		ops = []policy.Op{policy.OpMkdir}
	case item.Dir:
		ops = []policy.Op{policy.OpSetAttr}
	case item.Link:
		ops = append(ops, policy.OpSymlink)
	}
	at := clean(item.Path)
	for _, op := range ops {
		if d := policy.Permit(p, op, at); d != nil {
			return g.s.denied(d, op, at)
		}
	}
	if item.Dir {
		return nil
	}
	if d := tooLarge(p, int64(item.Bytes)); d != nil {
		return g.s.denied(d, policy.OpWrite, at)
	}
	if d := policy.Permit(p, policy.OpRead, clean(item.From)); d != nil {
		return g.s.denied(d, policy.OpRead, item.From)
	}
	return nil
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
		if _, err = g.past(policy.Reserved); err != nil { // whether there is any past
			return "", at, err
		}
		at, ok := ParseInstant(instant)
		if !ok {
			return "", at, &fs.PathError{Op: "restore", Path: name, Err: ErrInstant}
		}
		return clean(name), at, nil
	case instant != "" || h.root:
		return "", at, none
	case h.versions:
		if err := h.permit(policy.OpStat, h.rest); err != nil { // before it is told whether there is such a version
			return "", at, err
		}
		v, err := h.version(h.rest)
		if err != nil {
			if _, serr := h.statVersion(h.rest); serr == nil {
				err = &fs.PathError{Op: "restore", Path: name, Err: ErrWhich}
			}
			return "", at, err
		}
		if v.State == vfs.VersionInterrupted { // it never was what the path was
			return "", at, none
		}
		return path.Dir(h.rest), v.AttrAt, nil // as it is shown
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

// says tells whether an error is one of those that say more.
func says(err error, list ...error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}
