package admin

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/clock"
	"sallyport/server/retention"
	"sallyport/vfs"
)

// backupDestroy purges now, or tells what that would destroy: one answer for each account, and before it some that say how far it is.
func (s *Server) backupDestroy(_ context.Context, who Peer, r PurgeAsk) (func(func(PurgedAccount) error) error, error) {
	if r.chooses() && r.Account == "" {
		return nil, newError(CodeUsage, "a purge before a time, or of a path, is of one account", "say which with --account")
	}
	if r.Path != "" && path.Clean("/"+r.Path) == "/" {
		return nil, newError(CodeUsage, "the path / is everything", "say before which time, with --before; `sallyport account remove` destroys an account with all that it has")
	}
	if r.chooses() && !r.DryRun && strings.TrimSpace(r.Reason) == "" {
		return nil, newError(CodeRefused, "a purge of what policy keeps needs a reason", "say why with --reason")
	}
	accounts, err := volumesOf(s.o.Policy, r.Account)
	if err != nil {
		return nil, err
	}
	rev := s.o.Policy.Current()
	before := make([]time.Time, len(accounts))
	for i, a := range accounts {
		asked := r.Before
		if r.Path != "" && asked.IsZero() {
			asked = s.o.Clock.Before(0)
		}
		if before[i], err = cutoff(rev.Resolve(a.Name), asked, s.o.Clock); err != nil {
			return nil, err
		}
	}
	return func(send func(PurgedAccount) error) error {
		noted := false
		for i, a := range accounts {
			x := PurgedAccount{Account: a.Name}
			if st := s.o.Clock.State(); !noted && !r.chooses() && before[i].Before(st.Known) { // else nobody would know why nothing goes
				x.Note, noted = ageUnknown(st.Known), true
			}
			if !before[i].IsZero() { // else it keeps everything
				note := x.Note
				x = s.purgeOne(who, a, r, before[i], rev, send)
				x.Note = note
			}
			if x.Done = true; x.Names+x.Versions+x.Stays+x.Busy > 0 || x.Error+x.Note != "" || r.Account != "" {
				if err := send(x); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

// chooses tells whether it is an operator who says what goes, and not policy.
func (r *PurgeAsk) chooses() bool { return !r.Before.IsZero() || r.Path != "" }

// cutoff is the instant before which history goes: that of policy, or the one asked for if the least retention allows it.
func cutoff(p *policy.Effective, asked time.Time, c *clock.Clock) (time.Time, error) {
	if asked.IsZero() {
		if p.Backup.Kept() == policy.Forever {
			return time.Time{}, nil
		}
		return c.Before(p.Backup.Kept()).Add(1), nil
	}
	if known := c.State().Known; p.Backup.Least > 0 && asked.Before(known) && !asked.After(c.Reach(p.Backup.Least).Add(1)) && asked.After(c.Before(p.Backup.Least).Add(1)) {
		text, origin := p.Value("backup.min_retention_days")
		return time.Time{}, newError(CodeRefused, fmt.Sprintf("history is kept for at least %s days (backup.min_retention_days of %s), and %s", text, origin, ageUnknown(known)),
			"ask again when so much time has passed since then; if dates are right, `sallyport backup clock forget --reason WHY` says so")
	}
	if p.Backup.Least == policy.Forever || asked.After(c.Before(p.Backup.Least).Add(1)) {
		_, origin := p.Value("backup.min_retention_days")
		text, _ := p.Value("backup.min_retention_days")
		return time.Time{}, newError(CodeRefused, fmt.Sprintf("history is kept for at least %s days: backup.min_retention_days of %s", text, origin),
			"ask for an earlier time, or lower that setting first, with its own reason")
	}
	return asked, nil
}

// ageUnknown says why something stays that is old by its date.
func ageUnknown(known time.Time) string {
	return fmt.Sprintf("what was replaced and deleted before %s counts as of then: the clock's record of before was lost", known.UTC().Format(time.RFC3339))
}

// purgeOne goes on to the end of its transaction when the client goes away, and no further.
func (s *Server) purgeOne(who Peer, a *policydb.Account, r PurgeAsk, before time.Time, rev *policy.Revision, send func(PurgedAccount) error) PurgedAccount {
	ctx := context.Background()
	out := PurgedAccount{Account: a.Name}
	v, err := s.o.Volumes.Volume(ctx, a.ID)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	if r.DryRun {
		plan, err := planPurge(ctx, v, r.Path, before)
		if err != nil {
			out.Error = err.Error()
			return out
		}
		out.Names, out.Versions, out.Bytes, out.Stays, out.Oldest, out.Newest = plan.Names, plan.Versions, plan.Bytes, plan.Kept, plan.Oldest, plan.Newest
		out.Stored, out.Least = plan.Stored, plan.Least
		return out
	}
	told, done := time.Now(), PurgedAccount{Account: a.Name}
	// With a time it is not the policy's retention that decides, but its least one, which may be raised meanwhile.
	still := func() error { _, err := cutoff(s.o.Policy.Current().Resolve(a.Name), before, s.o.Clock); return err }
	if !r.chooses() {
		still = retention.Still(s.o.Policy, a.Name, rev)
	}
	detail := join("superseded before "+before.UTC().Format(time.RFC3339), r.Reason)
	got, err := v.Purge(ctx, vfs.PurgeOptions{Before: before, Below: r.Path, Still: still,
		Pace: func(context.Context, int) error {
			if time.Since(told) < time.Second {
				return nil
			}
			told = time.Now()
			return send(done)
		},
		Emit: func(x vfs.PurgeReceipt) []byte {
			done.Names, done.Versions, done.Bytes, done.Stored = done.Names+x.Names, done.Versions+x.Versions, done.Bytes+x.Bytes, done.Stored+x.Stored
			e := retention.Event(a.ID, x, who.String(), detail, rev.N)
			e.Path = audit.Text(r.Path)
			return e.Encode()
		}})
	out.Names, out.Versions, out.Bytes, out.Stored, out.Busy, out.Oldest, out.Newest = got.Names, got.Versions, got.Bytes, got.Stored, got.Busy, got.Oldest, got.Newest
	if err == nil && r.Path != "" { // whoever has to destroy something must hear what is left of it, and why
		var left *vfs.PurgePlan
		if left, err = planPurge(ctx, v, r.Path, before); err == nil {
			out.Stays = left.Kept
		}
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// planPurge counts what a purge would destroy; of a path, if it is not "".
func planPurge(ctx context.Context, v *vfs.Volume, name string, before time.Time) (*vfs.PurgePlan, error) {
	if name != "" {
		return v.PlanPurgeBelow(ctx, name, before)
	}
	return v.PlanPurgeBefore(ctx, before, func(vfs.Superseded) bool { return true })
}
