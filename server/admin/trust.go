package admin

import (
	"context"

	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

func (s *Server) trust(context.Context, Peer, Empty) (Trust, error) {
	t := s.o.Policy.Trust()
	out := Trust{Authorities: []Authority{}, Revoked: []Revocation{}}
	for i := range t.Authorities {
		a := &t.Authorities[i]
		out.Authorities = append(out.Authorities, Authority{Fingerprint: a.Fingerprint(), Kind: a.Kind, Comment: a.Comment, Added: a.Added})
	}
	for _, r := range t.Revoked {
		out.Revoked = append(out.Revoked, Revocation{What: r.What, Added: r.Added})
	}
	return out, nil
}

// trustChange does fn, records it, and answers with what is trusted then.
func (s *Server) trustChange(ctx context.Context, who Peer, c Change, what string, fn func() error) (Trust, error) {
	if err := fn(); err != nil {
		return Trust{}, err
	}
	if err := s.record(ctx, who, audit.Event{Action: audit.TrustChange, Detail: join(what, c.Reason)}); err != nil {
		return Trust{}, err
	}
	return s.trust(ctx, who, Empty{})
}

func (s *Server) authorityAdd(ctx context.Context, who Peer, r AuthorityAdd) (Trust, error) {
	a, err := policydb.ParseAuthority(r.Text)
	if err != nil {
		return Trust{}, err
	}
	return s.trustChange(ctx, who, r.Change, "trusted "+a.Kind+" "+a.Fingerprint(), func() error { return s.o.Policy.AddAuthority(ctx, a, who.String()) })
}

func (s *Server) authorityRemove(ctx context.Context, who Peer, r TrustRef) (Trust, error) {
	return s.trustChange(ctx, who, r.Change, "trusted no longer "+r.What, func() error { return s.o.Policy.RemoveAuthority(ctx, r.What) })
}

func (s *Server) revoke(ctx context.Context, who Peer, r TrustRef) (Trust, error) {
	return s.trustChange(ctx, who, r.Change, "revoked "+r.What, func() error { return s.o.Policy.Revoke(ctx, r.What, who.String()) })
}

func (s *Server) unrevoke(ctx context.Context, who Peer, r TrustRef) (Trust, error) {
	return s.trustChange(ctx, who, r.Change, "revoked no longer "+r.What, func() error { return s.o.Policy.Unrevoke(ctx, r.What) })
}
