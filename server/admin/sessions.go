package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"sallyport/server/audit"
)

func (s *Server) sessionList(context.Context, Peer, Empty) (Sessions, error) {
	list := append([]Session{}, s.o.Sessions()...)
	slices.SortFunc(list, func(a, b Session) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID)) })
	return Sessions{list}, nil
}

// liveSessions counts sessions by account name.
func (s *Server) liveSessions() map[string]int {
	n := map[string]int{}
	for _, x := range s.o.Sessions() {
		n[x.Account]++
	}
	return n
}

// sessionKill: the session manager records each session that it ends.
func (s *Server) sessionKill(_ context.Context, who Peer, r SessionKill) (Killed, error) {
	if (r.ID == "") == (r.Account == "") {
		return Killed{}, newError(CodeUsage, "give either a session or an account", "")
	}
	if r.Account != "" {
		if _, err := s.o.Policy.Account(r.Account); err != nil {
			return Killed{}, err
		}
	}
	n := s.o.Kill(func(x Session) bool { return x.ID == r.ID || r.Account != "" && x.Account == r.Account }, who.String(), r.Reason)
	if n == 0 && r.ID != "" {
		return Killed{}, newError(CodeNotFound, "no such session", "`sallyport session list` shows them")
	}
	return Killed{n}, nil
}

func (s *Server) banList(context.Context, Peer, Empty) (Bans, error) {
	return Bans{append([]Ban{}, s.o.Bans()...)}, nil
}

func (s *Server) banRemove(ctx context.Context, who Peer, r BanRef) (Empty, error) {
	if !s.o.Unban(r.Address) {
		return Empty{}, newError(CodeNotFound, "no ban of "+r.Address, "`sallyport ban list` shows them")
	}
	return Empty{}, s.record(ctx, who, audit.Event{Action: audit.Unban, Detail: join(r.Address, r.Reason)})
}

// join puts the reason behind what was done.
func join(what, reason string) string {
	if reason == "" {
		return what
	}
	if what == "" {
		return reason
	}
	return what + "; " + reason
}
