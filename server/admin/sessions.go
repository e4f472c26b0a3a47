package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

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

// parseBan reads an address or a network.
func parseBan(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	if err != nil || n.Masked() != n || n.Addr().Is4In6() {
		return n, newError(CodeInvalid, fmt.Sprintf("%q is neither an address nor a network", text), "e.g. 198.51.100.7 or 198.51.100.0/24")
	}
	return n, nil
}

const defaultBan = 24 * time.Hour

func (s *Server) banAdd(ctx context.Context, who Peer, r BanAdd) (Bans, error) {
	n, err := parseBan(r.Address)
	if err != nil {
		return Bans{}, err
	}
	if n.Bits() == 0 {
		return Bans{}, newError(CodeInvalid, "this would ban everybody", "")
	}
	d := defaultBan
	if r.For != "" {
		if d, err = time.ParseDuration(r.For); err != nil || d <= 0 {
			return Bans{}, newError(CodeInvalid, fmt.Sprintf("%q is not a time", r.For), "e.g. 30m, 12h")
		}
	}
	s.o.Ban(n, time.Now().Add(d), who.String(), r.Reason)
	if err := s.record(ctx, who, audit.Event{Action: audit.Ban, Detail: join(n.String()+" for "+d.String(), r.Reason)}); err != nil {
		return Bans{}, err
	}
	return s.banList(ctx, who, Empty{})
}

func (s *Server) banRemove(ctx context.Context, who Peer, r BanRef) (Empty, error) {
	n, err := parseBan(r.Address)
	if err != nil {
		return Empty{}, err
	}
	if !s.o.Unban(n) {
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
