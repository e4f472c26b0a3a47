package server

import (
	"context"
	"log/slog"
	"sync/atomic"

	"sallyport/policy"
	"sallyport/server/session"
)

// entrance is where the front-ends take their connections: it leads to the
// sessions of a sealed server, where nobody may log in, or of an unsealed one.
type entrance struct {
	to atomic.Pointer[session.Manager]
}

func (e *entrance) Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (*session.Conn, *policy.Denial) {
	m := e.to.Load()
	if m == nil {
		return nil, policy.Deny(policy.CodeShutdown, "shutdown", "operator")
	}
	return m.Connect(ctx, f, hangup)
}

// admit leads to m from now on and returns what it led to before.
func (e *entrance) admit(m *session.Manager) *session.Manager { return e.to.Swap(m) }

// sealedSessions refuses everybody, under the usual limits.
func sealedSessions(c *Config, log *slog.Logger) (*session.Manager, error) {
	return session.New(session.Options{Log: log.With("part", "session"), Limits: sessionLimits(c.Limits)})
}
