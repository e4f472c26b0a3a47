package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// repairPatience is how long a repair waits for the sessions that it has ended to let go of the volume.
const repairPatience = 15 * time.Second

func (s *Server) volumeRepair(ctx context.Context, who Peer, r VolumeRepair) (vfs.Repair, error) {
	a, err := s.o.Policy.Account(r.Account)
	if err != nil {
		return vfs.Repair{}, err
	}
	s.o.Kill(func(x Session) bool { return x.Account == a.Name }, who.String(), "the volume is repaired")
	return RepairVolume(ctx, s.o.Volumes, a, r, s.o.Log, func(ctx context.Context, e audit.Event) error { return s.record(ctx, who, e) })
}

// RepairVolume plans or executes the repair of one account's volume. An execution is recorded, with ids and counts; the
// names of what is lost are in the answer only.
func RepairVolume(ctx context.Context, volumes *vfs.FS, a *policydb.Account, r VolumeRepair, log *slog.Logger, record func(context.Context, audit.Event) error) (vfs.Repair, error) {
	done, err := repairSoon(ctx, volumes, a, vfs.RepairOptions{Fallback: r.Fallback, Plan: r.Plan})
	switch {
	case errors.Is(err, vfs.ErrPlanChanged):
		return vfs.Repair{}, &Error{Code: CodeConflict, Message: "the volume is not as it was when the plan was made", Hint: "plan again: `sallyport vfs verify --repair --account " + a.Name + "`", cause: err}
	case errors.Is(err, vfs.ErrBusy):
		return vfs.Repair{}, &Error{Code: CodeConflict, Message: "the volume is in use", Hint: "disable the account (`sallyport account disable " + a.Name + "`), repair, enable it again", cause: err}
	case err != nil:
		return vfs.Repair{}, &Error{Code: CodeInternal, Message: err.Error(), Hint: "nothing was changed; restore the account's directory from a copy if the database cannot be read at all", cause: err}
	case !done.Done:
		return *done, nil
	}
	for _, l := range done.Lost {
		log.Warn("lost in a repair", "account", a.ID.String(), "inode", l.Inode, "what", l.What)
	}
	log.Warn("volume repaired", "account", a.ID.String(), "kept", done.Kept, "lost", len(done.Lost), "fallbacks", len(done.Fallbacks))
	detail := fmt.Sprintf("%d damaged, %d lost, %d fell back to an older version; the damaged database is kept as %s", len(done.Damage), len(done.Lost), len(done.Fallbacks), done.Kept)
	return *done, record(ctx, audit.Event{Action: audit.Repair, Account: audit.ID(a.ID), Count: uint64(len(done.Lost)), Detail: join(detail, r.Reason)})
}

// repairSoon waits for sessions that are ending.
func repairSoon(ctx context.Context, volumes *vfs.FS, a *policydb.Account, o vfs.RepairOptions) (*vfs.Repair, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(repairPatience); ; {
		done, err := volumes.Repair(ctx, a.ID, o)
		if !errors.Is(err, vfs.ErrBusy) || time.Now().After(end) {
			return done, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
