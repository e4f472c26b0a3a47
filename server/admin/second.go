package admin

import (
	"cmp"
	"context"
	"slices"

	"sallyport/policy"
	"sallyport/server/audit"
)

// secondEnable answers with the secret, once: nothing shows it again.
func (s *Server) secondEnable(ctx context.Context, who Peer, r SecondEnable) (Enrolment, error) {
	e, err := s.o.Policy.EnableSecond(ctx, r.Account, cmp.Or(r.Issuer, "Sallyport"), who.String())
	if err != nil {
		return Enrolment{}, err
	}
	out := Enrolment{URI: Secret(e.URI)}
	for _, c := range e.Recovery {
		out.Recovery = append(out.Recovery, Secret(c))
	}
	return out, s.recordFor(ctx, who, r.Account, audit.Event{Action: audit.SecondFactor, Detail: join("enabled", r.Reason)})
}

func (s *Server) secondReset(ctx context.Context, who Peer, r AccountRef) (SecondFactor, error) {
	if err := s.o.Policy.ResetSecond(ctx, r.Name, who.String()); err != nil {
		return SecondFactor{}, err
	}
	s.o.Unlock(r.Name)
	if err := s.recordFor(ctx, who, r.Name, audit.Event{Action: audit.SecondFactor, Detail: join("reset", r.Reason)}); err != nil {
		return SecondFactor{}, err
	}
	return s.secondStatus(ctx, who, r)
}

func (s *Server) secondStatus(_ context.Context, _ Peer, r AccountRef) (SecondFactor, error) {
	a, err := s.o.Policy.Account(r.Name)
	if err != nil {
		return SecondFactor{}, err
	}
	out := SecondFactor{Account: a.Name, Required: requiresSecond(s.o.Policy.Current().Resolve(a.Name))}
	if f := a.Second; f != nil {
		out.Enabled, out.Since, out.Algorithm, out.Recovery = true, f.Enabled, f.Algorithm, len(f.Recovery)
	}
	return out, nil
}

// requiresSecond says whether the policy wants a second factor over any protocol that the account may use.
func requiresSecond(p *policy.Effective) bool {
	protocols := p.Protocols
	if len(p.Exceptions) > 0 {
		protocols = append(slices.Clone(protocols), policy.FTP)
	}
	return p.Auth.Require2FA || slices.ContainsFunc(protocols, func(x policy.Protocol) bool { wanted, _ := p.Auth.Wants2FA(x); return wanted })
}

// unlock forgets the failed logins of an account: wrong passwords and wrong codes. Bans of addresses stay.
func (s *Server) unlock(ctx context.Context, who Peer, r AccountRef) (Empty, error) {
	if _, err := s.o.Policy.Account(r.Name); err != nil {
		return Empty{}, err
	}
	s.o.Unlock(r.Name)
	return Empty{}, s.recordFor(ctx, who, r.Name, audit.Event{Action: audit.AccountUnlock, Detail: r.Reason})
}
