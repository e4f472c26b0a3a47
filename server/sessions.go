package server

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/policy"
	"sallyport/server/admin"
	"sallyport/server/session"
)

// newSessions starts the session manager on the open parts.
func (p *parts) newSessions(c *Config) (*session.Manager, error) {
	return session.New(session.Options{
		Policy: p.policy, FS: p.volumes, Audit: p.audit, Clock: p.clock, Log: p.log.With("part", "session"),
		PasswordWorkers: c.Limits.PasswordWorkers,
		Limits:          sessionLimits(c.Limits),
		HostSpace: func() (total, free uint64, err error) {
			var s unix.Statfs_t
			if err := unix.Statfs(c.State.Dir, &s); err != nil {
				return 0, 0, err
			}
			return s.Blocks * uint64(s.Bsize), s.Bavail * uint64(s.Bsize), nil
		},
	})
}

func sessionLimits(l Limits) session.Limits {
	return session.Limits{
		Connections: l.Connections, PerAddress: l.PerAddress,
		Unauthenticated: l.Unauthenticated, UnauthPerAddress: l.UnauthenticatedPerAddress, LoginTime: l.LoginTime,
	}
}

func describeSession(i session.Info) admin.Session {
	return admin.Session{
		ID: i.ID, Account: i.Account, Protocol: string(i.Facts.Protocol), Remote: i.Facts.Remote.String(), Client: i.Facts.Client,
		Method: i.Facts.Method, Since: i.Since, Active: i.Active, BytesIn: i.BytesIn, BytesOut: i.BytesOut,
	}
}

// listSessions, kill, bans and unban are what the admin socket may do with sessions.
func (p *parts) listSessions() []admin.Session {
	var out []admin.Session
	for _, i := range p.sessions.List() {
		out = append(out, describeSession(i))
	}
	return out
}

func (p *parts) kill(match func(admin.Session) bool, who, reason string) int {
	return p.sessions.Kill(func(i session.Info) bool { return match(describeSession(i)) }, who, reason)
}

// wouldEnd: the sessions that another policy would end.
func (p *parts) wouldEnd(r *policy.Revision) []admin.SessionEnd {
	var out []admin.SessionEnd
	for _, e := range p.sessions.WouldEnd(r) {
		out = append(out, admin.SessionEnd{Session: describeSession(e.Info), Code: e.Denial.Code, Rule: e.Denial.Rule, Origin: e.Denial.Origin})
	}
	return out
}

// planTime bounds how long a plan counts what a policy would destroy.
const planTime = 10 * time.Second

// wouldPurge: what another policy would destroy.
func (p *parts) wouldPurge(ctx context.Context, r *policy.Revision) ([]admin.PolicyPurge, error) {
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	list, err := p.retention.WouldPurge(ctx, r)
	if err != nil {
		return nil, err
	}
	var out []admin.PolicyPurge
	for _, l := range list {
		out = append(out, admin.PolicyPurge(l))
	}
	return out, nil
}

func (p *parts) bans() []admin.Ban {
	var out []admin.Ban
	for _, b := range p.sessions.Bans() {
		x := admin.Ban{Address: b.Address.String(), Until: b.Until, Failures: b.Failures}
		if b.Network.IsValid() && !b.Network.IsSingleIP() {
			x.Address = b.Network.String()
		}
		out = append(out, x)
	}
	return out
}

func (p *parts) unban(n netip.Prefix) bool { return p.sessions.Unban(n) }

func (p *parts) ban(n netip.Prefix, until time.Time, who, why string) {
	p.sessions.Ban(n, until, who, why)
}
