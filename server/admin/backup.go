package admin

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// historyRoutes bind what operators do with history.
func (s *Server) historyRoutes(mux *http.ServeMux) {
	handleStream(s, mux, "backup/restore", false, s.backupRestore)
	handleStream(s, mux, "backup/destroy", false, s.backupDestroy)
	handle(s, mux, "backup/hold", s.backupHold)
	handle(s, mux, "backup/release", s.backupRelease)
	handle(s, mux, "backup/holds", s.backupHolds)
	handle(s, mux, "backup/history", s.backupHistory)
	handle(s, mux, "backup/clock", s.backupClock)
	handle(s, mux, "backup/clock-confirm", s.clockConfirm)
	handle(s, mux, "backup/clock-forget", s.clockForget)
}

func (s *Server) backupHold(ctx context.Context, who Peer, r HoldAsk) (Hold, error) {
	if strings.TrimSpace(r.Reason) == "" {
		return Hold{}, newError(CodeRefused, "a hold needs a reason", "say why with --reason: whoever wants to end it must know")
	}
	a, err := s.o.Policy.Account(r.Account)
	if err != nil {
		return Hold{}, err
	}
	h, err := s.o.Policy.Hold(ctx, r.Account, r.Path, r.Reason, who.String())
	if err != nil {
		return Hold{}, err
	}
	s.o.Volumes.Settle() // before it is answered
	s.holdsChanged(a)
	out := describeHold(r.Account, h)
	out.Nothing = s.nothingAt(ctx, a.ID, h.Path)
	return out, s.record(ctx, who, audit.Event{Action: audit.Hold, Account: audit.ID(a.ID), Path: audit.Text(h.Path), Version: h.N, Detail: r.Reason})
}

// nothingAt says whether an account has and had nothing at a path; false where that cannot be told.
func (s *Server) nothingAt(ctx context.Context, id keyring.AccountID, name string) bool {
	v, err := s.o.Volumes.Volume(ctx, id)
	if err != nil {
		return false
	}
	w := v.View(vfs.ViewOptions{Writer: "operator"})
	_, err = w.Lstat(name)
	if w.Close() != nil || !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return v.SupersededBelow(ctx, name, time.Time{}, s.o.Clock.Now().Add(time.Hour), func(vfs.Superseded) error { return errEnough }) == nil
}

func (s *Server) backupRelease(ctx context.Context, who Peer, r HoldRef) (Hold, error) {
	if strings.TrimSpace(r.Reason) == "" {
		return Hold{}, newError(CodeRefused, "the end of a hold needs a reason", "say why with --reason: what it kept may be destroyed within a minute")
	}
	a, err := s.o.Policy.Account(r.Account)
	if err != nil {
		return Hold{}, err
	}
	if list, err := s.o.Policy.Holds(a.ID); err != nil || !slices.ContainsFunc(list, func(h policydb.Hold) bool { return h.N == r.Hold }) {
		return Hold{}, errors.Join(policydb.ErrNoHold, err)
	}
	// Recorded first: what the end of a hold lets go must not go before anybody can see who ended it.
	if err := s.recordFirst(ctx, who, audit.Event{Action: audit.Release, Account: audit.ID(a.ID), Version: r.Hold, Detail: r.Reason}); err != nil {
		return Hold{}, err
	}
	h, err := s.o.Policy.Release(ctx, r.Account, r.Hold)
	if err != nil {
		return Hold{}, err
	}
	s.holdsChanged(a)
	return describeHold(r.Account, h), nil
}

func (s *Server) holdsChanged(a *policydb.Account) {
	if s.o.HoldsChanged != nil {
		s.o.HoldsChanged(a.ID)
	}
}

func describeHold(account string, h policydb.Hold) Hold {
	return Hold{Account: account, Hold: h.N, Path: h.Path, Reason: h.Reason, Who: h.Who, At: h.At}
}

func (s *Server) backupHolds(_ context.Context, _ Peer, r VolumeRef) (Holds, error) {
	accounts, err := volumesOf(s.o.Policy, r.Account)
	if err != nil {
		return Holds{}, err
	}
	out := Holds{Holds: []Hold{}}
	for _, a := range accounts {
		list, err := s.o.Policy.Holds(a.ID)
		if err != nil {
			return Holds{}, err
		}
		for _, h := range list {
			out.Holds = append(out.Holds, describeHold(a.Name, h))
		}
	}
	return out, nil
}

// historyMost is how many items one answer has unless asked otherwise, and at most.
const historyMost, historyTop = 1000, 100_000

// backupHistory lists what an account replaced and deleted. The names are for the operator's eyes.
func (s *Server) backupHistory(ctx context.Context, _ Peer, r HistoryAsk) (HistoryItems, error) {
	a, err := s.o.Policy.Account(r.Account)
	if err != nil {
		return HistoryItems{}, err
	}
	v, err := s.o.Volumes.Volume(ctx, a.ID)
	if err != nil {
		return HistoryItems{}, err
	}
	limit := r.Limit
	if limit <= 0 {
		limit = historyMost
	}
	limit = min(limit, historyTop)
	until := r.Until
	if until.IsZero() {
		until = s.o.Clock.Now().Add(time.Hour) // instants may be a little ahead of the clock
	}
	b := s.o.Policy.Current().Resolve(a.Name).Backup
	whole, err := v.Whole(ctx)
	if err != nil {
		return HistoryItems{}, err
	}
	out := HistoryItems{Account: a.Name, Items: []HistoryItem{}, PastWhole: pastWhole(whole)}
	list := func(fn func(vfs.Superseded) error) error { return v.Superseded(ctx, r.Since, until, fn) }
	if path.Clean("/"+r.Path) != "/" {
		// By all names that it had: what is on hold, or was moved before it was deleted, is looked for where it was.
		list = func(fn func(vfs.Superseded) error) error { return v.SupersededBelow(ctx, r.Path, r.Since, until, fn) }
	}
	err = list(func(i vfs.Superseded) error {
		if i.Dir && i.Version != 0 { // its times, which change with all that is in it
			return nil
		}
		if len(out.Items) == limit {
			out.More = true
			return errEnough
		}
		x := HistoryItem{Path: i.Path, At: i.At, Version: i.Version, Bytes: i.Bytes, Dir: i.Dir, Held: i.Held}
		if at, ok := b.Expiry(s.o.Clock.Settled(i.At)); ok && !i.Held {
			x.Purged = at
		}
		out.Items = append(out.Items, x)
		return nil
	})
	if err != nil && !out.More {
		return HistoryItems{}, err
	}
	if !r.NoWho && len(out.Items) > 0 {
		err = s.doers(ctx, audit.ID(a.ID), out.Items)
	} else {
		err = nil
	}
	return out, err
}

// doers finds in the audit log who did what made history. The event of a change has the instant of its transaction, and so has what it
// superseded.
func (s *Server) doers(ctx context.Context, id audit.ID, items []HistoryItem) error {
	at := make(map[int64][]int, len(items))
	for i := range items {
		at[items[i].At.UnixNano()] = append(at[items[i].At.UnixNano()], i)
	}
	return s.o.Tail(ctx, -1, false, func(rec audit.Record) error {
		if rec.Account != id || rec.Session == "" {
			return nil
		}
		for _, i := range at[rec.Time.UnixNano()] {
			x := &items[i]
			if string(rec.Path) != x.Path && string(rec.To) != x.Path {
				continue // of several changes in one transaction, the one of this path
			}
			x.Action, x.Session, x.To = string(rec.Action), rec.Session, string(rec.To)
			if rec.Remote.IsValid() {
				x.Remote = rec.Remote.String()
			}
		}
		return nil
	})
}
