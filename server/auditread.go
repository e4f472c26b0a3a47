package server

import (
	"context"

	"sallyport/server/audit"
)

// tail reads the audit log, with the event of everything that was acknowledged before.
func (p *parts) tail(ctx context.Context, n int, follow bool, fn func(audit.Record) error) error {
	p.drained(ctx)
	return p.audit.Tail(ctx, n, follow, fn)
}

// exportAudit is Export, with the event of everything that was acknowledged before.
func (p *parts) exportAudit(ctx context.Context, o audit.ExportOptions, fn func(line []byte) error) error {
	p.drained(ctx)
	return p.audit.Export(ctx, o, fn)
}

// drained brings the events that wait in volumes into the log. Otherwise an operator who asks at once who deleted a file may be told
// that nobody is known. What cannot be brought there must not keep him from reading the rest.
func (p *parts) drained(ctx context.Context) {
	if err := p.sessions.Drain(ctx); err != nil && ctx.Err() == nil {
		p.log.Error("audit events stay in their volumes", "error", err)
	}
}
