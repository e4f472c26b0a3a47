package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// tellEvery is how often a long operation says how far it is.
const tellEvery = time.Second

// backupRestore brings back a tree, or tells what that would do.
func (s *Server) backupRestore(ctx context.Context, who Peer, r RestoreAsk) (func(func(Restored) error) error, error) {
	switch {
	case r.At.IsZero():
		return nil, newError(CodeUsage, "as of when?", "say it with --at: 2026-01-31T12:00:00Z, or 90m for 90 minutes ago")
	case !r.DryRun && strings.TrimSpace(r.Reason) == "":
		return nil, newError(CodeRefused, "a restore needs a reason", "say why with --reason; --dry-run needs none")
	}
	a, err := s.o.Policy.Account(r.Account)
	if err != nil {
		return nil, err
	}
	// Of a time before that, names are gone without a trace: the present ones would be taken for later ones, and removed.
	p := s.o.Policy.Current().Resolve(a.Name)
	if kept := p.Backup.Kept(); r.Exact && kept != policy.Forever && r.At.Before(s.o.Clock.Before(kept)) {
		days, origin := p.Value("backup.retention_days")
		return nil, newError(CodeRefused, fmt.Sprintf("the tree of that time is not whole any more: retention (backup.retention_days = %s of %s) and grace are over", days, origin), "without --exact what is still there is restored, and nothing removed")
	}
	v, err := s.o.Volumes.Volume(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	// Operators reach what is not purged yet: grace is for them.
	w := v.View(vfs.ViewOptions{Writer: "operator", Note: restoring(a.ID, who.String(), r.Reason)})
	plan, err := w.History(nil).PlanRestore(ctx, vfs.RestoreAsk{At: r.At, From: r.Path, To: r.To, Exact: r.Exact})
	if err != nil {
		return nil, errors.Join(refusedRestore(err), w.Close())
	}
	if s.o.HoldNames != nil { // it may put a symlink where a session has just asked for its rights on a directory
		plan.Enter = func() func() { return s.o.HoldNames(a.ID) }
	}
	return func(send func(Restored) error) (err error) {
		defer func() { err = errors.Join(err, w.Close()) }()
		if r.DryRun {
			return s.planned(ctx, plan, r.Items, send)
		}
		return s.restore(ctx, who, a.ID, r, plan, send)
	}, nil
}

func (s *Server) planned(ctx context.Context, plan *vfs.RestorePlan, most int, send func(Restored) error) error {
	n := 0
	for i, err := range plan.Items(ctx) {
		if err != nil {
			return err
		}
		if n++; n > most {
			break
		}
		x := RestoredItem{Action: string(i.Action), Path: i.Path, From: i.From, Dir: i.Dir, Bytes: i.Bytes}
		if err := send(Restored{Item: &x}); err != nil {
			return err
		}
	}
	return send(Restored{Totals: plan.RestoreTotals, Done: true, Lacks: plan.Lacks})
}

// restore goes on when its client goes away, as far as the next time that it tells.
func (s *Server) restore(ctx context.Context, who Peer, id keyring.AccountID, r RestoreAsk, plan *vfs.RestorePlan, send func(Restored) error) error {
	told := time.Now()
	plan.Progress = func(t vfs.RestoreTotals) error {
		if time.Since(told) < tellEvery {
			return nil
		}
		told = time.Now()
		return send(Restored{Totals: t})
	}
	err := plan.Execute(context.WithoutCancel(ctx))
	got := plan.Result()
	e := audit.Event{Action: audit.Restore, Account: audit.ID(id), Path: audit.Text(plan.Ask.To), Count: got.Created + got.Changed + got.Moved + got.Removed, Bytes: got.Bytes,
		Result: "complete", Detail: join("all of it, as of "+r.At.UTC().Format(time.RFC3339Nano), r.Reason)}
	last := Restored{Totals: got, Done: true, Lacks: plan.Lacks}
	if err != nil {
		e.Result, last.Error = "partial", s.explain("backup/restore", refusedRestore(err))
	}
	if err := s.record(ctx, who, e); err != nil {
		last.Error = s.explain("backup/restore", err)
	}
	return send(last)
}

// restoring makes the audit event of each name, in the transaction that restores it.
func restoring(id keyring.AccountID, who, reason string) func(vfs.Change) []byte {
	return func(ch vfs.Change) []byte {
		e := audit.Event{Time: ch.At, Action: audit.Restore, Account: audit.ID(id), Who: who, Path: audit.Text(ch.Path), To: audit.Text(ch.To),
			Bytes: ch.Bytes, Version: ch.Version, Result: ch.Result, Detail: join(ch.Detail, reason), Origin: fmt.Sprintf("restore:%x:%d:%s", id[:], ch.At.UnixNano(), ch.Path)}
		if ch.Op != "restore" {
			e.Op = ch.Op // a name that was not there then goes to history
		}
		return e.Encode()
	}
}

// refusedRestore says what to do about a restore that cannot be.
func refusedRestore(err error) error {
	var d *policy.Denial
	var not *vfs.NotWhole
	switch {
	case errors.As(err, &d):
		return err
	case errors.As(err, &not):
		why := "what had ended before then was purged (the mark `purged` of the volume)"
		if not.Chosen {
			why = "of what had ended before then something was chosen to be destroyed, lost to damage, or is of an earlier format (the mark `lacking` of the volume)"
		}
		since := not.Since.UTC().Format(time.RFC3339Nano)
		return newError(CodeRefused, "the tree of that time is not whole: it is since "+since+" only; "+why,
			"ask for that time or a later one (`sallyport vfs stat` shows it); without --exact what is still there is restored, and nothing removed")
	case errors.Is(err, vfs.ErrNotKept):
		return newError(CodeRefused, "nothing is kept of that time any more", "`sallyport backup list` shows what is")
	case errors.Is(err, vfs.ErrNothingYet):
		return newError(CodeNotFound, "nothing had been stored at that time yet", "`sallyport backup list --account NAME` shows paths and times")
	case errors.Is(err, vfs.ErrFuture):
		return newError(CodeUsage, "that time has not come yet", "")
	case errors.Is(err, vfs.ErrPurged):
		return newError(CodeNotFound, "it was purged", "`sallyport backup list` shows what is kept")
	case errors.Is(err, fs.ErrNotExist):
		return newError(CodeNotFound, "there was no such path at that time, or what was there is purged", "`sallyport backup list --account NAME` shows paths and times")
	}
	return err
}
